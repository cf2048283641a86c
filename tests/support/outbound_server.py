"""Servers on loopback that answer well or badly, and a look at the sockets that are left of it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

from aiohttp import web

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Raw = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Server:
    """An HTTP server whose only handler may be replaced at any time; it remembers the headers of every request."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.peers: list[object] = []
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append((request.method, request.path, dict(request.headers)))
        self.peers.append(request.transport.get_extra_info("peername") if request.transport else None)
        return await self.handler(request)


@contextlib.asynccontextmanager
async def serve(
    handler: Handler, *, tls: ssl.SSLContext | None = None, unix: str | None = None, keepalive: float = 75.0
) -> AsyncIterator[Server]:
    """Until the end of the block, on a free port or a Unix socket."""
    server = Server(handler)
    app = web.Application(client_max_size=1 << 30)
    app.router.add_route("*", "/{path:.*}", server.handle)
    runner = web.AppRunner(app, handle_signals=False, keepalive_timeout=keepalive, shutdown_timeout=0.1)
    await runner.setup()
    try:
        if unix is not None:
            await web.UnixSite(runner, unix).start()
        else:
            await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
            server.port = runner.addresses[0][1]
        yield server
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def raw(handler: Raw, **options: object) -> AsyncIterator[str]:
    """A server that speaks whatever the handler writes; its URL."""
    tasks: set[asyncio.Task[None]] = set()

    async def run(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.transport.abort()
            tasks.discard(task)

    server = await asyncio.start_server(run, "127.0.0.1", 0, **options)  # type: ignore[arg-type]
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def sockets(port: int) -> int:
    """How many sockets of this process are connected to that port."""
    count = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if os.readlink(link).startswith("socket:"):  # noqa: PTH115 - what it points to is no path
                with socket.socket(fileno=os.dup(int(link.name))) as each:
                    count += each.getpeername()[1:2] == (port,)
    return count


async def settle(port: int) -> int:
    """The number of sockets that are left, once there is none, or when there is still one after five seconds."""
    for _ in range(500):
        if not sockets(port):
            break
        await asyncio.sleep(0.01)  # transports close in the loop's next rounds
    return sockets(port)


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something that other tasks bring about."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for is a list that others write
            await asyncio.sleep(0.005)


LINUX = sys.platform == "linux"
