"""The servers that the agent looks at, asks and sends to. All live in one thread with a loop of its own, and misbehave on order."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import ssl
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from aiohttp import web

from support.certificates import Authority

T = TypeVar("T")
Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter
GOOD = b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\nConnection: close\r\n\r\n{"state": "up"}'


class Loop:
    """A thread with a loop; everything below is made and changed in it."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, name="servers", daemon=True)
        self._thread.start()

    def run(self, work: Awaitable[T], limit: float = 30.0) -> T:
        async def wrapped() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(wrapped(), self.loop).result(limit)

    def call(self, function: Callable[[], object]) -> None:
        async def run() -> None:
            function()

        self.run(run())


class Target:
    """One server that checks look at; `mode` is how it is just now."""

    def __init__(self) -> None:
        self.mode = "good"
        self.port = 0
        self._turn = itertools.count()

    async def start(self, context: ssl.SSLContext | None = None) -> None:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=context, backlog=200)
        self.port = server.sockets[0].getsockname()[1]

    async def _serve(self, reader: Reader, writer: Writer) -> None:
        mode = self.mode
        if mode == "flap":
            mode = ("good", "reset", "status")[next(self._turn) % 3]
        try:
            async with asyncio.timeout(20):
                if mode != "close":
                    await reader.readuntil(b"\n")
                    await MODES[mode](writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass
        finally:
            writer.close()


async def _say(writer: Writer, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


async def _hang(_writer: Writer) -> None:
    await asyncio.sleep(15)


async def _reset(writer: Writer) -> None:
    writer.transport.abort()


async def _drip(writer: Writer) -> None:
    for byte in b"HTTP/1.1 200 OK\r\nX-Slow: " + b"y" * 200:
        await _say(writer, bytes([byte]))
        await asyncio.sleep(0.05)


async def _endless(writer: Writer) -> None:
    await _say(writer, b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(40):
        await _say(writer, b"x" * 65_536)
        await asyncio.sleep(0.02)


MALFORMED = (b"220 smtp\r\n", b"HTTP/9.9 9999 \xff\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", b"\0" * 300,
             b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", b"HTTP/1.1\r\n\r\n")  # fmt: skip
_malformed = itertools.cycle(MALFORMED)
MODES: dict[str, Callable[[Writer], Awaitable[None]]] = {
    "good": lambda writer: _say(writer, GOOD),
    "hang": _hang,
    "reset": _reset,
    "drip": _drip,
    "endless": _endless,
    "malformed": lambda writer: _say(writer, next(_malformed)),
    "torn": lambda writer: _say(writer, b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"),
    "status": lambda writer: _say(writer, b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n"),
}


class Certificates:
    """The certificate of a TLS target, which is swapped while it serves."""

    def __init__(self, folder: Path) -> None:
        self.authority, self._stranger = Authority(folder), Authority(folder, "strangers")
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._numbers = itertools.count()
        self.swap("renewed")

    def swap(self, how: str) -> None:
        """`renewed` is good; `expired` and `stranger` are what they say."""
        authority = self._stranger if how == "stranger" else self.authority
        ends = -30.0 if how == "expired" else 86_400.0 * 90
        pair = authority.issue(f"leaf{next(self._numbers) % 2}", starts=-3600, ends=ends)
        self.context.load_cert_chain(pair.cert, pair.key)


class Sinks:
    """Takes log lines (OTLP, Loki), spans and alerts; `mode` is how it answers."""

    def __init__(self) -> None:
        self.mode = "good"
        self.lines = self.spans = self.alerts = 0
        self.bodies: list[bytes] = []
        """Taken out and looked through by whoever watches."""
        self.url = ""

    async def start(self) -> None:
        app = web.Application(client_max_size=64 << 20)
        app.router.add_post("/{tail:.*}", self._take)
        runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"

    async def _take(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.bodies.append(body)
        if self.mode == "away":
            assert request.transport is not None
            request.transport.close()
        if self.mode in ("hang", "slow"):
            await asyncio.sleep(10 if self.mode == "hang" else 0.7)
        if self.mode == "status":
            return web.Response(status=503, headers={"Retry-After": "1"})
        if self.mode == "refuse":
            return web.Response(status=400, text="no")
        self._count(request.path, json.loads(body))
        return web.json_response({})

    def _count(self, path: str, said: Any) -> None:
        if path.endswith("/v1/logs"):
            self.lines += sum(
                len(scope["logRecords"]) for each in said["resourceLogs"] for scope in each["scopeLogs"]
            )
        elif path.endswith("/push"):
            self.lines += sum(len(stream["values"]) for stream in said["streams"])
        elif path.endswith("/v1/traces"):
            self.spans += sum(
                len(scope["spans"]) for each in said["resourceSpans"] for scope in each["scopeSpans"]
            )
        else:
            self.alerts += len(said["alerts"])


class Centre:
    """An HTTP source: one document with an ETag, and every way to say something else."""

    def __init__(self, token: str) -> None:
        self.mode = "good"
        self.body = b"{}"
        self.url = ""
        self._token = token
        self._turn = itertools.count()

    async def start(self) -> None:
        app = web.Application()
        app.router.add_get("/more.json", self._answer)
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/more.json"

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == f"Bearer {self._token}"
        mode = self.mode
        if mode == "flap":
            mode = ("good", "status", "wrong", "torn")[next(self._turn) % 4]
        if mode in ("hang", "slow"):
            await asyncio.sleep(12 if mode == "hang" else 1.5)
        if mode == "status":
            return web.Response(status=500, text="no")
        if mode == "lie":
            return web.Response(body=b"\xff{{{ nonsense", content_type="application/json")
        if mode == "wrong":
            return web.json_response({"services": {"h-1": {"comand": ["x"], "environment": 7}}})
        if mode == "torn":
            return await self._torn(request)
        tag = f'"{hash(self.body) & 0xFFFFFFFF:x}"'
        if request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers={"ETag": tag})
        return web.Response(body=self.body, content_type="application/json", headers={"ETag": tag})

    async def _torn(self, request: web.Request) -> web.StreamResponse:
        answer = web.StreamResponse(
            headers={"Content-Length": str(len(self.body) + 10), "Content-Type": "application/json"}
        )
        await answer.prepare(request)
        with contextlib.suppress(ConnectionError):
            await answer.write(self.body[: len(self.body) // 2])
        assert request.transport is not None
        request.transport.abort()
        return answer
