"""Space of what is mounted: size, free, free for everybody, and inodes.

A file system is asked with statvfs, which may hang for ever when a server is gone. The collector notes where it is, so
that its timeout can say which mount point that was.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from watchkeeper.collectors import Filter, Reading, gauge
from watchkeeper.collectors.cgroup import unescaped
from watchkeeper.config.schema.collectors import FilesystemCollector

PROC = Path("/proc")
LABELS = ("mount", "device", "type")
TEXTS = {
    "filesystem_size_bytes": "Size of a file system.",
    "filesystem_free_bytes": "What is free of it.",
    "filesystem_available_bytes": "What is free of it for everybody, and not only for root.",
    "filesystem_files": "Inodes of a file system; 0 where it makes them as it needs them.",
    "filesystem_files_free": "Inodes that are free.",
    "filesystem_readonly": "1 for a file system that can only be read.",
}


class Mounted(NamedTuple):
    """One file system in its place."""

    point: str
    device: str
    kind: str
    readonly: bool


class Filesystems:
    """The collector. `at` is the mount point that it is asking now."""

    def __init__(self, spec: FilesystemCollector, proc: Path = PROC) -> None:
        self._mounts = Filter(spec.mounts_include, spec.mounts_exclude)
        self._types = Filter(spec.types_include, spec.types_exclude)
        self._proc = proc
        self.at: str | None = None

    def collect(self) -> Iterator[Reading]:
        mounted = from_proc(self._proc) if sys.platform == "linux" else from_psutil()
        wanted = [one for one in mounted if self._types(one.kind) and self._mounts(one.point)]
        numbers: dict[tuple[str, ...], tuple[float, ...]] = {}
        errors: dict[tuple[str, ...], float] = {}
        for one in wanted:
            key = (one.point, one.device, one.kind)
            self.at = one.point
            try:
                numbers[key] = (*_space(one.point), float(one.readonly))
                errors[key] = 0.0
            except OSError:
                errors[key] = 1.0
        self.at = None
        for place, (name, text) in enumerate(TEXTS.items()):
            rows = {key: values[place] for key, values in numbers.items()}
            yield gauge(name, text, rows, *LABELS)
        yield gauge("filesystem_error", "1 for a file system that could not be asked.", errors, *LABELS)


def _space(point: str) -> tuple[float, float, float, float, float]:
    """Size, free, available, inodes, free inodes.

    Raises:
        OSError: the file system does not say.
    """
    if sys.platform == "win32":
        import shutil

        usage = shutil.disk_usage(point)
        return float(usage.total), float(usage.free), float(usage.free), 0.0, 0.0
    found = os.statvfs(point)
    block = found.f_frsize
    blocks = (found.f_blocks * block, found.f_bfree * block, found.f_bavail * block)
    return (*map(float, blocks), float(found.f_files), float(found.f_ffree))  # type: ignore[return-value]


def from_proc(proc: Path = PROC) -> list[Mounted]:
    """What is mounted, as the agent sees it; of several in one place, the last, which hides the others.

    Raises:
        OSError: there is no list.
    """
    found = {}
    for line in (proc / "self" / "mountinfo").read_text(errors="surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        if len(fields) >= 6 and len(tail) >= 2:
            options = f"{fields[5]},{tail[2] if len(tail) > 2 else ''}".split(",")
            point = unescaped(fields[4])
            found[point] = Mounted(point, unescaped(tail[1]), tail[0], "ro" in options)
    return list(found.values())


def from_psutil() -> list[Mounted]:
    """What is mounted elsewhere; a drive without a medium has no type and is left out."""
    import psutil

    return [
        Mounted(part.mountpoint, part.device, part.fstype, "ro" in part.opts.split(","))
        for part in psutil.disk_partitions(all=False)
        if part.fstype
    ]
