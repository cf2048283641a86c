"""How https servers are trusted. Files may be swapped while the agent runs.

Rules:
    S1  The files of a context are looked at before each request that needs it (a few stat calls); when one has changed, a
        new context is made, and connections that were made with the old one are not used again.
    S2  Files that do not fit together, or cannot be read, leave the context that is there in force; this is said once per
        change. Without an earlier one the request fails with a sentence.
    S3  Contexts are made in a thread: the authorities of a whole system take tens of milliseconds.
"""

from __future__ import annotations

import asyncio
import os
import ssl

from watchkeeper.bounded import TtlLru
from watchkeeper.config.schema.common import TlsClient
from watchkeeper.errors import ErrorClass
from watchkeeper.logs import get_logger
from watchkeeper.outbound.errors import Failure, RequestError

journal = get_logger("outbound")

MOST = 64
"""Contexts that are remembered; those that reloads have left behind go after an hour."""
Stamp = tuple[tuple[int, int, int], ...]


class Contexts:
    """One per agent."""

    def __init__(self) -> None:
        self._made: TtlLru[TlsClient, tuple[Stamp, ssl.SSLContext]] = TtlLru(MOST)
        self._refused: TtlLru[TlsClient, Stamp] = TtlLru(MOST)
        self._lock = asyncio.Lock()

    async def get(self, tls: TlsClient) -> ssl.SSLContext:
        """The context that is in force now.

        Raises:
            RequestError: there is none.
        """
        found = self._made.get(tls)
        stamp = _stamp(tls)
        if found is not None and found[0] == stamp:
            return found[1]
        async with self._lock:
            return await self._make(tls, stamp)

    async def _make(self, tls: TlsClient, stamp: Stamp) -> ssl.SSLContext:
        found = self._made.get(tls)
        if found is not None and stamp in (found[0], self._refused.get(tls)):
            return found[1]
        try:
            context = await asyncio.to_thread(make_context, tls)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            message = f"TLS files cannot be used: {_reason(error, tls)}"
            if found is None:
                raise RequestError(message, Failure.INVALID) from error
            self._refused.set(tls, stamp)
            journal.error(
                f"{message}; the earlier ones stay in force", error_class=ErrorClass.NETWORK_FAILURE
            )
            return found[1]
        if found is not None:
            journal.info("TLS files have changed and are in force", ca=tls.ca_file, certificate=tls.cert_file)
        self._made.set(tls, (stamp, context))
        return context


def make_context(tls: TlsClient) -> ssl.SSLContext:
    """A context for clients; reads files."""
    context = ssl.create_default_context(cafile=tls.ca_file)
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if tls.cert_file:
        # Without the password function OpenSSL would ask for one on the terminal, and wait.
        context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
    return context


def _no_password() -> str:
    raise ValueError("the key has a password, and there is nobody to ask for it")


def _stamp(tls: TlsClient) -> Stamp:
    return tuple(_stat(path) for path in (tls.ca_file, tls.cert_file, tls.key_file) if path)


def _stat(path: str) -> tuple[int, int, int]:
    try:
        found = os.stat(path)  # noqa: PTH116 - before every request: a Path would cost more than the call
    except OSError:
        return 0, 0, 0
    return found.st_mtime_ns, found.st_size, found.st_ino


def _reason(error: Exception, tls: TlsClient) -> str:
    files = ", ".join(path for path in (tls.ca_file, tls.cert_file, tls.key_file) if path)
    return f"{files}: {getattr(error, 'strerror', None) or error}"
