"""How looks trust a server: one context per set of settings, made again when one of its files changes.

A context with the system's certificates takes some 20 ms and 1 MB to make, which is more than a look may cost.
"""

from __future__ import annotations

import os
import ssl

from watchkeeper.checks import ProbeError
from watchkeeper.config.schema.common import TlsClient

_Files = tuple[tuple[int, int, int] | None, ...]
_Key = tuple[bool, str | None, str | None, str | None, tuple[str, ...]]
_contexts: dict[_Key, tuple[_Files, ssl.SSLContext]] = {}
LIMIT = 64
"""Contexts that are kept. Configurations come and go; more than so many at a time are not expected."""


def client_context(tls: TlsClient, protocols: tuple[str, ...] = ()) -> ssl.SSLContext:
    """The context for these settings; `protocols` are offered by ALPN.

    Raises:
        ProbeError: a file cannot be read, or holds something else.
    """
    files = tuple(_state(file) for file in (tls.ca_file, tls.cert_file, tls.key_file))
    # Not the name: a context serves any number of them, and a thousand checks have a thousand.
    key = (tls.verify, tls.ca_file, tls.cert_file, tls.key_file, protocols)
    kept = _contexts.get(key)
    if kept is not None and kept[0] == files:
        return kept[1]
    try:
        context = _make(tls)
    except (OSError, ValueError) as error:
        named = ", ".join(file for file in (tls.ca_file, tls.cert_file, tls.key_file) if file)
        raise ProbeError(f"the TLS files cannot be used ({named}): {error}") from None
    if protocols:
        context.set_alpn_protocols(list(protocols))
    if len(_contexts) >= LIMIT:
        _contexts.clear()
    _contexts[key] = files, context
    return context


def _make(tls: TlsClient) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=tls.ca_file)
    if not tls.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if tls.cert_file:
        # Without the password function OpenSSL would ask for one on the terminal.
        context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
    return context


def _no_password() -> str:
    raise ValueError("the key has a password, and there is nobody to ask for it")


def _state(file: str | None) -> tuple[int, int, int] | None:
    """What changes when a file does."""
    if file is None:
        return None
    try:
        found = os.stat(file)  # noqa: PTH116 - one system call, no object in between
    except OSError:
        return (0, 0, 0)
    return found.st_mtime_ns, found.st_ino, found.st_size
