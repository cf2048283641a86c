"""How looks trust a server: one context per set of settings, made again when one of its files changes.

A context with the system's certificates takes some 20 ms and 1 MB to make, which is more than a look may cost.
"""

from __future__ import annotations

import ssl

from watchkeeper import trust
from watchkeeper.checks import ProbeError
from watchkeeper.config.schema.common import TlsClient

_Key = tuple[bool, str | None, str | None, str | None, tuple[str, ...]]
_contexts: dict[_Key, tuple[trust.Stamp, ssl.SSLContext]] = {}
LIMIT = 64
"""Contexts that are kept. Configurations come and go; more than so many at a time are not expected."""


def client_context(tls: TlsClient, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
    """The context for these settings; `protocols` are offered by ALPN.

    Raises:
        ProbeError: a file cannot be read, or holds something else.
    """
    stamp = trust.stamp(trust.files(tls))
    # Not the name: a context serves any number of them, and a thousand checks have a thousand.
    key = (tls.verify, tls.ca_file, tls.cert_file, tls.key_file, protocols)
    kept = _contexts.get(key)
    if kept is not None and kept[0] == stamp:
        return kept[1]
    try:
        context = trust.client_context(tls)
    except (OSError, ValueError) as error:
        raise ProbeError(f"the TLS files cannot be used ({', '.join(trust.files(tls))}): {error}") from None
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if len(_contexts) >= LIMIT:
        _contexts.clear()
    _contexts[key] = stamp, context
    return context
