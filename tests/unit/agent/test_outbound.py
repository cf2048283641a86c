"""Requests to servers on loopback: what comes of good and of bad ones, and that nothing is left of any."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from aiohttp import web

from support.certificates import Authority
from support.outbound_server import LINUX, raw, serve, settle, sockets, until
from watchkeeper.config.schema.common import TlsClient
from watchkeeper.config.schema.outbound import (
    Balancing,
    BreakerSettings,
    ConsecutiveFailures,
    Destination,
    EvenFlow,
    OutboundSettings,
    Policy,
    Reach,
    RetrySettings,
    TokenRate,
)
from watchkeeper.metrics import Metrics
from watchkeeper.outbound import deadline
from watchkeeper.outbound.breaker import Result
from watchkeeper.outbound.calls import parse_target
from watchkeeper.outbound.client import Client, Failure, Limits, RequestError
from watchkeeper.outbound.retry import retry_after
from watchkeeper.registry.instances import Instance, Static
from watchkeeper.trust import client_context

pytestmark = pytest.mark.asyncio

QUICK = Limits(connect=0.2, read=0.2, total=0.4, write=0.2)
Reader, Writer = asyncio.StreamReader, asyncio.StreamWriter


async def good(request: web.Request) -> web.StreamResponse:
    await request.read()
    return web.Response(text="fine")


async def busy(_request: web.Request) -> web.StreamResponse:
    return web.Response(status=503, text="busy")


async def silent(_reader: Reader, _writer: Writer) -> None:
    await asyncio.Event().wait()


async def half_headers(_reader: Reader, writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Le")
    await asyncio.Event().wait()


async def half_body(_reader: Reader, writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")
    await asyncio.Event().wait()


async def dripping(_reader: Reader, writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    while True:
        writer.write(b"x")
        await writer.drain()
        await asyncio.sleep(0.02)


async def torn(reader: Reader, writer: Writer) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nbegun")
    await writer.drain()


async def no_http(reader: Reader, writer: Writer) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"220 mail.example ESMTP\r\n")
    await writer.drain()


async def endless_header(_reader: Reader, writer: Writer) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nX-Long: ")
    while True:
        writer.write(b"a" * 4096)
        await writer.drain()


async def closing(_reader: Reader, _writer: Writer) -> None:
    """Ends at once, and with it the connection."""


async def long_answer(reader: Reader, writer: Writer) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"2000\r\n" + b"y" * 8192 + b"\r\n"
    )
    await asyncio.Event().wait()


BAD: dict[str, tuple[Callable[[Reader, Writer], Awaitable[None]], str, str, Failure]] = {
    "silent": (silent, "http", "no answer in time", Failure.TIMEOUT),
    "no handshake": (silent, "https", "no answer in time", Failure.TIMEOUT),
    "half of the headers": (half_headers, "http", "no answer in time", Failure.TIMEOUT),
    "half of the body": (half_body, "http", "no answer in time", Failure.TIMEOUT),
    "byte by byte": (dripping, "http", "no answer in time", Failure.TIMEOUT),
    "torn": (torn, "http", "not completed", Failure.BROKEN),
    "no HTTP": (no_http, "http", "", Failure.BROKEN),
    "endless header": (endless_header, "http", "", Failure.BROKEN),
    "closes": (closing, "http", "", Failure.BROKEN),
    "too long": (long_answer, "http", "longer than 5000 bytes", Failure.TOO_LARGE),
}


@pytest.mark.skipif(not LINUX, reason="counts the sockets of /proc/self/fd, which only Linux has")
@pytest.mark.parametrize("case", BAD)
async def test_bad_servers(case: str) -> None:
    """O1, O2: a sentence of one line and its kind within the limits, and afterwards not a socket more than before."""
    handler, scheme, text, kind = BAD[case]
    async with raw(handler) as address:
        client, port = Client(), int(address.rpartition(":")[2])
        for _ in range(3):
            with pytest.raises(RequestError) as caught:
                await client.request("GET", f"{scheme}://{address}/x", limits=QUICK, body_limit=5000)
            assert text in str(caught.value)
            assert "\n" not in str(caught.value)
            assert caught.value.kind is kind
        assert await settle(port) == 0
        await client.close()


@pytest.mark.skipif(not LINUX, reason="counts the sockets of /proc/self/fd, which only Linux has")
@pytest.mark.parametrize("case", ["silent", "no handshake", "half of the headers", "byte by byte"])
async def test_cancelled(case: str) -> None:
    """O2: whenever it is cancelled, before a connection, while it waits, in the middle of the body, no socket stays."""
    handler, scheme, _, _ = BAD[case]
    async with raw(handler) as address:
        client, port = Client(), int(address.rpartition(":")[2])
        for rounds in (0, 1, 2, 3, 5, 10, 40):
            task = asyncio.create_task(client.request("GET", f"{scheme}://{address}/"))
            for _ in range(rounds):
                await asyncio.sleep(0)
            await asyncio.sleep(0.01 if rounds == 40 else 0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert await settle(port) == 0
        await client.close()


async def test_who_does_not_read() -> None:
    """O1: a body that is not taken ends at the write limit, before the total."""
    async with raw(silent, limit=1) as address:
        client, limits = Client(), Limits(connect=5, read=60, total=60, write=0.2)
        with pytest.raises(RequestError, match="no answer in time") as caught:
            await client.request("PUT", f"http://{address}/", body=b"z" * 40_000_000, limits=limits)
        assert caught.value.kind is Failure.TIMEOUT
        await client.close()


@pytest.mark.parametrize(
    ("url", "kind"),
    [
        ("http://127.0.0.1:1/", Failure.CONNECT),
        ("http+unix://%2Fnowhere%2Fat-all.sock/", Failure.CONNECT),
        ("ftp://127.0.0.1/", Failure.INVALID),
        ("http:///path", Failure.INVALID),
        ("http://127.0.0.1:99999/", Failure.INVALID),
        ("http://[::1/", Failure.INVALID),
        ("nonsense", Failure.INVALID),
    ],
)
async def test_no_connection(url: str, kind: Failure) -> None:
    """Every wrong address has its kind and a sentence of one line."""
    client = Client()
    with pytest.raises(RequestError) as caught:
        await client.request("GET", url)
    assert caught.value.kind is kind
    assert "\n" not in str(caught.value)
    await client.close()


async def test_secrets_are_not_shown() -> None:
    """Neither a password nor a query is in the sentence of a failure."""
    client = Client()
    with pytest.raises(RequestError) as caught:
        await client.request("GET", "http://me:hidden@127.0.0.1:1/path?token=hidden")
    assert "hidden" not in str(caught.value)
    assert "/path" in str(caught.value)
    await client.close()


async def test_secrets_beside_a_malformed_answer() -> None:
    """aiohttp's sentence about it has the whole URL; ours has not. Nor has one about a URL without a path, or a scheme."""

    async def garbled(reader: Reader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nno header\0\r\n\r\n")
        await writer.drain()

    client = Client()
    async with raw(garbled) as server:
        with pytest.raises(RequestError, match="Invalid header") as caught:
            await client.request("GET", f"http://{server}/path?token=hidden")
    assert "hidden" not in str(caught.value)
    for url in ("http://127.0.0.1:1?token=hidden", "me:hidden@127.0.0.1:1/path?token=hidden"):
        with pytest.raises(RequestError) as caught:
            await client.request("GET", url)
        assert "hidden" not in str(caught.value)
    await client.close()


async def test_a_header_with_a_line_break() -> None:
    """A request that cannot be written is refused, and not sent in two."""
    async with serve(good) as server:
        client = Client()
        with pytest.raises(RequestError) as caught:
            await client.request("GET", server.url, headers={"X": "a\r\nY: b"})
        assert caught.value.kind is Failure.INVALID
        assert server.asked == []
        await client.close()


async def test_one_connection_for_many_requests() -> None:
    """O2: what is read to its end is used again."""
    async with serve(good) as server:
        client = Client()
        for _ in range(5):
            assert (await client.request("POST", server.url, body=b"a" * 300_000)).body == b"fine"
        assert len(set(server.peers)) == 1
        await client.close()


async def test_no_more_than_so_many_are_kept() -> None:
    """Of twelve connections at once, idle_connections stay; the others are closed when they come back."""
    gate = asyncio.Event()

    async def waiting(_request: web.Request) -> web.StreamResponse:
        await gate.wait()
        return web.Response(text="fine")

    async with serve(waiting) as server:
        client = Client(OutboundSettings(idle_connections=3))
        asking = [asyncio.create_task(client.request("GET", server.url)) for _ in range(12)]
        await until(lambda: len(server.asked) == 12)
        assert not LINUX or sockets(server.port) == 12
        gate.set()
        await asyncio.gather(*asking)
        if LINUX:
            await until(lambda: sockets(server.port) == 3)
        await client.request("GET", server.url)
        assert len(set(server.peers)) == 12
        await client.close()


@pytest.mark.skipif(not LINUX, reason="counts the sockets of /proc/self/fd, which only Linux has")
async def test_idle_ones_are_closed() -> None:
    """After idle_timeout the connection is closed without anybody asking, on both sides."""
    async with serve(good) as server:
        client = Client(OutboundSettings(idle_timeout=0.05))
        await client.request("GET", server.url)
        assert await settle(server.port) == 0
        await client.request("GET", server.url)
        assert len(set(server.peers)) == 2
        await client.close()


async def test_unix_sockets(tmp_path: Path) -> None:
    """http+unix: the path of the socket is the host, percent-encoded."""
    path = tmp_path / "a socket"
    async with serve(good, unix=str(path)) as server:
        client = Client()
        url = f"http+unix://{str(path).replace('/', '%2F').replace(' ', '%20')}/some/where?a=b"
        assert (await client.request("GET", url)).body == b"fine"
        assert server.asked[0][1] == "/some/where"
        assert server.asked[0][2]["Host"] == "localhost"
        await client.close()


async def test_a_stream_is_read_piece_by_piece() -> None:
    """Pieces come as they are sent; total 0 sets no end, and an error in the reader's own block stays what it is."""

    async def pieces(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(3):
            await response.write(f"piece {number}\n".encode())
            await asyncio.sleep(0.05)
        return response

    async with serve(pieces) as server:
        client = Client(OutboundSettings(total_timeout=0.1))
        async with client.stream("GET", server.url, limits=Limits(total=0)) as stream:
            assert [piece async for piece in stream] == [b"piece 0\n", b"piece 1\n", b"piece 2\n"]
        with pytest.raises(RequestError, match="no answer in time"):
            async with client.stream("GET", server.url) as stream:
                await stream.read(1000)
        with pytest.raises(ValueError, match="mine"):
            async with client.stream("GET", server.url):
                raise ValueError("mine")
        await client.close()


async def test_certificates(tmp_path: Path) -> None:
    """An https server is believed by its authority and its name, or because verify is false."""
    ours, others = Authority(tmp_path), Authority(tmp_path, "others")
    pair = ours.issue("server", dns=("app.test",))
    async with serve(good, tls=_server(pair)) as server:
        client, url = Client(), f"https://127.0.0.1:{server.port}/"
        trusted = TlsClient(ca_file=str(ours.ca))
        assert (await client.request("GET", url, tls=trusted)).status == 200
        assert (await client.request("GET", url, tls=TlsClient(verify=False))).status == 200
        named = TlsClient(ca_file=str(ours.ca), server_name="app.test")
        assert (await client.request("GET", url, tls=named)).status == 200
        for tls in (
            TlsClient(),
            TlsClient(ca_file=str(others.ca)),
            TlsClient(ca_file=str(ours.ca), server_name="other.test"),
        ):
            with pytest.raises(RequestError) as caught:
                await client.request("GET", url, tls=tls)
            assert caught.value.kind is Failure.TLS
        await client.close()


async def test_files_are_swapped(tmp_path: Path) -> None:
    """S1, S2: a new certificate is shown from the next request on; half a swap changes nothing; a missing file is a sentence."""
    authority = Authority(tmp_path)
    shown: list[str] = []

    async def who(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        subject = request.transport.get_extra_info("peercert")["subject"]
        shown.append(dict(each[0] for each in subject)["commonName"])
        return web.Response()

    context = _server(authority.issue("server"))
    context.load_verify_locations(authority.ca)
    context.verify_mode = __import__("ssl").CERT_REQUIRED
    async with serve(who, tls=context) as server:
        client, url = Client(), f"https://127.0.0.1:{server.port}/"
        mine = authority.issue("mine", common_name="first")
        tls = TlsClient(ca_file=str(authority.ca), cert_file=str(mine.cert), key_file=str(mine.key))
        await client.request("GET", url, tls=tls)
        authority.issue("mine", common_name="second")
        await client.request("GET", url, tls=tls)
        mine.key.write_text("not a key")
        await client.request("GET", url, tls=tls)
        assert shown == ["first", "second", "second"]
        with pytest.raises(RequestError, match=r"TLS files cannot be used: .*gone\.pem") as caught:
            await client.request("GET", url, tls=TlsClient(ca_file=str(tmp_path / "gone.pem")))
        assert caught.value.kind is Failure.INVALID
        await client.close()


async def test_a_key_with_a_password(tmp_path: Path) -> None:
    """Nobody is there who could type it: a terminal is not asked, neither for requests nor for outputs."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, load_pem_private_key

    pair = Authority(tmp_path).issue("mine")
    key = load_pem_private_key(pair.key.read_bytes(), None)
    kind = serialization.PrivateFormat.PKCS8
    pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, BestAvailableEncryption(b"x")))
    tls = TlsClient(cert_file=str(pair.cert), key_file=str(pair.key))
    client = Client()
    with pytest.raises(RequestError, match=r"mine.*: the key has a password"):
        await client.request("GET", "https://127.0.0.1:1/", tls=tls)
    with pytest.raises(OSError, match="the key has a password"):
        client_context(tls)
    await client.close()


def _server(pair: Any) -> Any:
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pair.cert, pair.key)
    return context


async def test_three_hops_share_eight_hundred_milliseconds() -> None:
    """Order asks payment asks stock: each is told what is left, and the last one is cancelled when the first gives up."""
    client, told, ended = Client(), {}, asyncio.Event()

    async def stock(request: web.Request) -> web.StreamResponse:
        told["stock"] = deadline.from_header(request.headers.get(deadline.HEADER))
        try:
            async with deadline.of_request(request.headers.get):
                await asyncio.Event().wait()
        finally:
            ended.set()
        return web.Response()

    async with serve(stock) as third:

        async def payment(request: web.Request) -> web.StreamResponse:
            told["payment"] = deadline.from_header(request.headers.get(deadline.HEADER))
            async with deadline.of_request(request.headers.get):
                await asyncio.sleep(0.1)
                await client.request("GET", third.url)
            return web.Response()

        async with serve(payment) as second:
            with deadline.within(0.8):
                await asyncio.sleep(0.1)
                with pytest.raises(RequestError, match="no answer in time"):
                    await client.request("GET", second.url)
            await asyncio.wait_for(ended.wait(), 5)
            await client.close()
    assert told["payment"] <= 0.7
    assert told["stock"] <= told["payment"] - 0.1


async def test_no_time_no_request() -> None:
    """T3: with nothing left, the server is not asked."""
    async with serve(good) as server:
        client = Client()
        with deadline.within(0), pytest.raises(RequestError) as caught:
            await client.request("GET", server.url)
        assert caught.value.kind is Failure.DEADLINE
        assert server.asked == []
        await client.close()


async def test_no_deadline_no_header() -> None:
    """What nobody waits for is not said to be waited for; and the header can be switched off."""
    async with serve(good) as server:
        client = Client()
        await client.request("GET", server.url)
        client.settings = OutboundSettings(deadline_header=None)
        with deadline.within(5):
            await client.request("GET", server.url)
        assert all(deadline.HEADER not in headers for _, _, headers in server.asked)
        await client.close()


@pytest.mark.parametrize(("reach", "seconds"), [(Reach.INTERNAL, 1.0), (Reach.EXTERNAL, 5.0)])
async def test_how_far_says_how_long(reach: Reach, seconds: float) -> None:
    """Inside 1 s, outside 5 s, unless the destination or the caller says otherwise."""
    client = Client(settings(hosts=("a.test",), reach=reach))
    route, call = client._prepare("GET", "http://a.test/", None, None, Limits(), TlsClient())
    assert (call.times.total, route.name) == (seconds, "d")
    _, call = client._prepare("GET", "http://a.test/", None, None, Limits(total=0.3), TlsClient())
    assert call.times.total == 0.3


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://a.test/", "d"),
        ("http://A.test:81/", "d"),
        ("http://b.test:82/", "d"),
        ("http://b.test/", "other"),
        ("https://x.c.test/", "d"),
        ("https://c.test/", "other"),
    ],
)
async def test_which_destination(url: str, name: str) -> None:
    """HOST means every port, HOST:PORT one, *.SUFFIX every host below."""
    client = Client(settings(hosts=("a.test", "b.test:82", "*.c.test")))
    route, _ = client._prepare("GET", url, None, None, Limits(), TlsClient())
    assert route.name == name


def settings(*, hosts: tuple[str, ...], **fields: Any) -> OutboundSettings:
    """One destination d."""
    return OutboundSettings(destinations={"d": Destination(hosts=hosts, **fields)})


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def test_the_breaker_of_a_destination() -> None:
    """Four answers of 503 open it; nothing more reaches the server; after 5 s three good ones close it."""
    async with serve(busy) as server:
        clock, metrics = Clock(), Metrics()
        client = Client(clock=clock)
        wanted = settings(hosts=("127.0.0.1",), retry=None)
        client.attach(lambda: wanted, metrics, lambda _name: Static())
        for _ in range(4):
            assert (await client.request("GET", server.url)).status == 503
        with pytest.raises(RequestError, match="breaker is open") as caught:
            await client.request("GET", server.url)
        assert caught.value.kind is Failure.REFUSED
        assert len(server.asked) == 4
        clock.now += 5.1
        server.handler = good
        for _ in range(3):
            assert (await client.request("GET", server.url)).status == 200
        assert (
            metrics.registry.get_sample_value(
                "watchkeeper_outbound_breaker_changes_total", {"destination": "d", "to": "closed"}
            )
            == 1
        )
        for outcome, count in {"5xx": 4, "refused": 1, "2xx": 3}.items():
            labels = {"destination": "d", "outcome": outcome}
            assert metrics.registry.get_sample_value("watchkeeper_outbound_requests_total", labels) == count
        await client.close()


async def test_who_gives_up_trips_nothing() -> None:
    """C6: cancelled requests are no failures of the destination; ones that are too slow are."""
    async with raw(silent) as address:
        client = Client(settings(hosts=("127.0.0.1",), retry=None, total_timeout=0.05))
        for _ in range(6):
            task = asyncio.create_task(client.request("GET", f"http://{address}/"))
            await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        for _ in range(4):
            with pytest.raises(RequestError, match="no answer in time"):
                await client.request("GET", f"http://{address}/")
        with pytest.raises(RequestError, match="breaker is open"):
            await client.request("GET", f"http://{address}/")
        await client.close()


async def test_a_reload_keeps_what_is_known() -> None:
    """A breaker stays open over a reload that changes something else, and is new when its destination changes."""
    async with serve(busy) as server:
        first = settings(hosts=("127.0.0.1",), retry=None)
        client = Client(first)
        for _ in range(4):
            await client.request("GET", server.url)
        client.settings = msgspec.structs.replace(first, read_timeout=4.0)
        with pytest.raises(RequestError, match="breaker is open"):
            await client.request("GET", server.url)
        client.settings = settings(hosts=("127.0.0.1",), retry=None, breaker=BreakerSettings(timeout=1))
        assert (await client.request("GET", server.url)).status == 503
        await client.close()


async def test_breakers_that_time_is_up_for_together() -> None:
    """Hundreds of them are half-open at once; one that is asked does not ring all others."""
    clock = Clock()
    client = Client(clock=clock)
    spec = BreakerSettings(trip=ConsecutiveFailures(more_than=0))
    wanted = settings(hosts=("h",), breaker=spec)
    route = client._routes.find(wanted, "h", 80)
    for number in range(600):
        breaker = route.breaker(f"i{number}")
        assert breaker is not None
        breaker.done(breaker.allow(), Result.FAILURE)
    clock.now += 6
    breaker = route.breaker("i5")
    assert breaker is not None
    assert breaker.would_pass


async def test_open_breakers_of_another_definition() -> None:
    """A destination that is defined anew has none, and the metric says so."""
    async with serve(busy) as server:
        metrics, clock = Metrics(), Clock()
        client, wanted = Client(clock=clock), settings(hosts=("127.0.0.1",), retry=None)
        client.attach(lambda: wanted, metrics, lambda _name: Static())

        def opened() -> float | None:
            return metrics.registry.get_sample_value(
                "watchkeeper_outbound_breakers_open", {"destination": "d"}
            )

        for _ in range(4):
            await client.request("GET", server.url)
        assert opened() == 1
        wanted = settings(hosts=("127.0.0.1",), retry=None, total_timeout=4.0)
        await client.request("GET", server.url)
        assert opened() == 0
        await client.close()


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://[::1]:8080/", "port"),
        ("http://[::1]/", "host"),
        ("http://[::2]/", "other"),
        ("http://[FE80::A]/", "host"),
    ],
)
async def test_destinations_by_ipv6_address(url: str, name: str) -> None:
    """They are written in brackets, as in a URL."""
    wanted = OutboundSettings(
        destinations={
            "port": Destination(hosts=("[::1]:8080",)),
            "host": Destination(hosts=("[::1]", "[fe80::a]")),
        }
    )
    target = parse_target("GET", url)
    assert Client()._routes.find(wanted, target.host, target.port).name == name


async def test_breakers_of_all_others() -> None:
    """`outbound.breaker`: each host and port has its own."""
    async with serve(busy) as one, serve(good) as other:
        client = Client(OutboundSettings(breaker=BreakerSettings()))
        for _ in range(4):
            await client.request("GET", one.url)
        with pytest.raises(RequestError, match="breaker is open"):
            await client.request("GET", one.url)
        assert (await client.request("GET", other.url)).status == 200
        await client.close()


def scripted(
    *statuses: int, headers: dict[str, str] | None = None
) -> Callable[[web.Request], Awaitable[Any]]:
    """Answers in order; the last one for ever."""
    left = list(statuses)

    async def answer(_request: web.Request) -> web.StreamResponse:
        status = left.pop(0) if len(left) > 1 else left[0]
        return web.Response(status=status, headers=headers if status >= 400 else None)

    return answer


@pytest.mark.parametrize(
    ("method", "repeatable", "statuses", "status", "asked"),
    [
        ("GET", False, (503, 503, 200), 200, 3),
        ("GET", False, (503, 503, 503, 200), 503, 3),
        ("PUT", False, (502, 200), 200, 2),
        ("GET", False, (500, 200), 500, 1),
        ("POST", False, (503, 200), 503, 1),
        ("POST", True, (503, 200), 200, 2),
        ("GET", False, (404, 200), 404, 1),
    ],
)
async def test_repetitions(
    method: str, repeatable: bool, statuses: tuple[int, ...], status: int, asked: int
) -> None:
    """R1: three times at most, only what may be repeated or is vouched for, and only after the listed answers."""
    async with serve(scripted(*statuses)) as server:
        client = Client(settings(hosts=("127.0.0.1",), breaker=None), chance=lambda: 0.0)
        answer = await client.request(method, server.url, repeatable=repeatable)
        assert (answer.status, len(server.asked)) == (status, asked)
        await client.close()


async def test_no_connection_is_tried_again() -> None:
    """A server that is not there is asked three times, and then its failure is the caller's."""
    metrics = Metrics()
    client = Client(chance=lambda: 0.0)
    client.attach(lambda: settings(hosts=("127.0.0.1",), breaker=None), metrics, lambda _name: Static())
    with pytest.raises(RequestError) as caught:
        await client.request("GET", "http://127.0.0.1:1/")
    assert caught.value.kind is Failure.CONNECT
    value = metrics.registry.get_sample_value
    assert value("watchkeeper_outbound_retries_total", {"destination": "d"}) == 2
    await client.close()


@pytest.mark.parametrize(
    ("after", "asked"), [("0", 2), ("6", 1), ("Wed, 01 Jan 2003 00:00:00 GMT", 2), ("soon", 2)]
)
async def test_retry_after(after: str, asked: int) -> None:
    """R3: a wait that is too long is not begun, and the answer is handed on; nonsense is nothing."""
    async with serve(scripted(429, 200, headers={"Retry-After": after})) as server:
        client = Client(settings(hosts=("127.0.0.1",)), chance=lambda: 0.0)
        answer = await client.request("GET", server.url)
        assert (answer.status, len(server.asked)) == (200 if asked == 2 else 429, asked)
        await client.close()


@pytest.mark.parametrize("zone", ["UTC", "EST5", "JST-9"])
@pytest.mark.skipif(sys.platform == "win32", reason="there is no tzset")
async def test_the_oldest_form_of_a_date(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    """It names no zone, and is UTC wherever the agent runs (RFC 9110 section 5.6.7 has this very moment)."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", zone)
        time.tzset()
        for text in ("Sun Nov  6 08:49:37 1994", "Sun, 06 Nov 1994 08:49:37 GMT"):
            assert retry_after({"Retry-After": text}, 784_111_777.0 - 5) == 5
    time.tzset()


async def test_a_repetition_fits_into_the_deadline() -> None:
    """R4: one that would begin too late is not waited for."""
    async with serve(scripted(503, 200)) as server:
        retrying = RetrySettings(first_delay=60, max_delay=60)
        client = Client(settings(hosts=("127.0.0.1",), retry=retrying), chance=lambda: 1.0)
        with deadline.within(30):
            assert (await client.request("GET", server.url)).status == 503
        await client.close()


async def test_the_budget() -> None:
    """R5: with nothing saved, a fifth of the requests may be made again, and not two thirds."""
    async with serve(busy) as server:
        retrying = RetrySettings(budget_burst=1, budget_ratio=0.2)
        client = Client(settings(hosts=("127.0.0.1",), retry=retrying, breaker=None), chance=lambda: 0.0)
        for _ in range(50):
            await client.request("GET", server.url)
        assert len(server.asked) == 50 + 1 + 9  # the one that was saved, and 49 times 0.2
        await client.close()


async def test_a_stream_without_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whose turn came at the very last moment has no time; that is not the same as no limit."""
    left = [1.0, 0.0]
    monkeypatch.setattr("watchkeeper.outbound.client._left", lambda _until: left.pop(0))
    client = Client()
    async with raw(silent) as address, asyncio.timeout(5):
        with pytest.raises(RequestError) as caught:
            async with client.stream("GET", f"http://{address}/", limits=Limits(read=60, total=1)):
                pass
    assert caught.value.kind is Failure.TIMEOUT
    await client.close()


async def test_limits_of_a_destination() -> None:
    """A token bucket lets a burst through and refuses who could not wait long enough; a leaky one has its queue."""
    async with serve(good) as server:
        client = Client(settings(hosts=("127.0.0.1",), limit=TokenRate(rate=0.01, burst=2)))
        for _ in range(2):
            await client.request("GET", server.url)
        with pytest.raises(RequestError, match="over the limit of d") as caught:
            await client.request("GET", server.url)
        assert caught.value.kind is Failure.LIMITED
        client.settings = settings(hosts=("127.0.0.1",), flow=EvenFlow(rate=0.01, queue=5))
        await client.request("GET", server.url)
        with pytest.raises(RequestError, match="too many wait for d"):
            await client.request("GET", server.url)
        assert len(server.asked) == 3
        await client.close()


async def test_balanced(tmp_path: Path) -> None:
    """Requests go round over what discovery knows, now; Host stays that of the URL, and so does the certificate's name."""
    authority = Authority(tmp_path)
    tls = _server(authority.issue("server", dns=("shop.test",)))
    async with serve(good, tls=tls) as one, serve(good, tls=tls) as two:
        known = [Instance("127.0.0.1", one.port), Instance("127.0.0.1", two.port)]

        class Known:
            def current(self) -> tuple[Instance, ...]:
                return tuple(known)

        client = Client()
        wanted = settings(
            hosts=("shop.test",),
            balance=Balancing(discovery="shops"),
            tls=TlsClient(ca_file=str(authority.ca)),
        )
        client.attach(lambda: wanted, Metrics(), lambda name: {"shops": Known()}[name])
        for _ in range(4):
            assert (await client.request("GET", "https://shop.test/a")).status == 200
        assert (len(one.asked), len(two.asked)) == (2, 2)
        assert one.asked[0][2]["Host"] == "shop.test"
        known.pop()
        await client.request("GET", "https://shop.test/a")
        assert len(one.asked) == 3
        known.clear()
        with pytest.raises(RequestError, match="shops knows no instance") as caught:
            await client.request("GET", "https://shop.test/a")
        assert caught.value.kind is Failure.NO_INSTANCE
        await client.close()


async def test_an_outlier_is_left_out() -> None:
    """An instance that fails four times is asked no more while its breaker is open; with all open nobody is asked."""
    async with serve(busy) as bad, serve(good) as fine:
        known = Static((Instance("127.0.0.1", bad.port), Instance("127.0.0.1", fine.port)))
        client = Client()
        wanted = settings(hosts=("shop.test",), balance=Balancing(discovery="shops"), retry=None)
        client.attach(lambda: wanted, Metrics(), lambda _name: known)
        for _ in range(20):
            await client.request("GET", "http://shop.test/")
        assert (len(bad.asked), len(fine.asked)) == (4, 16)
        fine.handler = busy
        for _ in range(4):
            await client.request("GET", "http://shop.test/")
        with pytest.raises(RequestError, match="all instances are open") as caught:
            await client.request("GET", "http://shop.test/")
        assert caught.value.kind is Failure.REFUSED
        await client.close()


async def test_another_instance_the_second_time() -> None:
    """A repetition goes to the next instance: one that is down costs no answer."""
    async with serve(good) as fine:
        known = Static((Instance("127.0.0.1", 1), Instance("127.0.0.1", fine.port)))
        client = Client(chance=lambda: 0.0)
        wanted = settings(hosts=("shop.test",), balance=Balancing(discovery="shops"))
        client.attach(lambda: wanted, Metrics(), lambda _name: known)
        for _ in range(10):
            assert (await client.request("GET", "http://shop.test/")).status == 200
        await client.close()


async def test_the_same_key_goes_to_the_same_instance() -> None:
    """Policy hash: by the caller's key, by a header, or by the path."""
    async with serve(good) as one, serve(good) as two, serve(good) as three:
        servers = (one, two, three)
        known = Static(tuple(Instance("127.0.0.1", each.port) for each in servers))
        client = Client()
        balance = Balancing(discovery="s", policy=Policy.HASH, hash_header="X-User")
        wanted = settings(hosts=("shop.test",), balance=balance)
        client.attach(lambda: wanted, Metrics(), lambda _name: known)
        for _ in range(6):
            await client.request("GET", "http://shop.test/", headers={"x-user": "anna"})
        assert sorted(len(each.asked) for each in servers) == [0, 0, 6]
        for _ in range(6):
            await client.request("GET", "http://shop.test/", key="anna", headers={"X-User": "other"})
        assert sorted(len(each.asked) for each in servers) == [0, 0, 12]
        for number in range(40):
            await client.request("GET", f"http://shop.test/{number}")
        assert min(len(each.asked) for each in servers) > 0
        await client.close()


async def test_what_is_forgotten() -> None:
    """Series of a destination go with it."""
    async with serve(good) as server:
        metrics, client = Metrics(), Client()
        wanted = [settings(hosts=("127.0.0.1",))]
        client.attach(lambda: wanted[0], metrics, lambda _name: Static())
        labels = {"destination": "d", "outcome": "2xx"}
        await client.request("GET", server.url)
        value = metrics.registry.get_sample_value
        assert value("watchkeeper_outbound_requests_total", labels) == 1
        wanted[0] = OutboundSettings()
        await client.request("GET", server.url)
        assert value("watchkeeper_outbound_requests_total", labels) is None
        assert value("watchkeeper_outbound_requests_total", labels | {"destination": "other"}) == 1
        await client.close()


@pytest.mark.skipif(not LINUX, reason="a limit of open files in the middle of a run is Linux's")
async def test_no_files_left() -> None:
    """With no descriptor left a request fails with a sentence; when there are some again, the next one is as ever."""
    import resource

    async with serve(good) as server:
        client = Client()
        assert (await client.request("GET", server.url)).status == 200
        await client.close()
        await client.prepare(server.url)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        highest = max(int(name) for name in os.listdir("/proc/self/fd"))  # noqa: PTH208 - numbers, no paths
        taken = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (highest + 2, hard))
        try:
            with contextlib.suppress(OSError):
                while True:
                    taken.append(os.open(os.devnull, os.O_RDONLY))
            with pytest.raises(RequestError, match="Too many open files") as caught:
                await client.request("GET", server.url)
        finally:
            for each in taken:
                os.close(each)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert caught.value.kind is Failure.CONNECT
        assert (await client.request("GET", server.url)).status == 200
        await client.close()


async def test_importing_the_client_is_cheap() -> None:
    """No aiohttp, no prometheus_client and no OpenTelemetry until something is asked."""
    code = (
        "import sys, watchkeeper.outbound.client as c; c.Client()\n"
        "print([m for m in ('aiohttp', 'yarl', 'prometheus_client', 'opentelemetry') if m in sys.modules])"
    )
    process = await asyncio.to_thread(
        subprocess.run, [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert process.stdout.strip() == "[]"
