"""A document behind a URL as a source.

Rules:
    U1  Every question but the first carries If-None-Match with the ETag of the document that is held, and If-Modified-Since
        with its Last-Modified (RFC 9110, 13.1). 304 means that it is still the same; a 304 that was not asked for is
        nonsense.
    U2  With `wait` the server is asked to hold an answer back that would say nothing new: by the header Prefer: wait=N (RFC
        7240, 4.3) or by a query parameter. A server that does not heed that is asked every `interval`, like any other.
    U3  An answer has to show its own end, by Content-Length or chunks: otherwise a torn one would pass for a short one. It
        is at most `size_limit` bytes, decompressed, and comes within `timeout` from the first question on; a server that
        sends a byte now and then is not waited for.
    U4  Redirects are followed, `redirects` of them, from https to https only; token and headers go only to the server that
        the configuration names.
    U5  429 and 503 may say with Retry-After when to come again. No other status but 200, 304 and redirects is an answer: a
        404 is not an empty document.
"""

from __future__ import annotations

import asyncio
import email.utils
import random
import time
from collections.abc import Mapping
from urllib.parse import urlencode, urljoin, urlsplit

from watchkeeper.config.fragments import Fetched, Fragment, digest
from watchkeeper.config.schema.sources import HttpSource
from watchkeeper.config.sources import SourceError
from watchkeeper.outbound.client import Answer, Client, Limits, RequestError

REDIRECTS = frozenset({301, 302, 303, 307, 308})
SUFFIXES = (".yaml", ".yml", ".toml", ".json")
TYPES = {
    "application/json": ".json",
    "application/yaml": ".yaml",
    "application/x-yaml": ".yaml",
    "text/yaml": ".yaml",
    "text/x-yaml": ".yaml",
    "application/toml": ".toml",
}
ACCEPT = "application/yaml, application/toml, application/json, */*;q=0.5"
HELD_SHARE = 0.5
"""Of `wait`: an answer without news that comes sooner was not held back (U2)."""
JITTER = 0.1


class HttpDocument:
    """A `FragmentSource`."""

    def __init__(self, spec: HttpSource, http: Client) -> None:
        self._spec, self._http = spec, http
        self._held: Fetched | None = None
        self._validators: dict[str, str] = {}

    async def fetch(self) -> Fetched:
        return await self._ask(wait=0.0)

    async def watch(self) -> Fetched:
        clock = asyncio.get_running_loop().time
        while True:
            if not self._spec.wait:
                await self._pause()
            asked_at, before = clock(), self._held
            fetched = await self._ask(wait=self._spec.wait)
            if before is None or fetched.fragments != before.fragments:
                return fetched
            if self._spec.wait and clock() - asked_at < self._spec.wait * HELD_SHARE:
                await self._pause()

    async def close(self) -> None:
        """The connections belong to the agent's one client."""

    async def _pause(self) -> None:
        interval = self._spec.interval
        await asyncio.sleep(interval * (1 + JITTER * (random.random() - 0.5)))  # noqa: S311 - spreads questions, no secret

    async def _ask(self, *, wait: float) -> Fetched:
        spec = self._spec
        try:
            async with asyncio.timeout(spec.timeout + wait):  # U3: for all redirects together
                answer = await self._follow(wait)
        except TimeoutError:
            raise SourceError(f"{_shown(spec.url)}: no whole answer in {spec.timeout + wait:g} s") from None
        except RequestError as error:
            raise SourceError(str(error)) from None
        self._held = self._held_still(answer) if answer.status == 304 else self._document(answer)
        return self._held

    async def _follow(self, wait: float) -> Answer:
        """U4; the first answer that is no redirect."""
        url, wait_headers = self._question(wait)
        for _ in range(self._spec.redirects + 1):
            answer = await self._http.request(
                "GET",
                url,
                headers={**self._headers(url), **wait_headers},
                limits=Limits(read=self._spec.timeout + wait, total=self._spec.timeout + wait),
                tls=self._spec.tls,
                body_limit=self._spec.size_limit,
            )
            if answer.status not in REDIRECTS:
                return answer
            url = _target(url, answer.headers)
        raise SourceError(f"{_shown(self._spec.url)}: more than {self._spec.redirects} redirects in a row")

    def _question(self, wait: float) -> tuple[str, dict[str, str]]:
        """The URL and the header that ask the server to hold its answer back (U2)."""
        url, seconds = self._spec.url, str(int(wait))
        if not wait or self._held is None:
            return url, {}
        if self._spec.wait_parameter is None:
            return url, {"Prefer": f"wait={seconds}"}
        parts = urlsplit(url)
        added = urlencode({self._spec.wait_parameter: seconds})
        return parts._replace(query=f"{parts.query}&{added}" if parts.query else added).geturl(), {}

    def _headers(self, url: str) -> dict[str, str]:
        headers = {"Accept": ACCEPT, **self._validators}
        if _server(url) == _server(self._spec.url):  # U4
            headers |= self._spec.headers
            if self._spec.token is not None:
                headers["Authorization"] = f"Bearer {self._spec.token}"
        return headers

    def _held_still(self, _answer: Answer) -> Fetched:
        """What is held is still what there is (U1)."""
        if self._held is None:
            raise SourceError(f"{_shown(self._spec.url)}: it says 304, and nothing was held")
        return self._held

    def _document(self, answer: Answer) -> Fetched:
        url = _shown(self._spec.url)
        if answer.status != 200:
            raise SourceError(f"{url}: it says {answer.status}", _retry_after(answer.headers))
        if "Content-Length" not in answer.headers and "chunked" not in answer.headers.get(
            "Transfer-Encoding", ""
        ):
            raise SourceError(
                f"{url}: the answer does not say how long it is, so that a torn one would pass for whole"
            )
        self._validators = _validators(answer.headers)
        fragment = Fragment(url, answer.body, self._suffix(answer.headers))
        return Fetched((fragment,), answer.headers.get("ETag") or digest((fragment,))[:12])

    def _suffix(self, headers: Mapping[str, str]) -> str:
        if self._spec.format is not None:
            return f".{self._spec.format.value}"
        kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
        ending = next(
            (each for each in SUFFIXES if urlsplit(self._spec.url).path.lower().endswith(each)), None
        )
        suffix = TYPES.get(kind) or ending
        if suffix is None:
            raise SourceError(
                f"{_shown(self._spec.url)}: neither Content-Type nor URL says the format; give `format`"
            )
        return suffix


def _validators(headers: Mapping[str, str]) -> dict[str, str]:
    pairs = (("If-None-Match", headers.get("ETag")), ("If-Modified-Since", headers.get("Last-Modified")))
    return {name: value for name, value in pairs if value}


def _target(url: str, headers: Mapping[str, str]) -> str:
    """Where a redirect goes."""
    location = headers.get("Location")
    if not location:
        raise SourceError(f"{_shown(url)}: a redirect to nowhere")
    try:
        target = urlsplit(urljoin(url, location))
    except ValueError:
        raise SourceError(f"{_shown(url)}: a redirect to what is no URL") from None
    if target.scheme != "https" and (target.scheme != "http" or urlsplit(url).scheme == "https"):
        raise SourceError(f"{_shown(url)}: a redirect to {target.scheme or 'no scheme'} is not followed")
    return target.geturl()


def _server(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = -1
    return parts.scheme, parts.hostname, port or (443 if parts.scheme == "https" else 80)


def _shown(url: str) -> str:
    """Without what may be secret: the query, and a user with a password."""
    parts = urlsplit(url)
    return parts._replace(query="", fragment="", netloc=parts.netloc.rpartition("@")[2]).geturl()


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds; the header holds them or a date (RFC 9110, 10.2.3)."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
