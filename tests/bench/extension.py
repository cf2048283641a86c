"""What the agent's C extension promises, each against its peer in the same run (docs/extension.md).

1. A pass over all processes takes at most 0.15 times psutil's ``process_iter`` with the same fields, with 500 processes
   that really sleep. psutil keeps its objects between the calls, as it does in a program that asks every few seconds.
2. The log: a line takes at most 0.2 of the time (5 times the lines per second) that ``logging.FileHandler`` takes, with one
   producer and with eight, until the last byte is in the file. Compared are
   a. the agent's own call, ``journal.info("...", field=...)``, before both handlers: the same JSON comes out;
   b. the writer alone: a finished line into the ring, and the same line by ``FileHandler.emit``, without a record made.
   Without a promise: a plain ``logger.info``, where making the record takes most of the time on both sides.
3. How much of a scrape a faster rendering of the Prometheus text could save at most. Nothing is promised; the figure is why
   there is no such thing in the extension.
"""

from __future__ import annotations

import gc
import importlib
import logging
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from measure import undisturbed
from table import ROOT, Row, keep, row, show

sys.path[:0] = [str(ROOT / "agent_src"), str(ROOT / "tests")]

SLEEPERS = 500
LINES = 40_000
PAIRS = 21
LOG_PAIRS = 9
PROCESS_LIMIT, LOG_LIMIT = 0.15, 0.2
FIELDS = ["pid", "ppid", "status", "cpu_times", "memory_info", "create_time", "name", "cmdline"]
SCRAPE_INTERVAL = 15.0

Timed = Callable[[], tuple[float, float]]


def timed(function: Callable[[], object]) -> Timed:
    """Wall and processor seconds of one call."""

    def run() -> tuple[float, float]:
        gc.collect()
        cpu, wall = time.process_time(), time.perf_counter()
        function()
        return time.perf_counter() - wall, time.process_time() - cpu

    return run


class Pairs:
    """Both in turn, A B A B; medians of the ratios taken pair by pair, of the clock and of the processor."""

    def __init__(self, ours: Timed, theirs: Timed, count: int) -> None:
        ours(), theirs()
        with undisturbed():
            self.seen = [(ours(), theirs()) for _ in range(count)]

    def ratio(self, which: int = 0) -> float:
        return statistics.median(one[which] / other[which] for one, other in self.seen)

    def seconds(self, side: int, which: int = 0) -> float:
        return statistics.median(pair[side][which] for pair in self.seen)

    def said(self, scale: float, unit: str) -> str:
        ours, theirs = self.seconds(0) * scale, self.seconds(1) * scale
        return (
            f"{ours:.2f} {unit} / {theirs:.2f} {unit}, median of {len(self.seen)} pairs; "
            f"processor time {self.ratio(1):.3f}"
        )


def extension() -> Any:
    """watchkeeper.native over the extension as its sources are now."""
    from support.native_build import built, load

    sys.modules["watchkeeper._native"] = importlib.import_module("watchkeeper")._native = load(built())  # type: ignore[attr-defined]
    native = importlib.import_module("watchkeeper.native")
    assert native.EXTENSION, native.WHY_NOT
    return native


# -- processes ------------------------------------------------------------------------------------------------------------


@contextmanager
def sleepers(count: int) -> Iterator[None]:
    children = [subprocess.Popen(["sleep", "3600"], stdin=subprocess.DEVNULL) for _ in range(count)]
    try:
        yield
    finally:
        for child in children:
            child.kill()
        for child in children:
            child.wait()


def process_rows(native: Any) -> Iterator[Row]:
    import psutil

    twin = importlib.import_module("watchkeeper.native.proc")

    def theirs() -> None:
        assert len([process.info for process in psutil.process_iter(FIELDS)]) > SLEEPERS

    def theirs_cold() -> None:
        psutil.process_iter.cache_clear()
        theirs()

    def ours() -> None:
        assert len(native.processes()) > SLEEPERS

    with sleepers(SLEEPERS):
        warm = Pairs(timed(ours), timed(theirs), PAIRS)
        yield row("process pass / psutil.process_iter", warm.ratio(), PROCESS_LIMIT, warm.said(1e3, "ms"))
        cold = Pairs(timed(ours), timed(theirs_cold), PAIRS)
        yield row("process pass / process_iter, its cache cleared", cold.ratio(), None, cold.said(1e3, "ms"))
        pure = Pairs(timed(twin.processes), timed(theirs), PAIRS)
        yield row("the twin's pass / process_iter", pure.ratio(), None, pure.said(1e3, "ms"))


# -- the log ----------------------------------------------------------------------------------------------------------------


class Shape:
    """One way to log: how a producer says a line through a handler, and how the handler is made ready for it."""

    def __init__(self, name: str, limit: float | None) -> None:
        self.name, self.limit = name, limit

    def say(self, handler: logging.Handler) -> Callable[[], object]:
        raise NotImplementedError

    def formatter(self) -> logging.Formatter:
        return logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


class Journal(Shape):
    """The agent's own call: one message and three fields become one object of JSON."""

    def formatter(self) -> logging.Formatter:
        return importlib.import_module("watchkeeper.logs").JsonFormatter()  # type: ignore[no-any-return]

    def say(self, handler: logging.Handler) -> Callable[[], object]:
        journal = importlib.import_module("watchkeeper.logs").get_logger("bench")
        return lambda: journal.info("check done", check="front page", seconds=0.0123, outcome="success")


class Plain(Shape):
    """The logging module as everybody uses it."""

    def say(self, handler: logging.Handler) -> Callable[[], object]:
        logger = logging.getLogger("watchkeeper.bench")
        return lambda: logger.info("check %s done in %.3f seconds", "front page", 0.0123)


class Ready(Shape):
    """A line that is there already: what remains is to bring it into the file."""

    LINE = "2026-01-01 00:00:00,000 INFO watchkeeper.bench: check front page done in 0.012 seconds"

    def formatter(self) -> logging.Formatter:
        ready = logging.Formatter()
        ready.format = lambda record: self.LINE  # type: ignore[method-assign]
        return ready

    def say(self, handler: logging.Handler) -> Callable[[], object]:
        ring = getattr(handler, "ring", None)
        if ring is not None:
            write, line = ring.write, self.LINE
            return lambda: write(line)
        record = logging.LogRecord("watchkeeper.bench", logging.INFO, __file__, 1, self.LINE, None, None)
        return lambda: handler.handle(record)  # with its lock, which eight producers need


def produce(
    make: Callable[[Path], logging.Handler], shape: Shape, producers: int, path: Path
) -> tuple[float, float]:
    """Seconds for LINES lines by so many threads, until all of them are in the file; the bench ends if one is missing."""
    path.unlink(missing_ok=True)
    handler = make(path)
    handler.setFormatter(shape.formatter())
    seconds = timed(lambda: log_lines(handler, shape.say(handler), producers))()
    with path.open("rb") as file:
        found = sum(1 for _ in file)
    if found != LINES:
        raise SystemExit(f"{shape.name}: {found} lines are in the file, and {LINES} were written")
    return seconds


def log_lines(handler: logging.Handler, say: Callable[[], object], producers: int) -> None:
    """All of them, and the end of the handler: a ring has brought out the last by then."""
    root = logging.getLogger()
    before, root.handlers[:] = root.handlers[:], [handler]

    def work() -> None:
        for _ in range(LINES // producers):
            say()

    threads = [threading.Thread(target=work) for _ in range(producers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    handler.close()
    root.handlers[:] = before


def log_rows(folder: Path) -> Iterator[Row]:
    logs = importlib.import_module("watchkeeper.logs")
    rings = importlib.import_module("watchkeeper.native.log_ring")
    logging.getLogger(logs.ROOT).setLevel(logging.INFO)

    def through_ring(path: Path) -> logging.Handler:
        return logs.RingHandler(rings.LogRing.at(path, block_seconds=60.0))  # type: ignore[no-any-return]

    shapes = (
        Journal("the agent's call", LOG_LIMIT),
        Ready("the writer alone", LOG_LIMIT),
        Plain("logger.info", None),
    )
    for shape in shapes:
        for producers in (1, 8):
            ours = partial(produce, through_ring, shape, producers, folder / "ours")
            theirs = partial(produce, logging.FileHandler, shape, producers, folder / "theirs")
            pairs = Pairs(ours, theirs, LOG_PAIRS)
            name = f"log, {shape.name}: ring / FileHandler, {producers} producer{'s' * (producers > 1)}"
            yield row(name, pairs.ratio(), shape.limit, pairs.said(1e6 / LINES, "us a line"))


# -- the text of /metrics ----------------------------------------------------------------------------------------------------


def metrics_rows() -> Iterator[Row]:
    """A registry as that of an agent with 40 services and 120 checks."""
    from prometheus_client import generate_latest

    from watchkeeper.metrics import Metrics

    metrics = Metrics()
    for number in range(120):
        metrics.check_runs.labels(f"check-{number}", "success").inc()
        metrics.check_success.labels(f"check-{number}", "readiness").set(1)
        metrics.check_duration.labels(f"check-{number}").observe(0.01)
    for number in range(40):
        for state in ("running", "backoff", "failed"):
            metrics.service_state.labels(f"service-{number}", state).set(0)
    whole = Pairs(
        timed(lambda: generate_latest(metrics.registry)),
        timed(lambda: list(metrics.registry.collect())),
        PAIRS,
    )
    saved = whole.seconds(0) - whole.seconds(1)
    size = len(generate_latest(metrics.registry))
    yield row(
        "rendering: processor time that C could save (%)", 100 * saved / SCRAPE_INTERVAL, None,
        f"{saved * 1e3:.1f} of {whole.seconds(0) * 1e3:.1f} ms a scrape, every {SCRAPE_INTERVAL:g} s, {size:,} B",
    )  # fmt: skip


def measure(folder: Path) -> Iterator[Row]:
    """One row per promise, and the rows that explain them."""
    native = extension()
    yield from process_rows(native)
    yield from log_rows(folder)
    yield from metrics_rows()


def main() -> int:
    """Measure, print a table, keep the figures as JSON; 1 when a promise is not kept."""
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="ferryman-bench-") as folder:
        rows = show(measure(Path(folder)))
    return keep("extension", rows, time.time() - started)


if __name__ == "__main__":
    sys.exit(main())
