"""What /metrics says: one registry of the agent's own, and the functions that write to it.

Labels are names from the configuration and closed lists, so the number of series is bounded by the configuration;
what is no longer configured is taken out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, cast

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from watchkeeper import logs
from watchkeeper._version import __version__
from watchkeeper.errors import ErrorClass
from watchkeeper.native import Process, processes

DURATION_BUCKETS = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0)


class Metrics:
    """The registry and everything in it that is written to; reading happens in exposition.py."""

    def __init__(self) -> None:
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        registry = self.registry = CollectorRegistry()
        self._families: dict[str, Counter | Gauge | Histogram] = {}

        counter, gauge = self.counter, self.gauge

        build = gauge("build_info", "Constant 1; the labels say what runs.", "version", "python")
        build.labels(__version__, ".".join(map(str, sys.version_info[:3]))).set(1)
        self.check_runs = counter("check_runs_total", "Checks made, by outcome.", "check", "outcome")
        self.check_success = gauge(
            "check_success", "Verdict: 1 success, 0 failure or not yet known.", "check", "role"
        )
        self.check_duration = self.histogram("check_duration_seconds", "How long a check took.", "check")
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

    def counter(self, name: str, text: str, *labels: str) -> Counter:
        """The counter of that name (without `watchkeeper_`); asked for again, the same one."""
        return cast("Counter", self._family(Counter, name, text, labels))

    def gauge(self, name: str, text: str, *labels: str) -> Gauge:
        """The gauge of that name."""
        return cast("Gauge", self._family(Gauge, name, text, labels))

    def histogram(
        self, name: str, text: str, *labels: str, buckets: tuple[float, ...] = DURATION_BUCKETS
    ) -> Histogram:
        """The histogram of that name; buckets are in the unit of the name."""
        return cast("Histogram", self._family(Histogram, name, text, labels, buckets=buckets))

    def _family(
        self,
        kind: type[Counter | Gauge | Histogram],
        name: str,
        text: str,
        labels: tuple[str, ...],
        **options: Any,
    ) -> Counter | Gauge | Histogram:
        if name not in self._families:
            self._families[name] = kind(
                f"watchkeeper_{name}", text, labels, registry=self.registry, **options
            )
        return self._families[name]

    def drop(self, name: str, label: str, value: str) -> None:
        """Take out every series of a family in which a label has that value: what it speaks of is gone."""
        if name in self._families:
            _remove(self._families[name], label, value)

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
        for name, text, function in (
            ("queue_depth", "Keys that wait for a reconciler.", queue_depth),
            ("tasks_alive", "Long-lived tasks that run.", tasks_alive),
        ):
            Gauge(f"watchkeeper_{name}", text, registry=self.registry).set_function(function)

    def error(self, error_class: ErrorClass) -> None:
        self.errors.labels(error_class.value).inc()

    def reconciled(self, kind: str, outcome: str, seconds: float) -> None:
        self.reconciles.labels(kind, outcome).inc()
        self.reconcile_duration.labels(kind).observe(seconds)

    def lagged(self, seconds: float) -> None:
        """Note how late the loop woke up."""
        self.loop_lag.set(seconds)
        self._lag_max = max(getattr(self, "_lag_max", 0.0), seconds)
        self.loop_lag_max.set(self._lag_max)

    def remove(self, label: str, name: str) -> None:
        """Take out every series of a check or a service that is no longer configured."""
        for family in (
            (self.check_runs, self.check_success, self.check_duration)
            if label == "check"
            else (self.service_state, self.restarts, self.exits)
        ):
            _remove(family, label, name)


def _remove(family: Counter | Gauge | Histogram, label: str, name: str) -> None:
    at = family._labelnames.index(label)
    for values in [values for values in list(family._metrics) if values[at] == name]:
        family.remove(*values)


class ProcessCollector:
    """process_*, through psutil so that every platform has it; psutil is imported at the first scrape."""

    def collect(self) -> Iterator[Metric]:
        import psutil

        process = psutil.Process()
        with process.oneshot():
            cpu = process.cpu_times()
            memory = process.memory_info()
            started = process.create_time()
            threads = process.num_threads()
            files = getattr(process, "num_fds" if hasattr(process, "num_fds") else "num_handles")()
        yield CounterMetricFamily(
            "process_cpu_seconds", "Processor time used, user and system.", value=cpu.user + cpu.system
        )
        yield GaugeMetricFamily("process_resident_memory_bytes", "Resident memory.", value=memory.rss)
        yield GaugeMetricFamily("process_virtual_memory_bytes", "Virtual memory.", value=memory.vms)
        yield GaugeMetricFamily(
            "process_start_time_seconds", "Start of the process, since the epoch.", value=started
        )
        yield GaugeMetricFamily("process_threads", "Threads.", value=threads)
        yield GaugeMetricFamily(
            "process_open_fds", "Open file descriptors; on Windows, handles.", value=files
        )


class ServiceCollector:
    """What the processes of each service use: its first one and everything below that, in one pass over all processes."""

    def __init__(self, pids: Callable[[], Mapping[str, int]]) -> None:
        self._pids = pids

    def describe(self) -> list[Metric]:
        """Nothing: prometheus_client would else make a pass to learn the names."""
        return []

    def collect(self) -> Iterator[Metric]:
        pids = self._pids()
        try:
            found = processes(command=False) if pids else []
        except (
            OSError
        ):  # there is no /proc that can be read: nothing is said of services, and the rest is served
            found, pids = [], {}
        count, memory, seconds = (
            GaugeMetricFamily(f"watchkeeper_service_{name}", text, labels=["service"])
            for name, text in (
                ("processes", "Processes of a service that are there now."),
                ("resident_memory_bytes", "Resident memory of these."),
                ("cpu_seconds", "Processor time that these have used; what has ended took its own with it."),
            )
        )
        for service, members in families(found, pids).items():
            count.add_metric([service], len(members))
            memory.add_metric([service], sum(one.rss_bytes or 0 for one in members))
            seconds.add_metric(
                [service], sum((one.user_seconds or 0) + (one.system_seconds or 0) for one in members)
            )
        yield from (count, memory, seconds)


def families(found: list[Process], roots: Mapping[str, int]) -> dict[str, list[Process]]:
    """For each name the process with its pid and all its descendants, as far as they are in `found`."""
    by_pid = {process.pid: process for process in found}
    children: dict[int, list[Process]] = {}
    for process in found:
        children.setdefault(process.ppid, []).append(process)
    return {name: _family(by_pid.get(pid), children) for name, pid in roots.items()}


def _family(root: Process | None, children: Mapping[int, list[Process]]) -> list[Process]:
    """Parents before children. A pid may be somebody else's again by the time its child is read: each counts once."""
    members = {root.pid: root} if root else {}
    waiting = list(members.values())
    while waiting:
        for child in children.get(waiting.pop().pid, ()):
            if child.pid not in members:
                members[child.pid] = child
                waiting.append(child)
    return list(members.values())


class LogCollector:
    """What became of the agent's own log lines; nothing while they go through no ring."""

    def collect(self) -> Iterator[Metric]:
        counts = logs.counts()
        if counts:
            family = CounterMetricFamily(
                "watchkeeper_log_lines", "Log lines, by what became of them.", labels=["outcome"]
            )
            family.add_metric(["written"], counts["written"])
            dropped = counts["dropped_oldest"] + counts["dropped_newest"] + counts["too_long"]
            family.add_metric(["dropped"], dropped)
            family.add_metric(["lost"], counts["lost"])
            yield family
