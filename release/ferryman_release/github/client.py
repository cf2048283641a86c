"""One request, with all that may happen to it on the way: limits, failures, redirects, pages.

What may be sent twice is sent again until it is answered. What may not (a POST makes a second thing) is sent once, and
its caller looks what became of it: :class:`~ferryman_release.github.wire.UnansweredError`.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from typing import TypeVar
from urllib.parse import SplitResult, quote, urljoin, urlsplit

import msgspec

from ferryman_release.errors import GithubError
from ferryman_release.github import limits
from ferryman_release.github.answers import AGAIN, explain, read
from ferryman_release.github.token import Token
from ferryman_release.github.wire import Answer, Body, Call, Exchange, Json, Sink, UnansweredError, is_safe

API = "https://api.github.com"
VERSION = "2022-11-28"
_JSON = "application/vnd.github+json"
_RAW = "application/octet-stream"
_REDIRECTS = 5
_PAGES = 100
_MOVED = frozenset({301, 302, 303, 307, 308})
_NEXT = re.compile(r'<([^<>]+)>\s*;[^,]*\brel="next"')

T = TypeVar("T")
Say = Callable[[str], object]
Sinks = Callable[[], Sink]
"""Makes a new sink for each attempt."""


class Client:
    """Speaks to one API with one token; may be used from several threads, which wait together when there is a limit.

    Args:
        api: without a slash at the end; "https://HOST/api/v3" for GitHub Enterprise Server.
        clock: seconds since 1970.
        sleep: waits for so many seconds.
        say: takes a line for the person who waits.
    """

    def __init__(
        self,
        api: str,
        token: Token,
        *,
        clock: Callable[[], float],
        sleep: Callable[[float], object],
        exchange: Exchange,
        say: Say,
    ) -> None:
        self.api = api.rstrip("/")
        self._origin = origin(urlsplit(self.api))
        self._token = token
        self._clock = clock
        self._sleep = sleep
        self._exchange = exchange
        self._say = say
        self._lock = threading.Lock()
        self._not_before = 0.0

    def get(self, path: str, doing: str, *, ok: tuple[int, ...] = (200,)) -> Answer:
        """Read something small; ``path`` relative to the API, or a URL that it gave."""
        return self.request("GET", path, doing, ok=ok)

    def request(
        self,
        method: str,
        path: str,
        doing: str,
        *,
        ok: tuple[int, ...],
        send: object = None,
        body: Body | None = None,
        again: bool = True,
        sinks: Sinks | None = None,
    ) -> Answer:
        """Send a request until its answer is one of ``ok``.

        Args:
            doing: for sentences, in the infinitive: "create the draft".
            send: what becomes a JSON body.
            again: whether it may be sent a second time when nobody knows what became of the first.
            sinks: for a large answer; without it the API's JSON is asked for.

        Raises:
            UnansweredError: with ``again`` false, that is so.
            GithubError: it was refused, or a limit is longer than our patience, or it failed too often.
        """
        carried = Json(msgspec.json.encode(send)) if send is not None else body
        call = Call(
            method=method, url=self._url(path), headers=self._headers(_RAW if sinks else _JSON), body=carried
        )
        reason = ""
        for attempt in range(limits.ATTEMPTS):
            self._hold()
            try:
                answer = self._follow(call, sinks() if sinks else None)
            except UnansweredError as error:
                if not again:
                    raise
                reason = str(error)
                self.rest(attempt)
                continue
            if answer.status in ok:
                return answer
            reason = self._settle(answer, attempt, doing, again=again)
        raise GithubError(f"GitHub could not {doing} in {limits.ATTEMPTS} attempts: {reason}.", advice=AGAIN)

    def _settle(self, answer: Answer, attempt: int, doing: str, *, again: bool) -> str:
        """Wait as an answer asks for, and say why; an answer that asks for nothing is an error."""
        wait = limits.limited(answer, attempt, self._clock())
        if wait is not None:
            self._postpone(wait, doing)
            return "a rate limit"
        if not limits.is_server_error(answer):
            raise self._redacted(explain(answer, doing))
        if not again:
            raise UnansweredError(f"the answer was {answer.status}")
        self.rest(attempt)
        return f"the answer was {answer.status}"

    def rest(self, attempt: int) -> None:
        """Wait after a failure that is not ours."""
        self._sleep(limits.rest(attempt))

    def pages(self, path: str, kind: type[T], doing: str) -> Iterator[T]:
        """The entries of a list, however many pages it has."""
        url = f"{self._url(path)}?per_page=100"
        for _ in range(_PAGES):
            answer = self.get(url, doing)
            yield from read(answer, list[kind])  # type: ignore[valid-type]
            found = _NEXT.search(answer.headers.get("link", ""))
            if found is None:
                return
            url = urljoin(url, found[1])
        raise GithubError(f"GitHub's list has no end: more than {_PAGES} pages to {doing}.", advice=AGAIN)

    def upload_url(self, template: str, name: str) -> str:
        """Where a file is sent: the address in the release, filled in (RFC 6570's `{?name,label}`).

        Raises:
            GithubError: it belongs to somebody else, who must not get the token.
        """
        base = template.partition("{")[0]
        if not _is_family(urlsplit(base), urlsplit(self.api)):
            raise GithubError(
                f"GitHub wants files to be sent to {urlsplit(base).netloc}, which is none of its own hosts.",
                advice="Check the API's address and the proxy; the token was not sent there.",
            )
        return f"{base}{'&' if '?' in base else '?'}name={quote(name, safe='')}"

    # -- parts ------------------------------------------------------------------------------------------------------

    def _url(self, path: str) -> str:
        url = path if "://" in path else f"{self.api}/{path}"
        parts = urlsplit(url)
        if origin(parts) != self._origin and not _is_family(parts, urlsplit(self.api)):
            raise GithubError(
                f"GitHub's answer leads to {parts.netloc}, which is none of its own hosts.",
                advice="Check the API's address and the proxy; the token was not sent there.",
            )
        return url

    def _headers(self, accept: str) -> dict[str, str]:
        return {
            "Accept": accept,
            "Authorization": f"Bearer {self._token.value}",
            "User-Agent": "ferryman",
            "X-GitHub-Api-Version": VERSION,
        }

    def _follow(self, call: Call, sink: Sink | None) -> Answer:
        for _ in range(_REDIRECTS):
            answer = self._exchange(call, sink)
            if answer.status not in _MOVED or "location" not in answer.headers:
                return answer
            call = redirected(call, answer.headers["location"])
        raise GithubError("GitHub leads in a circle: too many redirects.", advice="Check the API's address.")

    def _hold(self) -> None:
        """Wait until nobody is asked to wait any more."""
        with self._lock:
            wait = self._not_before - self._clock()
        if wait > 0:
            self._sleep(wait)

    def _postpone(self, seconds: float, doing: str) -> None:
        if seconds > limits.PATIENCE:
            until = datetime.fromtimestamp(self._clock() + seconds, UTC)
            raise GithubError(
                f"GitHub's rate limit is used up until {until:%H:%M} UTC; it was to {doing}.",
                advice=f"{AGAIN} Not before that time.",
            )
        self._say(f"GitHub asks to wait for {seconds:.0f} s")
        with self._lock:
            self._not_before = max(self._not_before, self._clock() + seconds)

    def _redacted(self, error: GithubError) -> GithubError:
        redact = self._token.redact
        return GithubError(redact(str(error)), advice=error.advice, details=map(redact, error.details))


def api_from(environ: Mapping[str, str]) -> str:
    """The API's address: GITHUB_API_URL, which a workflow has everywhere, or that of github.com."""
    return environ.get("GITHUB_API_URL", "").strip() or API


def origin(parts: SplitResult) -> tuple[str, str, int]:
    """Who answers there."""
    return parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def redirected(call: Call, location: str) -> Call:
    """The request at its new address: without the token when that is somebody else's.

    Raises:
        GithubError: a change was to be sent on to somebody else, or anything in the clear.
    """
    url = urljoin(call.url, location)
    there = urlsplit(url)
    same = origin(there) == origin(urlsplit(call.url))
    if not is_safe(there) or (call.method != "GET" and not same):
        raise GithubError(
            f"GitHub sends this request on to {there.scheme}://{there.netloc}, and it is not followed there.",
            advice="Check the API's address and the proxy; the token was not sent there.",
        )
    headers = (
        call.headers
        if same
        else {name: text for name, text in call.headers.items() if name != "Authorization"}
    )
    return Call(method=call.method, url=url, headers=headers, body=call.body)


def _is_family(parts: SplitResult, api: SplitResult) -> bool:
    """Whether an address is the API's own host, or a sister: uploads.github.com of api.github.com."""
    host, own = parts.hostname or "", api.hostname or ""
    first, _, domain = own.partition(".")
    sister = first == "api" and "." in domain and host.endswith(f".{domain}")
    return is_safe(parts) and parts.scheme == api.scheme and (host == own or sister)
