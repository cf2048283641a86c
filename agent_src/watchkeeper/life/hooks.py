"""What has to be done when the agent stops, in order.

Rules:
    H1  Ranks go in order, lowest first; a rank begins when the one before has ended or run out of time.
    H2  Within a rank the newest hook goes first: what was built on something is taken down before it.
    H3  Each hook has its own limit, and all of them have the deadline of the whole; one that is late is cancelled and
        named, and the next one starts.
    H4  An exception of a hook is logged, and is not the next one's business.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from watchkeeper.errors import ErrorClass
from watchkeeper.logs import get_logger

journal = get_logger("life")


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


@dataclass(frozen=True)
class Hook:
    """One thing to do; `limit` is in seconds."""

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
        newest_first = [
            hook for hook in reversed(self._hooks) if hook.rank in ranks
        ]  # H2: the sort is stable
        for hook in sorted(newest_first, key=lambda hook: hook.rank):  # H1
            self.remove(hook)
            if not await _run(hook, deadline):
                late.append(hook.name)
        return late


async def _run(hook: Hook, deadline: float) -> bool:
    clock = asyncio.get_running_loop().time
    until = max(min(clock() + hook.limit, deadline), clock() + 0.01)
    try:
        async with asyncio.timeout_at(until):
            await hook.run()
    except TimeoutError:
        journal.error(
            f"{hook.name} did not end in time", hook=hook.name, error_class=ErrorClass.DRAIN_TIMEOUT
        )
        return False  # H3
    except Exception as error:  # noqa: BLE001 - H4
        journal.crash(
            f"{hook.name} failed while stopping: {error}", hook=hook.name, error_class=ErrorClass.INTERNAL
        )
    return True
