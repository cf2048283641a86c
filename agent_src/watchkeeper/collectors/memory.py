"""Memory and swap, and what the agent's cgroup may use of it.

From /proc/meminfo (proc_meminfo(5)); elsewhere from psutil. "Available" is what could be had without swapping, which is
the number to watch: free memory is small on every machine that has been up for a while.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from watchkeeper.collectors import Reading, cgroup, gauge, single

PROC = Path("/proc")
TEXTS = {
    "memory_size_bytes": "Memory of the machine.",
    "memory_available_bytes": "Memory that could be had without swapping.",
    "memory_free_bytes": "Memory that nobody uses, not even as a cache.",
    "memory_buffers_bytes": "Memory in use as buffers of block devices.",
    "memory_cached_bytes": "Memory in use as a cache of files.",
    "memory_swap_size_bytes": "Swap of the machine.",
    "memory_swap_free_bytes": "Swap that is free.",
    "memory_limit_bytes": "What the agent's cgroup may use, the least of its ancestors'; absent without a limit.",
    "memory_cgroup_used_bytes": "What the agent's cgroup uses, caches among it.",
}
FIELDS = {
    "MemTotal": "memory_size_bytes",
    "MemAvailable": "memory_available_bytes",
    "MemFree": "memory_free_bytes",
    "Buffers": "memory_buffers_bytes",
    "Cached": "memory_cached_bytes",
    "SwapTotal": "memory_swap_size_bytes",
    "SwapFree": "memory_swap_free_bytes",
}


class Memory:
    """The collector."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc

    def collect(self) -> Iterator[Reading]:
        values = from_proc(self._proc) if sys.platform == "linux" else from_psutil()
        limit, used = cgroup.memory_limit(self._proc / "self"), cgroup.memory_used(self._proc / "self")
        found = {**values, "memory_limit_bytes": limit, "memory_cgroup_used_bytes": used}
        for name, text in TEXTS.items():
            yield from single(gauge, name, text, found.get(name))


def from_proc(proc: Path = PROC) -> dict[str, float | None]:
    """What the kernel says.

    Raises:
        OSError: it says nothing.
    """
    found: dict[str, float | None] = {}
    for line in (proc / "meminfo").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in FIELDS:
            found[FIELDS[name]] = int(rest.split()[0]) * 1024
    return found


def from_psutil() -> dict[str, float | None]:
    """What the system says elsewhere."""
    import psutil

    memory, swap = psutil.virtual_memory(), psutil.swap_memory()
    return {
        "memory_size_bytes": memory.total,
        "memory_available_bytes": memory.available,
        "memory_free_bytes": memory.free,
        "memory_buffers_bytes": getattr(memory, "buffers", None),
        "memory_cached_bytes": getattr(memory, "cached", None),
        "memory_swap_size_bytes": swap.total,
        "memory_swap_free_bytes": swap.free,
    }
