"""Bytes from a repository over http, https or from a file, with nothing but the standard library.

Redirects lead to https or to the scheme that they came from, five at most; proxies are those of the environment. A
server may be silent for ``timeout`` seconds, and slower than SLOWEST for PATIENCE. Limits of size are the reader's, who
knows them from signed metadata.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Protocol
from urllib.parse import unquote, urljoin, urlsplit

from ferryman_client.errors import UnreachableError, UsageError

if TYPE_CHECKING:
    from ferryman_client.connections import Connections, Exchange

CHUNK = 256 * 1024  # bytes handed on at a time
REDIRECTS = 5
SLOWEST = 1024  # bytes a second
PATIENCE = 60.0  # seconds
_MOVED = frozenset({301, 302, 303, 307, 308})
_LATER = "It is tried again; if it stays, tell whoever runs the repository."
_ADVICE = {
    401: "The repository wants a login: give `headers`, or ask for access.",
    403: "The repository refuses this machine, or has no such file.",
    404: "Check the URL of the repository.",
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """``status`` is 206 when the body begins at ``start`` and 200 when it is whole; ``etag`` is "" where there is none."""

    status: int
    body: Iterator[bytes]
    start: int = 0
    etag: str = ""


class Source(Protocol):
    """Where bytes come from: what :class:`ferryman_client.Client` needs of a fetcher."""

    def open(self, url: str, *, start: int = 0, etag: str = "") -> AbstractContextManager[Answer]:
        """The answer to one request.

        Args:
            start: the offset in bytes from which the body is wanted; an answer from the beginning is also right.
            etag: with ``start``: of the bytes that are there already; others make the answer begin anew.

        Raises:
            UnreachableError: no answer, or one with an HTTP error, which is its ``status``.
        """


class HttpFetcher:
    """Fetches over http(s) and from file:// URLs.

    Args:
        timeout: seconds of silence until a server counts as dead.
        headers: sent to the origin of a request and to no other that it redirects to (an Authorization, say).
        cafile: certificates to trust instead of the operating system's.
        user_agent: what the server's log shows.
    """

    def __init__(
        self,
        *,
        timeout: float = 30.0,
        headers: Mapping[str, str] | None = None,
        cafile: str | None = None,
        user_agent: str = "ferryman-client",
    ) -> None:
        self.timeout, self.cafile, self.user_agent = timeout, cafile, user_agent
        self.headers = dict(headers or {})
        self._connections: Connections | None = None

    @property
    def date(self) -> float | None:
        """What the last server said the time is, in seconds since the epoch."""
        return self._connections.date if self._connections else None

    def open(self, url: str, *, start: int = 0, etag: str = "") -> AbstractContextManager[Answer]:
        """See :meth:`Source.open`."""
        scheme = _scheme(url)
        if scheme == "file":
            return _open_file(url, start)
        if scheme in ("http", "https"):
            return self._open_http(url, start, etag)
        raise UsageError(f"{url} is neither http, https nor file.", advice="Give the URL of the repository.")

    def close(self) -> None:
        """Close this thread's connections."""
        if self._connections:
            self._connections.close()

    @contextmanager
    def _open_http(self, url: str, start: int, etag: str) -> Iterator[Answer]:
        wanted = {"Accept-Encoding": "identity", "User-Agent": self.user_agent}
        if start:
            wanted["Range"] = f"bytes={start}-"
            if etag:
                wanted["If-Range"] = etag
        exchange = self._follow(url, wanted)
        response = exchange.response
        try:
            yield Answer(
                status=response.status,
                body=_chunks(exchange),
                start=_first_byte(response.headers.get("Content-Range", "")) if response.status == 206 else 0,
                etag=response.headers.get("ETag", ""),
            )
        finally:
            self._pool().finish(exchange)

    def _follow(self, url: str, wanted: Mapping[str, str]) -> Exchange:
        """The answer at the end of the redirects."""
        from ferryman_client.connections import origin

        at = url
        for _ in range(REDIRECTS + 1):
            own = self.headers if origin(at) == origin(url) else {}
            exchange = self._pool().ask(at, {**own, **wanted})
            status, place = exchange.response.status, exchange.response.headers.get("Location", "")
            if status in (200, 206):
                return exchange
            self._pool().finish(exchange, drain=True)
            if status not in _MOVED or not place:
                raise UnreachableError(
                    f"{at} answered {status} {exchange.response.reason}.",
                    advice=_ADVICE.get(status, _LATER),
                    status=status,
                )
            at = _redirected(at, place)
        raise UnreachableError(f"{url} redirects more than {REDIRECTS} times.", advice=_LATER)

    def _pool(self) -> Connections:
        """Made when it is needed first: a program that asks nothing does not pay for http and ssl."""
        if self._connections is None:
            from ferryman_client.connections import Connections

            self._connections = Connections(timeout=self.timeout, cafile=self.cafile)
        return self._connections


def _scheme(url: str) -> str:
    """What ``url`` begins with; an UnreachableError when it is no address."""
    try:
        parts = urlsplit(url)
        _ = parts.port  # it is looked at when somebody asks
    except ValueError as error:
        raise UnreachableError(f"{url} is no address: {error}.", advice=_ADVICE[404]) from error
    return parts.scheme


def _redirected(before: str, place: str) -> str:
    """Where a redirect to ``place`` leads, if it may lead there."""
    try:
        after = urljoin(before, place)
    except ValueError as error:
        raise UnreachableError(f"{before} redirects to no address: {error}.", advice=_LATER) from error
    old, new = _scheme(before), _scheme(after)
    if new == "https" or (new == old and new == "http"):
        return after
    raise UnreachableError(
        f"{before} redirects to {after}, which is not followed.",
        advice="A redirect may lead to https, or from http to http; tell whoever runs the repository.",
    )


def _chunks(exchange: Exchange) -> Iterator[bytes]:
    """The body, as it comes in; a broken or a crawling one is an UnreachableError."""
    import http.client

    from ferryman_client.connections import no_answer

    since, got = time.monotonic(), 0
    while True:
        try:
            chunk = exchange.response.read1(CHUNK)
        except (http.client.HTTPException, OSError, ValueError) as error:
            raise no_answer(exchange.url, error) from error
        if not chunk:
            break
        yield chunk
        got += len(chunk)
        if (passed := time.monotonic() - since) > PATIENCE:
            if got < SLOWEST * passed:
                raise UnreachableError(f"{exchange.url} comes too slowly.", advice=_LATER)
            since, got = time.monotonic(), 0
    if exchange.response.length:  # read1 does not say that a body is shorter than announced
        raise UnreachableError(f"{exchange.url} ended too early.", advice=_LATER)
    exchange.response.read()  # nothing is left; it is this that gives the connection back


def _first_byte(content_range: str) -> int:
    """Of `bytes 100-199/200`; -1 for what cannot be read."""
    number = content_range.removeprefix("bytes ").partition("-")[0]
    return int(number) if number.isdecimal() else -1


# --- files ------------------------------------------------------------------------------------------------------------


@contextmanager
def _open_file(url: str, start: int) -> Iterator[Answer]:
    path = file_path(url)
    try:
        stream = path.open("rb")
    except (
        FileNotFoundError,
        IsADirectoryError,
        NotADirectoryError,
        ValueError,
    ) as error:  # ValueError: a NUL
        raise UnreachableError(f"{path} does not exist.", advice=_ADVICE[404], status=404) from error
    except OSError as error:
        raise UnreachableError(f"{path} cannot be read: {error.strerror}.", advice=_LATER) from error
    with stream:
        stream.seek(start)
        yield Answer(status=206 if start else 200, body=_blocks(stream, path), start=start)


def _blocks(stream: IO[bytes], path: Path) -> Iterator[bytes]:
    try:
        while chunk := stream.read(CHUNK):
            yield chunk
    except OSError as error:
        raise UnreachableError(f"{path} cannot be read: {error.strerror}.", advice=_LATER) from error


def file_path(url: str) -> Path:
    """The path of a file:// URL."""
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost"):
        raise UsageError(
            f"{url} names another machine.", advice="A file URL has three slashes: file:///srv/releases/."
        )
    import os

    if os.name == "nt":
        from urllib.request import url2pathname

        return Path(url2pathname(parts.path))
    return Path(unquote(parts.path))
