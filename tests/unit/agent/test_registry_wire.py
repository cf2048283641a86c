"""Answers of registries over real sockets: torn at every byte, without an end, too large; loopback only."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from support.consul_server import consul_server
from watchkeeper.config.schema.registries import ConsulServer, EtcdServer
from watchkeeper.config.schema.sources import ConsulSource, EtcdSource
from watchkeeper.config.sources import SourceError
from watchkeeper.config.sources.consul import ConsulKeys
from watchkeeper.config.sources.etcd import EtcdKeys
from watchkeeper.outbound.client import Client
from watchkeeper.registry import consul, etcd
from watchkeeper.registry.answers import RegistryError
from watchkeeper.registry.etcd import EtcdClient

pytestmark = pytest.mark.asyncio

Handler = Callable[[bytes, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n"


@pytest_asyncio.fixture
async def client() -> AsyncIterator[Client]:
    made = Client()
    yield made
    await made.close()


@contextlib.asynccontextmanager
async def listening(handler: Handler) -> AsyncIterator[str]:
    """A server that hands each request to `handler` and then closes the connection."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0"
            )
            await handler(head + await reader.readexactly(int(length.split(b":")[1])), reader, writer)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


def whole(body: bytes) -> bytes:
    return HEAD + b"Content-Length: %d\r\n\r\n" % len(body) + body


async def test_consul_torn_at_every_byte(client: Client) -> None:
    """Whatever part of an answer arrives, it is an error and not a configuration; the next whole one is taken."""
    with consul_server() as server:
        server.put("w/a.yaml", "checks: {}")
        server.put("w/b.yaml", "services: {}")
        spec = ConsulSource(prefix="w/", server=ConsulServer(url=server.url), churn_interval=0.001)
        source = ConsulKeys(spec, client)
        found = await source.fetch()
        for count in range(0, 160, 7):
            server.break_down(torn_after=count)
            with pytest.raises(SourceError):
                await source.fetch()
        server.break_down()
        assert await source.fetch() == found


async def test_etcd_torn_at_every_byte(client: Client) -> None:
    """The head, the body and the message of a watch, cut anywhere: an error, or reading anew; never a wrong state."""
    answer = whole(
        b'{"header": {"revision": "7"}, "kvs": [{"key": "dy9hLnlhbWw=", "value": "eA=="}], "count": "1"}'
    )
    cut = len(answer)

    async def handler(request: bytes, _reader: object, writer: asyncio.StreamWriter) -> None:
        data = answer[:cut] if b"/v3/kv/range" in request else HEAD + b'\r\n{"result": {"cre'
        writer.write(data)
        await writer.drain()

    async with listening(handler) as url:
        server = EtcdServer(urls=(url,))
        source = EtcdKeys(EtcdSource(prefix="w/", server=server, churn_interval=0.001), client)
        found = await source.fetch()
        assert [each.content for each in found.fragments] == [b"x"]
        for cut in range(0, len(answer) - 1, 5):  # noqa: B007 - the handler reads it
            with pytest.raises(SourceError):
                await source.fetch()
        cut = len(answer)
        assert await source.watch() == found


@pytest.mark.parametrize("kind", ["consul", "etcd"])
async def test_an_answer_without_an_end(kind: str, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is given up when it is too large; not all of it is read before that."""
    monkeypatch.setattr(consul, "ANSWER_LIMIT", 100_000)
    monkeypatch.setattr(etcd, "FRAME_LIMIT", 100_000)
    sent = 0

    async def handler(_request: bytes, _reader: object, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(HEAD + b'\r\n[{"Key": "')
        while sent < 500_000_000:
            writer.write(b"x" * 65_536)
            sent += 65_536
            await writer.drain()

    async with listening(handler) as url:
        source: Any = (
            ConsulKeys(ConsulSource(key="a.yaml", server=ConsulServer(url=url)), client)
            if kind == "consul"
            else EtcdKeys(EtcdSource(key="a.yaml", server=EtcdServer(urls=(url,))), client)
        )
        with pytest.raises(SourceError, match="longer than 100000 bytes"):
            await source.fetch()
    assert sent < 50_000_000


async def test_a_message_of_a_watch_without_an_end(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame that does not end is given up when it is too large."""
    monkeypatch.setattr("watchkeeper.registry.etcd_messages.Frames.__init__.__defaults__", (100_000,))

    async def handler(_request: bytes, _reader: object, writer: asyncio.StreamWriter) -> None:
        writer.write(HEAD + b'\r\n{"result": {"header": {"revision": "7"}, "created": true}}\n{"result": "')
        while True:
            writer.write(b"x" * 65_536)
            await writer.drain()

    seen: list[bool] = []

    async def read(url: str) -> None:
        nonlocal seen
        async with EtcdClient(EtcdServer(urls=(url,)), client).watch(b"w/", b"w0", 8, 60) as messages:
            async for message in messages:
                seen += (message.created,)

    async with listening(handler) as url:
        with pytest.raises(RegistryError, match="longer than 100000 bytes"):
            await read(url)
    assert seen == [True]


async def test_watches_leave_no_connection_behind(client: Client) -> None:
    """A watch that has said enough is closed: the server sees the end of each connection."""
    ended = asyncio.Queue[bytes]()

    async def handler(request: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/v3/kv/range" in request:
            writer.write(whole(b'{"header": {"revision": "7"}, "kvs": [{"key": "dy9hLnlhbWw="}]}'))
            return
        kept = HEAD.replace(b"Connection: close\r\n", b"Transfer-Encoding: chunked\r\n")
        frame = b'{"result": {"header": {"revision": "8"}, "events": [{}]}}\n'
        writer.write(kept + b"\r\n%x\r\n" % len(frame) + frame + b"\r\n")
        await writer.drain()
        ended.put_nowait(await reader.read())

    async with listening(handler) as url:
        source = EtcdKeys(
            EtcdSource(prefix="w/", server=EtcdServer(urls=(url,)), churn_interval=0.001), client
        )
        await source.fetch()
        for _number in range(30):
            await source.watch()
            assert await asyncio.wait_for(ended.get(), 5) == b""
