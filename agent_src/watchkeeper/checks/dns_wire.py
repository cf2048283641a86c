"""DNS messages (RFC 1035): one question, and what is answered to it.

An answer comes from a network. Every length in it is held against what is there, and a name that points in circles ends.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

TYPES = {"A": 1, "CNAME": 5, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33}
IN = 1
TRUNCATED, RESPONSE, RECURSION = 0x0200, 0x8000, 0x0100
CODES = {1: "FORMERR", 2: "SERVFAIL", 3: "NXDOMAIN", 4: "NOTIMP", 5: "REFUSED"}
LARGEST_UDP = 1232
"""Bytes that a server may answer over UDP (EDNS, RFC 6891; the value is that of DNS flag day 2020)."""
OPT = b"\0\0\x29" + LARGEST_UDP.to_bytes(2, "big") + b"\0\0\0\0\0\0"
POINTERS = 64
LONGEST_NAME = 255
"""Bytes, with the length of each label (RFC 1035, 2.3.4)."""


class MessageError(ValueError):
    """The bytes are no answer to the question."""


@dataclass(frozen=True)
class Answer:
    """`code` is 0 for success; answers are in the form that zone files have them, of the type that was asked for."""

    code: int
    cut: bool
    answers: tuple[str, ...]


def question(number: int, name: str, record: str) -> bytes:
    """A recursive question; `number` is 0 to 65535."""
    labels = [label.encode("ascii") for label in name.rstrip(".").split(".")]
    wire = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    header = b"".join(part.to_bytes(2, "big") for part in (number, RECURSION, 1, 0, 0, 1))
    return header + wire + TYPES[record].to_bytes(2, "big") + IN.to_bytes(2, "big") + OPT


def read_answer(message: bytes, number: int, name: str, record: str) -> Answer:
    """What a message answers.

    Raises:
        MessageError: it is no answer to this question.
    """
    try:
        return _read(message, number, name, record)
    except IndexError:
        raise MessageError("the answer ends too early") from None


def _read(message: bytes, number: int, name: str, record: str) -> Answer:
    if len(message) < 12:
        raise MessageError("the answer is shorter than its header")
    theirs, flags, questions, count = (int.from_bytes(message[at : at + 2], "big") for at in (0, 2, 4, 6))
    if theirs != number or not flags & RESPONSE:
        raise MessageError("it answers something else")
    at = 12
    for _ in range(questions):
        asked, at = _name(message, at)
        if asked.lower() != name.rstrip(".").lower():
            raise MessageError(f"it answers for {asked[:80]!r}")
        at += 4
    answers = []
    for _ in range(count):
        _, at = _name(message, at)
        kind, size = _number(message, at), _number(message, at + 8)
        at += 10
        if at + size > len(message):
            if flags & TRUNCATED:
                break
            raise IndexError
        if kind == TYPES[record]:
            answers.append(_value(message, at, size, record))
        at += size
    return Answer(flags & 0x0F, bool(flags & TRUNCATED), tuple(answers))


def _number(message: bytes, at: int) -> int:
    return message[at] << 8 | message[at + 1]


def _name(message: bytes, at: int) -> tuple[str, int]:
    """A name without its last dot, and where it ends."""
    labels: list[str] = []
    after: int | None = None
    pointers = 0
    size = 1
    while True:
        length = message[at]
        if length & 0xC0 == 0xC0:
            after = at + 2 if after is None else after
            at = _number(message, at) & 0x3FFF
            pointers += 1
            if pointers > POINTERS:
                raise MessageError("a name points in circles")
            continue
        if length & 0xC0:
            raise MessageError("a name has an unknown form")
        at += 1
        if not length:
            return ".".join(labels), at if after is None else after
        if at + length > len(message):
            raise IndexError
        size += 1 + length
        if size > LONGEST_NAME:
            raise MessageError("a name is longer than names are")
        labels.append(message[at : at + length].decode("latin-1"))
        at += length


def _value(message: bytes, at: int, size: int, record: str) -> str:
    data = message[at : at + size]
    if record in ("A", "AAAA"):
        try:
            return str(ipaddress.ip_address(data))
        except ValueError:
            raise MessageError("an address has a wrong length") from None
    if record == "CNAME":
        return _name(message, at)[0]
    if record == "MX":
        return f"{_number(message, at)} {_name(message, at + 2)[0]}"
    if record == "SRV":
        first = " ".join(str(_number(message, at + step)) for step in (0, 2, 4))
        return f"{first} {_name(message, at + 6)[0]}"
    parts, inside = [], 0
    while inside < size:
        length = data[inside]
        parts.append(data[inside + 1 : inside + 1 + length])
        inside += 1 + length
    return b"".join(parts).decode("utf-8", "replace")
