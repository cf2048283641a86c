"""The agent as process 1 of a container, or with --init: a small parent that does what the kernel asks of process 1.

Rules:
    I1  The parent starts the agent as its child and waits; it imports nothing that the agent needs.
    I2  It passes every signal on that an agent understands, so that `docker stop` drains.
    I3  It reaps whoever becomes its child: processes that daemonize themselves, and what they leave.
    I4  It ends when the agent ends, with the agent's exit code, or 128 + the number of the signal that ended it. In a
        container everything else ends then; without one (--init), what is left goes to the next parent.
    I5  When the parent is killed, the agent gets SIGTERM (Linux).

Reaping in the agent's own process would race with asyncio, which waits for its children one by one.
"""

from __future__ import annotations

import os
import signal
import sys

PASSED_ON = ("SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2")
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


def needed(asked: bool) -> bool:
    """Whether this process has to be an init: it is asked to, or is process 1. Windows has neither."""
    return hasattr(os, "fork") and (asked or os.getpid() == 1)


def become_init() -> int | None:
    """Split in two. In the agent: None. In the parent: the exit code, once the agent has ended (I4)."""
    if os.getpid() != 1:
        _prctl(PR_SET_CHILD_SUBREAPER, 1)  # process 1 is everybody's anyway
    numbers = {getattr(signal, name) for name in PASSED_ON}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers | {signal.SIGCHLD})
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, numbers | {signal.SIGCHLD})
        _prctl(PR_SET_PDEATHSIG, signal.SIGTERM)  # I5
        if os.getppid() != parent:
            os.kill(os.getpid(), signal.SIGTERM)  # it has gone already
        return None
    return _watch(child, numbers | {signal.SIGCHLD})


def _watch(child: int, numbers: set[int]) -> int:
    """I2 and I3, one signal after the other; signals that are blocked wait, so that none is missed."""
    while True:
        number = signal.sigwait(numbers)
        if number != signal.SIGCHLD:
            os.kill(child, number)  # it is there, as a zombie at least, until _reap says otherwise
            continue
        status = _reap(child)
        if status is not None:
            return os.WEXITSTATUS(status) if os.WIFEXITED(status) else 128 + os.WTERMSIG(status)


def _reap(child: int) -> int | None:
    """Take away everyone who has ended; the status of `child`, if that was among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = status


def _prctl(option: int, value: int) -> None:
    """prctl(2); Python has no module for it. Where there is none, or a sandbox forbids it, things go on without."""
    if sys.platform != "linux":
        return
    try:
        import ctypes

        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        return
