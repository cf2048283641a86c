"""/logs: the newest lines of the log, as they were written, and with ?follow those that come.

Lines are JSON objects, one per line (application/x-ndjson). X-Log-Last is the number of the last one, for ?after= of the next
question: numbers count every line that there ever was, so that who comes back too late can see it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from watchkeeper.endpoints import web
from watchkeeper.endpoints.answers import COMMON, Refusal
from watchkeeper.endpoints.reading import number_of
from watchkeeper.endpoints.site import Call, Site
from watchkeeper.outputs.tail import CAPACITY, Tail, TailLine

LINES = 100
"""How many lines are told unless ?limit= says otherwise."""
FOLLOWERS = 20
"""Clients that follow at the same time."""
PATIENCE = 30.0
"""Seconds that a client who follows may not read."""
LAST = "X-Log-Last"
TYPE = "application/x-ndjson"


async def logs(call: Call) -> web.StreamResponse:
    """?service=NAME, ?limit=COUNT, ?after=NUMBER, ?follow."""
    tail = call.site.tail
    if tail is None:
        raise Refusal(503, "no log is kept in memory")
    service = call.request.query.get("service")
    limit, after = number_of(call, "limit", LINES, CAPACITY), number_of(call, "after", 0, 999_999_999)
    lines = tail.last(limit, service=service, after=after)
    newest = lines or tail.last(1)  # what was not asked for is not what comes
    last = max(after, newest[-1].number if newest else 0)
    body = b"".join(each.line + b"\n" for each in lines)
    if call.flag("follow") and call.request.method == "GET":
        return await _follow(call, tail, service, body, last)
    return web.Response(body=body, content_type=TYPE, headers={LAST: str(last)})


async def _follow(
    call: Call, tail: Tail, service: str | None, first: bytes, after: int
) -> web.StreamResponse:
    """Until the client goes, or the agent ends. Who reads too slowly misses lines, and holds nobody up."""
    site = call.site
    if site.followers >= FOLLOWERS:
        raise Refusal(503, f"{FOLLOWERS} clients follow the log already", "Ask without ?follow, or later.")
    site.followers += 1
    answer = web.StreamResponse(headers={**COMMON, LAST: str(after), "Content-Type": TYPE})
    try:
        await answer.prepare(call.request)
        if first:
            await _write(answer, first)
        async for line in _until_closing(site, tail.follow(service=service, after=after)):
            await _write(answer, line + b"\n")
        await answer.write_eof()
    finally:
        site.followers -= 1
    return answer


async def _write(answer: web.StreamResponse, content: bytes) -> None:
    """Who does not read for PATIENCE has gone."""
    try:
        async with asyncio.timeout(PATIENCE):
            await answer.write(content)
    except TimeoutError:
        raise ConnectionResetError("the log is not read") from None


async def _until_closing(site: Site, lines: AsyncIterator[TailLine]) -> AsyncIterator[bytes]:
    """The lines, until the agent ends."""
    closing = asyncio.ensure_future(site.closing.wait())
    try:
        while True:
            coming = asyncio.ensure_future(anext(lines))
            try:
                await asyncio.wait({coming, closing}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                if not coming.done():
                    coming.cancel()
                    await asyncio.gather(coming, return_exceptions=True)
            if coming.cancelled():
                return
            yield coming.result().line
    finally:
        closing.cancel()
