"""Single series: what is written to. Each keeps the part of its lines that never changes."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

INFINITY = float("inf")
SAMPLES = 512
"""Observations that a summary's quantiles are taken from."""
HORIZON = 600.0
"""Seconds after which an observation counts no more for a quantile (the max age of Prometheus's Go client)."""


def number(value: float) -> str:
    """A value as Go writes it; the same text as prometheus_client's floatToGoString."""
    if -1e6 < value < 1e6:
        return repr(value)
    if value == INFINITY:
        return "+Inf"
    if value == -INFINITY:
        return "-Inf"
    if value != value:  # noqa: PLR0124 - only NaN differs from itself
        return "NaN"
    text = repr(value)
    dot = text.find(".")
    if value < 0 or dot <= 6:
        return text
    return f"{text[0]}.{text[1:dot]}{text[dot + 1 :]}".rstrip("0.") + f"e+{dot - 1:02d}"


def escaped(text: str) -> str:
    """A label's value between its quotes."""
    return text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")


class Value:
    """One number that is counted up."""

    __slots__ = ("head", "value")

    def __init__(self, head: str) -> None:
        self.head = head
        """The line up to its value."""
        self.value = 0.0

    def inc(self, amount: float = 1) -> None:
        if amount < 0:
            raise ValueError("a counter does not fall")
        self.value += amount


class GaugeValue(Value):
    """One number that goes up and down."""

    __slots__ = ("function",)

    def __init__(self, head: str) -> None:
        super().__init__(head)
        self.function: Callable[[], float] | None = None

    def inc(self, amount: float = 1) -> None:
        self.value += amount

    def dec(self, amount: float = 1) -> None:
        self.value -= amount

    def set(self, value: float) -> None:
        self.value = float(value)

    def set_to_current_time(self) -> None:
        """Seconds since the epoch."""
        self.value = time.time()

    def set_function(self, function: Callable[[], float]) -> None:
        """Ask `function` whenever the value is wanted; one that fails makes it NaN."""
        self.function = function

    def refresh(self) -> None:
        """Take what the function says."""
        if self.function is not None:
            try:
                self.value = float(self.function())
            except Exception:  # noqa: BLE001 - one series that cannot be had must not take the others along
                self.value = float("nan")


class Observed:
    """What is observed one by one."""

    __slots__ = ()

    def observe(self, amount: float) -> None:
        raise NotImplementedError

    @contextmanager
    def time(self) -> Iterator[None]:
        """Observe how many seconds the block takes."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.observe(time.perf_counter() - started)


class HistogramValue(Observed):
    """Counts of observations by size, and their sum."""

    __slots__ = ("after", "before", "bounds", "counts", "sum")

    def __init__(self, before: str, after: str, bounds: Sequence[float]) -> None:
        self.before, self.after = before, after
        """The labels in front of `le` and behind it, with their commas."""
        self.bounds = bounds
        self.counts = [0] * len(bounds)
        self.sum = 0.0

    def observe(self, amount: float) -> None:
        """NaN is no observation."""
        if amount == amount:  # noqa: PLR0124 - only NaN differs from itself
            self.counts[bisect_left(self.bounds, amount)] += 1
            self.sum += amount

    @property
    def count(self) -> float:
        return float(sum(self.counts))


class SummaryValue(Observed):
    """Count and sum of observations, and the newest of them for quantiles."""

    __slots__ = ("after", "before", "clock", "count", "recent", "sum")

    def __init__(self, before: str, after: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.before, self.after = before, after
        """The labels in front of `quantile` and behind it, with their commas."""
        self.clock = clock
        self.count = 0.0
        self.sum = 0.0
        self.recent: deque[tuple[float, float]] = deque(maxlen=SAMPLES)

    def observe(self, amount: float) -> None:
        """NaN is no observation."""
        if amount == amount:  # noqa: PLR0124 - only NaN differs from itself
            self.count += 1
            self.sum += amount
            self.recent.append((self.clock(), amount))

    def quantiles(self, wanted: Sequence[float]) -> list[float]:
        """By nearest rank, of what was observed in the last HORIZON seconds; NaN when that is nothing."""
        oldest = self.clock() - HORIZON
        while self.recent and self.recent[0][0] < oldest:
            self.recent.popleft()
        ordered = sorted(amount for _, amount in self.recent)
        if not ordered:
            return [float("nan")] * len(wanted)
        last = len(ordered) - 1
        return [ordered[min(last, int(quantile * len(ordered)))] for quantile in wanted]
