"""Open connections to web servers, one per origin and thread, through the environment's proxies."""

from __future__ import annotations

import http.client
import ssl
import threading
from base64 import b64encode
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from urllib.parse import unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from ferryman_client.errors import UnreachableError

_DRAIN = 64 * 1024  # bytes of an error's body that are read so that the connection can be used again


@dataclass(frozen=True, kw_only=True, slots=True)
class Exchange:
    """A request that was sent, and its answer, of which the head has been read."""

    url: str
    response: http.client.HTTPResponse


class Connections:
    """Sends requests; see :class:`ferryman_client.fetch.HttpFetcher` for the arguments."""

    def __init__(self, *, timeout: float, cafile: str | None) -> None:
        self.timeout, self.cafile = timeout, cafile
        self.date: float | None = None  # what the last server said the time is, in seconds since the epoch
        self._local = threading.local()
        self._context: ssl.SSLContext | None = None

    def ask(self, url: str, headers: Mapping[str, str]) -> Exchange:
        """GET ``url``; once more on a new connection if the server had closed the kept one meanwhile.

        Raises:
            UnreachableError: there was no answer.
        """
        while True:
            used = origin(url) in self._kept()
            try:
                connection = self._connection(url)
                connection.request("GET", _target(url), headers={**_forward_login(url), **headers})
                response = connection.getresponse()
            except (http.client.HTTPException, OSError, ValueError) as error:  # ValueError: a proxy's address
                self.drop(url)
                if used and isinstance(error, ConnectionError):  # RemoteDisconnected is one
                    continue
                raise no_answer(url, error) from error
            with suppress(TypeError, ValueError, OverflowError):
                self.date = parsedate_to_datetime(response.headers["Date"]).timestamp()
            return Exchange(url=url, response=response)

    def finish(self, exchange: Exchange, *, drain: bool = False) -> None:
        """Give the connection back; one with an unread rest of a body is of no further use and closed."""
        if drain:
            with suppress(http.client.HTTPException, OSError):
                exchange.response.read(_DRAIN)
        if not exchange.response.isclosed():
            self.drop(exchange.url)
        exchange.response.close()

    def drop(self, url: str) -> None:
        """Close what is open to the origin of ``url``."""
        if connection := self._kept().pop(origin(url), None):
            connection.close()

    def close(self) -> None:
        """Close what this thread has open."""
        for connection in self._kept().values():
            connection.close()
        self._kept().clear()

    def _kept(self) -> dict[str, http.client.HTTPConnection]:
        kept: dict[str, http.client.HTTPConnection] = vars(self._local).setdefault("kept", {})
        return kept

    def _connection(self, url: str) -> http.client.HTTPConnection:
        kept = self._kept()
        if origin(url) not in kept:
            kept[origin(url)] = self._connect(url)
        return kept[origin(url)]

    def _connect(self, url: str) -> http.client.HTTPConnection:
        parts, proxy = urlsplit(url), proxy_of(url)
        near = urlsplit(proxy) if proxy else parts
        if parts.scheme == "http":
            return http.client.HTTPConnection(near.hostname or "", near.port or 80, timeout=self.timeout)
        if self._context is None:
            self._context = ssl.create_default_context(cafile=self.cafile)
        made = http.client.HTTPSConnection(
            near.hostname or "",
            near.port or (80 if proxy else 443),
            timeout=self.timeout,
            context=self._context,
        )
        if proxy:
            made.set_tunnel(parts.hostname or "", parts.port or 443, headers=_login(proxy))
        return made


def origin(url: str) -> str:
    """Scheme, host and port: what a connection, and a secret, belongs to."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def proxy_of(url: str) -> str:
    """The proxy that the environment (or the system's settings) names for ``url``; "" for none."""
    parts = urlsplit(url)
    proxy = getproxies().get(parts.scheme, "")
    if not proxy or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def _target(url: str) -> str:
    """What stands in the request line: the whole URL for a proxy that forwards plain http."""
    parts = urlsplit(url)
    if parts.scheme == "http" and proxy_of(url):
        return url
    return (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def _forward_login(url: str) -> dict[str, str]:
    return _login(proxy_of(url)) if urlsplit(url).scheme == "http" else {}


def _login(proxy: str) -> dict[str, str]:
    """The header for a proxy whose URL carries a user and a password."""
    parts = urlsplit(proxy)
    if not parts.username:
        return {}
    secret = f"{unquote(parts.username)}:{unquote(parts.password or '')}".encode()
    return {"Proxy-Authorization": f"Basic {b64encode(secret).decode()}"}


# --- what went wrong --------------------------------------------------------------------------------------------------


def no_answer(url: str, error: Exception) -> UnreachableError:
    """The sentence for a connection that did not come about, or broke."""
    host = urlsplit(url).hostname or url
    what = str(error) or type(error).__name__
    if isinstance(error, ssl.SSLCertVerificationError):
        return UnreachableError(
            f"The certificate of {host} does not hold: {error.verify_message}.",
            advice="Check this machine's clock and its certificates; `cafile` names others.",
        )
    if isinstance(error, TimeoutError):
        what = "it was silent for too long"
    return UnreachableError(
        f"{host} did not answer: {what}.", advice="Check the network and the proxy; it is tried again."
    )
