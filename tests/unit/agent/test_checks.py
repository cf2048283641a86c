"""What each kind of check sees, against servers on loopback; and the deadline, on a virtual clock."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import msgspec
import pytest
import pytest_asyncio
from aiohttp import web

from watchkeeper import checks
from watchkeeper.checks import Memory, Outcome, look
from watchkeeper.checks.icmp import _Echoes
from watchkeeper.config.model import HttpCheck, TcpCheck
from watchkeeper.config.schema.checks import AnyCheck, DnsCheck, GrpcCheck, IcmpCheck
from watchkeeper.errors import ErrorClass

SPEC = TcpCheck(address="127.0.0.1:1", timeout=5.0)


@pytest_asyncio.fixture
async def server() -> AsyncIterator[str]:
    """/status/N answers N; /to?u=URL redirects there; /loop to itself; /echo says which headers came."""

    async def status(request: web.Request) -> web.Response:
        return web.Response(status=int(request.match_info["code"]), body=b"x" * 100_000)

    async def redirect(request: web.Request) -> web.Response:
        raise web.HTTPFound(request.query["u"])

    async def echo(request: web.Request) -> web.Response:
        wanted = (request.method, request.headers.get("X-A"), request.headers["User-Agent"].split("/")[0])
        return web.Response(status=200 if wanted == ("HEAD", "b", "watchkeeper") else 418)

    app = web.Application()
    app.router.add_get("/status/{code}", status)
    app.router.add_get("/to", redirect)
    app.router.add_route("*", "/echo", echo)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    await runner.cleanup()


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("path", "fields", "success", "detail"),
    [
        ("/status/200", {}, True, "status 200"),
        ("/status/204", {}, True, "status 204"),
        ("/status/399", {}, True, "status 399"),
        ("/status/400", {}, False, "status 400"),
        ("/status/503", {}, False, "status 503"),
        # The override replaces the range in both directions.
        ("/status/404", {"status": (404,)}, True, "status 404"),
        ("/status/200", {"status": (404,)}, False, "status 200"),
        # Redirects: to the same host they are followed, to another one they are the answer, in a circle they fail.
        ("/to?u=/status/200", {}, True, "status 200"),
        ("/to?u=/status/500", {}, False, "status 500"),
        (
            "/to?u=http://elsewhere.invalid/",
            {},
            True,
            "status 302, a redirect to another host, which is not followed",
        ),
        ("/to?u=/to?u=/to", {"status": (302,)}, True, "status 302"),
        ("/echo", {"method": "HEAD", "headers": {"X-A": "b"}}, True, "status 200"),
        ("/echo", {}, False, "status 418"),
    ],
)
async def test_http(server: str, path: str, fields: dict[str, Any], success: bool, detail: str) -> None:
    """200 <= status < 400 unless the check says otherwise (kubernetes pkg/probe/http)."""
    outcome = await look(HttpCheck(url=server + path, timeout=10.0, **fields))
    assert (outcome.success, outcome.detail.rpartition(": ")[2]) == (success, detail)


@pytest.mark.asyncio
async def test_http_circle() -> None:
    """Ten redirects, and no more."""
    app = web.Application()

    async def around(_request: web.Request) -> web.Response:
        raise web.HTTPFound("/")

    app.router.add_get("/", around)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    outcome = await look(HttpCheck(url=f"http://127.0.0.1:{runner.addresses[0][1]}/", timeout=10.0))
    await runner.cleanup()
    assert (outcome.success, outcome.detail.rpartition(": ")[2]) == (False, "more than 10 redirects")


async def serve(answer: bytes) -> tuple[asyncio.Server, int]:
    """A server that answers everything with the same bytes and hangs up."""

    async def handle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    return server, server.sockets[0].getsockname()[1]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "answer",
    [b"", b"\0\xff\0", b"HTTP/1.1 999999 x\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n"],
)
async def test_http_nonsense_is_a_failure_of_the_target(answer: bytes) -> None:
    """What does not speak HTTP has failed; it is no defect of the check, which would be discarded."""
    server, port = await serve(answer)
    outcome = await look(HttpCheck(url=f"http://127.0.0.1:{port}/", timeout=10.0))
    server.close()
    assert (outcome.success, outcome.error_class) == (False, ErrorClass.CHECK_FAILED)


@pytest.mark.asyncio
async def test_tcp() -> None:
    """Open is a success, refused a failure that says why."""
    server, port = await serve(b"hello")
    outcome = await look(TcpCheck(address=f"127.0.0.1:{port}", timeout=10.0))
    assert outcome.success
    server.close()
    await server.wait_closed()
    outcome = await look(TcpCheck(address=f"127.0.0.1:{port}", timeout=10.0))
    assert (outcome.success, outcome.detail) == (False, f"127.0.0.1:{port}: Connection refused")


def use(monkeypatch: pytest.MonkeyPatch, probe: Callable[[Any, Memory], Any]) -> None:
    monkeypatch.setitem(checks.PROBES, TcpCheck, lambda: probe)


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_the_deadline_holds_against_a_probe_that_does_not_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one that ignores its cancellation costs no more than its timeout."""
    cancelled = []

    async def stubborn(_spec: TcpCheck, _memory: Memory) -> Outcome:
        try:
            await asyncio.sleep(1000)
        except asyncio.CancelledError:
            cancelled.append(True)
            await asyncio.sleep(1000)
        raise RuntimeError("nobody listens any more")

    use(monkeypatch, stubborn)
    begun = asyncio.get_running_loop().time()
    outcome = await look(SPEC)
    assert asyncio.get_running_loop().time() - begun == 5.0
    assert (outcome.success, outcome.detail, outcome.error_class, outcome.seconds) == (
        False,
        "no answer within 5s",
        ErrorClass.CHECK_TIMEOUT,
        5.0,
    )
    await asyncio.sleep(2000)
    assert cancelled == [True]


@pytest.mark.asyncio
async def test_a_defect_of_a_probe_is_no_failure_of_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says nothing (G3)."""

    async def broken(_spec: TcpCheck, _memory: Memory) -> Outcome:
        raise KeyError("defect")

    use(monkeypatch, broken)
    outcome = await look(SPEC)
    assert (outcome.success, outcome.error_class) == (None, ErrorClass.CHECK_INTERNAL)
    assert "defect" in outcome.detail


@pytest.mark.asyncio
async def test_a_cancelled_look_cancels_its_probe(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that is removed leaves nothing running."""
    ended = asyncio.Event()

    async def slow(_spec: TcpCheck, _memory: Memory) -> Outcome:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        raise AssertionError

    use(monkeypatch, slow)
    task = asyncio.create_task(look(SPEC))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.wait_for(ended.wait(), 1)


PING = b"\0\0\x08\x06\0\0\0\0\0" + bytes(8)
"""A frame of HTTP/2 that only asks for another one."""


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("spec", "piece"),
    [
        (TcpCheck(address="127.0.0.1:{}", expect="never", timeout=20.0), b"x"),
        (GrpcCheck(address="127.0.0.1:{}", timeout=20.0), PING),
        (DnsCheck(name="a.example", server="127.0.0.1:{}", timeout=60.0), b"nonsense"),
    ],
    ids=["tcp", "grpc", "dns"],
)
async def test_a_flood_leaves_the_loop_to_others(
    monkeypatch: pytest.MonkeyPatch, spec: AnyCheck, piece: bytes
) -> None:
    """A server that has always sent something already: between two pieces everybody else has a turn."""
    loop = asyncio.get_running_loop()
    turns, pieces = 0, 0

    def turn() -> None:
        nonlocal turns
        turns += 1
        loop.call_soon(turn)

    async def received(_sock: object, _size: int) -> bytes:
        nonlocal pieces
        pieces += 1
        if pieces == 1:
            turn()
        if pieces > 100:
            raise ConnectionResetError(104, "enough")
        return piece

    monkeypatch.setattr(loop, "sock_recv", received)
    datagrams = isinstance(spec, DnsCheck)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM if datagrams else socket.SOCK_STREAM) as server:
        server.bind(("127.0.0.1", 0))
        if not datagrams:
            server.listen()
        where = {"server" if datagrams else "address": f"127.0.0.1:{server.getsockname()[1]}"}
        outcome = await look(msgspec.structs.replace(spec, **where))
    assert (outcome.success, pieces) == (False, 101)
    assert turns >= 100


@pytest.mark.asyncio
async def test_a_flood_of_echoes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same for icmp, whose socket may hear every packet of the machine."""
    loop = asyncio.get_running_loop()
    turns, packets = [0], [0]

    async def received(_sock: object, _size: int) -> bytes:
        packets[0] += 1
        if packets[0] > 100:
            raise ConnectionResetError(104, "enough")
        return b"nonsense"

    def turn() -> None:
        turns[0] += 1
        loop.call_soon(turn)

    monkeypatch.setattr(loop, "sock_recv", received)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        echoes = _Echoes(IcmpCheck(host="127.0.0.1"), (socket.AF_INET, ("127.0.0.1", 0)), sock)
        turn()
        with pytest.raises(ConnectionResetError):
            await echoes._listen()
    assert turns[0] >= 100


@pytest.mark.asyncio
async def test_a_probe_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without descriptors the first look of a kind fails at its import: that says nothing of the target, and is said."""

    def nothing_left() -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setitem(checks.PROBES, TcpCheck, nothing_left)
    outcome = await look(SPEC)
    assert (outcome.success, outcome.error_class) == (None, ErrorClass.CHECK_INTERNAL)
    assert outcome.detail == "Too many open files"
