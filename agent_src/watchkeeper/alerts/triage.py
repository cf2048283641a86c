"""A bundle of what the agent looks like inside at the moment when an alert fires: first aid for whoever comes later.

Rules:
    T1  One JSON file for each, in STATE_DIR/triage, readable by the agent's user alone; without a state directory there is
        none.
    T2  At most `triage_bundles` are kept, and two are at least `triage_interval` apart.
    T3  What is taken at once does not hold the loop for long: stacks, counts, the heap's biggest lines when tracemalloc runs
        already. Then a thread samples for PROFILE_SECONDS what the agent does, and writes the file.
    T4  A bundle that cannot be written is a line in the log and nothing else.
"""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

from watchkeeper import redact
from watchkeeper.alerts.states import Alert
from watchkeeper.context import Context
from watchkeeper.errors import ErrorClass
from watchkeeper.logs import get_logger
from watchkeeper.metrics.render import render
from watchkeeper.profiling import garbage, stacks
from watchkeeper.profiling.formats import collapsed
from watchkeeper.profiling.sampler import Sampler

journal = get_logger("alert")

FOLDER = "triage"
TASKS = 500
PROFILE_SECONDS = 1.0
PROFILE_HZ = 100.0
HEAP_LINES = 25


class Triage:
    """The bundles of one agent."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._last: float | None = None
        self.writing: set[asyncio.Task[None]] = set()

    def begin(self, rule: str, alert: Alert) -> None:
        """Make a bundle, unless there was one a moment ago."""
        folder, settings = self._context.store.state_dir, self._context.snapshot.config.alerting
        now = asyncio.get_running_loop().time()
        early = self._last is not None and now - self._last < settings.triage_interval
        if folder is None or not settings.triage_bundles or early:
            return
        self._last = now
        bundle = collect(self._context, rule, alert)
        task = asyncio.create_task(self._write(folder / FOLDER, rule, bundle, settings.triage_bundles))
        self.writing.add(task)
        task.add_done_callback(self.writing.discard)

    async def _write(self, folder: Path, rule: str, bundle: dict[str, Any], keep: int) -> None:
        try:
            file = await asyncio.to_thread(_profile_and_write, folder, rule, bundle, keep)
        except OSError as error:
            self._context.metrics.error(ErrorClass.STATE_UNUSABLE)
            message = f"the triage bundle of {rule} could not be written: {error.strerror}"
            journal.error(message, alertname=rule, error_class=ErrorClass.STATE_UNUSABLE)
            return
        journal.info("triage bundle written", alertname=rule, file=str(file))


def collect(context: Context, rule: str, alert: Alert) -> dict[str, Any]:
    """Everything that is in a bundle."""
    return {
        "rule": rule,
        "labels": dict(alert.labels),
        "annotations": alert.annotations,
        "value": alert.value,
        "at": time.time(),
        "tasks": stacks.tasks()[:TASKS],
        "threads": stacks.threads(),
        "garbage": garbage.report(),
        "heap": _heap(),
        "queue": len(context.queue),
        "events": [
            {"at": event.at, "key": str(event.key), "what": event.what, "why": event.why}
            for event in list(context.events)[-50:]
        ],
        "metrics": render(context.metrics.registry).decode(),
    }


def _heap() -> list[str] | None:
    """The lines that have allocated most; None: tracemalloc does not run, and to begin now would say nothing of the past."""
    import tracemalloc

    if not tracemalloc.is_tracing():
        return None
    return [str(line) for line in tracemalloc.take_snapshot().statistics("lineno")[:HEAP_LINES]]


def _profile_and_write(folder: Path, rule: str, bundle: dict[str, Any], keep: int) -> Path:
    """In a thread.

    Raises:
        OSError: as `write`.
    """
    bundle["profile"] = collapsed(Sampler().run(PROFILE_SECONDS, PROFILE_HZ, threading.Event())).splitlines()
    return write(folder, rule, bundle, keep)


def write(folder: Path, rule: str, bundle: dict[str, Any], keep: int) -> Path:
    """Put a bundle beside the others, and let go of the oldest.

    Raises:
        OSError: the disk is full, or the folder is somebody else's.
    """
    import msgspec

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(bundle["at"]))
    file = folder / f"{stamp}-{time.monotonic_ns() % 1_000_000:06d}-{rule}.json"
    partial = folder / f".{file.name}"
    try:
        partial.touch(mode=0o600)
        partial.write_text(redact.text(msgspec.json.encode(bundle).decode()))
        partial.replace(file)
    finally:
        partial.unlink(missing_ok=True)
    for old in sorted(folder.glob("*.json"), key=lambda each: each.stat().st_mtime)[:-keep]:
        old.unlink(missing_ok=True)
    return file
