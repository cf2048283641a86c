"""The one way in which the agent asks others over HTTP: one pool, separate limits, answers of bounded size.

aiohttp is imported when the first request is made.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from watchkeeper._version import __version__
from watchkeeper.config.schema.common import TlsClient
from watchkeeper.config.schema.outbound import OutboundSettings

if TYPE_CHECKING:
    import aiohttp

BODY_LIMIT = 16 * 1024 * 1024
"""Bytes of one answer that are taken."""
IDLE_CONNECTIONS = 10
IDLE_SECONDS = 300.0


class RequestError(Exception):
    """No answer, or not all of one: the text says why, in one line."""


@dataclass(frozen=True)
class Answer:
    """What a server said. Header names are looked up without regard to case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Limits:
    """Seconds; None: the settings' default. `total` 0: no limit, for streams and long polls."""

    connect: float | None = None
    read: float | None = None
    total: float | None = None


@dataclass
class Client:
    """One per agent. `settings` may be replaced at any time and hold for the next request."""

    settings: OutboundSettings = field(default_factory=OutboundSettings)

    def __post_init__(self) -> None:
        self._sessions: dict[TlsClient, aiohttp.ClientSession] = {}

    async def request(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limits: Limits = Limits(),
        tls: TlsClient = TlsClient(),  # noqa: B008 - frozen
        body_limit: int = BODY_LIMIT,
    ) -> Answer:
        """One request and its whole answer, of whatever status. Redirects are not followed.

        Raises:
            RequestError: no connection, no answer in time, a torn or a too large one.
        """
        async with self.stream(method, url, headers=headers, body=body, limits=limits, tls=tls) as stream:
            return Answer(stream.status, stream.headers, await stream.read(body_limit))

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        limits: Limits = Limits(),
        tls: TlsClient = TlsClient(),  # noqa: B008 - frozen
    ) -> AsyncIterator[Stream]:
        """A request whose answer is read piece by piece.

        Raises:
            RequestError: as for `request`, while it is read as well.
        """
        import aiohttp

        try:
            session = self._session(tls)
            timeout = self._timeout(limits)
            async with session.request(
                method, url, headers=headers, data=body, timeout=timeout, allow_redirects=False
            ) as response:
                yield Stream(response)
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            raise RequestError(f"{method} {url}: {_reason(error)}") from error

    async def close(self) -> None:
        """Let go of all connections."""
        sessions, self._sessions = list(self._sessions.values()), {}
        await asyncio.gather(*(session.close() for session in sessions))

    def _timeout(self, limits: Limits) -> aiohttp.ClientTimeout:
        import aiohttp

        def chosen(own: float | None, default: float) -> float | None:
            return (default if own is None else own) or None

        return aiohttp.ClientTimeout(
            total=chosen(limits.total, self.settings.total_timeout),
            sock_connect=chosen(limits.connect, self.settings.connect_timeout),
            sock_read=chosen(limits.read, self.settings.read_timeout),
        )

    def _session(self, tls: TlsClient) -> aiohttp.ClientSession:
        import aiohttp

        if tls not in self._sessions:
            connector = aiohttp.TCPConnector(
                limit=0, limit_per_host=0, keepalive_timeout=IDLE_SECONDS, ssl=_ssl(tls)
            )
            self._sessions[tls] = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"watchkeeper/{__version__}"},
            )
        return self._sessions[tls]


class Stream:
    """An answer that is still coming."""

    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers

    async def read(self, limit: int) -> bytes:
        """All of it.

        Raises:
            RequestError: it is longer than `limit` bytes.
        """
        parts: list[bytes] = []
        size = 0
        async for part in self:
            size += len(part)
            if size > limit:
                raise RequestError(f"{self._response.url}: the answer is longer than {limit} bytes")
            parts.append(part)
        return b"".join(parts)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._response.content.iter_any():
            yield part


def _ssl(tls: TlsClient) -> Any:
    if tls == TlsClient():
        return True
    import ssl

    context = ssl.create_default_context(cafile=tls.ca_file)
    if not tls.verify:
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if tls.cert_file:
        context.load_cert_chain(tls.cert_file, tls.key_file)
    return context


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (getattr(error, "strerror", None) or str(error)).strip() or type(error).__name__
