"""What a reconciler is, and the loop that feeds it keys.

A reconciler is level-triggered: it gets only a key, reads what is wanted and what is there, acts at most once, and
returns when it wants to look again. It may be called at any time and any number of times; what made it run is not told
to it and does not matter.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.errors import ErrorClass
from watchkeeper.logs import get_logger
from watchkeeper.metrics import Metrics
from watchkeeper.queue import ShutDownError, WorkQueue

journal = get_logger("reconcile")


@dataclass(frozen=True)
class Result:
    """When to look again, in seconds; None: when something happens."""

    requeue_after: float | None = None


class Reconciler(Protocol):
    """One per kind."""

    async def reconcile(self, key: Key) -> Result:
        """Bring what is there closer to what is wanted. An exception means: try again, later each time."""


async def work(
    queue: WorkQueue[Key],
    reconcilers: Mapping[Kind, Reconciler],
    metrics: Metrics,
    looked_at: Callable[[Key], None],
) -> None:
    """Take keys until the queue is shut down and empty. Several of these may run side by side.

    `looked_at` hears of every key after its call, however that ended.
    """
    while True:
        try:
            key = await queue.get()
        except ShutDownError:
            return
        try:
            if key.kind in reconcilers:
                await _one(key, queue, reconcilers[key.kind], metrics)
        finally:
            queue.done(key)
            looked_at(key)


async def _one(key: Key, queue: WorkQueue[Key], reconciler: Reconciler, metrics: Metrics) -> None:
    """One call; its outcome decides as in controller-runtime: error → rate limited, else forget and perhaps later."""
    started = time.perf_counter()
    try:
        result = await reconciler.reconcile(key)
    except Exception as error:  # noqa: BLE001 - a defect in one reconciler must not end the agent
        queue.add_rate_limited(key)
        metrics.reconciled(key.kind, "error", time.perf_counter() - started)
        metrics.error(ErrorClass.RECONCILE_FAILED)
        journal.crash(
            f"reconciling {key} failed and is tried again: {error}",
            error_class=ErrorClass.RECONCILE_FAILED,
            retry_count=queue.delays.failures(key),
        )
        return
    queue.forget(key)
    if result.requeue_after is not None:
        queue.add_after(key, result.requeue_after)
    metrics.reconciled(key.kind, "ok", time.perf_counter() - started)
