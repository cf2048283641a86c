"""The endpoints: /metrics, /livez, /readyz, /status. They read, and change nothing."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable

import msgspec
from aiohttp import web
from prometheus_client import CollectorRegistry, generate_latest

from watchkeeper.config.model import split_address
from watchkeeper.errors import ListenError
from watchkeeper.status import AgentStatus

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Exposition:
    """The server. It is given functions, and knows nothing of where their answers come from."""

    def __init__(
        self,
        registry: CollectorRegistry,
        not_ready_because: Callable[[], list[str]],
        status: Callable[[], AgentStatus],
    ) -> None:
        self._registry = registry
        self._not_ready_because = not_ready_because
        self._status = status
        self._runner: web.AppRunner | None = None
        self.address = ""
        """HOST:PORT as it is, once `start` has returned."""

    async def start(self, listen: str, request_timeout: float) -> None:
        """Listen on HOST:PORT.

        Raises:
            ListenError: the address is taken, forbidden, or not this machine's.
        """
        host, port = split_address(listen)
        app = web.Application()
        app.router.add_get("/metrics", self._metrics)
        app.router.add_get("/livez", self._livez)
        app.router.add_get("/readyz", self._readyz)
        app.router.add_get("/status", self._status_json)
        # No access log: what is asked here every few seconds by machines is nobody's news.
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=request_timeout)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            await self._runner.cleanup()
            raise _listen_error(error, listen) from None
        name = self._runner.addresses[0]
        self.address = f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"

    async def stop(self, limit: float) -> bool:
        """Close the listener, let requests in flight end; whether that was done within `limit` seconds."""
        if self._runner is None:
            return True
        try:
            async with asyncio.timeout(limit):
                await self._runner.cleanup()
        except TimeoutError:
            return False
        return True

    async def _metrics(self, _request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self._registry), headers={"Content-Type": METRICS_TYPE})

    async def _livez(self, _request: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _request: web.Request) -> web.Response:
        reasons = self._not_ready_because()
        return web.Response(text="\n".join(reasons or ["ok"]) + "\n", status=503 if reasons else 200)

    async def _status_json(self, _request: web.Request) -> web.Response:
        return web.Response(body=msgspec.json.encode(self._status()), content_type="application/json")


def _listen_error(error: OSError, listen: str) -> ListenError:
    """What is wrong with the address, and what to do about it."""
    # asyncio folds a failed bind into a text of its own; the number survives.
    if error.errno == errno.EADDRINUSE:
        message = f"the address {listen} is taken by another program"
        return ListenError(message, "Stop that program, or choose another port with --listen HOST:PORT.")
    if error.errno == errno.EACCES:
        message = f"this user may not listen on {listen}"
        return ListenError(
            message, "Choose a port above 1023 with --listen HOST:PORT, or grant the right to this one."
        )
    message = f"cannot listen on {listen}: {error.strerror or error}"
    return ListenError(message, "Choose an address of this machine with --listen HOST:PORT.")
