"""How an output's thread trusts a server."""

from __future__ import annotations

import ssl

from watchkeeper.config.schema.common import TlsClient


def client_context(tls: TlsClient) -> ssl.SSLContext:
    """A context for one connection.

    Raises:
        OSError, ssl.SSLError: a file cannot be read, or holds something else.
    """
    context = ssl.create_default_context(cafile=tls.ca_file)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    return context
