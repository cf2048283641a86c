"""One connection: HTTP is aiohttp's business, how long a client may take is ours.

Rules:
    C1  The head of a request has to be complete `header_timeout` after its first byte; the first request counts from the
        connection. A client that drips bytes (slowloris) does not get more.
    C2  When all places are taken, the connection that has been idle for longest is closed for a new one; when all of them
        are busy, the new one is.
    C3  An answer that its client does not read is given up when nothing of it has gone for `request_timeout`.
    C4  What is no HTTP is answered with 400, counted, and not logged: whoever can connect could otherwise fill the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

from watchkeeper.config.schema.listeners import ListenerLimits
from watchkeeper.endpoints import web
from watchkeeper.endpoints.answers import Refusal
from watchkeeper.endpoints.peers import Peer

Dropped = Callable[[str], None]


@dataclass
class Places:
    """The connections of one listener."""

    limits: ListenerLimits
    dropped: Dropped
    """Hears why a connection was ended by us."""
    taken: dict[Connection, None] = field(default_factory=dict)
    """In the order in which they were last used."""

    def enter(self, connection: Connection) -> bool:
        """Take a place (C2); False: there is none."""
        while len(self.taken) >= self.limits.connections:
            idle = next((each for each in self.taken if each.idle), None)
            if idle is None:
                self.dropped("full")
                return False
            self.dropped("made room")
            idle.abort()
        self.taken[connection] = None
        return True

    def used(self, connection: Connection) -> None:
        """It is the newest now."""
        if connection in self.taken:
            del self.taken[connection]
            self.taken[connection] = None

    def leave(self, connection: Connection) -> None:
        self.taken.pop(connection, None)


def _never() -> bool:
    return False


class Connection(web.RequestHandler):
    """aiohttp's protocol, with a peer, a place and a limit for heads."""

    __slots__ = (
        "_head_timer",
        "_unread",
        "_unread_timer",
        "busy",
        "introduce",
        "listener",
        "outdated",
        "peer",
        "places",
    )

    def __init__(self, server: web.Server, places: Places, peer: Peer, listener: str) -> None:
        super().__init__(
            server,
            loop=asyncio.get_running_loop(),
            access_log=None,  # type: ignore[arg-type]
            keepalive_timeout=places.limits.idle_timeout,
            lingering_time=1.0,
            max_headers=64,
        )
        self.places, self.peer, self.listener = places, peer, listener
        self.introduce: Callable[[asyncio.BaseTransport], Peer | None] | None = None
        """Who it is, once that is known: after a handshake; None: nobody who may come."""
        self.outdated: Callable[[], bool] = _never
        """Whether its next request should come over a new connection."""
        self.busy = False
        self._head_timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._unread = 0

    @property
    def idle(self) -> bool:
        """Whether nothing would be lost with it: no request is there, and no answer is on its way."""
        return not self.busy and not getattr(self, "_request_in_progress", False)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = self.peer if self.introduce is None else self.introduce(transport)
        if peer is None or not self.places.enter(self):
            cast("asyncio.Transport", transport).abort()
            return
        self.peer = peer
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: BaseException | None) -> None:
        self.places.leave(self)
        self._no_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if not self.busy and self._head_timer is None:
            self._expect_head()
        super().data_received(data)

    def begin(self) -> None:
        """The head of a request is complete."""
        self.busy = True
        self._no_timer()
        self.places.used(self)

    def end(self) -> None:
        """Its answer is on its way."""
        self.busy = False
        self.places.used(self)
        self._unread = 0
        self._expect_reading()

    def abort(self) -> None:
        """End it at once; what was not sent yet is lost."""
        self.places.leave(self)
        self._no_timer()
        if self.transport is not None:
            self.transport.abort()

    def _expect_head(self) -> None:
        self._head_timer = asyncio.get_running_loop().call_later(
            self.places.limits.header_timeout, self._head_is_late
        )

    def _head_is_late(self) -> None:
        self._head_timer = None
        if not self.busy:
            self.places.dropped("header timeout")
            self.abort()

    def _expect_reading(self) -> None:
        self._unread_timer = asyncio.get_running_loop().call_later(
            self.places.limits.request_timeout, self._look_whether_it_is_read
        )

    def _look_whether_it_is_read(self) -> None:
        """C3."""
        self._unread_timer = None
        if self.transport is None or self.busy:
            return
        before, self._unread = self._unread, self.transport.get_write_buffer_size()
        if self._unread and before and self._unread >= before:
            self.places.dropped("not read")
            self.abort()
        elif self._unread:
            self._expect_reading()

    def _no_timer(self) -> None:
        for timer in (self._head_timer, self._unread_timer):
            if timer is not None:
                timer.cancel()
        self._head_timer = self._unread_timer = None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,
    ) -> web.StreamResponse:
        """C4. What fails in a handler never gets here: server.py answers for it."""
        self.places.dropped("malformed")
        return Refusal(
            status, "this is no request that can be understood", "Speak HTTP/1.1.", close=True
        ).answer()

    def log_exception(self, *args: object, **kw: object) -> None:
        """Nothing that a client can cause is logged here."""
