"""What /metrics says: one registry of the agent's own, and the functions that write to it.

Labels are names from the configuration and closed lists, so the number of series is bounded by the configuration;
what is no longer configured is taken out. families.py bounds what remains, names.py holds the names to rules, render.py
writes all of it, and sources.py reads what is only worth reading when somebody asks.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from watchkeeper._version import __version__
from watchkeeper.errors import ErrorClass
from watchkeeper.metrics import names
from watchkeeper.metrics.families import (
    DURATION_BUCKETS,
    QUANTILES,
    Counter,
    Family,
    Gauge,
    Histogram,
    Limits,
    Summary,
)
from watchkeeper.metrics.render import Registry, render
from watchkeeper.metrics.sources import LogCollector, ProcessCollector, ServiceCollector, families

__all__ = [
    "DURATION_BUCKETS",
    "Counter",
    "Gauge",
    "Histogram",
    "Metrics",
    "ProcessCollector",
    "Registry",
    "ServiceCollector",
    "Summary",
    "families",
    "render",
]

F = TypeVar("F", bound=Family[Any])


class Metrics:
    """The registry and everything in it that is written to; render.py reads it."""

    def __init__(self) -> None:
        registry = self.registry = Registry()
        self.limits = Limits()
        """`limits.series` may be changed at any time; series that are there stay."""
        self._families: dict[str, Family[Any]] = {}

        counter, gauge = self.counter, self.gauge

        overflow = counter(
            "metrics_overflow_total",
            "Writes that went to a metric's overflow series, because it had metrics.series_limit others.",
            "metric",
        )
        self.limits.overflowed = lambda metric: overflow.labels(metric).inc()
        build = gauge("build_info", "Constant 1; the labels say what runs.", "version", "python")
        build.labels(__version__, ".".join(map(str, sys.version_info[:3]))).set(1)
        self.check_runs = counter("check_runs_total", "Checks made, by outcome.", "check", "outcome")
        self.check_success = gauge(
            "check_success", "Verdict: 1 success, 0 failure or not yet known.", "check", "role"
        )
        self.check_level = gauge(
            "check_level", "The last look: 0 ok, 1 warning, 2 critical, 3 not known.", "check"
        )
        self.check_last_duration = gauge(
            "check_last_duration_seconds", "How long the last look took.", "check"
        )
        # Names from the configuration, as many as there are checks: no limit has to protect anybody from them.
        for family in (self.check_runs, self.check_success, self.check_level, self.check_last_duration):
            family.unlimited()
        # By type of check: nine buckets for each of a thousand checks would be most of what the agent says.
        self.check_duration = self.histogram("check_duration_seconds", "How long a look took.", "type")
        self.service_state = gauge(
            "service_state", "1 for the state that a service is in.", "service", "state"
        )
        self.restarts = counter("service_restarts_total", "Starts of a service after its first.", "service")
        self.exits = counter("service_exits_total", "Ends of a service's process.", "service", "expected")
        self.reloads = counter("config_reloads_total", "Configurations taken or refused.", "result")
        for result in ("success", "unchanged", "failure"):
            self.reloads.labels(result)
        self.reload_time = gauge(
            "config_last_reload_success_timestamp_seconds",
            "When a configuration was last taken, since the epoch.",
        )
        self.reload_ok = gauge(
            "config_last_reload_successful", "Whether the newest configuration is in force."
        )
        self.generation = gauge("config_generation", "Counts the configurations that have been in force.")
        self.loop_lag = gauge("loop_lag_seconds", "How late the event loop last woke up.")
        self.loop_lag_max = gauge("loop_lag_max_seconds", "How late it ever woke up.")
        # Who suspects that something is never given back looks here: the resident size also has what the allocator keeps.
        pieces = gauge("python_blocks", "Pieces of memory that Python has in use.")
        pieces.set_function(sys.getallocatedblocks)
        self.task_crashes = counter(
            "task_crashes_total", "Ends of a long-lived task by an exception.", "task"
        )
        self.reconciles = counter("reconciles_total", "Calls of a reconciler.", "kind", "outcome")
        self.reconcile_duration = self.histogram(
            "reconcile_duration_seconds", "How long a call took.", "kind"
        )
        self.errors = counter("errors_total", "Failures, by class.", "error_class")
        registry.register(ProcessCollector())
        registry.register(LogCollector())
        registry.failed = lambda _collector, _error: self.error(ErrorClass.INTERNAL)

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """The counter of that name (without `watchkeeper_`); asked for again, the same one.

        Raises:
            ValueError: names.py does not allow the name or the labels, or the name is something else's.
        """
        return self._family(Counter, name, text, labels)

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """The gauge of that name; as `counter`."""
        return self._family(Gauge, name, text, labels)

    def histogram(
        self, name: str, text: str, *labels: str, buckets: Sequence[float] = DURATION_BUCKETS
    ) -> Histogram:
        """The histogram of that name; buckets are in the unit of the name; as `counter`."""
        return self._family(Histogram, name, text, labels, buckets=buckets)

    def summary(self, name: str, text: str, *labels: str, quantiles: Sequence[float] = QUANTILES) -> Summary:
        """The summary of that name; as `counter`."""
        return self._family(Summary, name, text, labels, quantiles=quantiles)

    def _family(self, make: type[F], name: str, text: str, labels: tuple[str, ...], **options: Any) -> F:
        found = self._families.get(name)
        if found is None:
            full_name = f"{names.NAMESPACE}_{name}"
            names.check(make.kind, full_name, labels)
            found = make(full_name, text, labels, limits=self.limits, **options)
            self.registry.register(found)
            self._families[name] = found
        if not isinstance(found, make) or found.label_names != labels:
            raise ValueError(f"{found.name} is already a {found.kind} with the labels {found.label_names}")
        return found

    def discard(self, name: str) -> None:
        """Take a whole family out; what it was for is gone."""
        found = self._families.pop(name, None)
        if found is not None:
            self.registry.unregister(found)

    def find(self, sample: str) -> Family[Any] | None:
        """The family that a sample belongs to, by the sample's whole name; None: none of the agent's own."""
        name = sample.removeprefix(f"{names.NAMESPACE}_")
        if name == sample:
            return None
        possible = (name, *(name.removesuffix(suffix) for suffix in ("_bucket", "_sum", "_count")))
        return next((self._families[each] for each in possible if each in self._families), None)

    def size(self, name: str) -> int:
        """How many series a family has."""
        return len(self._families.get(name, ()))

    def drop(self, name: str, label: str, value: str) -> None:
        """Take out every series of a family in which a label has that value: what it speaks of is gone."""
        if name in self._families:
            self._families[name].drop(label, value)

    def watch(
        self,
        *,
        queue_depth: Callable[[], int],
        tasks_alive: Callable[[], int],
        service_pids: Callable[[], Mapping[str, int]] | None = None,
    ) -> None:
        """What is read when it is asked for.

        Args:
            queue_depth, tasks_alive: become gauges.
            service_pids: the first process of each service that runs, by the service's name.
        """
        if service_pids is not None:
            self.registry.register(ServiceCollector(service_pids))
        self.gauge("queue_depth", "Keys that wait for a reconciler.").set_function(queue_depth)
        self.gauge("tasks_alive", "Long-lived tasks that run.").set_function(tasks_alive)

    def error(self, error_class: ErrorClass) -> None:
        self.errors.labels(error_class.value).inc()

    def reconciled(self, kind: str, outcome: str, seconds: float) -> None:
        self.reconciles.labels(kind, outcome).inc()
        self.reconcile_duration.labels(kind).observe(seconds)

    def lagged(self, seconds: float) -> None:
        """Note how late the loop woke up."""
        self.loop_lag.set(seconds)
        self.loop_lag_max.set(max(seconds, self.loop_lag_max.only.value))

    def remove(self, label: str, name: str) -> None:
        """Take out every series of a check or a service that is no longer configured."""
        of_check: tuple[Family[Any], ...] = (
            self.check_runs,
            self.check_success,
            self.check_level,
            self.check_last_duration,
        )
        of_service: tuple[Family[Any], ...] = (self.service_state, self.restarts, self.exits)
        for family in of_check if label == "check" else of_service:
            family.drop(label, name)
