"""Connections for looks: a name becomes addresses, one of these a socket, and that perhaps an encrypted stream.

Every look has its own connection. Names are resolved in the threads of threads.py, never in the loop's own executor: a
name server that is away must not keep the agent from reading its files. One question per name is under way at a time,
and all who have it wait for the same answer.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Hashable
from dataclasses import dataclass
from typing import cast

from watchkeeper.checks import own_fault, reason
from watchkeeper.checks.threads import THREADS, Threads
from watchkeeper.checks.tls import client_context
from watchkeeper.config.schema.common import TlsClient, split_address

CHUNK = 65_536

SockAddress = tuple[int, tuple[str | int, ...] | str]
"""A family, and what `connect` takes."""


class UnreachableError(Exception):
    """There is no connection, or it broke; the text says why."""


class CertificateError(UnreachableError):
    """A server's certificate does not hold."""


def literal(host: str, port: int) -> SockAddress | None:
    """The address of a host that is an address already; None for a name."""
    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, host)
        except (OSError, ValueError):
            continue
        return (family, (host, port)) if family == socket.AF_INET else (family, (host, port, 0, 0))
    return None


class Resolver:
    """Names to addresses, as the system has them."""

    def __init__(self, threads: Threads = THREADS) -> None:
        self._threads = threads
        self._asked: dict[Hashable, asyncio.Task[list[SockAddress]]] = {}

    async def addresses(self, host: str, port: int, family: int = 0) -> list[SockAddress]:
        """In the order of the system (RFC 6724).

        Raises:
            UnreachableError: there is none.
            HangsError, ProbeError: of threads.py.
        """
        known = literal(host, port)
        if known is not None:
            return [known]
        key = (id(asyncio.get_running_loop()), host, port, family)
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.ensure_future(self._ask(host, port, family))
            task.add_done_callback(lambda done: self._answered(key, done))
        return await asyncio.shield(task)

    def _answered(self, key: Hashable, task: asyncio.Task[list[SockAddress]]) -> None:
        self._asked.pop(key, None)
        if not task.cancelled():
            task.exception()  # those who asked may all have gone

    async def _ask(self, host: str, port: int, family: int) -> list[SockAddress]:
        def call() -> list[SockAddress]:
            found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM)
            return [(int(each[0]), cast("tuple[str | int, ...]", each[4])) for each in found]

        try:
            return await self._threads.run(("resolve", host, port, family), call)
        except (socket.gaierror, UnicodeError) as error:
            raise UnreachableError(f"the name {host} has no address: {reason(error)}") from None


RESOLVER = Resolver()


class Connection:
    """A stream of bytes, as plain as the system has it."""

    certificate: bytes | None = None
    """The server's, in DER; None without TLS."""
    chain: tuple[bytes, ...] = ()
    """All certificates that the server has sent, its own first."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._sock, data)

    async def receive(self) -> bytes:
        """What has come; nothing: the other side has ended the stream."""
        return await self._loop.sock_recv(self._sock, CHUNK)

    def close(self) -> None:
        self._sock.close()


class TlsConnection(Connection):
    """The same, encrypted."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        found = writer.get_extra_info("ssl_object")
        self.protocol: str | None = found.selected_alpn_protocol()
        self.certificate = found.getpeercert(binary_form=True)
        self.chain = _chain(found) or ((self.certificate,) if self.certificate else ())

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self) -> bytes:
        return await self._reader.read(CHUNK)

    def close(self) -> None:
        # A polite end would wait for the other side; a look has no time for that.
        self._writer.transport.abort()


def _chain(found: ssl.SSLObject) -> tuple[bytes, ...]:
    """What the server has sent. Python has a public name for it from 3.13 on."""
    public = getattr(found, "get_unverified_chain", None)
    if public is not None:
        return tuple(bytes(each) for each in public())
    ask = getattr(getattr(found, "_sslobj", None), "get_unverified_chain", None)
    der = getattr(getattr(ssl, "_ssl", None), "ENCODING_DER", None)
    return tuple(each.public_bytes(der) for each in ask() or ()) if ask and der is not None else ()


@dataclass(frozen=True)
class Tls:
    """How to encrypt: `name` is what the certificate must be good for."""

    settings: TlsClient
    name: str
    protocols: tuple[str, ...] = ()


async def connect(address: str, tls: Tls | None, limit: float) -> Connection:
    """A connection to HOST:PORT or unix:PATH. Of several addresses each gets its share of the `limit`, in seconds.

    Raises:
        UnreachableError: there is none; CertificateError: because of a certificate.
        OSError: this machine is out of something (own_fault).
        HangsError, ProbeError: of threads.py.
    """
    if address.startswith("unix:"):
        family = getattr(socket, "AF_UNIX", None)
        if family is None:
            raise UnreachableError("this system has no Unix sockets")
        return await connect_to([(family, address[len("unix:") :])], tls, limit)
    host, port = split_address(address)
    return await connect_to(await RESOLVER.addresses(host, port), tls, limit)


async def connect_to(addresses: list[SockAddress], tls: Tls | None, limit: float) -> Connection:
    """A connection to the first of these addresses that accepts one."""
    if tls is None:
        return Connection(await _first(addresses, limit))
    context = client_context(tls.settings, tls.protocols)
    sock = await _first(addresses, limit)
    try:
        return TlsConnection(*await _encrypted(sock, context, tls.settings.server_name or tls.name))
    except ssl.SSLCertVerificationError as error:
        raise CertificateError(f"its certificate does not hold: {error.verify_message}") from None
    except OSError as error:
        if own_fault(error):
            raise
        raise UnreachableError(f"no TLS: {reason(error)}") from None


async def _encrypted(
    sock: socket.socket, context: ssl.SSLContext, name: str
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A stream over a socket, which from here on is the stream's.

    Who gives up meanwhile aborts the transport below TLS. The one above would wait half a minute for the other side's farewell; and a
    socket that is closed under either leaves asyncio with a number that somebody else's socket gets.
    """
    loop = asyncio.get_running_loop()
    plain, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
    stream = _Stream()
    try:
        found = await loop.start_tls(plain, stream, context, server_hostname=name)
    except BaseException:
        plain.abort()
        raise
    transport = cast("asyncio.Transport", found)
    stream.connection_made(transport)
    return stream.reader, asyncio.StreamWriter(transport, stream, stream.reader, loop)


class _Stream(asyncio.StreamReaderProtocol):
    """What comes goes to `reader`."""

    def __init__(self) -> None:
        self.reader = asyncio.StreamReader()
        super().__init__(self.reader)

    def eof_received(self) -> bool:
        super().eof_received()
        return False  # an encrypted stream is not kept open for one direction


async def _first(addresses: list[SockAddress], limit: float) -> socket.socket:
    """One after the other, as Go's dialer does without RFC 8305."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + limit
    last: OSError | None = None
    for index, address in enumerate(addresses):
        left = len(addresses) - index
        if left == 1:
            return await _socket(address, last)
        try:
            async with asyncio.timeout((deadline - clock()) / left):
                return await _open(address)
        except TimeoutError:
            last = TimeoutError("no answer")
        except OSError as error:
            last = error
            if own_fault(error):
                raise
    raise UnreachableError("it has no address")


async def _socket(address: SockAddress, earlier: OSError | None) -> socket.socket:
    """The last one."""
    try:
        return await _open(address)
    except OSError as error:
        if own_fault(error):
            raise
        # Of localhost the first address is often IPv6, and the second says more.
        raise UnreachableError(reason(error)) from earlier


async def _open(address: SockAddress) -> socket.socket:
    family, where = address
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, where)
    except BaseException:
        sock.close()
        raise
    return sock
