"""Long-lived tasks: each has a name and a guard.

Rules:
    T1  An exception ends one run of a task, never the agent: it is logged, counted, and the task starts again after
        1 s * 2^n, at most 30 s; a run of a minute forgets earlier crashes. A SystemExit and a cancellation that nobody has
        asked for are exceptions like others.
    T2  A task that returns has finished.
    T3  `stop` cancels the newest first, and gives each a quarter of what is left before it turns to the next; whoever has
        not ended at the limit is named, with the place where it stands.
    T4  A name is one task: when it is started again, the earlier one is cancelled.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable

from watchkeeper.errors import ErrorClass
from watchkeeper.life.stacks import where
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
        """Run `run()`, again and again should it crash. It has neither the deadline nor the span of whoever starts it."""
        self.cancel(name)  # T4
        task = self._tasks[name] = asyncio.create_task(
            self._guard(name, run), name=name, context=contextvars.Context()
        )
        task.add_done_callback(lambda _done: self._forget(name, task))

    def cancel(self, name: str) -> None:
        """Ask the task of that name to end; that there is none is no mistake."""
        task = self._tasks.pop(name, None)
        if task is not None:
            task.cancel()

    async def stop(self, limit: float) -> list[str]:
        """End all of them within `limit` seconds; the names of those that did not end."""
        clock = asyncio.get_running_loop().time
        deadline = clock() + limit
        asked = list(reversed(self._tasks.items()))
        for _name, task in asked:  # T3
            task.cancel()
            await asyncio.wait({task}, timeout=max(0.0, (deadline - clock()) / 4))
        waiting = {task for _name, task in asked if not task.done()}
        if waiting:
            await asyncio.wait(waiting, timeout=max(0.0, deadline - clock()))
        late = {name: where(task) for name, task in asked if not task.done()}
        for name, stands in late.items():
            message = f"task {name} did not end in time"
            journal.error(message, task=name, stands_at=stands, error_class=ErrorClass.DRAIN_TIMEOUT)
        return list(late)

    def _forget(self, name: str, task: asyncio.Task[None]) -> None:
        if self._tasks.get(name) is task:
            del self._tasks[name]

    async def _guard(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        crashes = 0
        clock = asyncio.get_running_loop().time
        while True:
            started = clock()
            try:
                await run()
                return  # T2
            except (Exception, SystemExit, asyncio.CancelledError) as error:
                if isinstance(error, asyncio.CancelledError) and _asked_to_end():
                    raise
                crashes = 1 if clock() - started >= STABLE_RUN else crashes + 1
                delay = min(FIRST_DELAY * 2.0 ** min(crashes - 1, 10), MAX_DELAY)
                self._crashed(name, error, delay)
            await asyncio.sleep(delay)

    def _crashed(self, name: str, error: BaseException, delay: float) -> None:
        self._metrics.task_crashes.labels(name).inc()
        self._metrics.error(ErrorClass.TASK_CRASHED)
        journal.crash(
            f"task {name} crashed and starts again in {delay:g} s: {error!r}",
            task=name,
            error_class=ErrorClass.TASK_CRASHED,
        )


def _asked_to_end() -> bool:
    """Whether somebody has cancelled this task, and not only something that it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
