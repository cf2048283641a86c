"""What disks do: reads, writes, and the time that they take.

From /proc/diskstats (Documentation/admin-guide/iostats.rst: sectors are 512 bytes whatever the disk says, times are
milliseconds); elsewhere from psutil.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from watchkeeper.collectors import Filter, Reading, counter
from watchkeeper.config.schema.collectors import DiskCollector

PROC = Path("/proc")
SECTOR = 512
TEXTS = {
    "disk_reads_total": "Reads that were completed.",
    "disk_read_bytes_total": "Bytes that were read.",
    "disk_read_seconds_total": "Time that all reads took together.",
    "disk_writes_total": "Writes that were completed.",
    "disk_written_bytes_total": "Bytes that were written.",
    "disk_write_seconds_total": "Time that all writes took together.",
    "disk_busy_seconds_total": "Time in which there was anything to do.",
}
Numbers = tuple[float | None, ...]
"""In the order of TEXTS; None: the system does not say."""


class Disks:
    """The collector."""

    def __init__(self, spec: DiskCollector, proc: Path = PROC) -> None:
        self._devices = Filter(spec.devices_include, spec.devices_exclude)
        self._proc = proc

    def collect(self) -> Iterator[Reading]:
        found = from_proc(self._proc) if sys.platform == "linux" else from_psutil()
        wanted = {device: numbers for device, numbers in found.items() if self._devices(device)}
        for place, (name, text) in enumerate(TEXTS.items()):
            rows = {
                (device,): value
                for device, numbers in wanted.items()
                if (value := numbers[place]) is not None
            }
            yield counter(name, text, rows, "device")


def from_proc(proc: Path = PROC) -> dict[str, Numbers]:
    """What the kernel says. A container may have no such file, and then no disks."""
    try:
        lines = (proc / "diskstats").read_text().splitlines()
    except FileNotFoundError:
        return {}
    found: dict[str, Numbers] = {}
    for line in lines:
        fields = line.split()
        if len(fields) >= 14:
            reads, _, read, read_ms, writes, _, written, write_ms, _, busy_ms = map(int, fields[3:13])
            found[fields[2]] = (
                reads, read * SECTOR, read_ms / 1000, writes, written * SECTOR, write_ms / 1000, busy_ms / 1000
            )  # fmt: skip
    return found


def from_psutil() -> dict[str, Numbers]:
    """What the system says elsewhere."""
    import psutil

    found: dict[str, Numbers] = {}
    for device, io in (psutil.disk_io_counters(perdisk=True) or {}).items():
        busy = getattr(io, "busy_time", None)
        found[device] = (
            io.read_count, io.read_bytes, io.read_time / 1000, io.write_count, io.write_bytes, io.write_time / 1000,
            None if busy is None else busy / 1000,
        )  # fmt: skip
    return found
