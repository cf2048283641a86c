"""/debug/pprof/*: what the process is doing, for programs of this machine."""

from __future__ import annotations

from aiohttp import web

from watchkeeper.endpoints.answers import Refusal
from watchkeeper.endpoints.site import Call


async def _later(call: Call) -> web.Response:
    raise Refusal(501, f"{call.request.path} is not there yet")


index = profile = heap = tasks = threads = gc = _later
