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
        # Without the password function OpenSSL would ask for one on the terminal, and wait.
        context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
    return context


def _no_password() -> str:
    raise OSError("the key has a password, and there is nobody to ask for it")
