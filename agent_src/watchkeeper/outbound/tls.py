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
import ssl

from watchkeeper.bounded import TtlLru
from watchkeeper.config.schema.common import TlsClient
from watchkeeper.errors import ErrorClass
from watchkeeper.logs import get_logger
from watchkeeper.outbound.errors import Failure, RequestError
from watchkeeper.trust import Stamp, client_context, files, stamp

journal = get_logger("outbound")

MOST = 64
"""Contexts that are remembered; those that reloads have left behind go after an hour."""


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
        now = stamp(files(tls))
        if found is not None and found[0] == now:
            return found[1]
        async with self._lock:
            return await self._make(tls, now)

    async def _make(self, tls: TlsClient, now: Stamp) -> ssl.SSLContext:
        found = self._made.get(tls)
        if found is not None and now in (found[0], self._refused.get(tls)):
            return found[1]
        try:
            context = await asyncio.to_thread(client_context, tls)
        except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
            message = f"TLS files cannot be used: {_reason(error, tls)}"
            if found is None:
                raise RequestError(message, Failure.INVALID) from error
            self._refused.set(tls, now)
            journal.error(
                f"{message}; the earlier ones stay in force", error_class=ErrorClass.NETWORK_FAILURE
            )
            return found[1]
        if found is not None:
            journal.info("TLS files have changed and are in force", ca=tls.ca_file, certificate=tls.cert_file)
        self._made.set(tls, (now, context))
        return context


def _reason(error: Exception, tls: TlsClient) -> str:
    return f"{', '.join(files(tls))}: {getattr(error, 'strerror', None) or error}"
