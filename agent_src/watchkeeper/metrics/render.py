"""What a scrape gets: every family of a registry as text, in one pass and without an object per sample.

The agent's own families write their lines themselves; any other collector of prometheus_client is written by
prometheus_client. The result is byte for byte that of prometheus_client's generate_latest: the tests hold them together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, cast

from prometheus_client import CollectorRegistry, exposition
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import exposition as openmetrics_exposition
from prometheus_client.registry import Collector

from watchkeeper.metrics.families import Family

TEXT = "text/plain; version=0.0.4; charset=utf-8"
OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
END = "# EOF\n"


class Registry(CollectorRegistry):
    """A registry that can say what it consists of. `failed` hears of a collector that could not be read."""

    def __init__(self) -> None:
        super().__init__()
        self.collectors: list[Collector] = []
        self.failed: Callable[[Collector, Exception], None] | None = None

    def register(self, collector: Collector) -> None:
        super().register(collector)
        self.collectors.append(collector)

    def unregister(self, collector: Collector) -> None:
        super().unregister(collector)
        self.collectors.remove(collector)


def render(registry: Registry, openmetrics: bool = False) -> bytes:
    """Everything in the registry, in text format 0.0.4 or OpenMetrics 1.0.0. A collector that fails is left out."""
    return "".join(pieces(registry, openmetrics)).encode()


def pieces(registry: Registry, openmetrics: bool = False) -> Iterator[str]:
    """The same, one collector at a time, so that others can have a turn in between."""
    for collector in list(registry.collectors):
        lines: list[str] = []
        try:
            if isinstance(collector, Family):
                _own(lines, collector, openmetrics)
            else:
                _foreign(lines, collector, openmetrics)
        except Exception as error:
            if registry.failed is None:
                raise
            registry.failed(collector, error)
        else:
            yield "".join(lines)
    if openmetrics:
        yield END


def _own(lines: list[str], family: Family[Any], openmetrics: bool) -> None:
    # A counter is called without its _total in OpenMetrics, and with it in the older format.
    name = family.name.removesuffix("_total") if openmetrics else family.name
    text = family.text.replace("\\", r"\\").replace("\n", r"\n")
    if openmetrics:
        text = text.replace('"', r"\"")
    lines.extend((f"# HELP {name} {text}\n", f"# TYPE {name} {family.kind}\n"))
    family.write(lines)


class _Read:
    """What a collector said, as a registry that prometheus_client can write."""

    def __init__(self, metrics: Iterable[Metric]) -> None:
        self._metrics = list(metrics)

    def collect(self) -> list[Metric]:
        return self._metrics


def _foreign(lines: list[str], collector: Collector, openmetrics: bool) -> None:
    read = cast("CollectorRegistry", _Read(collector.collect()))
    if openmetrics:
        lines.append(openmetrics_exposition.generate_latest(read).decode().removesuffix(END))  # type: ignore[no-untyped-call]
    else:
        lines.append(exposition.generate_latest(read).decode())
