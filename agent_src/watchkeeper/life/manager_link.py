"""Keeps the service manager informed while the agent runs: status line, watchdog, and more time for a long stop."""

from __future__ import annotations

import asyncio

from watchkeeper.context import Context
from watchkeeper.errors import ErrorClass
from watchkeeper.life.notify import Notifier
from watchkeeper.life.stacks import where
from watchkeeper.logs import get_logger

journal = get_logger("life")

STATUS_INTERVAL = 5.0
EXTEND_EVERY = 5.0
EXTEND_BY = 15.0
"""Seconds; a stop that hangs so hard that it cannot say this any more is ended by the manager after that."""


class ManagerLink:
    """One agent's link to systemd, or to whoever speaks its protocol."""

    def __init__(self, context: Context, notifier: Notifier) -> None:
        self._context, self._notifier = context, notifier
        self._extending: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin what has to be said again and again."""
        if not self._notifier.wanted:
            return
        self._context.tasks.start("manager-status", self._report)
        if self._notifier.watchdog is not None:
            interval = self._notifier.watchdog
            self._context.tasks.start("watchdog", lambda: self._feed(interval))

    def started(self) -> None:
        """The first round is over, or a reload is."""
        if self._context.observed.started and not self._context.observed.draining:
            self._notifier.ready(self.line())

    def reloading(self) -> None:
        """A reload was asked for."""
        if self._context.observed.started and not self._context.observed.draining:
            self._notifier.reloading()

    def stopping(self, cause: str) -> None:
        """The drain begins."""
        self._notifier.stopping(f"Stopping on {cause}")
        if self._notifier.wanted:
            self._extending = asyncio.create_task(self._extend(), name="extend-timeout")

    def close(self) -> None:
        """The drain is over."""
        if self._extending is not None:
            self._extending.cancel()
        self._notifier.close()

    def line(self) -> str:
        """What the agent is doing, for people."""
        observed = self._context.observed
        running = sum(record.running for record in observed.services.values())
        generation = self._context.snapshot.generation
        text = f"{running} of {len(observed.services)} services run, {len(observed.checks)} checks, configuration {generation}"
        error = self._context.store.last_error
        return text if error is None else f"{text}; the newest was refused: {str(error).splitlines()[0]}"

    async def _report(self) -> None:
        while True:
            await asyncio.sleep(STATUS_INTERVAL)
            if not self._context.observed.draining:
                self._notifier.status(self.line())

    async def _feed(self, interval: float) -> None:
        """N5 of life/notify.py. That this task runs at all says that the loop turns."""
        said = False
        while True:
            stalled = self._context.queue.stalled()
            if stalled < interval:
                self._notifier.alive()
                said = False
            elif not said:
                said = True
                self._say_stalled(stalled)
            await asyncio.sleep(interval / 2)

    def _say_stalled(self, seconds: float) -> None:
        self._context.metrics.error(ErrorClass.INTERNAL)
        journal.error(
            "the workers make no progress; the service manager is not told that the agent is alive",
            seconds=round(seconds, 1),
            stands_at=_workers(asyncio.all_tasks()),
            error_class=ErrorClass.INTERNAL,
        )

    async def _extend(self) -> None:
        while True:
            self._notifier.extend(EXTEND_BY)
            await asyncio.sleep(EXTEND_EVERY)


def _workers(tasks: set[asyncio.Task[object]]) -> dict[str, list[str]]:
    return {task.get_name(): where(task) for task in tasks if task.get_name().startswith("reconcile-")}
