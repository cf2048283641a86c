"""One request over one connection: what is sent is streamed, what comes back is bounded.

The standard library's client, so that the job with the credentials needs no further package. HTTPS_PROXY, NO_PROXY and
SSL_CERT_FILE hold here as everywhere.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import ssl
import urllib.request
from collections.abc import Callable, Iterator
from typing import Protocol
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec

from ferryman_release.errors import GithubError

SECONDS = 120.0
"""Of silence. GitHub thinks for a while after the last byte of a large file."""
BLOCK = 256 * 1024
LARGEST_ANSWER = 32_000_000  # bytes; a page of a hundred assets has some 200,000
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

Sink = Callable[[bytes], object]
"""Takes the body of an answer in pieces."""


class Body(Protocol):
    """What a request carries: ``size`` bytes in all."""

    @property
    def size(self) -> int: ...
    @property
    def media_type(self) -> str: ...
    def chunks(self) -> Iterator[bytes]: ...


class Json(msgspec.Struct, frozen=True):
    """A small document as a body."""

    data: bytes

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def media_type(self) -> str:
        return "application/json"

    def chunks(self) -> Iterator[bytes]:
        yield self.data


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """A request; without a repr of its headers, among which is the token."""

    method: str
    url: str
    headers: dict[str, str]
    body: Body | None = None

    def __repr__(self) -> str:
        return f"Call({self.method} {self.url})"


class Answer(msgspec.Struct, frozen=True):
    """What came back; names of headers in lower case. ``body`` is empty where a sink took it, and in no repr."""

    status: int
    headers: dict[str, str]
    body: bytes = b""

    def __repr__(self) -> str:
        return f"Answer({self.status}, {len(self.body)} bytes)"


class UnansweredError(Exception):
    """The connection broke before an answer was whole: nobody knows whether the request took effect."""


class Exchange(Protocol):
    """How a request gets its answer; tests put a wrapper around :func:`exchange`."""

    def __call__(self, call: Call, sink: Sink | None = None) -> Answer: ...


def exchange(call: Call, sink: Sink | None = None) -> Answer:
    """Send a request and read its answer; ``sink`` takes the body of a good one.

    Raises:
        UnansweredError: no answer, or half of one.
        GithubError: the server's certificate is not trusted, or the address is not https.
    """
    parts = urlsplit(call.url)
    try:
        with contextlib.closing(_connection(parts)) as connection:
            _send(connection, parts, call)
            return _receive(connection, sink)
    except ssl.SSLCertVerificationError as error:
        raise GithubError(
            f"The certificate of {parts.hostname} is not trusted: {error.verify_message}.",
            advice="Set SSL_CERT_FILE to the certificates of whoever signs for this host.",
        ) from error
    except (OSError, http.client.HTTPException) as error:
        raise UnansweredError(f"{parts.hostname}: {str(error) or type(error).__name__}") from error


def is_safe(parts: SplitResult) -> bool:
    """Whether a token may be sent there at all: encrypted, or to this machine."""
    return parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in _LOOPBACK)


def _connection(parts: SplitResult) -> http.client.HTTPConnection:
    if not is_safe(parts):
        raise GithubError(
            f"{parts.scheme}://{parts.netloc} is not encrypted.", advice="Give the API's address with https."
        )
    host = parts.hostname or ""
    if parts.scheme == "http":
        return http.client.HTTPConnection(host, parts.port, timeout=SECONDS)
    proxy = None if urllib.request.proxy_bypass(host) else urllib.request.getproxies().get("https")
    if not proxy:
        return http.client.HTTPSConnection(host, parts.port, timeout=SECONDS)
    through = urlsplit(proxy if "://" in proxy else f"http://{proxy}")
    connection = http.client.HTTPSConnection(through.hostname or "", through.port or 8080, timeout=SECONDS)
    connection.set_tunnel(host, parts.port or 443, _proxy_headers(through))
    return connection


def _proxy_headers(proxy: SplitResult) -> dict[str, str]:
    if not proxy.username:
        return {}
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}"
    return {"Proxy-Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}


def _send(connection: http.client.HTTPConnection, parts: SplitResult, call: Call) -> None:
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    if call.body is None:
        connection.request(call.method, target, headers=call.headers)
        return
    headers = {**call.headers, "Content-Type": call.body.media_type, "Content-Length": str(call.body.size)}
    # Whoever refuses a large file says so at its first bytes and stops to read; the reason is worth more than the
    # broken pipe.
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        connection.request(call.method, target, body=call.body.chunks(), headers=headers)


def _receive(connection: http.client.HTTPConnection, sink: Sink | None) -> Answer:
    with contextlib.closing(connection.getresponse()) as response:
        headers = {name.lower(): value for name, value in response.getheaders()}
        body = b""
        if sink is not None and response.status == http.client.OK:
            while piece := response.read(BLOCK):
                sink(piece)
        else:
            body = response.read(LARGEST_ANSWER)
        if response.length:  # read() with an amount takes an early end for the end
            raise UnansweredError("the answer ended early, or is larger than any that was asked for")
        return Answer(response.status, headers, body)
