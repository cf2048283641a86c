"""Consul's HTTP API, as far as it is needed: one question, and blocking queries.

Rules of a blocking query (Consul's documentation, "Blocking Queries"):
    B1  The first question has no index and is answered at once; each later one has the index of the answer before, and
        Consul holds its answer back until something changes or `wait` has passed, plus a sixteenth of it.
    B2  An index that is lower than the one before starts over with 0.
    B3  An index that is missing, no number or less than 1 becomes 1, which is always safe to wait with.
    B4  An answer is no proof of a change: what it says is compared with what was known.
    B5  Two answers in a row are taken at once, further ones at a distance: registry/churn.py.
    B6  After an error the next question starts over with 0: whoever answers then may be somebody else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import quote, urlencode

from watchkeeper.config.schema.registries import ConsulServer
from watchkeeper.outbound.client import Answer, Client, Limits, RequestError
from watchkeeper.registry.answers import RegistryError, one_line
from watchkeeper.registry.churn import Churn

Params = Sequence[tuple[str, str]]
FINE = 200
NOT_FOUND = 404
JITTER_PART = 16
"""Consul adds up to wait/16 to how long it holds an answer back."""
SLACK = 10.0
"""Seconds beyond that, for a slow Consul and a slow network."""
ANSWER_LIMIT = 16 * 1024 * 1024
"""Bytes of one answer."""
LARGEST_INDEX = 2**64 - 1
LONGEST = len(str(LARGEST_INDEX))


class ConsulClient:
    """One Consul agent."""

    def __init__(self, server: ConsulServer, http: Client) -> None:
        self.server = server
        self._http = http

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Params = (),
        body: bytes | None = None,
        held_back: float = 0.0,
        fine: tuple[int, ...] = (FINE,),
    ) -> Answer:
        """One question.

        Args:
            path: after /v1/, with its parts already quoted.
            held_back: how long, in seconds, Consul may wait before it answers, on purpose.
            fine: the statuses that are answers and not errors.

        Raises:
            RegistryError: no answer, or one with another status.
        """
        server = self.server
        limit = server.timeout + held_back
        try:
            answer = await self._http.request(
                method,
                self._url(path, params),
                headers=self._headers(body),
                body=body,
                limits=Limits(connect=server.timeout, read=limit, total=limit),
                tls=server.tls,
                body_limit=ANSWER_LIMIT,
                essential=True,
            )
        except RequestError as error:
            raise RegistryError(str(error)) from None
        if answer.status not in fine:
            raise RegistryError(_refusal(method, path, answer), status=answer.status)
        return answer

    def _url(self, path: str, params: Params) -> str:
        server = self.server
        places = (("dc", server.datacenter), ("ns", server.namespace), ("partition", server.partition))
        query = urlencode([*params, *((name, value) for name, value in places if value)])
        return f"{server.url.rstrip('/')}/v1/{path}" + (f"?{query}" if query else "")

    def _headers(self, body: bytes | None) -> Mapping[str, str]:
        headers = {} if body is None else {"Content-Type": "application/json"}
        if self.server.token:
            headers["X-Consul-Token"] = self.server.token
        return headers


def part(text: str) -> str:
    """Text as one part of a path: nothing in it ends the part."""
    return quote(text, safe="")


def key_path(key: str) -> str:
    """Where a key of the KV store is; its slashes stay."""
    return f"kv/{quote(key.lstrip('/'), safe='/')}"


def _refusal(method: str, path: str, answer: Answer) -> str:
    """What Consul says about an error stands in the body, as plain text."""
    said = one_line(answer.body[:1000].decode("utf-8", "replace"), 200)
    cures = {
        401: "; look at the token",
        403: "; the token may not do this",
        429: "; Consul asks for fewer questions",
    }
    return f"{method} /v1/{path}: HTTP {answer.status}{cures.get(answer.status, '')}" + (
        f": {said}" if said else ""
    )


def next_index(before: int, header: str | None) -> int:
    """The index of the next question.

    Args:
        before: that of the question which was answered; 0: it had none.
        header: X-Consul-Index of the answer.
    """
    number = header is not None and header.isascii() and header.isdigit() and len(header) <= LONGEST
    index = int(header or "0") if number else 0
    if not 1 <= index <= LARGEST_INDEX:
        return 1  # B3
    return 0 if index < before else index  # B2


@dataclass(frozen=True)
class Reply:
    """One answer to a blocking query; `status` is 200 or 404."""

    status: int
    body: bytes
    index: int


class BlockingQuery:
    """One resource that is asked for again and again."""

    def __init__(
        self, client: ConsulClient, path: str, *, params: Params = (), wait: float, churn: float
    ) -> None:
        self._client = client
        self._path = path
        self._params = tuple(params)
        self._wait = wait
        self._churn = Churn(churn)
        self.index = 0

    async def fetch(self) -> Reply:
        """What there is now; 404: nothing.

        Raises:
            RegistryError: no answer.
        """
        self.index = 0
        return await self._ask()

    async def next(self) -> Reply:
        """What there is once something may have changed.

        Raises:
            RegistryError: as for `fetch`.
        """
        await self._churn.pause()  # B5
        return await self._ask()

    async def _ask(self) -> Reply:
        held_back = 0.0
        params = list(self._params)
        if self.index:
            params += [("index", str(self.index)), ("wait", f"{round(self._wait * 1000)}ms")]
            held_back = self._wait + self._wait / JITTER_PART + SLACK
        before, self.index = self.index, 0  # B6
        answer = await self._client.ask(
            "GET", self._path, params=params, held_back=held_back, fine=(FINE, NOT_FOUND)
        )
        self.index = next_index(before, answer.headers.get("X-Consul-Index"))
        return Reply(answer.status, answer.body, self.index)
