"""What is read when it is asked for: the agent's own process, the processes of services, the log."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from watchkeeper import logs
from watchkeeper.native import Process, processes


class Usage(NamedTuple):
    """What a process uses, in seconds, bytes and numbers."""

    cpu_seconds: float
    resident: float
    virtual: float
    started: float
    threads: float
    files: float


class ProcessCollector:
    """process_*: the names that every client library has for them."""

    def collect(self) -> Iterator[Metric]:
        usage = own_usage()
        yield CounterMetricFamily(
            "process_cpu_seconds", "Processor time used, user and system.", value=usage.cpu_seconds
        )
        for name, text, value in (
            ("resident_memory_bytes", "Resident memory.", usage.resident),
            ("virtual_memory_bytes", "Virtual memory.", usage.virtual),
            ("start_time_seconds", "Start of the process, since the epoch.", usage.started),
            ("threads", "Threads.", usage.threads),
            ("open_fds", "Open file descriptors; on Windows, handles.", usage.files),
        ):
            yield GaugeMetricFamily(f"process_{name}", text, value=value)


def own_usage() -> Usage:
    """What the agent uses: from /proc on Linux, because psutil alone would take 3 MB of it; elsewhere through psutil."""
    return _usage_from_proc() if sys.platform == "linux" else _usage_from_psutil()


def _usage_from_proc() -> Usage:
    """proc_pid_stat(5): the fields are counted from behind the name, which may contain anything."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    ticks = os.sysconf("SC_CLK_TCK")
    # Without btime, as in a sandbox, at least the order of starts is right.
    lines = Path("/proc/stat").read_text().splitlines()
    booted = next((float(line.split()[1]) for line in lines if line.startswith("btime ")), 0.0)
    return Usage(
        cpu_seconds=(int(fields[11]) + int(fields[12])) / ticks,
        resident=float(fields[21]) * os.sysconf("SC_PAGESIZE"),
        virtual=float(fields[20]),
        started=booted + int(fields[19]) / ticks,
        threads=float(fields[17]),
        files=float(len(os.listdir("/proc/self/fd")) - 1),  # noqa: PTH208 - less the one that it is listed with
    )


def _usage_from_psutil() -> Usage:
    import psutil

    process = psutil.Process()
    with process.oneshot():
        cpu, memory = process.cpu_times(), process.memory_info()
        files = getattr(process, "num_fds" if hasattr(process, "num_fds") else "num_handles")()
        return Usage(
            cpu_seconds=cpu.user + cpu.system,
            resident=memory.rss,
            virtual=memory.vms,
            started=process.create_time(),
            threads=process.num_threads(),
            files=files,
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
