"""What etcd's JSON gateway says, as typed structs, and the lines of its streams.

All numbers of 64 bits come as text (protobuf's JSON); fields that are 0, false or empty are left out; keys and values are
base64.
"""

from __future__ import annotations

from base64 import b64encode

import msgspec

from watchkeeper.outbound.client import Answer
from watchkeeper.registry.answers import RegistryError, decode, one_line

FRAME_LIMIT = 16 * 1024 * 1024
"""Bytes of one answer, and of one message of a watch."""
OUT_OF_RANGE = 11
"""gRPC's code when a revision is compacted."""


class CompactedError(RegistryError):
    """The revision that was asked for is no longer kept."""


class Header(msgspec.Struct, frozen=True):
    """What every answer begins with."""

    revision: int = 0
    cluster_id: int = 0


class KeyValue(msgspec.Struct, frozen=True):
    """One key; keys and values arrive decoded."""

    key: bytes = b""
    value: bytes = b""
    mod_revision: int = 0
    lease: int = 0


class RangeAnswer(msgspec.Struct, frozen=True):
    """Of /v3/kv/range."""

    header: Header = Header()
    kvs: tuple[KeyValue, ...] = ()
    more: bool = False


class LeaseAnswer(msgspec.Struct, frozen=True):
    """Of /v3/lease/grant, and inside `result` of /v3/lease/keepalive; a TTL of 0: the lease is gone."""

    id: int = msgspec.field(default=0, name="ID")
    ttl: int = msgspec.field(default=0, name="TTL")
    error: str = ""


class WatchAnswer(msgspec.Struct, frozen=True):
    """One message of a watch; without events it is a sign of life."""

    header: Header = Header()
    created: bool = False
    canceled: bool = False
    compact_revision: int = 0
    cancel_reason: str = ""
    events: tuple[msgspec.Raw, ...] = ()


class Failure(msgspec.Struct, frozen=True):
    """What the gateway says when something is wrong."""

    message: str = ""
    code: int = 0
    grpc_code: int = 0


class WatchFrame(msgspec.Struct, frozen=True):
    """One line of a watch."""

    result: WatchAnswer | None = None
    error: Failure | None = None


class KeepaliveFrame(msgspec.Struct, frozen=True):
    """The one line of an answer to a keepalive."""

    result: LeaseAnswer | None = None
    error: Failure | None = None


class Token(msgspec.Struct, frozen=True):
    """Of /v3/auth/authenticate."""

    token: str


class Frames:
    """Lines out of pieces that may be torn anywhere; one line has at most `limit` bytes."""

    def __init__(self, limit: int = FRAME_LIMIT) -> None:
        self._limit = limit
        self._rest = bytearray()

    def feed(self, piece: bytes) -> list[bytes]:
        """The lines that are complete now, without blank ones.

        Raises:
            RegistryError: a line is too long.
        """
        searched = len(self._rest)
        self._rest += piece
        end = self._rest.rfind(b"\n", searched)
        lines = []
        if end >= 0:
            lines = [line for line in bytes(self._rest[:end]).split(b"\n") if line.strip()]
            del self._rest[: end + 1]
        if len(self._rest) > self._limit or any(len(line) > self._limit for line in lines):
            raise RegistryError(f"etcd: a message of the watch is longer than {self._limit} bytes")
        return lines


def prefix_end(prefix: bytes) -> bytes:
    """E1: where the range of a prefix ends; a NUL byte: nowhere."""
    kept = prefix.rstrip(b"\xff")
    return kept[:-1] + bytes([kept[-1] + 1]) if kept else b"\0"


def text(data: bytes) -> str:
    """Bytes as the gateway wants them."""
    return b64encode(data).decode()


def check(path: str, answer: Answer) -> None:
    """Nothing, when the answer is a good one.

    Raises:
        CompactedError: the revision is no longer kept.
        RegistryError: any other failure.
    """
    if answer.status == 200:
        return
    try:
        failure = decode(answer.body, Failure, "it")
    except RegistryError:
        failure = Failure(one_line(answer.body[:1000].decode("utf-8", "replace"), 200))
    said = f"etcd: {path}: HTTP {answer.status}: {failure.message or 'no reason given'}"
    if failure.code == OUT_OF_RANGE:
        raise CompactedError(said, status=answer.status)
    raise RegistryError(said, status=answer.status)


def message(line: bytes) -> WatchAnswer:
    """One line of a watch.

    Raises:
        CompactedError: the watch began where nothing is kept any more.
        RegistryError: it says that the watch has ended, or nothing that is known.
    """
    frame = decode(line, WatchFrame, "a message of etcd's watch")
    if frame.error is not None:
        raise RegistryError(f"etcd: watch: {frame.error.message or 'no reason given'}")
    if frame.result is None:
        raise RegistryError("a message of etcd's watch has neither a result nor an error")
    if frame.result.compact_revision:
        raise CompactedError(f"etcd: everything before revision {frame.result.compact_revision} is compacted")
    if frame.result.canceled:
        raise RegistryError(f"etcd cancelled the watch: {frame.result.cancel_reason or 'no reason given'}")
    return frame.result
