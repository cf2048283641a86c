"""The icmp check: echo requests are answered.

Linux and macOS let ordinary programs send them over a socket of their own kind (on Linux for the groups in
net.ipv4.ping_group_range); else a raw socket is needed, which root and CAP_NET_RAW may open.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import struct
from dataclasses import dataclass, field

from watchkeeper.checks import Memory, Outcome, ProbeError, failed, own_fault, passed, reason, unreachable
from watchkeeper.checks.connect import RESOLVER, SockAddress, UnreachableError
from watchkeeper.config.schema.checks import IcmpCheck

GAP = 0.1
REQUEST = {socket.AF_INET: 8, socket.AF_INET6: 128}
REPLY = {socket.AF_INET: 0, socket.AF_INET6: 129}
PROTOCOL = {socket.AF_INET: 1, socket.AF_INET6: 58}
TOKEN = 16


async def probe(spec: IcmpCheck, _memory: Memory) -> Outcome:
    """Send the requests, and count what comes back before the deadline."""
    ends = asyncio.get_running_loop().time() + spec.timeout * 0.95  # the look-up of a name included
    try:
        [address, *_] = await RESOLVER.addresses(spec.host, 0)
        sock = open_socket(address[0])
        try:
            echoes = _Echoes(spec, address, sock)
            await echoes.exchange(ends)
        finally:
            sock.close()
    except UnreachableError as error:
        return unreachable(f"{spec.host}: {error}")
    except OSError as error:
        if own_fault(error):
            raise
        return unreachable(f"{spec.host}: {reason(error)}")
    return _judge(spec, echoes.seconds)


def open_socket(family: int) -> socket.socket:
    """A socket for echo requests.

    Raises:
        ProbeError: the agent may have none.
    """
    refused: OSError | None = None
    for kind in (socket.SOCK_DGRAM, socket.SOCK_RAW):
        try:
            sock = socket.socket(family, kind, PROTOCOL[socket.AddressFamily(family)])
        except OSError as error:
            if own_fault(error):
                raise
            refused = error
            continue
        sock.setblocking(False)
        return sock
    raise ProbeError(
        f"this user may send no echo requests ({reason(refused or OSError())}): put a group of the agent's into "
        "net.ipv4.ping_group_range, or give it CAP_NET_RAW"
    )


@dataclass
class _Echoes:
    """One look's requests. Each has a number, and all of them a token by which their answers are known."""

    spec: IcmpCheck
    address: SockAddress
    sock: socket.socket
    seconds: list[float] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.raw = self.sock.type == socket.SOCK_RAW
        self.family = socket.AddressFamily(self.address[0])
        self.token = os.urandom(TOKEN)
        self.identity = random.getrandbits(16)
        self._sent: dict[int, float] = {}

    async def exchange(self, ends: float) -> None:
        """Until all are answered, or just before the deadline: at `ends`, on the loop's clock."""
        loop = asyncio.get_running_loop()
        # At once: nothing is sent by it. (The loop's own sock_connect resolves, and knows no such sockets.)
        # Behind the port IPv6 has the scope, without which a link-local address is none.
        self.sock.connect((self.address[1][0], 0, *self.address[1][2:]))
        listening = asyncio.ensure_future(self._listen())
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout_at(ends):
                    for number in range(self.spec.count):
                        if number:
                            await asyncio.sleep(GAP)
                        self._sent[number] = loop.time()
                        await loop.sock_sendall(self.sock, self._request(number))
                    await asyncio.shield(listening)
        finally:
            listening.cancel()
            with contextlib.suppress(asyncio.CancelledError, OSError):
                await listening

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        while len(self.seconds) < self.spec.count:
            number = self.answered(await loop.sock_recv(self.sock, 2048))
            if number in self._sent:
                self.seconds.append(loop.time() - self._sent.pop(number))
            await asyncio.sleep(0)  # who sends faster than is read must not keep the loop

    def _request(self, number: int) -> bytes:
        body = struct.pack("!HH", self.identity, number) + self.token
        kind = REQUEST[self.family]
        # For IPv6 the kernel fills in the checksum, which covers addresses as well.
        checksum = _checksum(bytes([kind, 0, 0, 0]) + body) if self.family == socket.AF_INET else 0
        return struct.pack("!BBH", kind, 0, checksum) + body

    def answered(self, packet: bytes) -> int:
        """The number of the request that a packet answers; -1 for any other packet."""
        if self.raw and self.family == socket.AF_INET and packet:
            packet = packet[(packet[0] & 0x0F) * 4 :]
        if len(packet) < 8 + TOKEN or packet[0] != REPLY[self.family] or packet[8 : 8 + TOKEN] != self.token:
            return -1
        return int.from_bytes(packet[6:8], "big")


def _checksum(data: bytes) -> int:
    """RFC 1071; the data has an even length."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _judge(spec: IcmpCheck, seconds: list[float]) -> Outcome:
    loss = 100.0 * (spec.count - len(seconds)) / spec.count
    if not seconds:
        return unreachable(f"{spec.host}: no answer to {spec.count} request{'s' * (spec.count > 1)}")
    slowest = max(seconds)
    said = f"{spec.host}: {len(seconds)} of {spec.count} answered, the slowest after {slowest * 1000:.1f} ms"
    if loss > spec.max_loss_percent or (spec.max_seconds is not None and slowest > spec.max_seconds):
        return failed(said)
    return passed(said)
