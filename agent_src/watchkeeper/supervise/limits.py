"""What is done to a process from outside, before its program runs: limits, niceness, the kernel's choice when memory is short.

Linux sets all of them on another process, so that nothing of the agent has to run between fork and exec. On other systems
a service that asks for limits is not started, and says why.
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


def limit(pid: int, spec: ProcessService) -> None:
    """Set what a service is allowed, on a process that has not begun yet.

    Raises:
        OSError: the agent may not do that; the text says what.
    """
    if sys.platform == "win32":
        return
    _resources(pid, spec.limits)
    if spec.nice is not None:
        try:
            os.setpriority(os.PRIO_PROCESS, pid, spec.nice)
        except PermissionError:
            raise OSError(f"the agent may not set nice {spec.nice}: only root may go below its own") from None
    if spec.oom_score_adj is not None:
        _oom(pid, spec.oom_score_adj)


def _resources(pid: int, limits: Limits) -> None:
    wanted = {name: value for name in LINUX if (value := getattr(limits, name)) is not None}
    if not wanted:
        return
    if sys.platform != "linux":
        raise OSError("limits are only set on Linux")
    import resource

    for name, value in wanted.items():
        try:
            resource.prlimit(pid, getattr(resource, LINUX[name]), (value, value))
        except (PermissionError, ValueError):
            message = f"the agent may not set the limit {name} to {value}: only root may go above its own"
            raise OSError(message) from None


def _oom(pid: int, value: int) -> None:
    try:
        pathlib.Path(f"/proc/{pid}/oom_score_adj").write_text(str(value))
    except OSError as error:
        message = f"oom_score_adj cannot be set to {value}: {error.strerror}"
        raise OSError(message) from None
