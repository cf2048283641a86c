"""What a reconciler is, and the loop that feeds it keys.

A reconciler is level-triggered: it gets only a key, reads what is wanted and what is there, acts at most once, and
returns when it wants to look again. It may be called at any time and any number of times; what made it run is not told
to it and does not matter.

What becomes of a key is decided as in controller-runtime:
    R1  An exception: the key is tried again, the later the more often it has failed.
    R2  TerminalError: it is not. The next change of the key brings it back; its failures stay counted.
    R3  Result(requeue_after=s): its failures are forgotten, and it comes back in s seconds.
    R4  Result(requeue=True): nothing went wrong, but it comes back as after a failure.
    R5  Result(): its failures are forgotten. Result(gone=True): what it asked for later as well.
    R6  A call that takes longer than its limit is cancelled and counts as R1: one hanging call costs one worker no longer
        than that. (controller-runtime's ReconciliationTimeout, which has no default there.)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from watchkeeper import tracing
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.errors import ErrorClass
from watchkeeper.logs import get_logger
from watchkeeper.metrics import Metrics
from watchkeeper.queue import ShutDownError, WorkQueue

journal = get_logger("reconcile")

LIMIT = 60.0
"""Seconds that one call may take."""


@dataclass(frozen=True)
class Result:
    """When to look again, in seconds; None: when something happens, or with `requeue` as after a failure."""

    requeue_after: float | None = None
    requeue: bool = False
    gone: bool = False
    """Whether nothing is wanted of the key, nor left of it."""


class TerminalError(Exception):
    """Trying again cannot help until something changes; the text says why."""


class Reconciler(Protocol):
    """One per kind."""

    async def reconcile(self, key: Key) -> Result:
        """Bring what is there closer to what is wanted.

        Raises:
            TerminalError: it cannot be done, and will not be tried again by itself.
            Exception: it is tried again, later each time.
        """


async def work(
    queue: WorkQueue[Key],
    reconcilers: Mapping[Kind, Reconciler],
    metrics: Metrics,
    looked_at: Callable[[Key], None],
    limit: Callable[[], float] = lambda: LIMIT,
) -> None:
    """Take keys until the queue is shut down and empty. Several of these may run side by side.

    `looked_at` hears of every key after its call, however that ended; `limit` is asked before each call (R6).
    """
    while True:
        try:
            key = await queue.get()
        except ShutDownError:
            return
        try:
            if key.kind in reconcilers:
                await _one(key, queue, reconcilers, metrics, limit())
        finally:
            queue.done(key)
            looked_at(key)
        # Calls that never wait for anything would otherwise keep the loop from everything else.
        await asyncio.sleep(0)


async def _one(
    key: Key,
    queue: WorkQueue[Key],
    reconcilers: Mapping[Kind, Reconciler],
    metrics: Metrics,
    limit: float,
) -> None:
    """One call and its consequences."""
    started = time.perf_counter()
    timer = asyncio.timeout(limit)
    try:
        async with timer:
            with tracing.span("reconcile") as span:
                if span.recording:
                    span.set("watchkeeper.key", str(key))
                result = await reconcilers[key.kind].reconcile(key)
    except TerminalError as error:
        outcome = "terminal"
        _report(metrics, key, f"reconciling {key} failed for good: {error}", trace=False)
    except (Exception, SystemExit, asyncio.CancelledError) as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
            raise  # the worker itself is asked to end
        outcome = "error"
        queue.add_rate_limited(key)  # R1
        why = f"it took longer than {limit:g} s" if timer.expired() else repr(error)
        _report(
            metrics,
            key,
            f"reconciling {key} failed and is tried again: {why}",
            retry_count=queue.delays.failures(key),
        )
    else:
        outcome = "ok"
        _settle(queue, key, result)
    metrics.reconciled(key.kind, outcome, time.perf_counter() - started)


def _settle(queue: WorkQueue[Key], key: Key, result: Result) -> None:
    if result.requeue_after is None and result.requeue:
        queue.add_rate_limited(key)  # R4
        return
    queue.forget(key)
    if result.gone:
        queue.withdraw(key)  # R5
    if result.requeue_after is not None:
        queue.add_after(key, result.requeue_after)  # R3


def _report(metrics: Metrics, key: Key, message: str, *, trace: bool = True, **fields: object) -> None:
    metrics.error(ErrorClass.RECONCILE_FAILED)
    say = journal.crash if trace else journal.error
    say(message, key=str(key), error_class=ErrorClass.RECONCILE_FAILED, **fields)
