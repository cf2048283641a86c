"""The twin of native/processes_*.c. On Linux it states the same rules in Python; elsewhere psutil answers.

Rules of the Linux half (proc_pid_stat(5), proc_pid_cmdline(5)), and of the C source:

* A process is a folder whose name is a decimal number without a leading zero that fits a C int.
* What cannot be read, has ended meanwhile or is no `stat` is left out. Nothing raises but a /proc that is not there.
* `stat` is read once and up to STAT_LIMIT bytes. The name stands between its first "(" and its last ")".
* `command` is None when cmdline cannot be read, and () for what has none, such as a thread of the kernel.
"""

from __future__ import annotations

import os
import sys
from typing import Any, NamedTuple

STAT_LIMIT = 4096
COMMAND_LIMIT = 1024 * 1024
COMMAND_STEP = 4096
LARGEST = 2**63 - 1
LARGEST_PID = 2**31 - 1
# Places among the words behind the name: state, ppid and so on.
AT_PPID, AT_USER, AT_SYSTEM, AT_STARTED, AT_RSS = 1, 11, 12, 19, 21


class Process(NamedTuple):
    """One process; the extension's has the same fields. None: not known."""

    pid: int
    ppid: int
    state: str
    """One letter as in ps(1): R S D Z T t I X."""
    user_seconds: float | None
    system_seconds: float | None
    rss_bytes: int | None
    started: float | None
    """Seconds since the epoch. With the pid it names a process until the clock is set."""
    name: str
    command: tuple[str, ...] | None


def processes(
    proc: str | bytes | os.PathLike[str] | os.PathLike[bytes] = "/proc", command: bool = True
) -> list[Process]:
    """Every process that could be read, in the order of pids.

    Args:
        proc: where /proc is; only Linux looks at it.
        command: whether the arguments are wanted as well; they are half of the work.

    Raises:
        OSError: `proc` cannot be opened.
    """
    return _linux(os.fsdecode(proc), command) if sys.platform == "linux" else _psutil(command)


def _linux(proc: str, command: bool) -> list[Process]:
    folder = os.open(proc, os.O_RDONLY | os.O_DIRECTORY)
    try:
        clock = _Clock(folder)
        names = os.listdir(folder)  # noqa: PTH208 - pathlib does not list a descriptor
        pids = sorted(pid for name in names if (pid := _pid(name)))
        found = (_process(folder, pid, clock, command) for pid in pids)
        return [process for process in found if process is not None]
    finally:
        os.close(folder)


class _Clock:
    """What turns the kernel's units into seconds and bytes."""

    def __init__(self, folder: int) -> None:
        self.ticks = float(os.sysconf("SC_CLK_TCK"))
        self.page_size = os.sysconf("SC_PAGESIZE")
        self.boot = _boot_time(folder)


def _boot_time(folder: int) -> int | None:
    """`btime` of /proc/stat, in seconds since the epoch."""
    try:
        with os.fdopen(_open(folder, "stat"), "rb") as file:
            lines = file.read().split(b"\n")
    except OSError:
        return None
    words = (word for line in lines if line.startswith(b"btime ") for word in line[6:].split()[:1])
    return next((time for time in map(_number, words) if time is not None), None)


def _open(folder: int, path: str) -> int:
    return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK, dir_fd=folder)


def _number(word: bytes) -> int | None:
    """A decimal number that an int64 holds; None for anything else."""
    if not word.isdigit() or len(word) > 19:
        return None
    value = int(word)
    return value if value <= LARGEST else None


def _pid(name: str) -> int:
    """The number that a folder is called after; 0 for other names."""
    if not (name.isascii() and name.isdigit()) or name.startswith("0") or len(name) > 10:
        return 0
    pid = int(name)
    return pid if pid <= LARGEST_PID else 0


def _process(folder: int, pid: int, clock: _Clock, command: bool) -> Process | None:
    try:
        descriptor = _open(folder, f"{pid}/stat")
    except OSError:
        return None
    try:
        stat = os.read(descriptor, STAT_LIMIT)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    parsed = _parse_stat(pid, stat, clock)
    if parsed is None or not command:
        return parsed
    return parsed._replace(command=_command(folder, pid))


def _parse_stat(pid: int, stat: bytes, clock: _Clock) -> Process | None:
    """The words of `stat`; None when one of those that count is missing or is no number."""
    opening, closing = stat.find(b"("), stat.rfind(b")")
    words = stat[closing + 1 :].split()
    if opening < 0 or closing < opening or len(words) <= AT_RSS:
        return None
    state = words[0]
    numbers = [_number(words[at]) for at in (AT_PPID, AT_USER, AT_SYSTEM, AT_STARTED, AT_RSS)]
    if len(state) != 1 or not 32 < state[0] < 127 or any(number is None for number in numbers):
        return None
    ppid, user, system, started, pages = (number for number in numbers if number is not None)
    if pages > LARGEST // clock.page_size:
        return None
    return Process(
        pid=pid,
        ppid=ppid,
        state=state.decode(),
        user_seconds=float(user) / clock.ticks,
        system_seconds=float(system) / clock.ticks,
        rss_bytes=pages * clock.page_size,
        started=None if clock.boot is None else float(clock.boot) + float(started) / clock.ticks,
        name=os.fsdecode(stat[opening + 1 : closing]),
        command=None,
    )


def _command(folder: int, pid: int) -> tuple[str, ...] | None:
    """The arguments, each ended by NUL; what a program has written over them itself may lack the last one."""
    try:
        descriptor = _open(folder, f"{pid}/cmdline")
    except OSError:
        return None
    try:
        arguments = _read_command(descriptor).split(b"\0")
    except OSError:
        return None
    finally:
        os.close(descriptor)
    if not arguments[-1]:
        arguments.pop()
    return tuple(map(os.fsdecode, arguments))


def _read_command(descriptor: int) -> bytes:
    """Up to COMMAND_LIMIT bytes. A short read is the end: the kernel fills the buffer as long as there is more."""
    data = b""
    step = COMMAND_STEP
    while step:
        got = os.read(descriptor, step)
        data += got
        if len(got) < step:
            break
        step = min(len(data), COMMAND_LIMIT - len(data))
    return data


# -- everywhere else: psutil, which the agent depends on anyway ---------------------------------------------------------

_FIELDS = ["pid", "ppid", "status", "cpu_times", "memory_info", "create_time", "name"]
_LETTERS = {
    "running": "R",
    "sleeping": "S",
    "disk-sleep": "D",
    "stopped": "T",
    "zombie": "Z",
    "idle": "I",
    "dead": "X",
}


def _psutil(command: bool) -> list[Process]:
    import psutil

    fields = [*_FIELDS, "cmdline"] if command else _FIELDS
    found = [_from_psutil(process.info) for process in psutil.process_iter(fields)]
    return sorted(found, key=lambda process: process.pid)


def _from_psutil(info: dict[str, Any]) -> Process:
    times, memory, arguments = info["cpu_times"], info["memory_info"], info.get("cmdline")
    return Process(
        pid=info["pid"],
        ppid=info["ppid"] or 0,
        state=_LETTERS.get(info["status"], "S"),
        user_seconds=times and times.user,
        system_seconds=times and times.system,
        rss_bytes=memory and memory.rss,
        started=info["create_time"] or None,
        name=info["name"] or "",
        command=None if arguments is None else tuple(arguments),
    )
