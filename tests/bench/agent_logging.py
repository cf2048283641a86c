"""What a log call costs its caller, against logging with a JSON formatter behind a QueueHandler, in the same run.

1. A call of the agent's log takes at most half the time of `logging` with a JSON formatter and QueueHandler, whose listener
   writes in a thread of its own: the usual way to keep a slow reader from holding up a program. With the extension and with
   its twin; with standard error alone, and with a file output beside it.
2. What was accepted is written: every line of every run is counted in the file afterwards, and the bench ends if one is
   missing or appears twice.

Both sides write the same keys. The time is the producer's alone, between the first call and the last; the formatter of the
standard way is asked in the caller, as QueueHandler.prepare does it, since a record may not be changed by another thread.
"""

from __future__ import annotations

import gc
import importlib
import json
import logging
import logging.handlers
import os
import queue
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from measure import undisturbed
from table import ROOT, Row, keep, row, show

sys.path[:0] = [str(ROOT / "agent_src"), str(ROOT / "tests")]

LINES = 20_000
PAIRS = 15
LIMIT = 0.5


class StandardJson(logging.Formatter):
    """As people write one: a dict of the record, and json.dumps."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "timestamp": self.formatTime(record),
            "level": record.levelname,
            "service": "watchkeeper",
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        return json.dumps(line)


Say = Callable[[int], None]
Make = Callable[[Path], tuple[Say, Callable[[], None]]]


def standard(path: Path) -> tuple[Say, Callable[[], None]]:
    """logging.getLogger().info, through a QueueHandler, to a listener with a FileHandler."""
    logger = logging.getLogger("standard.way")
    lines: queue.SimpleQueue[Any] = queue.SimpleQueue()
    handler = logging.handlers.QueueHandler(lines)
    handler.setFormatter(StandardJson())
    target = logging.FileHandler(path)
    listener = logging.handlers.QueueListener(lines, target)
    logger.handlers[:], logger.propagate = [handler], False
    logger.setLevel(logging.INFO)
    listener.start()

    def end() -> None:
        listener.stop()
        target.close()
        logger.handlers[:] = []

    return (lambda number: logger.info("looked", extra={"fields": {"check": "front page", "n": number}})), end


def agents(path: Path, *, output: bool) -> tuple[Say, Callable[[], None]]:
    """journal.info, through the ring; and through a file output if asked for."""
    logs = importlib.import_module("watchkeeper.logs")
    rings = importlib.import_module("watchkeeper.native.log_ring")
    root = logging.getLogger()
    logging.getLogger(logs.ROOT).setLevel(logging.INFO)
    ring = logs.RingHandler(
        rings.LogRing.at(path, capacity=1 << 26, policy="drop-oldest", linger=logs.LINGER)
    )
    ring.setFormatter(logs.JsonFormatter())
    taking: list[Any] = [ring]
    if output:
        taking.append(_file_output(path.with_suffix(".output")))
    root.handlers[:] = taking
    journal = logs.get_logger("bench")

    def end() -> None:
        root.handlers[:] = []
        for handler in taking:
            handler.close()

    return (lambda number: journal.info("looked", check="front page", n=number)), end


def _file_output(path: Path) -> Any:
    from watchkeeper.logs import JsonFormatter
    from watchkeeper.outputs.handler import OutputHandler
    from watchkeeper.outputs.sinks.file import FileSink
    from watchkeeper.outputs.writer import Writer

    handler = OutputHandler(Writer("bench", FileSink(path), capacity=LINES * 2), 0)
    handler.setFormatter(JsonFormatter())
    return handler


def produce(make: Make, folder: Path) -> float:
    """Seconds of the caller for LINES lines."""
    path = folder / "log"
    for old in folder.iterdir():
        old.unlink()
    say, end = make(path)
    gc.collect()
    started = time.perf_counter()
    for number in range(LINES):
        say(number)
    seconds = time.perf_counter() - started
    end()
    for written in folder.iterdir():
        numbers = [json.loads(line)["n"] for line in written.read_bytes().splitlines()]
        if numbers != list(range(LINES)):
            raise SystemExit(f"{written.name}: {len(numbers)} of {LINES} lines are there, or not in order")
    return seconds


def compared(name: str, ours: Make, limit: float | None, folder: Path) -> Row:
    """A B A B; the median of the ratios."""
    produce(ours, folder), produce(standard, folder)
    with undisturbed():
        pairs = [(produce(ours, folder), produce(standard, folder)) for _ in range(PAIRS)]
    ratios = sorted(one / other for one, other in pairs)
    middle = [sorted(side)[PAIRS // 2] / LINES * 1e6 for side in zip(*pairs, strict=True)]
    seen = (
        f"{middle[0]:.2f} us / {middle[1]:.2f} us a call, median of {PAIRS} pairs; every line was found again"
    )
    return row(f"log call: {name} / QueueHandler + JSON", ratios[PAIRS // 2], limit, seen)


def rows(form: str, folder: Path) -> Iterator[Row]:
    """For one form of the ring."""
    yield compared(f"{form}, standard error", lambda path: agents(path, output=False), LIMIT, folder)
    yield compared(f"{form}, and a file output", lambda path: agents(path, output=True), LIMIT, folder)


def measure(folder: Path) -> Iterator[Row]:
    """The extension here, the twin in a process of its own: which of them it is, is settled at the first import."""
    if os.environ.get("WATCHKEEPER_NATIVE") != "0":
        from support.native_build import built, load

        sys.modules["watchkeeper._native"] = importlib.import_module("watchkeeper")._native = load(built())  # type: ignore[attr-defined]
        yield from rows("extension", folder)
        twin = subprocess.run(
            [sys.executable, __file__], env={**os.environ, "WATCHKEEPER_NATIVE": "0"}, check=False
        )
        yield row("the twin's rows above: not held", twin.returncode, 0, "0: all of them were")
    else:
        yield from rows("twin", folder)


def main() -> int:
    """Measure, print a table, keep the figures as JSON; 1 when a promise is not kept."""
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="ferryman-bench-") as folder:
        rows = show(measure(Path(folder)))
    twin = os.environ.get("WATCHKEEPER_NATIVE") == "0"
    return keep("agent_logging_twin" if twin else "agent_logging", rows, time.time() - started)


if __name__ == "__main__":
    sys.exit(main())
