"""Families of series: counters, gauges, histograms and summaries, with the interface of prometheus_client.

They are collectors of a prometheus_client registry, which makes its generate_latest the measure of what render.py writes.
A series of prometheus_client takes 0.6 to 3 KB, most of it locks and repeated names; one of these takes 0.2 to 0.5 KB and
has the constant part of its line ready. There are no locks: families belong to the agent's loop, and what a thread has
measured is handed over to it.

Rules:
    F1  A metric has at most `limits.series` series, unless it is `unlimited`. What would be a further one goes to the
        series whose labels are all `overflow`, and is counted.
    F2  Counters do not fall, except for those that mirror somebody else's (`replace`).
    F3  A label's value is any text; what is no Unicode becomes `?`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import ClassVar, Generic, TypeVar

from prometheus_client.metrics_core import Metric

from watchkeeper.metrics.values import (
    INFINITY,
    GaugeValue,
    HistogramValue,
    SummaryValue,
    Value,
    escaped,
    number,
)

OVERFLOW = "overflow"
SERIES_LIMIT = 1000
DURATION_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)
QUANTILES = (0.5, 0.9, 0.99)

LabelValues = tuple[str, ...]
Sample = tuple[str, LabelValues, str | None, float]
"""Suffix, values of the labels, value of `le` or `quantile`, number."""


def _nobody(_name: str) -> None:
    """Nobody counts."""


@dataclass
class Limits:
    """What all families of one registry have in common."""

    series: int = SERIES_LIMIT
    """Series of one metric."""
    overflowed: Callable[[str], None] = _nobody
    """Hears the metric's name each time something goes to its overflow series."""


T = TypeVar("T", Value, GaugeValue, HistogramValue, SummaryValue)
Seen = TypeVar("Seen", HistogramValue, SummaryValue)


class Family(Generic[T]):
    """All series of one metric. Without labels it has one, and may be written to itself."""

    kind: ClassVar[str]
    extra: ClassVar[str | None] = None
    """The label that the format adds."""

    def __init__(
        self, name: str, text: str, labels: Sequence[str] = (), *, limits: Limits | None = None
    ) -> None:
        self.name, self.text, self.label_names = name, text, tuple(labels)
        self._limits = limits or Limits()
        self._series: dict[LabelValues, T] = {}
        self._overflow = (OVERFLOW,) * len(self.label_names)
        # The format does not ask for an order; prometheus_client sorts, and so the two can be compared byte by byte.
        self._order = sorted(range(len(self.label_names)), key=lambda at: self.label_names[at])
        if not labels:
            self._series[()] = self._make(())

    def labels(self, *values: object, **named: object) -> T:
        """The series with these values, in the order of the names or by name; it is made when it is not there."""
        found = self._series.get(values)  # type: ignore[arg-type]
        return found if found is not None else self._find(self._key(values, named))

    def unlimited(self) -> None:
        """Its labels are names of the configuration, which bounds them: F1 does not hold for it."""
        self._limits = Limits(sys.maxsize)

    @property
    def only(self) -> T:
        """The one series of a family without labels."""
        if self.label_names:
            raise ValueError(f"{self.name} has labels: {', '.join(self.label_names)}")
        return self._series[()]

    def remove(self, *values: object) -> None:
        """Take a series out, if it is there."""
        self._series.pop(self._key(values, {}), None)

    def clear(self) -> None:
        """Take all of them out; one without labels stays."""
        if self.label_names:
            self._series = {}

    def drop(self, label: str, value: str) -> None:
        """Take out every series in which a label has that value."""
        at = self.label_names.index(label)
        self._series = {key: series for key, series in self._series.items() if key[at] != value}

    def items(self) -> Iterable[tuple[LabelValues, T]]:
        """The series there are."""
        return self._series.items()

    def __len__(self) -> int:
        return len(self._series)

    def _key(self, values: tuple[object, ...], named: Mapping[str, object]) -> LabelValues:
        if named:
            if values or sorted(named) != sorted(self.label_names):
                raise ValueError(f"{self.name} has the labels {', '.join(self.label_names)}")
            values = tuple(named[name] for name in self.label_names)
        if len(values) != len(self.label_names):
            raise ValueError(f"{self.name} has {len(self.label_names)} labels, and {len(values)} values came")
        return tuple(str(value).encode(errors="replace").decode() for value in values)  # F3

    def _find(self, key: LabelValues) -> T:
        found = self._series.get(key)
        if found is None:
            if self.full and self.label_names:
                self._limits.overflowed(self.name)  # F1
                key = self._overflow
            found = self._series.get(key)
        if found is None:
            found = self._series[key] = self._make(key)
        return found

    @property
    def full(self) -> bool:
        """Whether there can be no further series."""
        return len(self._series) - (self._overflow in self._series) >= self._limits.series

    def _pairs(self, key: LabelValues) -> str:
        """name="value" and so on, as it stands between the braces."""
        return ",".join(f'{self.label_names[at]}="{escaped(key[at])}"' for at in self._order)

    def _around(self, key: LabelValues) -> tuple[str, str]:
        """The pairs in front of the format's own label and behind it."""
        pairs = [(self.label_names[at], f'{self.label_names[at]}="{escaped(key[at])}"') for at in self._order]
        before = "".join(f"{pair}," for name, pair in pairs if name < str(self.extra))
        return before, "".join(f",{pair}" for name, pair in pairs if name > str(self.extra))

    def _make(self, key: LabelValues) -> T:
        raise NotImplementedError

    def samples(self) -> Iterator[Sample]:
        """Every number of every series, as it is now."""
        raise NotImplementedError

    def write(self, lines: list[str]) -> None:
        """Add the lines of all series."""
        raise NotImplementedError

    # -- what prometheus_client asks a collector -------------------------------------------------------------------

    def describe(self) -> list[Metric]:
        """The name and the type, so that no other collector takes them."""
        return [Metric(self.name.removesuffix("_total"), self.text, self.kind)]

    def collect(self) -> list[Metric]:
        """The whole family as prometheus_client has it: slow, and the measure of `write`."""
        [metric] = self.describe()
        for suffix, values, extra, value in self.samples():
            labels = dict(zip(self.label_names, values, strict=True))
            if extra is not None:
                labels[str(self.extra)] = extra
            metric.add_sample(metric.name + suffix, labels, value)
        return [metric]


class _Plain(Family[T]):
    """One line for each series."""

    def _head(self, key: LabelValues) -> str:
        return f"{self.name}{{{self._pairs(key)}}} " if key else f"{self.name} "


class Counter(_Plain[Value]):
    """Counts up."""

    kind = "counter"

    def _make(self, key: LabelValues) -> Value:
        return Value(self._head(key))

    def inc(self, amount: float = 1) -> None:
        self.only.inc(amount)

    def replace(self, rows: Mapping[LabelValues, float]) -> None:
        """Let the family have these series and no others; the counters are somebody else's (F2)."""
        _replace(self, rows)

    def samples(self) -> Iterator[Sample]:
        yield from (("_total", key, None, float(one.value)) for key, one in self._series.items())

    def write(self, lines: list[str]) -> None:
        _write(lines, self._series.values())


class Gauge(_Plain[GaugeValue]):
    """Goes up and down."""

    kind = "gauge"

    def _make(self, key: LabelValues) -> GaugeValue:
        return GaugeValue(self._head(key))

    def inc(self, amount: float = 1) -> None:
        self.only.inc(amount)

    def dec(self, amount: float = 1) -> None:
        self.only.dec(amount)

    def set(self, value: float) -> None:
        self.only.set(value)

    def set_to_current_time(self) -> None:
        self.only.set_to_current_time()

    def set_function(self, function: Callable[[], float]) -> None:
        self.only.set_function(function)

    def replace(self, rows: Mapping[LabelValues, float]) -> None:
        """Let the family have these series and no others."""
        _replace(self, rows)

    def samples(self) -> Iterator[Sample]:
        self._refresh()
        yield from (("", key, None, float(one.value)) for key, one in self._series.items())

    def write(self, lines: list[str]) -> None:
        self._refresh()
        _write(lines, self._series.values())

    def _refresh(self) -> None:
        for one in self._series.values():
            if one.function is not None:
                one.refresh()


def _write(lines: list[str], series: Iterable[Value]) -> None:
    lines.extend(
        [f"{one.head}{repr(value) if -1e6 < (value := float(one.value)) < 1e6 else number(value)}\n" for one in series]
    )  # fmt: skip


def _replace(family: Counter | Gauge, rows: Mapping[LabelValues, float]) -> None:
    """In place: series that stay keep their lines. What is over the limit is added up in the overflow series (F1)."""
    kept = family._series
    for key in [key for key in kept if key not in rows]:
        del kept[key]
    for key, value in rows.items():
        found = family.labels(*key)
        found.value = float(value) if key in kept else found.value + value


class _Observations(Family[Seen]):
    """Sizes or durations of what happens."""

    def observe(self, amount: float) -> None:
        self.only.observe(amount)

    def time(self) -> AbstractContextManager[None]:
        return self.only.time()


class Histogram(_Observations[HistogramValue]):
    """Observations by size."""

    kind = "histogram"
    extra = "le"

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        *,
        limits: Limits | None = None,
        buckets: Sequence[float] = DURATION_BUCKETS,
    ) -> None:
        bounds = tuple(map(float, buckets))
        if list(bounds) != sorted(set(bounds)) or not bounds:
            raise ValueError(f"the buckets of {name} do not rise")
        self.bounds = bounds if bounds[-1] == INFINITY else (*bounds, INFINITY)
        self._words = [number(bound) for bound in self.bounds]
        super().__init__(name, text, labels, limits=limits)

    def _make(self, key: LabelValues) -> HistogramValue:
        return HistogramValue(*self._around(key), self.bounds)

    def samples(self) -> Iterator[Sample]:
        for key, one in self._series.items():
            total = 0
            for word, count in zip(self._words, one.counts, strict=True):
                total += count
                yield "_bucket", key, word, float(total)
            yield "_count", key, None, float(total)
            if self.bounds[0] >= 0:
                yield "_sum", key, None, float(one.sum)

    def write(self, lines: list[str]) -> None:
        starts = [f'le="{word}"' for word in self._words]
        for one in self._series.values():
            head, tail, total = f"{self.name}_bucket{{{one.before}", f"{one.after}}} ", 0
            for start, count in zip(starts, one.counts, strict=True):
                total += count
                lines.append(f"{head}{start}{tail}{number(float(total))}\n")
            pairs = _join(one.before, one.after)
            lines.append(f"{self.name}_count{pairs} {number(float(total))}\n")
            if self.bounds[0] >= 0:
                lines.append(f"{self.name}_sum{pairs} {number(float(one.sum))}\n")


class Summary(_Observations[SummaryValue]):
    """Observations with quantiles over the newest of them. They cannot be added up over machines: prefer a histogram."""

    kind = "summary"
    extra = "quantile"

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str] = (),
        *,
        limits: Limits | None = None,
        quantiles: Sequence[float] = QUANTILES,
    ) -> None:
        self.quantiles = tuple(quantiles)
        super().__init__(name, text, labels, limits=limits)

    def _make(self, key: LabelValues) -> SummaryValue:
        return SummaryValue(*self._around(key))

    def samples(self) -> Iterator[Sample]:
        for key, one in self._series.items():
            for quantile, value in zip(self.quantiles, one.quantiles(self.quantiles), strict=True):
                yield "", key, number(quantile), float(value)
            yield "_count", key, None, one.count
            yield "_sum", key, None, float(one.sum)

    def write(self, lines: list[str]) -> None:
        for one in self._series.values():
            for quantile, value in zip(self.quantiles, one.quantiles(self.quantiles), strict=True):
                start = f'{one.before}quantile="{number(quantile)}"{one.after}'
                lines.append(f"{self.name}{{{start}}} {number(float(value))}\n")
            pairs = _join(one.before, one.after)
            lines.append(f"{self.name}_count{pairs} {number(one.count)}\n")
            lines.append(f"{self.name}_sum{pairs} {number(float(one.sum))}\n")


def _join(before: str, after: str) -> str:
    """The labels without the format's own."""
    inside = f"{before}{after[1:]}" if after else before[:-1]
    return f"{{{inside}}}" if inside else ""
