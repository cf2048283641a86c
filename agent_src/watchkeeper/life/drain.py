"""The stop in order.

Rules:
    D1  Readiness falls first, and everybody who has to know is told (hooks of Rank.ANNOUNCE). Then nothing happens for
        shutdown_delay: who balances load learns of it by asking, and until he does, requests come.
    D2  Services and other work are ended next; services all at once, through the queue like everything else.
    D3  Requests in flight end, for at most request_timeout; then their connections are cut.
    D4  Then the queue, the long-lived tasks and the other hooks.
    D5  All together have drain_timeout; request_timeout of it, or half, is kept for what comes after the services.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol, cast

from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.context import Context
from watchkeeper.errors import ErrorClass, ExitCode
from watchkeeper.life.hooks import Rank
from watchkeeper.logs import get_logger
from watchkeeper.programs import leaving
from watchkeeper.supervise.child import Child

journal = get_logger("agent")

TASK_LIMIT = 1.0
REAP_LIMIT = 1.0


class Endpoints(Protocol):
    """What answers requests."""

    async def stop(self, limit: float) -> bool:
        """Close the listeners, let requests in flight end; whether that was done within `limit` seconds."""


class Drain:
    """The end of one agent."""

    def __init__(self, context: Context, endpoints: Endpoints) -> None:
        self._context, self._endpoints = context, endpoints
        self._observed = context.observed

    async def run(self, cause: str) -> ExitCode:
        """Stop everything; `cause` is what asked for it."""
        settings = self._context.snapshot.settings
        clock = asyncio.get_running_loop().time
        deadline = clock() + settings.drain_timeout
        self._observed.draining = True  # D1
        journal.info("draining", signal=cause, limit=settings.drain_timeout)
        reserve = min(settings.request_timeout, settings.drain_timeout / 2)  # D5
        hooks = self._context.hooks
        late = await hooks.run(deadline - reserve, frozenset({Rank.ANNOUNCE}))
        await self._linger(settings.shutdown_delay, deadline - reserve)
        late += await self._stop_services(deadline - reserve)  # D2
        late += await hooks.run(deadline - reserve, frozenset({Rank.WORK}))
        in_time = await self._endpoints.stop(
            min(settings.request_timeout + 0.5, max(0.1, deadline - clock()))
        )  # D3
        self._context.queue.shut_down()
        late += await self._context.tasks.stop(min(TASK_LIMIT, max(0.1, deadline - clock())))  # D4
        late += await hooks.run(deadline)
        if late or not in_time:
            self._context.metrics.error(ErrorClass.DRAIN_TIMEOUT)
            journal.error("stopped, but not in order", late=late, error_class=ErrorClass.DRAIN_TIMEOUT)
            return ExitCode.DRAIN_INCOMPLETE
        journal.info("stopped")
        return ExitCode.OK

    async def _linger(self, delay: float, deadline: float) -> None:
        left = min(delay, deadline - asyncio.get_running_loop().time())
        if left > 0:
            journal.info("serving on until load balancers have noticed", seconds=round(left, 3))
            await asyncio.sleep(left)

    async def _stop_services(self, deadline: float) -> list[str]:
        """The names of those that had to be killed."""
        for key in self._keys():
            self._context.add(key)
        clock = asyncio.get_running_loop().time
        while self._observed.processes() or self._observed.under_way:
            self._observed.idle.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._observed.idle.wait()
            except TimeoutError:
                break
        late = [record.name for record in self._observed.processes()]
        self.kill_all()
        if late:
            journal.error(
                "services outlived the drain limit and were killed", services=late, at=round(clock(), 3)
            )
        return late

    def _keys(self) -> list[Key]:
        services = [Key(Kind.SERVICE, name) for name in self._observed.services]
        return services + [Key(Kind.CHECK, name) for name in self._observed.checks]

    async def reap(self) -> None:
        """Wait until the end of every killed child is known: a loop must not close while it still watches some."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REAP_LIMIT):
                while self._watched():  # noqa: ASYNC110 - a few looks at the very end; nobody is left who could set an event
                    await asyncio.sleep(0.005)

    def _watched(self) -> bool:
        """Whether the loop still watches a process."""
        unknown = (cast("Child", each.process).exit_code is None for each in self._observed.processes())
        return any(unknown) or leaving()

    def kill_all(self) -> None:
        """End every process without asking."""
        for record in self._observed.processes():
            cast("Child", record.process).kill()
