"""The grpc check against grpcio's own server and health service, and against servers that are neither."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from hypothesis import given
from hypothesis import strategies as st

from support.certificates import Authority
from watchkeeper.checks import Outcome, Word, look
from watchkeeper.checks.grpc import decode, encode
from watchkeeper.config.schema.checks import GrpcCheck
from watchkeeper.config.schema.common import TlsClient

Status = health_pb2.HealthCheckResponse


@contextmanager
def serving(address: str, *, credentials: Any = None, with_health: bool = True) -> Iterator[tuple[Any, str]]:
    """A gRPC server; its health servicer and its address."""
    pool = ThreadPoolExecutor(2)
    server = grpc.server(pool)
    servicer = health.HealthServicer()
    if with_health:
        health_pb2_grpc.add_HealthServicer_to_server(servicer, server)
    port = server.add_secure_port(address, credentials) if credentials else server.add_insecure_port(address)
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None).wait()
    pool.shutdown()


async def ask(address: str, **fields: Any) -> Outcome:
    return await look(GrpcCheck(address=address, timeout=20.0, **fields))


@pytest.mark.asyncio
async def test_the_health_service() -> None:
    """Every status, the server as a whole and one service, and a service that nobody knows."""
    with serving("127.0.0.1:0") as (servicer, address):
        servicer.set("", Status.SERVING)
        servicer.set("shop.Cart", Status.NOT_SERVING)
        servicer.set("shop.New", Status.UNKNOWN)
        whole = await ask(address)
        assert (whole.word, whole.detail) == (Word.OK, f"{address}: SERVING")
        cart = await ask(address, service="shop.Cart")
        assert (cart.word, cart.detail) == (Word.BAD_STATUS, f"{address} shop.Cart: NOT_SERVING")
        assert (await ask(address, service="shop.New")).detail.endswith(": UNKNOWN")
        nobody = await ask(address, service="none")
        assert (nobody.word, "the server knows no such service" in nobody.detail) == (Word.BAD_STATUS, True)
        servicer.set("shop.Cart", Status.SERVING)
        assert (await ask(address, service="shop.Cart")).success


@pytest.mark.asyncio
async def test_a_server_without_the_service() -> None:
    with serving("127.0.0.1:0", with_health=False) as (_, address):
        outcome = await ask(address)
    assert (outcome.word, outcome.detail) == (Word.BAD_STATUS, f"{address}: the server has no health service")
    assert (await ask(address)).word is Word.UNREACHABLE


@pytest.mark.asyncio
async def test_over_tls(tmp_path: Path) -> None:
    """ALPN says h2; the certificate is verified."""
    authority = Authority(tmp_path)
    pair = authority.issue("grpc")
    credentials = grpc.ssl_server_credentials([(pair.key.read_bytes(), pair.cert.read_bytes())])
    with serving("127.0.0.1:0", credentials=credentials) as (servicer, address):
        servicer.set("", Status.SERVING)
        assert (await ask(address, use_tls=True, tls=TlsClient(ca_file=str(authority.ca)))).success
        outcome = await ask(address, use_tls=True)
        assert (outcome.word, "does not hold" in outcome.detail) == (Word.UNREACHABLE, True)
        assert (await ask(address)).word is Word.UNREACHABLE


@pytest.mark.asyncio
async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with serving(f"unix:{path}") as (servicer, _):
        servicer.set("", Status.SERVING)
        assert (await ask(f"unix:{path}")).success


@pytest.mark.asyncio
async def test_a_server_of_another_kind() -> None:
    """HTTP/1, or nothing at all."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(65_536)
        writer.write(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
        await reader.read()
        writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        outcome = await ask(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
    assert (outcome.word, "it answers in HTTP/1" in outcome.detail) == (Word.UNREACHABLE, True), outcome


@pytest.mark.asyncio
async def test_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is missing, and where it comes from; nothing is said of the target."""
    monkeypatch.setitem(sys.modules, "h2.connection", None)
    outcome = await ask("127.0.0.1:1")
    assert (outcome.success, outcome.detail) == (
        None,
        "the grpc check needs the package h2: pip install h2",
    )


@given(st.text(max_size=300))
def test_requests_are_protobuf(service: str) -> None:
    """The bytes are those that protobuf writes."""
    message = health_pb2.HealthCheckRequest(service=service).SerializeToString()
    assert encode(service) == b"\0" + len(message).to_bytes(4, "big") + message


@given(st.sampled_from(sorted(Status.ServingStatus.values())), st.binary(max_size=40))
def test_responses_are_protobuf(status: int, junk: bytes) -> None:
    """What protobuf writes is read, unknown fields around it do not matter, and anything else is an error."""
    message = Status(status=status).SerializeToString()
    for extra in (b"", b"\x12\x03abc", b"\x1d1234", b"\x2112345678", b"\x18\xff\x01"):
        body = extra + message + extra
        assert decode(b"\0" + len(body).to_bytes(4, "big") + body) == status
    for data in (junk, b"\0" + len(junk).to_bytes(4, "big") + junk):
        with contextlib.suppress(ValueError):
            assert decode(data) >= 0
