"""What tells one process from another that later has the same number: when it started, and in which boot.

On Linux the start is in clock ticks since the boot, as the kernel says it, and does not move when somebody sets the clock.
Elsewhere psutil says it in seconds since the epoch.
"""

from __future__ import annotations

import hashlib
import os
import pathlib
import sys
import time

LINUX = sys.platform.startswith("linux")
MARK = "WATCHKEEPER_SERVICE"
"""The variable that every process of a service has from its start: the service's name."""
AGENT_MARK = "WATCHKEEPER_AGENT"
"""And the one that says whose service it is: two agents of one machine may have services of the same name."""


def agent_id(state_dir: pathlib.Path | None) -> str:
    """The same for every agent that has this state directory, one after the other; without one, of this process alone."""
    if state_dir is None:
        return f"{boot_id()[:8]}-{os.getpid()}-{start_of(os.getpid()) or 0:.0f}"
    return hashlib.sha256(os.fsencode(state_dir.resolve())).hexdigest()[:16]


def boot_id() -> str:
    """One text per boot of this machine; empty where there is none."""
    try:
        return pathlib.Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return "" if LINUX else _boot_time()


def _boot_time() -> str:
    import psutil

    # The clock may be set between two looks: minutes are as exact as this has to be.
    return f"booted in minute {int(psutil.boot_time() // 60)}"


def start_of(pid: int) -> float | None:
    """When a process started; None: there is none, or only a zombie."""
    return _start_in_ticks(pid) if LINUX else _start_by_clock(pid)


def start_before(seconds: float) -> float:
    """What `start_of` says of a process that was started so long ago, or a little earlier: no clock is exact."""
    if LINUX:
        return (time.clock_gettime(time.CLOCK_BOOTTIME) - seconds) * os.sysconf("SC_CLK_TCK") - 2
    return time.time() - seconds - 1


def _start_in_ticks(pid: int) -> float | None:
    words = _stat(pid)
    return None if words is None or words[0] in ("Z", "X") else float(words[19])


def _start_by_clock(pid: int) -> float | None:
    import psutil

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except psutil.Error:
        return None


def _stat(pid: int) -> list[str] | None:
    """The words of /proc/PID/stat behind the name: state, parent, group, session and so on."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    words = text.rpartition(")")[2].split()
    return words if len(words) > 19 else None


def marked(service: str, agent: str) -> dict[int, int]:
    """The processes that have the marks of an agent's service, each with its group (Linux; elsewhere none are found).

    A process that has cleared its environment is not found, nor is one of another user for an agent that is not root.
    """
    if not LINUX:
        return {}
    wanted, owner = f"{MARK}={service}".encode(), f"{AGENT_MARK}={agent}".encode()
    found = {}
    for folder in pathlib.Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        try:
            environment = (folder / "environ").read_bytes()
        except OSError:
            continue
        if wanted in environment and {wanted, owner} <= set(environment.split(b"\0")):
            words = _stat(int(folder.name))
            if words is not None and words[0] not in ("Z", "X"):
                found[int(folder.name)] = int(words[2])
    return found


class MarkedStrays:
    """Those of a service that are no longer in its group."""

    def __init__(self, service: str, agent: str) -> None:
        self._service, self._agent = service, agent
        self.group = 0

    def pids(self) -> list[int]:
        return [pid for pid, group in marked(self._service, self._agent).items() if group != self.group]
