"""Long-lived tasks: each has a name and a guard.

Rules:
    T1  An exception ends one run of a task, never the agent: it is logged, counted, and the task starts again after
        1 s * 2^n, at most 30 s; a run of a minute forgets earlier crashes.
    T2  A task that returns has finished.
    T3  `stop` cancels the newest first, and says which task was late.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from watchkeeper.errors import ErrorClass
from watchkeeper.logs import get_logger
from watchkeeper.metrics import Metrics

journal = get_logger("tasks")

FIRST_DELAY = 1.0
MAX_DELAY = 30.0
STABLE_RUN = 60.0


class Tasks:
    """All tasks of one agent, in the order in which they were started."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @property
    def alive(self) -> int:
        """How many run."""
        return sum(not task.done() for task in self._tasks.values())

    def start(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Run `run()`, again and again should it crash."""
        self._tasks[name] = asyncio.create_task(self._guard(name, run), name=name)

    async def stop(self, limit: float) -> list[str]:
        """End all of them, newest first, within `limit` seconds; the names of those that did not end."""
        late = []
        deadline = asyncio.get_running_loop().time() + limit
        for name, task in reversed(list(self._tasks.items())):  # T3
            task.cancel()
            left = max(0.0, deadline - asyncio.get_running_loop().time())
            _, pending = await asyncio.wait({task}, timeout=left)
            if pending:
                late.append(name)
        if late:
            journal.error("tasks did not end in time", tasks=late, error_class=ErrorClass.DRAIN_TIMEOUT)
        return late

    async def _guard(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        crashes = 0
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            try:
                await run()
                return  # T2
            except Exception as error:  # noqa: BLE001 - rule T1; this is the guard that all else relies on  # noqa: BLE001  T1: this is the guard that everything else relies on
                crashes = 1 if clock() - started >= STABLE_RUN else crashes + 1
                delay = min(FIRST_DELAY * 2.0 ** min(crashes - 1, 10), MAX_DELAY)
                self._metrics.task_crashes.labels(name).inc()
                self._metrics.error(ErrorClass.TASK_CRASHED)
                journal.crash(
                    f"task {name} crashed and starts again in {delay:g} s: {error}",
                    task=name,
                    error_class=ErrorClass.TASK_CRASHED,
                )
            await asyncio.sleep(delay)
