"""Connections that are kept for the next request: so many per host, for so long, and then they are really closed.

aiohttp keeps as many as there were at the peak, and closes what is idle between one and two times its limit. Here a
connection that comes back to a full shelf is closed, and each one has a timer of its own. This uses what aiohttp
documents: connectors with a `connect` of their own, and the connection's protocol.

The module imports aiohttp; it is imported when the first request is made.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

from watchkeeper._version import __version__
from watchkeeper.lean import without_certificates

with without_certificates():
    import aiohttp
    from aiohttp.abc import AbstractStreamWriter

PIECE = 64 * 1024
NEVER = 1e9
"""aiohttp rounds longer limits up to whole seconds of the loop's clock; here they are kept as they are."""


class Shelf:
    """What lies idle, by host.

    Args:
        limits: connections per host and seconds, as they are now.
    """

    def __init__(self, limits: Callable[[], tuple[int, float]]) -> None:
        self._limits = limits
        self._idle: dict[Hashable, dict[Any, asyncio.TimerHandle]] = {}

    def give(self, key: Hashable, protocol: Any) -> None:
        """A connection comes back; it is marked to be closed when there is no room for it."""
        if protocol is None or protocol.should_close:
            return
        for gone in [each for each in self._idle.get(key, ()) if not each.is_connected()]:
            self.take(key, gone)
        most, seconds = self._limits()
        if len(self._idle.get(key, ())) >= most:
            protocol.force_close()
            return
        timer = asyncio.get_running_loop().call_later(seconds, self._expire, key, protocol)
        self._idle.setdefault(key, {})[protocol] = timer

    def take(self, key: Hashable, protocol: Any) -> None:
        """A connection is used again."""
        timer = self._idle.get(key, {}).pop(protocol, None)
        if timer is not None:
            timer.cancel()
        if not self._idle.get(key, True):
            del self._idle[key]

    def clear(self) -> None:
        """All of them are closed elsewhere."""
        for idle in self._idle.values():
            for timer in idle.values():
                timer.cancel()
        self._idle.clear()

    def _expire(self, key: Hashable, protocol: Any) -> None:
        self.take(key, protocol)
        protocol.close()


class _Shelved(aiohttp.BaseConnector):
    """A connector whose idle connections lie on a shelf."""

    shelf: Shelf

    async def connect(self, req: Any, traces: Any, timeout: Any) -> Any:  # noqa: ASYNC109 - aiohttp's signature
        connection = await super().connect(req, traces, timeout)
        key, protocol = req.connection_key, connection.protocol
        self.shelf.take(key, protocol)
        connection.add_callback(partial(self.shelf.give, key, protocol))
        return connection


class TcpConnector(_Shelved, aiohttp.TCPConnector):
    """To hosts."""


class UnixConnector(_Shelved, aiohttp.UnixConnector):
    """To one socket."""


class Body(aiohttp.Payload):
    """The body of a request: bytes that have to be taken within a limit of their own."""

    def __init__(self, value: bytes, limit: float | None) -> None:
        super().__init__(value, content_type="application/octet-stream")
        self._size, self._limit = len(value), limit

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return bytes(self._value).decode(encoding, errors)

    async def write(self, writer: AbstractStreamWriter) -> None:
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        end = len(self._value) if content_length is None else min(len(self._value), content_length)
        async with asyncio.timeout(self._limit):
            for begin in range(0, end, PIECE):
                await writer.write(self._value[begin : min(end, begin + PIECE)])


class Pool:
    """The sessions of one client: one for hosts, and one for each Unix socket."""

    def __init__(self, limits: Callable[[], tuple[int, float]]) -> None:
        self._limits = limits
        self._sessions: dict[str | None, tuple[aiohttp.ClientSession, Shelf]] = {}

    def session(self, socket: str | None) -> aiohttp.ClientSession:
        """The one for hosts, or for the socket of that path."""
        if socket not in self._sessions:
            shelf = Shelf(self._limits)
            session = aiohttp.ClientSession(
                connector=self._connector(socket, shelf),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"watchkeeper/{__version__}"},
            )
            self._sessions[socket] = (session, shelf)
        return self._sessions[socket][0]

    async def close(self) -> None:
        """Close every connection, those in use as well."""
        sessions, self._sessions = list(self._sessions.values()), {}
        for _, shelf in sessions:
            shelf.clear()
        await asyncio.gather(*(session.close() for session, _ in sessions))

    def _connector(self, socket: str | None, shelf: Shelf) -> TcpConnector | UnixConnector:
        # The shelf closes what is idle; aiohttp's own timer comes later and lets go of what is closed.
        later = self._limits()[1] * 2
        connector: TcpConnector | UnixConnector
        if socket is None:
            connector = TcpConnector(limit=0, keepalive_timeout=later, timeout_ceil_threshold=NEVER)
        else:
            connector = UnixConnector(socket, limit=0, keepalive_timeout=later)
        connector.shelf = shelf
        return connector
