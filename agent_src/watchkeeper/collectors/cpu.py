"""Processor time by mode, and how many processors there are for the agent.

From /proc/stat (proc_stat(5)); elsewhere from psutil. On Linux the time of guests is in `user` already and not a mode.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from watchkeeper.collectors import Reading, cgroup, counter, gauge, single
from watchkeeper.config.schema.collectors import CpuCollector

MODES = ("user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal")
PROC = Path("/proc")

Times = dict[str, dict[str, float]]
"""Seconds by mode, for each processor; that of all together is called "" ."""


class CpuTimes:
    """The collector."""

    def __init__(self, spec: CpuCollector, proc: Path = PROC) -> None:
        self._per_cpu, self._proc = spec.per_cpu, proc

    def collect(self) -> Iterator[Reading]:
        times = from_proc(self._proc) if sys.platform == "linux" else from_psutil(self._per_cpu)
        total = {(mode,): seconds for mode, seconds in times.pop("").items()}
        yield counter("cpu_seconds_total", "Processor time of all processors, by mode.", total, "mode")
        if self._per_cpu:
            rows = {(cpu, mode): seconds for cpu, modes in times.items() for mode, seconds in modes.items()}
            yield counter(
                "cpu_core_seconds_total", "Processor time, by processor and mode.", rows, "cpu", "mode"
            )
        yield from self._available()

    def _available(self) -> Iterator[Reading]:
        """Read anew each time: a container's quota may be changed while it runs."""
        own = self._proc / "self"
        for name, text, value in (
            ("cpu_effective_cpus", "Processors for the agent: the least of affinity and quotas.", cgroup.effective_cpus(own)),
            ("cpu_affinity_cpus", "Processors that the agent may be put on.", float(cgroup.affinity())),
            ("cpu_online_cpus", "Processors of the machine.", os.cpu_count()),
            ("cpu_quota_cpus", "What the tightest cgroup quota amounts to; absent without one.", cgroup.cpu_quota(own)),
        ):  # fmt: skip
            yield from single(gauge, name, text, value)
        held_back = cgroup.throttled(own)
        if held_back is not None:
            periods, seconds = held_back
            yield from single(
                counter, "cpu_throttled_periods_total", "Periods in which the quota was used up.", periods
            )
            yield from single(
                counter, "cpu_throttled_seconds_total", "Time that the group was held back.", seconds
            )


def from_proc(proc: Path = PROC) -> Times:
    """What the kernel says.

    Raises:
        OSError: it says nothing.
    """
    ticks = os.sysconf("SC_CLK_TCK")
    found: Times = {}
    for line in (proc / "stat").read_text().splitlines():
        if not line.startswith("cpu"):
            continue
        name, *words = line.split()
        seconds = [int(word) / ticks for word in words[: len(MODES)]]
        found[name[3:]] = dict(zip(MODES, seconds, strict=False))
    return found


def from_psutil(per_cpu: bool) -> Times:
    """What the system says elsewhere: the modes that it knows."""
    import psutil

    found = {"": psutil.cpu_times()}
    if per_cpu:
        found |= {str(at): times for at, times in enumerate(psutil.cpu_times(percpu=True))}
    return {
        name: {_mode(mode): value for mode, value in times._asdict().items() if _mode(mode) in MODES}
        for name, times in found.items()
    }


def _mode(name: str) -> str:
    """The name that Linux has for it."""
    return {"interrupt": "irq", "dpc": "softirq"}.get(name, name)
