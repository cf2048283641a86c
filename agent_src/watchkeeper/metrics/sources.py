"""What is read when it is asked for: the agent's own process, the processes of services, the log."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from watchkeeper import logs
from watchkeeper.native import Process, processes


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
