"""What is done to a process before its program runs: limits, niceness, the kernel's choice when memory is short.

Linux sets all of them from outside, so that nothing of the agent has to run between fork and exec. Where it does not, on
macOS or for the process of another user without CAP_SYS_RESOURCE, the shell at the gate (child.py) sets its own limits,
which are the program's then.
"""

from __future__ import annotations

import os
import pathlib
import sys

from watchkeeper.config.schema.services import Limits, ProcessService

LINUX = {
    "nofile": "RLIMIT_NOFILE",
    "nproc": "RLIMIT_NPROC",
    "core": "RLIMIT_CORE",
    "address_space": "RLIMIT_AS",
}


SHELL = {
    "nofile": "ulimit -n {0}",
    "nproc": "{{ ulimit -p {0} || ulimit -u {0}; }} 2>/dev/null",
    "core": "ulimit -c {1}",
    "address_space": "ulimit -v {2}",
}
"""0: the number, 1: in blocks of 512 bytes, 2: in KiB. bash says -u where dash and busybox say -p."""


def limit(pid: int, spec: ProcessService) -> str:
    """Set what a service is allowed, on a process that has not begun yet; what its shell has to do itself.

    Raises:
        OSError: the agent may not do that; the text says what.
    """
    if sys.platform == "win32":
        return ""
    if spec.nice is not None:
        try:
            os.setpriority(os.PRIO_PROCESS, pid, spec.nice)
        except PermissionError:
            raise OSError(f"the agent may not set nice {spec.nice}: only root may go below its own") from None
    if spec.oom_score_adj is not None:
        _oom(pid, spec.oom_score_adj)
    return _resources(pid, spec.limits, another=spec.user is not None)


def _resources(pid: int, limits: Limits, *, another: bool) -> str:
    wanted = {name: value for name in LINUX if (value := getattr(limits, name)) is not None}
    left = {name: value for name, value in wanted.items() if not _set(pid, name, value)}
    if left and not another and sys.platform == "linux":
        name, value = next(iter(left.items()))
        raise OSError(f"the agent may not set the limit {name} to {value}: only root may go above its own")
    return " && ".join(SHELL[name].format(value, value // 512, value // 1024) for name, value in left.items())


def _set(pid: int, name: str, value: int) -> bool:
    if sys.platform != "linux":
        return False
    import resource

    try:
        resource.prlimit(pid, getattr(resource, LINUX[name]), (value, value))
    except (PermissionError, ValueError):
        return False
    return True


def _oom(pid: int, value: int) -> None:
    try:
        pathlib.Path(f"/proc/{pid}/oom_score_adj").write_text(str(value))
    except OSError as error:
        message = f"oom_score_adj cannot be set to {value}: {error.strerror}"
        raise OSError(message) from None
