"""An outbound client without a network: what it is asked is noted, and a function says what comes back.

For tests on a virtual clock, where real sockets would let the time run away.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import msgspec

from watchkeeper.outbound.client import Answer, RequestError


@dataclass(frozen=True)
class Asked:
    """One request."""

    method: str
    url: str
    headers: dict[str, str]
    body: Any
    """Decoded where it is JSON."""
    at: float
    limits: Any = None

    @property
    def path(self) -> str:
        return self.url.partition("://")[2].partition("/")[2]


@dataclass(frozen=True)
class Streamed:
    """An answer in pieces; a number is a pause in seconds, an exception is raised; then the stream ends."""

    pieces: Iterable[bytes | float | Exception]
    status: int = 200


Reply = Answer | Streamed | Exception | float
"""A number: nothing comes for so many seconds, and then a timeout."""


def ok(body: Any = b"", status: int = 200, **headers: str) -> Answer:
    """An answer; what is no bytes becomes JSON. Header names are given with underscores."""
    data = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Answer(status, {name.replace("_", "-"): value for name, value in headers.items()}, data)


@dataclass
class FakeHttp:
    """Stands for outbound.client.Client."""

    reply: Callable[[Asked], Reply]
    asked: list[Asked] = field(default_factory=list)

    async def request(self, method: str, url: str, *, body_limit: int = 1 << 30, **rest: Any) -> Answer:
        reply = await self._reply(method, url, rest)
        if isinstance(reply, Streamed):
            parts = [piece async for piece in FakeStream(reply)]
            reply = Answer(reply.status, {}, b"".join(parts))
        if len(reply.body) > body_limit:
            raise RequestError(f"{url}: the answer is longer than {body_limit} bytes")
        return reply

    def attach(self, *_parts: Any) -> None:
        """There are no breakers, no limits and no balancing here."""

    @contextlib.asynccontextmanager
    async def stream(self, method: str, url: str, **rest: Any) -> AsyncIterator[FakeStream]:
        reply = await self._reply(method, url, rest)
        if isinstance(reply, Answer):
            reply = Streamed([reply.body], reply.status)
        yield FakeStream(reply)

    async def _reply(self, method: str, url: str, rest: dict[str, Any]) -> Answer | Streamed:
        body = rest.get("body")
        asked = Asked(
            method,
            url,
            dict(rest.get("headers") or {}),
            msgspec.json.decode(body) if body else None,
            asyncio.get_running_loop().time(),
            rest.get("limits"),
        )
        self.asked.append(asked)
        reply = self.reply(asked)
        if isinstance(reply, float):
            await asyncio.sleep(reply)
            reply = RequestError(f"{method} {url}: no answer in time")
        if isinstance(reply, Exception):
            raise reply
        return reply


class FakeStream:
    """Stands for outbound.client.Stream."""

    def __init__(self, reply: Streamed) -> None:
        self.status = reply.status
        self.headers: dict[str, str] = {}
        self._pieces = reply.pieces

    async def read(self, limit: int) -> bytes:
        return b"".join([piece async for piece in self])[:limit]

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            else:
                yield piece
