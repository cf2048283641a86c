"""What the agent's control group allows it: processors and memory, of cgroup v1 and v2.

Rules (Documentation/admin-guide/cgroup-v2.rst, cgroup-v1/; proc_pid_mountinfo(5), cgroups(7)):
    G1  The tightest limit of a group and of all its ancestors holds, however many there are.
    G2  A group is looked for where its hierarchy is mounted. A mount may begin below the root of the hierarchy, as in a
        container; what is above it cannot be seen and is not counted.
    G3  `max` (v2), a negative quota (v1) and a memory limit beyond any machine (v1) are no limits.
    G4  What cannot be read is no limit: a limit is never made up.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

UNLIMITED = 1 << 60
"""cgroup v1 says "no limit" with the largest number of pages that a long holds."""

PROC = Path("/proc/self")


class Mount(NamedTuple):
    """Where a hierarchy is mounted, and which of its groups is there."""

    root: PurePosixPath
    point: Path


class Group(NamedTuple):
    """The agent's group in one hierarchy: its folder, and those of its ancestors as far as they can be seen."""

    version: int
    folders: tuple[Path, ...]


def groups(controller: str, proc: Path = PROC) -> list[Group]:
    """Where the agent's limits of one controller ("cpu", "memory") are; a machine may have both versions."""
    try:
        lines = (proc / "cgroup").read_text().splitlines()
        mounts = list(_mounts(controller, (proc / "mountinfo").read_text()))
    except OSError:
        return []  # G4
    found = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        version = 1 if controllers else 2
        if version == 2 or controller in controllers.split(","):
            folders = next((_folders(mount, path) for v, mount in mounts if v == version), ())
            found.append(Group(version, folders))
    return found


def _mounts(controller: str, mountinfo: str) -> Iterator[tuple[int, Mount]]:
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        fields, tail = before.split(" "), after.split(" ")
        if len(fields) < 5 or len(tail) < 3:
            continue
        mount = Mount(PurePosixPath(unescaped(fields[3])), Path(unescaped(fields[4])))
        if tail[0] == "cgroup2":
            yield 2, mount
        elif tail[0] == "cgroup" and controller in tail[2].split(","):
            yield 1, mount


def unescaped(text: str) -> str:
    r"""A field of mountinfo: \040 is a space, and so on."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def _folders(mount: Mount, path: str) -> tuple[Path, ...]:
    """From the group itself up to the mount point (G1)."""
    parts: tuple[str, ...] = ()
    group = PurePosixPath(path)
    if ".." not in group.parts and group.is_relative_to(mount.root):
        parts = group.relative_to(mount.root).parts
    folders = [
        mount.point
    ]  # G2: of a group that is not below the mount's root, only the mount point can be seen
    for part in parts:
        folders.append(folders[-1] / part)
    return tuple(reversed(folders))


def _words(file: Path) -> list[str]:
    try:
        return file.read_text().split()
    except OSError:
        return []


def _number(file: Path) -> int | None:
    words = _words(file)
    try:
        return int(words[0]) if words else None
    except ValueError:
        return None  # max


def cpu_quota(proc: Path = PROC) -> float | None:
    """How many processors the quota amounts to; None: there is none."""
    quotas = [
        quota
        for group in groups("cpu", proc)
        for folder in group.folders
        if (quota := _quota_v2(folder) if group.version == 2 else _quota_v1(folder)) is not None
    ]
    return min(quotas, default=None)


def _quota_v2(folder: Path) -> float | None:
    words = _words(folder / "cpu.max")
    if len(words) != 2 or not all(word.isdigit() for word in words) or words[1] == "0":
        return None  # G3
    return int(words[0]) / int(words[1])


def _quota_v1(folder: Path) -> float | None:
    quota, period = _number(folder / "cpu.cfs_quota_us"), _number(folder / "cpu.cfs_period_us")
    return quota / period if quota and period and quota > 0 else None


def memory_limit(proc: Path = PROC) -> int | None:
    """Bytes that the group may use; None: there is no limit."""
    name = {1: "memory.limit_in_bytes", 2: "memory.max"}
    limits = [
        limit
        for group in groups("memory", proc)
        for folder in group.folders
        if (limit := _number(folder / name[group.version])) is not None and limit < UNLIMITED
    ]
    return min(limits, default=None)


def memory_used(proc: Path = PROC) -> int | None:
    """Bytes that the agent's own group uses; None: not known, as at the root of v2."""
    name = {1: "memory.usage_in_bytes", 2: "memory.current"}
    return next(
        (
            used
            for group in groups("memory", proc)
            if group.folders and (used := _number(group.folders[0] / name[group.version])) is not None
        ),
        None,
    )


def throttled(proc: Path = PROC) -> tuple[int, float] | None:
    """How many periods the agent's group was held back in, and for how many seconds; None: not known."""
    for group in groups("cpu", proc):
        words = _words(group.folders[0] / "cpu.stat") if group.folders else []
        stat = dict(zip(words[::2], words[1::2], strict=False))
        if "nr_throttled" in stat:
            microseconds = stat.get("throttled_usec")
            seconds = int(microseconds) / 1e6 if microseconds else int(stat.get("throttled_time", 0)) / 1e9
            return int(stat["nr_throttled"]), seconds
    return None


def affinity() -> int:
    """Processors that the scheduler may put the agent on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def effective_cpus(proc: Path = PROC) -> float:
    """How much processor there is for the agent: what affinity allows, or the quota where that is less. More than 0."""
    quota = cpu_quota(proc)
    return float(affinity()) if quota is None else min(float(affinity()), quota)
