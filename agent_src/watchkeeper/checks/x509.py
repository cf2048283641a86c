"""The few things of a certificate that looks need, from its DER (RFC 5280), without a library for all of it.

Nothing here verifies anything: OpenSSL does that in the handshake. A certificate in a file has no handshake; of it the
dates, the names and who names whom as issuer are read.
"""

from __future__ import annotations

import ipaddress
import re
from base64 import b64decode
from binascii import Error as Base64Error
from dataclasses import dataclass
from datetime import UTC, datetime

_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----(.+?)-----END CERTIFICATE-----", re.DOTALL)

SEQUENCE, SET, INTEGER, OCTETS, OID = 0x30, 0x31, 0x02, 0x04, 0x06
VERSION, EXTENSIONS = 0xA0, 0xA3
UTC_TIME, GENERALIZED_TIME = 0x17, 0x18
DNS_NAME, IP_ADDRESS = 0x82, 0x87
ALTERNATIVE_NAMES, COMMON_NAME = b"\x55\x1d\x11", b"\x55\x04\x03"


class NotACertificateError(ValueError):
    """The bytes are none."""


@dataclass(frozen=True)
class Certificate:
    """What was read. Times are seconds since the epoch."""

    subject: bytes
    issuer: bytes
    """Names in DER; equal ones are the same name."""
    common_name: str
    begins: float
    ends: float
    names: tuple[str, ...]
    """DNS names and addresses that it is good for."""

    @property
    def title(self) -> str:
        return self.common_name or (self.names[0] if self.names else "without a name")

    def good_for(self, name: str) -> bool:
        """Whether a host name or address is among its names (RFC 6125: a star is the whole first label)."""
        name = name.lower().rstrip(".")
        return any(_matches(each, name) for each in self.names)


def _matches(pattern: str, name: str) -> bool:
    if pattern == name:
        return True
    star, _, rest = pattern.partition(".")
    _, _, parent = name.partition(".")
    return star == "*" and "." in rest and parent == rest


def read_pem(content: bytes) -> list[Certificate]:
    """All certificates of a PEM file, in their order.

    Raises:
        NotACertificateError: there is none, or one cannot be read.
    """
    blocks = _PEM.findall(content)
    if not blocks:
        raise NotACertificateError("there is no certificate in it (-----BEGIN CERTIFICATE-----)")
    try:
        return [read_der(b64decode(block)) for block in blocks]
    except Base64Error as error:
        raise NotACertificateError(f"a certificate in it is damaged: {error}") from None


def read_der(content: bytes) -> Certificate:
    """One certificate.

    Raises:
        NotACertificateError: it is none.
    """
    try:
        return _read(content)
    except (IndexError, ValueError, OverflowError, StopIteration) as error:
        raise NotACertificateError(f"a certificate cannot be read: {error}") from None


def _read(content: bytes) -> Certificate:
    outer = _one(content, SEQUENCE)
    fields = _items(_one(outer, SEQUENCE))
    if fields[0][0] == VERSION:
        fields = fields[1:]
    _serial, _algorithm, issuer, validity, subject, _key, *rest = fields
    begins, ends = (_time(tag, value) for tag, value in _items(validity[1]))
    extensions = next((value for tag, value in rest if tag == EXTENSIONS), b"")
    return Certificate(subject[1], issuer[1], _common_name(subject[1]), begins, ends, _names(extensions))


def _item(data: bytes, at: int) -> tuple[int, bytes, int]:
    """A tag, its value, and where the next one begins."""
    tag, length, at = data[at], data[at + 1], at + 2
    if length & 0x80:
        count = length & 0x7F
        if not 0 < count <= 4:
            raise ValueError("a length has no end")
        length = int.from_bytes(data[at : at + count], "big")
        at += count
    if at + length > len(data):
        raise ValueError("it ends too early")
    return tag, data[at : at + length], at + length


def _items(data: bytes) -> list[tuple[int, bytes]]:
    found, at = [], 0
    while at < len(data):
        tag, value, at = _item(data, at)
        found.append((tag, value))
    return found


def _one(data: bytes, wanted: int) -> bytes:
    tag, value, _ = _item(data, 0)
    if tag != wanted:
        raise ValueError(f"tag {tag:#x} where {wanted:#x} belongs")
    return value


def _time(tag: int, value: bytes) -> float:
    """UTCTime has two digits for the year, and 50 is 1950 (RFC 5280, 4.1.2.5.1)."""
    text = value.decode("ascii")
    if tag == UTC_TIME:
        text = ("19" if text[:2] >= "50" else "20") + text
    elif tag != GENERALIZED_TIME:
        raise ValueError(f"tag {tag:#x} where a time belongs")
    return datetime.strptime(text, "%Y%m%d%H%M%SZ").replace(tzinfo=UTC).timestamp()


def _common_name(subject: bytes) -> str:
    for _, parts in _items(subject):
        for _, pair in _items(parts):
            (_, kind), (_, value) = _items(pair)
            if kind == COMMON_NAME:
                return value.decode("utf-8", "replace")
    return ""


def _names(extensions: bytes) -> tuple[str, ...]:
    for _, extension in _items(_one(extensions, SEQUENCE)) if extensions else ():
        parts = _items(extension)
        if parts[0][1] == ALTERNATIVE_NAMES:
            return tuple(
                value.decode("ascii", "replace").lower()
                if tag == DNS_NAME
                else str(ipaddress.ip_address(value))
                for tag, value in _items(_one(parts[-1][1], SEQUENCE))
                if tag in (DNS_NAME, IP_ADDRESS)
            )
    return ()
