"""The grpc check: grpc.health.v1.Health/Check, over HTTP/2 as the package h2 speaks it.

The two messages of the protocol have one field each, and are written and read here without protobuf:
HealthCheckRequest {string service = 1}, HealthCheckResponse {ServingStatus status = 1}
(grpc/grpc-proto grpc/health/v1/health.proto).
"""

from __future__ import annotations

import asyncio
from typing import Any
from urllib.parse import unquote

from watchkeeper._version import __version__
from watchkeeper.checks import (
    Memory,
    Outcome,
    ProbeError,
    Word,
    failed,
    own_fault,
    passed,
    reason,
    unreachable,
)
from watchkeeper.checks.connect import Connection, Tls, UnreachableError, connect
from watchkeeper.config.schema.checks import GrpcCheck
from watchkeeper.config.schema.common import split_address

STATUSES = {0: "UNKNOWN", 1: "SERVING", 2: "NOT_SERVING", 3: "SERVICE_UNKNOWN"}
SERVING = 1
UNIMPLEMENTED, NOT_FOUND = "12", "5"
LIMIT = 64 * 1024
"""Bytes of an answer that are taken."""


async def probe(spec: GrpcCheck, _memory: Memory) -> Outcome:
    """Ask once."""
    try:
        import h2.connection  # noqa: F401 - whether it is there
    except ImportError:
        raise ProbeError("the grpc check needs the package h2: pip install h2") from None
    host = "localhost" if spec.address.startswith("unix:") else split_address(spec.address)[0]
    try:
        connection = await connect(
            spec.address, Tls(spec.tls, host, ("h2",)) if spec.use_tls else None, spec.timeout
        )
        try:
            call = await _exchange(spec, connection, host)
        finally:
            connection.close()
    except UnreachableError as error:
        return unreachable(f"{spec.address}: {error}")
    except OSError as error:
        if own_fault(error):
            raise
        return unreachable(f"{spec.address}: {reason(error)}")
    return _judge(spec, call)


class _Call:
    """What came back."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.data = bytearray()
        self.ended = False


async def _exchange(spec: GrpcCheck, connection: Connection, host: str) -> _Call:
    import h2.config
    import h2.connection
    import h2.exceptions

    wire = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True, header_encoding="utf-8"))
    wire.initiate_connection()
    stream = wire.get_next_available_stream_id()
    wire.send_headers(stream, _headers(spec, host))
    wire.send_data(stream, encode(spec.service), end_stream=True)
    call = _Call()
    try:
        while not call.ended:
            await connection.send(wire.data_to_send())
            data = await connection.receive()
            if not data:
                raise UnreachableError("the connection ended before the answer did")
            if data.startswith(b"HTTP/1"):
                raise UnreachableError("it answers in HTTP/1")
            for event in wire.receive_data(data):
                _take(wire, call, event)
            await asyncio.sleep(0)  # who sends faster than is read must not keep the loop
    except h2.exceptions.H2Error as error:
        raise UnreachableError(f"it speaks no HTTP/2: {str(error) or type(error).__name__}") from None
    except UnicodeDecodeError:
        raise UnreachableError("its headers are not UTF-8") from None
    return call


def _headers(spec: GrpcCheck, host: str) -> list[tuple[str, str]]:
    return [
        (":method", "POST"),
        (":scheme", "https" if spec.use_tls else "http"),
        (":path", "/grpc.health.v1.Health/Check"),
        (":authority", host if spec.address.startswith("unix:") else spec.address),
        ("te", "trailers"),
        ("content-type", "application/grpc"),
        ("user-agent", f"watchkeeper/{__version__}"),
    ]


def _take(wire: Any, call: _Call, event: Any) -> None:
    import h2.events

    if isinstance(event, (h2.events.ResponseReceived, h2.events.TrailersReceived)):
        call.headers |= {str(name): str(value) for name, value in event.headers or ()}
    elif isinstance(event, h2.events.DataReceived):
        call.data += event.data or b""
        if len(call.data) > LIMIT:
            raise UnreachableError(f"its answer is longer than {LIMIT >> 10} KiB")
        if event.stream_id is not None:
            wire.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
    elif isinstance(event, h2.events.StreamEnded):
        call.ended = True
    elif isinstance(event, (h2.events.StreamReset, h2.events.ConnectionTerminated)):
        raise UnreachableError(f"it ended the call with HTTP/2 error {event.error_code}")


def _judge(spec: GrpcCheck, call: _Call) -> Outcome:
    """As grpc_health_probe does: only OK with SERVING is a success."""
    about = f"{spec.address}{' ' + spec.service if spec.service else ''}"
    status = call.headers.get(":status", "")
    if status != "200":
        return failed(f"{about}: HTTP status {status}", Word.BAD_STATUS)
    code = call.headers.get("grpc-status", "")
    if code != "0":
        words = {
            UNIMPLEMENTED: "the server has no health service",
            NOT_FOUND: "the server knows no such service",
        }
        message = unquote(call.headers.get("grpc-message", ""))[:200]
        return failed(f"{about}: {words.get(code, f'gRPC status {code} {message}').strip()}", Word.BAD_STATUS)
    try:
        serving = decode(bytes(call.data))
    except ValueError as error:
        return unreachable(f"{about}: {error}")
    said = f"{about}: {STATUSES.get(serving, serving)}"
    return passed(said) if serving == SERVING else failed(said, Word.BAD_STATUS)


def encode(service: str) -> bytes:
    """The request as gRPC frames it: not compressed, its length, the message."""
    name = service.encode()
    message = b"\x0a" + _varint(len(name)) + name if name else b""
    return b"\0" + len(message).to_bytes(4, "big") + message


def _varint(number: int) -> bytes:
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)


def decode(data: bytes) -> int:
    """The status in a framed response; 0 when it has none, as protobuf leaves it out.

    Raises:
        ValueError: it is no such response.
    """
    if len(data) < 5 or data[0] != 0 or len(data) != 5 + int.from_bytes(data[1:5], "big"):
        raise ValueError("its answer is no gRPC message")
    message, at, status = data[5:], 0, 0
    while at < len(message):
        key, at = _read_varint(message, at)
        if key & 7 == 0:
            value, at = _read_varint(message, at)
            status = value if key >> 3 == 1 else status
        elif key & 7 == 2:
            size, at = _read_varint(message, at)
            at += size
        else:
            at += {1: 8, 5: 4}.get(key & 7, len(message) + 1)
    if at > len(message):
        raise ValueError("its answer ends too early")
    return status


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for step in range(10):
        if at >= len(data):
            raise ValueError("its answer ends too early")
        value |= (data[at] & 0x7F) << (7 * step)
        at += 1
        if not data[at - 1] & 0x80:
            return value, at
    raise ValueError("its answer has a number without an end")
