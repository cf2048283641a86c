"""The disk check: room on a file system. The question runs in a thread of its own, because a dead mount never answers."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass

from watchkeeper.checks import Memory, Outcome, failed, own_fault, passed, warned
from watchkeeper.checks.amounts import about
from watchkeeper.checks.threads import THREADS, owner
from watchkeeper.config.schema.checks import DiskCheck


@dataclass(frozen=True)
class Room:
    """Bytes and inodes; `available` is what ordinary users may still have."""

    used: int
    available: int
    inodes: int
    free_inodes: int

    @property
    def used_percent(self) -> float:
        """As df(1) has it: of what ordinary users may have."""
        return percent(self.used, self.used + self.available)

    @property
    def inodes_percent(self) -> float:
        return percent(self.inodes - self.free_inodes, self.inodes)


def percent(part: int, whole: int) -> float:
    """0 of nothing: a file system without inodes has none to run out of."""
    return 100.0 * part / whole if whole > 0 else 0.0


async def probe(spec: DiskCheck, memory: Memory) -> Outcome:
    """Ask once."""
    try:
        room = await THREADS.run(owner(memory), lambda: measure(spec.path))
    except OSError as error:
        if own_fault(error):
            raise
        return failed(f"{spec.path} cannot be looked at: {error.strerror}")
    said = f"{spec.path} is {room.used_percent:.1f} % full, {about(room.available)} are free"
    wrong = _beyond(room, spec.max_used_percent, spec.max_inodes_percent, spec.min_free)
    if wrong is None and spec.max_used is not None and room.used > spec.max_used:
        wrong = f"{about(room.used)} are used, {about(spec.max_used)} is the limit"
    if wrong is not None:
        return failed(f"{said}: {wrong}")
    wrong = _beyond(room, spec.warn_used_percent, spec.warn_inodes_percent, spec.warn_free)
    return passed(said) if wrong is None else warned(f"{said}: {wrong}")


def measure(path: str) -> Room:
    """What there is.

    Raises:
        OSError: the path is not there, or may not be looked at.
    """
    if sys.platform == "win32":
        import shutil

        usage = shutil.disk_usage(path)
        return Room(usage.used, usage.free, 0, 0)
    found = os.statvfs(path)
    return Room(
        (found.f_blocks - found.f_bfree) * found.f_frsize,
        found.f_bavail * found.f_frsize,
        found.f_files,
        found.f_ffree,
    )


def _beyond(room: Room, used: float | None, inodes: float | None, free: int | None) -> str | None:
    """Which of these limits does not hold."""
    if used is not None and room.used_percent > used:
        return f"{used:g} % is the limit"
    if inodes is not None and room.inodes_percent > inodes:
        return f"{room.inodes_percent:.1f} % of the inodes are taken, {inodes:g} % is the limit"
    if free is not None and room.available < free:
        return f"{about(free)} are to be free"
    return None
