"""What rules remember of the registry: the newest values of the series that they need, and no others.

Rules:
    H1  A series that is no longer in the registry has no present value (Prometheus marks it stale); what was seen of it
        still counts in windows that reach back so far.
    H2  Points older than the window are let go, and a series without points is forgotten.
    H3  At most `limit` series are remembered; of further ones nothing is known, and `dropped` counts the looks at them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from watchkeeper.alerts.functions import Point
from watchkeeper.metrics import Metrics
from watchkeeper.metrics.families import Family

Labels = tuple[tuple[str, str], ...]
"""Name and value, sorted by name."""
Vector = dict[Labels, float]


@dataclass(frozen=True)
class Selector:
    """Which series are meant: the name of a sample, and labels that it must have. A missing label is an empty one."""

    name: str
    match: Mapping[str, str] = field(default_factory=dict)

    def takes(self, labels: Mapping[str, str]) -> bool:
        return all(labels.get(name, "") == value for name, value in self.match.items())


def read(metrics: Metrics, selector: Selector) -> Iterator[tuple[Labels, float]]:
    """Every series of the registry that a selector means, with its value now."""
    found = metrics.find(selector.name)
    samples = _foreign(metrics, selector.name) if found is None else _own(found, selector.name)
    for labels, value in samples:
        if selector.takes(labels):
            yield tuple(sorted(labels.items())), value


def _own(family: Family[Any], name: str) -> Iterator[tuple[dict[str, str], float]]:
    base = family.name.removesuffix("_total")
    for suffix, values, extra, value in family.samples():
        if base + suffix == name:
            labels = dict(zip(family.label_names, values, strict=True))
            if extra is not None:
                labels[str(family.extra)] = extra
            yield labels, value


def _foreign(metrics: Metrics, name: str) -> Iterator[tuple[dict[str, str], float]]:
    """A collector of prometheus_client is asked for everything that it has."""
    for collector in metrics.registry.collectors:
        if not isinstance(collector, Family):
            for metric in collector.collect():
                if name.startswith(metric.name):
                    yield from ((one.labels, one.value) for one in metric.samples if one.name == name)


class History:
    """The series of one selector.

    Args:
        window: seconds that are remembered; 0: the present alone.
        limit: series.
        left_open: whether a point exactly at the beginning of a window is outside (Prometheus 3) or inside (before it).
    """

    def __init__(self, window: float, limit: int, *, left_open: bool = True) -> None:
        self.window, self.limit = window, limit
        self.dropped = 0
        self._left_open = left_open
        self._points: dict[Labels, deque[Point]] = {}
        self._present: Vector = {}

    def add(self, now: float, samples: Iterable[tuple[Labels, float]]) -> None:
        """What there is now."""
        self._present = {}
        for labels, value in samples:
            if labels not in self._points:
                if len(self._points) >= self.limit:
                    self.dropped += 1  # H3
                    continue
                self._points[labels] = deque()
            self._points[labels].append((now, value))
            self._present[labels] = value
        self._forget(now)

    def _forget(self, now: float) -> None:
        """H2."""
        oldest = now - self.window
        for labels in list(self._points):
            points = self._points[labels]
            while points and points[0][0] < oldest:
                points.popleft()
            if not points:
                del self._points[labels]

    def present(self) -> Vector:
        """The value of every series that is there now (H1)."""
        return self._present

    def windows(self, now: float) -> Iterator[tuple[Labels, list[Point]]]:
        """The points of every series in the window that ends now."""
        start = now - self.window
        for labels, points in self._points.items():
            inside = [
                point for point in points if point[0] > start or (point[0] == start and not self._left_open)
            ]
            if inside:
                yield labels, inside

    def __len__(self) -> int:
        return len(self._points)
