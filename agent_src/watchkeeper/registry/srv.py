"""Instances from DNS SRV records (RFC 2782): one UDP question, and TCP when the answer was cut short.

The resolver of the standard library knows no SRV records; this asks one server itself and leaves retries and times to live
to that. Of the records those of the lowest priority count; a target of "." says that the service is not offered there.
"""

from __future__ import annotations

import asyncio
import pathlib
import secrets

from watchkeeper.checks.dns_wire import CODES, MessageError, question, read_answer
from watchkeeper.config.schema.common import split_address
from watchkeeper.config.schema.discovery import DnsDiscovery
from watchkeeper.registry.answers import RegistryError
from watchkeeper.registry.instances import Instance

PORT = 53
Address = tuple[str, int]


def instances(records: tuple[str, ...]) -> tuple[Instance, ...]:
    """Those of the lowest priority; a weight of 0 is the smallest there is (RFC 2782).

    Args:
        records: each `PRIORITY WEIGHT PORT TARGET`.
    """
    fields = (record.split(" ", 3) for record in records)
    offered = [(int(first), int(weight), int(port), host) for first, weight, port, host in fields if host]
    lowest = min((first for first, *_rest in offered), default=0)
    found = {
        Instance(host, port, weight or 1, f"{host}:{port}")
        for first, weight, port, host in offered
        if first == lowest and port
    }
    return tuple(sorted(found))


def system_server(path: str = "/etc/resolv.conf") -> Address:
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
            return words[1].partition("%")[0], PORT
    raise RegistryError(f"{path} names no DNS server; give `server`")


class DnsFinder:
    """A Finder that asks again and again."""

    def __init__(self, spec: DnsDiscovery) -> None:
        self._spec = spec

    async def fetch(self) -> tuple[Instance, ...]:
        name = self._spec.name
        try:
            async with asyncio.timeout(self._spec.timeout):
                return instances(await self._asked())
        except MessageError as error:
            raise RegistryError(f"DNS: {name}: {error}") from None
        except (OSError, EOFError) as error:
            reason = "no answer in time" if isinstance(error, TimeoutError) else str(error)
            raise RegistryError(f"DNS: {name}: {reason}") from None

    async def next(self) -> tuple[Instance, ...]:
        await asyncio.sleep(self._spec.interval)
        return await self.fetch()

    async def _asked(self) -> tuple[str, ...]:
        spec, number = self._spec, secrets.randbelow(65_536)
        server = split_address(spec.server) if spec.server else await asyncio.to_thread(system_server)
        asked = question(number, spec.name, "SRV")
        answer = read_answer(await _udp(server, asked), number, spec.name, "SRV")
        if answer.cut:
            answer = read_answer(await _tcp(server, asked), number, spec.name, "SRV")
        if answer.code:
            raise RegistryError(f"DNS: {spec.name}: the server says {CODES.get(answer.code, answer.code)}")
        return answer.answers


class _Datagram(asyncio.DatagramProtocol):
    """The first datagram with the right number, or the error."""

    def __init__(self, came: asyncio.Future[bytes], number: bytes) -> None:
        self._came, self._number = came, number

    def datagram_received(self, data: bytes, addr: object) -> None:
        if not self._came.done() and data[:2] == self._number:
            self._came.set_result(data)

    def error_received(self, exc: Exception) -> None:
        if not self._came.done():
            self._came.set_exception(exc)


async def _udp(server: Address, asked: bytes) -> bytes:
    loop = asyncio.get_running_loop()
    came: asyncio.Future[bytes] = loop.create_future()
    # The socket is connected: only the server's datagrams arrive. One with another number is somebody's guess.
    transport, _protocol = await loop.create_datagram_endpoint(
        lambda: _Datagram(came, asked[:2]), remote_addr=server
    )
    try:
        transport.sendto(asked)
        return await came
    finally:
        transport.close()


async def _tcp(server: Address, asked: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*server)
    try:
        writer.write(len(asked).to_bytes(2, "big") + asked)
        length = int.from_bytes(await reader.readexactly(2), "big")
        return await reader.readexactly(length)
    finally:
        writer.close()
