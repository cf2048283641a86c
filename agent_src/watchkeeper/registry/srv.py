"""Instances from DNS SRV records (RFC 2782): one UDP question, and TCP when the answer was cut short.

The resolver of the standard library knows no SRV records; this asks one server itself and trusts what a caching resolver
does with time to live and with retries. Of the records those of the lowest priority count; a target of "." says that the
service is not offered there.
"""

from __future__ import annotations

import asyncio
import pathlib
import secrets
import struct
from collections.abc import Callable
from dataclasses import dataclass

from watchkeeper.config.schema.common import split_address
from watchkeeper.config.schema.discovery import DnsDiscovery
from watchkeeper.registry.answers import RegistryError
from watchkeeper.registry.instances import Instance

SRV, IN = 33, 1
HEADER = struct.Struct("!6H")
TRUNCATED, RESPONSE = 0x0200, 0x8000
RECURSION_DESIRED = 0x0100
NAME_LIMIT, LABEL_LIMIT, HOPS = 255, 63, 64
CODES = {
    1: "it does not understand the question",
    2: "it failed",
    3: "there is no such name",
    5: "it refuses",
}


@dataclass(frozen=True)
class Record:
    """One SRV record."""

    priority: int
    weight: int
    port: int
    target: str


def question(name: str, number: int) -> bytes:
    """The message that asks for SRV records.

    Raises:
        RegistryError: the name is none.
    """
    labels = name.rstrip(".").encode("ascii", "replace").split(b".")
    if any(not 0 < len(label) <= LABEL_LIMIT for label in labels) or len(name) > NAME_LIMIT - 2:
        raise RegistryError(f"{name!r} is no name that DNS can be asked for")
    encoded = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    return HEADER.pack(number, RECURSION_DESIRED, 1, 0, 0, 0) + encoded + struct.pack("!2H", SRV, IN)


def answer(message: bytes, number: int, name: str) -> list[Record] | None:
    """The SRV records of an answer; None: it was cut short, and is to be asked for over TCP.

    Raises:
        RegistryError: it is no answer, or says that there is none.
    """
    try:
        return _parse(message, number, name)
    except (struct.error, IndexError, ValueError) as error:
        raise RegistryError(f"DNS: the answer about {name} is torn: {error}") from None


def _parse(message: bytes, number: int, name: str) -> list[Record] | None:
    identity, flags, questions, answers, _authority, _additional = HEADER.unpack_from(message)
    if identity != number or not flags & RESPONSE:
        raise RegistryError(f"DNS: the answer about {name} belongs to another question")
    code = flags & 0x0F
    if code:
        raise RegistryError(f"DNS: {name}: {CODES.get(code, f'code {code}')}")
    if flags & TRUNCATED:
        return None
    at = HEADER.size
    for _question in range(questions):
        at = _name(message, at)[1] + 4
    records = []
    for _answer in range(answers):
        at = _name(message, at)[1]
        kind, kind_class, _ttl, length = struct.unpack_from("!2HIH", message, at)
        at += 10
        if kind == SRV and kind_class == IN:
            priority, weight, port = struct.unpack_from("!3H", message, at)
            records.append(Record(priority, weight, port, _name(message, at + 6)[0]))
        at += length
    return records


def _name(message: bytes, at: int) -> tuple[str, int]:
    """A name and where it ends; pointers lead only backwards, so that there is no circle."""
    labels: list[str] = []
    end = None
    for _hop in range(HOPS):
        length = message[at]
        if length == 0:
            return ".".join(labels), at + 1 if end is None else end
        if length >= 0xC0:
            target = struct.unpack_from("!H", message, at)[0] & 0x3FFF
            end = at + 2 if end is None else end
            if target >= at:
                raise ValueError("a name points forward")
            at = target
        elif length > LABEL_LIMIT:
            raise ValueError("a label of an unknown kind")
        else:
            label = message[at + 1 : at + 1 + length]
            if len(label) != length:
                raise IndexError("a label ends too early")
            labels.append(label.decode("ascii", "backslashreplace"))
            at += 1 + length
    raise ValueError("a name with too many parts")


def instances(records: list[Record]) -> tuple[Instance, ...]:
    """Those of the lowest priority; a weight of 0 is the smallest there is (RFC 2782)."""
    offered = [record for record in records if record.target and record.port]
    lowest = min((record.priority for record in offered), default=0)
    found = {
        Instance(each.target, each.port, each.weight or 1, f"{each.target}:{each.port}")
        for each in offered
        if each.priority == lowest
    }
    return tuple(sorted(found))


def system_server(path: str = "/etc/resolv.conf") -> tuple[str, int]:
    """The first name server of the system.

    Raises:
        RegistryError: none is written down.
    """
    try:
        lines = pathlib.Path(path).read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        words = line.split()
        if len(words) > 1 and words[0] == "nameserver":
            return words[1].partition("%")[0], 53
    raise RegistryError(f"{path} names no DNS server; give `server`")


class DnsFinder:
    """A Finder that asks again and again."""

    def __init__(self, spec: DnsDiscovery) -> None:
        self._spec = spec

    async def fetch(self) -> tuple[Instance, ...]:
        number = secrets.randbelow(65_536)
        asked = question(self._spec.name, number)
        try:
            async with asyncio.timeout(self._spec.timeout):
                server = (
                    split_address(self._spec.server)
                    if self._spec.server
                    else await asyncio.to_thread(system_server)
                )
                found = answer(await _udp(server, asked), number, self._spec.name)
                if found is None:
                    found = answer(await _tcp(server, asked), number, self._spec.name)
        except (OSError, EOFError) as error:
            reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            raise RegistryError(f"DNS: {self._spec.name}: {reason}") from None
        return instances(found or [])

    async def next(self) -> tuple[Instance, ...]:
        await asyncio.sleep(self._spec.interval)
        return await self.fetch()


class _Datagram(asyncio.DatagramProtocol):
    """The first datagram that comes back, or the error."""

    def __init__(self, came: asyncio.Future[bytes], expected: Callable[[bytes], bool]) -> None:
        self._came, self._expected = came, expected

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self._came.done() and self._expected(data):
            self._came.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._came.done():
            self._came.set_exception(exc)


async def _udp(server: tuple[str, int], asked: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    came: asyncio.Future[bytes] = loop.create_future()
    # The socket is connected: only the server's datagrams arrive. One with another number is somebody's guess.
    transport, _protocol = await loop.create_datagram_endpoint(
        lambda: _Datagram(came, lambda data: data[:2] == asked[:2]), remote_addr=server
    )
    try:
        transport.sendto(asked)
        return await came
    finally:
        transport.close()


async def _tcp(server: tuple[str, int], asked: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(struct.pack("!H", len(asked)) + asked)
        (length,) = struct.unpack("!H", await reader.readexactly(2))
        return await reader.readexactly(length)
    finally:
        writer.close()
