"""What a server said: as a whole, or piece by piece."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from watchkeeper.outbound.calls import Call, as_request_error, expected, what
from watchkeeper.outbound.errors import Failure, RequestError

if TYPE_CHECKING:
    import aiohttp

    from watchkeeper.outbound.breaking import Injected


@dataclass(frozen=True)
class Answer:
    """What a server said. Header names are looked up without regard to case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Stream:
    """An answer that is still coming."""

    def __init__(self, response: aiohttp.ClientResponse | Injected, call: Call) -> None:
        self._response, self._call = response, call
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
                text = f"{what(self._call)}: the answer is longer than {limit} bytes"
                raise RequestError(text, Failure.TOO_LARGE)
            parts.append(part)
        return b"".join(parts)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        pieces = self._response.content.iter_any()
        while True:
            try:
                piece = await anext(pieces)
            except StopAsyncIteration:
                return
            except Exception as error:
                if not expected(error):
                    raise
                raise as_request_error(error, self._call) from error
            yield piece
