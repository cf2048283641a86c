"""What is measured on this machine: one module for each collector, imported when it is first used.

A collector is called in a thread of its own (threads.py) and may block; it gives back plain readings, which the
reconciler puts into the registry. It knows nothing of intervals, deadlines and the registry.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

EVERYWHERE = ("linux", "darwin", "win32")


class Reading(NamedTuple):
    """All series of one metric; the name is without `watchkeeper_`."""

    kind: Literal["counter", "gauge"]
    name: str
    text: str
    labels: tuple[str, ...]
    rows: Mapping[tuple[str, ...], float]


def counter(name: str, text: str, rows: Mapping[Any, float], *labels: str) -> Reading:
    """What only grows."""
    return Reading("counter", name, text, labels, rows)


def gauge(name: str, text: str, rows: Mapping[Any, float], *labels: str) -> Reading:
    """What goes up and down."""
    return Reading("gauge", name, text, labels, rows)


def single(make: Callable[..., Reading], name: str, text: str, value: float | None) -> list[Reading]:
    """A reading without labels; none when there is no value."""
    return [] if value is None else [make(name, text, {(): value})]


class Collector(Protocol):
    """One per entry of the configuration; kept from one collection to the next, and called by one thread at a time."""

    def collect(self) -> Iterable[Reading | Metric]:
        """Measure. An exception means that nothing could be measured; its text says why."""


@dataclass(frozen=True)
class Entry:
    """How a collector is made from its part of the configuration, and where it works."""

    make: Callable[[Any], Collector]
    platforms: tuple[str, ...] = EVERYWHERE
    default: bool = True
    """Whether it runs without a word in the configuration."""

    @property
    def supported(self) -> bool:
        """Whether it works on this platform."""
        return sys.platform.startswith(self.platforms)


@dataclass(frozen=True)
class Filter:
    """Which names are wanted."""

    include: str | None = None
    exclude: str | None = None
    _compiled: dict[str, re.Pattern[str]] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, name: str) -> bool:
        if self.exclude is not None and self._matches(self.exclude, name):
            return False
        return self.include is None or self._matches(self.include, name)

    def _matches(self, pattern: str, name: str) -> bool:
        if pattern not in self._compiled:
            self._compiled[pattern] = re.compile(pattern)
        return self._compiled[pattern].fullmatch(name) is not None


def _cpu(spec: Any) -> Collector:
    from watchkeeper.collectors.cpu import CpuTimes

    return CpuTimes(spec)


def _load(_spec: Any) -> Collector:
    from watchkeeper.collectors.load import LoadAverages

    return LoadAverages()


def _memory(_spec: Any) -> Collector:
    from watchkeeper.collectors.memory import Memory

    return Memory()


def _filesystem(spec: Any) -> Collector:
    from watchkeeper.collectors.filesystem import Filesystems

    return Filesystems(spec)


def _disk(spec: Any) -> Collector:
    from watchkeeper.collectors.disk import Disks

    return Disks(spec)


def _network(spec: Any) -> Collector:
    from watchkeeper.collectors.network import Interfaces

    return Interfaces(spec)


def _temperature(spec: Any) -> Collector:
    from watchkeeper.collectors.temperature import Temperatures

    return Temperatures(spec)


def _processes(_spec: Any) -> Collector:
    from watchkeeper.collectors.processes import Processes

    return Processes()


def _self(_spec: Any) -> Collector:
    from watchkeeper.collectors.itself import Itself

    return Itself()


def _textfile(spec: Any) -> Collector:
    from watchkeeper.collectors.textfile import Textfiles

    return Textfiles(spec)


REGISTRY: dict[str, Entry] = {
    "cpu": Entry(_cpu),
    "load": Entry(_load),
    "memory": Entry(_memory),
    "filesystem": Entry(_filesystem),
    "disk": Entry(_disk),
    "network": Entry(_network),
    "temperature": Entry(_temperature, platforms=("linux",)),
    "processes": Entry(_processes),
    "self": Entry(_self),
    "textfile": Entry(_textfile, default=False),
}
