"""Whatever a probed server says, the outcome is about the server: no defect of the check, no exception, no hang."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from watchkeeper.checks import Outcome, Word, look
from watchkeeper.config.schema.checks import (
    AnyCheck,
    CertificateCheck,
    DnsCheck,
    GrpcCheck,
    HttpCheck,
    JsonRule,
    TcpCheck,
)

Spec = Callable[[int], AnyCheck]

HTTP = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HTTP + b"Transfer-Encoding: chunked\r\n\r\n"
H2 = b"\0\0\0\4\0\0\0\0\0"  # an empty SETTINGS frame
GRPC_DATA = b"\0\0\7\0\0\0\0\0\1\0\0\0\0\2\x08\1"

KINDS: dict[str, tuple[Spec, tuple[bytes, ...]]] = {
    "http": (
        lambda port: HttpCheck(
            url=f"http://127.0.0.1:{port}/", expect_json=(JsonRule(path="a"),), timeout=30.0
        ),
        (b"", HTTP, CHUNKED, HTTP + b"Content-Length: 100\r\n\r\n"),
    ),
    "tcp": (lambda port: TcpCheck(address=f"127.0.0.1:{port}", expect="never comes", timeout=30.0), (b"",)),
    "grpc": (lambda port: GrpcCheck(address=f"127.0.0.1:{port}", timeout=30.0), (b"", H2, H2 + GRPC_DATA)),
    "certificate": (
        lambda port: CertificateCheck(address=f"127.0.0.1:{port}", timeout=30.0),
        (b"", b"\x16\3\3"),
    ),
    "dns": (
        lambda port: DnsCheck(name="a.example", server=f"127.0.0.1:{port}", tcp=True, timeout=30.0),
        (b"", b"\0\x20"),
    ),
}


async def run(spec: Spec, pieces: list[bytes]) -> Outcome:
    """One look at a server that says these pieces, whatever it hears."""
    served = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            writer.write_eof()
            await reader.read()
        except OSError:
            pass
        finally:
            writer.transport.abort()
            served.set()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        return await look(spec(server.sockets[0].getsockname()[1]))
    finally:
        server.close()
        await served.wait()
        await asyncio.sleep(0)


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_a_server_says(kind: str) -> None:
    """Bytes by chance, behind the beginnings of good answers."""
    spec, starts = KINDS[kind]

    @settings(max_examples=40)
    @given(start=st.sampled_from(starts), pieces=st.lists(st.binary(max_size=300), max_size=4))
    def hold(start: bytes, pieces: list[bytes]) -> None:
        with asyncio.Runner() as runner:
            outcome = runner.run(run(spec, [start, *pieces]))
        assert outcome.success is False, outcome
        assert outcome.word in (Word.UNREACHABLE, Word.BAD_STATUS, Word.FAILED)
        assert outcome.seconds < 29

    hold()
