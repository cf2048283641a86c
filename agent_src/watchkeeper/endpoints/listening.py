"""One listener at work: it takes connections, finds out who comes, and hands them to the server.

Rules:
    L1  Each connection gets the TLS context that is newest when it comes; a change of the files touches no other.
    L2  permissive looks at the first byte without taking it: 22 is a TLS handshake (RFC 8446, 5.1), anything else plain HTTP.
    L3  A handshake has its limit, the look at the first byte included; a connection that does not get through it costs
        nobody anything but its place. There are as many such places as there are for connections; when all are taken, the
        oldest makes room.
    L4  When there are no descriptors left, or nothing can be accepted for another reason, nothing is for a second; what is
        there already goes on.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from watchkeeper import system
from watchkeeper.config.schema.listeners import Listener, TlsMode
from watchkeeper.endpoints.peers import Credentials, Identity, Peer, credentials_of, decide
from watchkeeper.endpoints.sockets import Bound, bind
from watchkeeper.logs import get_logger

if TYPE_CHECKING:
    from watchkeeper.endpoints.connection import Connection
    from watchkeeper.endpoints.server import Endpoints
    from watchkeeper.endpoints.tls import ServerContexts

journal = get_logger("endpoints")

HANDSHAKE = 22
PAUSE = 1.0
LOOK = 0.01
"""Seconds between two looks where a loop cannot watch a socket (Windows)."""


class Listening:
    """From `start` to `stop`."""

    def __init__(
        self,
        endpoints: Endpoints,
        name: str,
        listener: Listener,
        *,
        tls: ServerContexts | None = None,
        numbers: Mapping[str, int] | None = None,
        token: str | None = None,
    ) -> None:
        self.name, self.listener, self.tls = name, listener, tls
        self._endpoints, self._numbers, self._token = endpoints, numbers or {}, token
        self._bound: list[Bound] = []
        self._tasks: dict[asyncio.Task[None], None] = {}
        """Connections that are not the server's yet, the oldest first."""
        self._accepting: list[asyncio.Task[None]] = []
        self.places = endpoints.places(listener.limits)

    @property
    def address(self) -> str:
        """As it is: with the port that was taken."""
        return self._bound[0].address if self._bound else ""

    def start(self) -> None:
        """Listen.

        Raises:
            ListenError: it cannot.
        """
        self._bound = bind(self.listener)
        loop = asyncio.get_running_loop()
        self._accepting = [
            loop.create_task(self._accept(each.socket), name=f"listener {self.name}") for each in self._bound
        ]

    def use_token(self, token: str | None) -> None:
        """From now on this one gives control, and no earlier one does; on connections that are there as well."""
        self._token = token
        for connection in self.places.taken:
            connection.peer = replace(connection.peer, token=token)

    async def close(self) -> None:
        """Take no more connections; those that are there go on."""
        for task in self._accepting:
            task.cancel()
        await asyncio.gather(*self._accepting, return_exceptions=True)
        for each in self._bound:
            each.close()

    async def stop(self) -> None:
        """Take no more, and end those that are there."""
        await self.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for connection in list(self.places.taken):
            connection.abort() if connection.idle else connection.close()

    async def _accept(self, listening: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, address = await _accepted(listening)
            except OSError as error:
                if error.errno != errno.ECONNABORTED:  # L4; that one has only gone again
                    journal.warning(f"no connection can be accepted: {error.strerror}", listener=self.name)
                    await asyncio.sleep(PAUSE)
                continue
            if self.tls is not None:
                self._make_room()
            task = loop.create_task(self._serve(connection, address))
            self._tasks[task] = None
            task.add_done_callback(lambda done: self._tasks.pop(done, None))

    def _make_room(self) -> None:
        """L3."""
        while len(self._tasks) >= self.listener.limits.connections:
            oldest = next(iter(self._tasks))
            del self._tasks[oldest]
            oldest.cancel()
            self.places.dropped("made room")

    async def _serve(self, connection: socket.socket, address: object) -> None:
        """From an accepted socket to a connection of the server; afterwards it is the loop's."""
        loop = asyncio.get_running_loop()
        try:
            connection.setblocking(False)
            encrypted = await self._encrypted(connection)
            protocol = self._protocol(connection, address)
        except (OSError, TimeoutError) as error:
            connection.close()
            self._came_to_nothing(error)
            return
        except asyncio.CancelledError:
            connection.close()
            raise
        try:
            if encrypted:
                await self._shake_hands(connection, protocol, address)
            else:
                await loop.connect_accepted_socket(lambda: protocol, connection)
        except (OSError, TimeoutError) as error:
            self._came_to_nothing(error)

    async def _encrypted(self, connection: socket.socket) -> bool:
        """Whether this connection begins with a handshake."""
        if self.tls is None:
            return False
        if self.listener.tls.mode is TlsMode.STRICT:
            return True
        async with asyncio.timeout(self.listener.tls.handshake_timeout):  # L3
            return await _speaks_tls(connection)

    def _protocol(self, connection: socket.socket, address: object) -> Connection:
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = self._peer(address)
        else:
            peer = self._peer(address, credentials=credentials_of(connection))
        return self._endpoints.connection(self.places, peer, self.name)

    async def _shake_hands(self, connection: socket.socket, protocol: Connection, address: object) -> None:
        """L1. The protocol learns who it speaks to when the handshake is over, and that is before its first byte."""
        assert self.tls is not None
        contexts, context = self.tls, self.tls.current
        protocol.introduce = lambda transport: self._peer(
            address, identity=contexts.identity(transport.get_extra_info("ssl_object")), encrypted=True
        )
        protocol.outdated = lambda: contexts.current is not context
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: protocol,
            connection,
            ssl=context,
            ssl_handshake_timeout=self.listener.tls.handshake_timeout,
            ssl_shutdown_timeout=self.listener.tls.handshake_timeout,
        )

    def _came_to_nothing(self, error: Exception) -> None:
        self.places.dropped("handshake" if self.tls else "lost")
        journal.debug(f"a connection came to nothing: {error}", listener=self.name)

    def _peer(
        self,
        address: object,
        *,
        credentials: Credentials | None = None,
        identity: Identity | None = None,
        encrypted: bool = False,
    ) -> Peer:
        return decide(
            self.listener,
            address=address,
            credentials=credentials,
            identity=identity,
            numbers=self._numbers,
            token=self._token,
            encrypted=encrypted,
        )


async def _accepted(listening: socket.socket) -> tuple[socket.socket, object]:
    """The next connection.

    Where there is something to read, asyncio's own sock_accept takes a connection also for a task that was cancelled a moment
    before, and then loses it and says so as an error.

    Raises:
        OSError: none can be accepted.
    """
    if system.WINDOWS:  # another loop, which gives such a connection back
        return await asyncio.get_running_loop().sock_accept(listening)
    while True:
        await _readable(listening)
        with contextlib.suppress(BlockingIOError, InterruptedError):
            return listening.accept()


async def _speaks_tls(connection: socket.socket) -> bool:
    """L2."""
    while True:
        try:
            first = connection.recv(1, socket.MSG_PEEK)
        except (BlockingIOError, InterruptedError):
            await _readable(connection)
            continue
        if not first:
            raise ConnectionResetError("it was closed before it said anything")
        return first[0] == HANDSHAKE


async def _readable(connection: socket.socket) -> None:
    """Until there is something to read."""
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    descriptor = connection.fileno()
    try:
        loop.add_reader(descriptor, ready.set)
    except NotImplementedError:
        await asyncio.sleep(LOOK)
        return
    try:
        await ready.wait()
    finally:
        with contextlib.suppress(OSError, ValueError):
            loop.remove_reader(descriptor)
