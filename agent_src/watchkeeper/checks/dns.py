"""The dns check: a name has answers, and among them those that are expected."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import pathlib
import random
import socket
from collections.abc import Iterable

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
from watchkeeper.checks.connect import RESOLVER, Resolver, SockAddress, UnreachableError, connect_to
from watchkeeper.checks.dns_wire import CODES, Answer, MessageError, question, read_answer
from watchkeeper.config.schema.checks import DnsCheck, DnsRecord
from watchkeeper.config.schema.common import split_address

RESOLV_CONF = "/etc/resolv.conf"
PORT = 53
ATTEMPTS = 3
"""Datagrams may be lost: the question is asked again twice, after a third and two thirds of the deadline."""
LARGEST = 65_535
FAMILIES = {DnsRecord.A: socket.AF_INET, DnsRecord.AAAA: socket.AF_INET6}


async def probe(spec: DnsCheck, _memory: Memory) -> Outcome:
    """Ask once."""
    asked = spec.server or "the system"
    try:
        if spec.server is None and spec.record in FAMILIES:
            return _judge(spec, asked, await _of_system(spec))
        host, port = split_address(spec.server) if spec.server else (_first_server(), PORT)
        [address, *_] = await RESOLVER.addresses(host, port)
        answer = await _of_server(spec, address)
    except (UnreachableError, MessageError, TimeoutError) as error:
        return unreachable(f"{spec.name}: {str(error) or 'no answer'}")
    except OSError as error:
        if own_fault(error):
            raise
        return unreachable(f"{spec.name}: {asked} cannot be asked: {reason(error)}")
    if answer.code:
        code = CODES.get(answer.code, str(answer.code))
        return failed(f"{spec.name}: {asked} says {code}", Word.BAD_STATUS)
    return _judge(spec, asked, answer.answers)


async def _of_system(spec: DnsCheck, resolver: Resolver = RESOLVER) -> list[str]:
    found = await resolver.addresses(spec.name, 0, FAMILIES[spec.record])
    return [str(where[0]) for _, where in found]


def _first_server() -> str:
    try:
        lines = pathlib.Path(RESOLV_CONF).read_text("utf-8", "replace").splitlines()
    except OSError as error:
        raise ProbeError(f"{RESOLV_CONF} cannot be read: {error.strerror}; name a server") from None
    words = [line.split() for line in lines]
    server = next((each[1] for each in words if len(each) > 1 and each[0] == "nameserver"), None)
    if server is None:
        raise ProbeError(f"{RESOLV_CONF} names no server; name one in the check")
    return server


async def _of_server(spec: DnsCheck, address: SockAddress) -> Answer:
    """Over UDP, and over TCP what does not fit into a datagram."""
    if not spec.tcp:
        answer = await _datagram(spec, address)
        if not answer.cut:
            return answer
    return await _stream(spec, address)


async def _datagram(spec: DnsCheck, address: SockAddress) -> Answer:
    """The socket is connected, so that only the server is heard; what is no answer to this question is not listened to."""
    loop = asyncio.get_running_loop()
    number = random.getrandbits(16)
    message = question(number, spec.name, spec.record.value)
    with socket.socket(address[0], socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        sock.connect(address[1])
        wrong: MessageError | None = None
        while True:  # until the deadline, which is the caller's
            try:
                async with asyncio.timeout(spec.timeout / ATTEMPTS):
                    await loop.sock_sendall(sock, message)
                    while True:
                        try:
                            return read_answer(
                                await loop.sock_recv(sock, LARGEST), number, spec.name, spec.record.value
                            )
                        except MessageError as error:
                            wrong = error
                            await asyncio.sleep(0)  # who sends faster than is read must not keep the loop
            except TimeoutError:
                if wrong is not None:
                    raise wrong from None


async def _stream(spec: DnsCheck, address: SockAddress) -> Answer:
    number = random.getrandbits(16)
    message = question(number, spec.name, spec.record.value)
    connection = await connect_to([address], None, spec.timeout)
    try:
        await connection.send(len(message).to_bytes(2, "big") + message)
        data = bytearray()
        while len(data) < 2 or len(data) < 2 + int.from_bytes(data[:2], "big"):
            received = await connection.receive()
            if not received:
                raise MessageError("the server hung up before the end of its answer")
            data += received
    finally:
        connection.close()
    size = int.from_bytes(data[:2], "big")
    return read_answer(bytes(data[2 : 2 + size]), number, spec.name, spec.record.value)


def _judge(spec: DnsCheck, asked: str, answers: Iterable[str]) -> Outcome:
    found = sorted({_same(spec, answer) for answer in answers})
    said = f"{spec.name} {spec.record}: {', '.join(found)[:200] or 'no answer'}"
    if not found:
        return failed(f"{said} from {asked}")
    wanted = {_same(spec, answer) for answer in spec.expect}
    missing = sorted(wanted - set(found))
    if missing:
        return failed(f"{said}; missing: {', '.join(missing)}")
    extra = sorted(set(found) - wanted)
    if spec.exact and extra:
        return failed(f"{said}; not expected: {', '.join(extra)}")
    return passed(said)


def _same(spec: DnsCheck, answer: str) -> str:
    """Names without regard to case and last dot; addresses however they are written; text as it is."""
    if spec.record in FAMILIES:
        with contextlib.suppress(ValueError):
            return str(ipaddress.ip_address(answer))
    return answer if spec.record is DnsRecord.TXT else answer.lower().rstrip(".")
