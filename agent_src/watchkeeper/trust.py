"""How a server is trusted, and what it is shown: the one way to a TLS context for whoever is a client.

Whoever keeps a context compares the `stamp` of its files before using it again: files may be swapped while the agent runs.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import Iterable

from watchkeeper.config.schema.common import TlsClient
from watchkeeper.config.schema.listeners import ServerTls

Stamp = tuple[tuple[int, int, int], ...]
"""Of each file: nanoseconds of its last change, inode, bytes. Zeros: there is none."""


def client_context(tls: TlsClient) -> ssl.SSLContext:
    """A context for connections. Reads files: those of the whole system take some 20 ms.

    Raises:
        OSError, ValueError: a file cannot be read, or holds something else (ssl.SSLError is an OSError).
    """
    context = ssl.create_default_context(cafile=tls.ca_file)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert_file:
        # Without the password function OpenSSL would ask for one on the terminal, and wait.
        context.load_cert_chain(tls.cert_file, tls.key_file, password=no_password)
    return context


def no_password() -> str:
    """For keys, which are read without anybody there.

    Raises:
        OSError: always.
    """
    raise OSError("the key has a password, and there is nobody to ask for it")


def files(tls: TlsClient | ServerTls) -> tuple[str, ...]:
    """Those that a context is made of."""
    return tuple(path for path in (tls.ca_file, tls.cert_file, tls.key_file) if path)


def stamp(paths: Iterable[str]) -> Stamp:
    """What changes when one of the files does."""
    return tuple(_stamp(path) for path in paths)


def _stamp(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 - before every request: a Path would cost more than the call
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_ino, found.st_size
