"""/: the page for people."""

from __future__ import annotations

from aiohttp import web

from watchkeeper.endpoints.answers import text
from watchkeeper.endpoints.site import Call


async def page(call: Call) -> web.Response:
    """What the agent sees."""
    status = call.site.status()
    return text(f"watchkeeper {status.version} {status.state}\n")
