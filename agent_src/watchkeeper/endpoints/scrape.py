"""/metrics."""

from __future__ import annotations

from aiohttp import web
from prometheus_client import generate_latest

from watchkeeper.endpoints.site import Call

TEXT = "text/plain; version=0.0.4; charset=utf-8"


async def metrics(call: Call) -> web.Response:
    """The registry as text."""
    return web.Response(
        body=generate_latest(call.site.context.metrics.registry), headers={"Content-Type": TEXT}
    )
