"""What has to be done when the agent stops, in order.

Rules:
    H1  Ranks go in order, lowest first; a rank begins when the one before has ended or run out of time.
    H2  Within a rank the newest hook goes first: what was built on something is taken down before it.
    H3  Each hook has its own limit, and all of them have the deadline of the whole; one that is late is cancelled and
        named, with the place where it stands, and the next one starts, whether or not the late one heeds that.
    H4  An exception of a hook is logged, and is not the next one's business.
    H5  A hook runs once; one that is added while others run has its turn if its rank has not passed.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from watchkeeper.errors import ErrorClass
from watchkeeper.life.stacks import where
from watchkeeper.logs import get_logger

journal = get_logger("life")

LAST_WORD = 0.05
"""Seconds that a late hook gets after its cancellation, to leave its `finally` behind."""


class Rank(enum.IntEnum):
    """When a hook runs."""

    ANNOUNCE = 0
    """Tell others that nobody should come any more: readiness, registrations, the service manager."""
    WORK = 10
    """End what is being done: services, jobs, checks, collectors."""
    ENDPOINTS = 20
    """Let requests in flight end, close listeners."""
    TASKS = 30
    """Long-lived tasks."""
    EXPORT = 40
    """Bring out what was gathered: traces, log outputs."""


@dataclass(frozen=True, eq=False)
class Hook:
    """One thing to do; `limit` is in seconds. Two with the same fields are still two."""

    rank: Rank
    name: str
    run: Callable[[], Awaitable[None]]
    limit: float


class Hooks:
    """All of them."""

    def __init__(self) -> None:
        self._hooks: list[Hook] = []

    def add(self, rank: Rank, name: str, run: Callable[[], Awaitable[None]], limit: float) -> Hook:
        """Have `run()` awaited at the end; arguments are bound now."""
        hook = Hook(rank, name, run, limit)
        self._hooks.append(hook)
        return hook

    def remove(self, hook: Hook) -> None:
        """What it would end has ended already."""
        if hook in self._hooks:
            self._hooks.remove(hook)

    async def run(self, deadline: float, ranks: frozenset[Rank] = frozenset(Rank)) -> list[str]:
        """Run those of the ranks, once each, until `deadline` (the loop's clock); the names of those that were late."""
        late = []
        while (hook := self._next(ranks)) is not None:
            self.remove(hook)  # H5
            if not await _run(hook, deadline):
                late.append(hook.name)
        return late

    def _next(self, ranks: frozenset[Rank]) -> Hook | None:
        newest_first = [hook for hook in reversed(self._hooks) if hook.rank in ranks]  # H2
        return min(
            newest_first, key=lambda hook: hook.rank, default=None
        )  # H1: min takes the first of equals


async def _run(hook: Hook, deadline: float) -> bool:
    """Whether it ended in time; how it ended does not matter (H4)."""
    task = asyncio.ensure_future(_guard(hook))
    task.set_name(f"hook {hook.name}")
    left = deadline - asyncio.get_running_loop().time()
    try:
        await asyncio.wait({task}, timeout=max(0.01, min(hook.limit, left)))
    finally:
        in_time, stands = task.done(), where(task)
        task.cancel()  # also when the stop itself is cut short; one that has ended does not notice
    if in_time:
        return True
    await asyncio.wait({task}, timeout=LAST_WORD)
    message = f"{hook.name} did not end in time"
    journal.error(message, hook=hook.name, stands_at=stands, error_class=ErrorClass.DRAIN_TIMEOUT)
    return False  # H3


async def _guard(hook: Hook) -> None:
    try:
        await hook.run()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - H4
        journal.crash(
            f"{hook.name} failed while stopping: {error}", hook=hook.name, error_class=ErrorClass.INTERNAL
        )
