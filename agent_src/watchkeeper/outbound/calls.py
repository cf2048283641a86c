"""One request as it was asked for, and what its failures are called."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from watchkeeper.config.schema.common import TlsClient
from watchkeeper.outbound.errors import Failure, RequestError
from watchkeeper.outbound.routes import Times


@dataclass(frozen=True)
class Limits:
    """Seconds; None: the default of the destination. `total` 0: no limit, for streams and long polls."""

    connect: float | None = None
    read: float | None = None
    total: float | None = None
    write: float | None = None


@dataclass(frozen=True)
class Target:
    """Where a URL leads."""

    url: str
    scheme: str
    host: str
    port: int | None
    socket: str | None = None

    @property
    def authority(self) -> str:
        return self.socket or (f"{self.host}:{self.port}" if self.port else self.host)


@dataclass(frozen=True)
class Call:
    """One request, however often it is made."""

    method: str
    target: Target
    headers: dict[str, str]
    body: bytes | None
    times: Times
    tls: TlsClient
    until: float | None
    """The loop's clock; None: no limit."""
    essential: bool = False
    """A fault is put into it only where a rule names its host."""


def parse_target(method: str, url: str) -> Target:
    """Where a URL leads.

    Raises:
        RequestError: it is none that can be asked.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError as error:
        raise RequestError(f"{method} {shown(url)}: {error}", Failure.INVALID) from None
    if parts.scheme == "http+unix":
        path = unquote(parts.netloc)
        rest = f"{parts.path or '/'}{'?' + parts.query if parts.query else ''}"
        return Target(f"http://localhost{rest}", "http", "localhost", None, path)
    if parts.scheme not in ("http", "https") or not host:
        raise RequestError(f"{method} {shown(url)}: not http://HOST or https://HOST", Failure.INVALID)
    return Target(url, parts.scheme, host, port or {"http": 80, "https": 443}[parts.scheme])


def what(call: Call) -> str:
    """What failed, as messages begin."""
    target = call.target
    where = f"unix:{target.socket}{urlsplit(target.url).path}" if target.socket else shown(target.url)
    return f"{call.method} {where}"


def shown(url: str) -> str:
    """A URL without the password and the query, which may hold secrets."""
    plain = url.partition("?")[0]
    scheme, separator, rest = plain.partition("://") if "://" in plain else ("", "", plain)
    authority, slash, path = rest.partition("/")
    return f"{scheme}{separator}{authority.rpartition('@')[2]}{slash}{path}"


def as_request_error(error: Exception, call: Call) -> RequestError:
    """What aiohttp or the system said, in one line and of one kind."""
    return RequestError(f"{what(call)}: {reason_of(error)}", kind_of(error))


def expected(error: Exception) -> bool:
    """Anything else is a defect, and has to look like one."""
    import aiohttp

    return isinstance(error, (aiohttp.ClientError, OSError, ValueError))  # TimeoutError is an OSError


def kind_of(error: Exception) -> Failure:
    """The first that fits, from the special to the general."""
    import aiohttp

    kinds: tuple[tuple[tuple[type[Exception], ...], Failure], ...] = (
        ((TimeoutError,), Failure.TIMEOUT),
        ((aiohttp.ClientSSLError,), Failure.TLS),
        ((aiohttp.ClientConnectorError,), Failure.CONNECT),
        ((aiohttp.ClientError, OSError), Failure.BROKEN),
    )
    if isinstance(error, aiohttp.InvalidURL):
        return Failure.INVALID
    return next((kind for types, kind in kinds if isinstance(error, types)), Failure.INVALID)


def reason_of(error: Exception) -> str:
    """One line."""
    if isinstance(error, TimeoutError):
        return "no answer in time"
    # aiohttp's own sentence about a malformed answer ends with the whole URL, which may hold secrets.
    text = getattr(error, "strerror", None) or getattr(error, "message", None) or str(error)
    return " ".join(str(text).split()) or type(error).__name__
