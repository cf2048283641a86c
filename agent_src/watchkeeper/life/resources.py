"""What a process needs from the system before anything else, and what it says when it does not get that."""

from __future__ import annotations

import errno
import os
import sys

from watchkeeper.errors import AgentError, ResourcesError

WANTED_FILES = 65_536
LEAST_FILES = 8
"""The loop's own (4), a listener, a configuration that is read, a module that is imported, and one more."""
_SHORT = {
    errno.EMFILE: (
        "this process may open no more files",
        "Raise the limit: `ulimit -n`, or LimitNOFILE= of the unit.",
    ),
    errno.ENFILE: (
        "the system has no file descriptors left",
        "Find out which program has them; fs.file-max is the limit.",
    ),
    errno.ENOMEM: ("there is no memory left", "Free some, or raise the limit of the unit or the container."),
    errno.EAGAIN: (
        "no more processes or threads may be started",
        "Raise the limit: `ulimit -u`, or TasksMax= of the unit.",
    ),
    errno.ENOSPC: ("the disk is full", "Free some space."),
}


def exhausted(error: OSError) -> AgentError:
    """A sentence for an error of the system that nobody has dealt with; raised again when it is another one.

    Raises:
        OSError: it says something else, and is a defect.
    """
    if error.errno not in _SHORT:
        raise error
    message, advice = _SHORT[error.errno]
    return ResourcesError(message, advice)


def raise_file_limit(wanted: int = WANTED_FILES) -> int:
    """Let this process open as many files as it may, up to `wanted`; the limit that holds now, 0: unknown.

    The usual soft limit of 1024 is one that select(2) needs and nothing else (systemd's file-hierarchy of limits: 1024 soft,
    524288 hard). Children inherit it.
    """
    if sys.platform == "win32":
        return 0
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    goal = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft == resource.RLIM_INFINITY or soft >= goal:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (goal, hard))
    except (ValueError, OSError):  # macOS: kern.maxfilesperproc is lower than the hard limit says
        return soft
    return goal


def require_files(count: int = LEAST_FILES) -> None:
    """See that so many more files can be opened: a loop that is half made when there are none left cannot be undone.

    Raises:
        AgentError: they cannot.
    """
    opened: list[int] = []
    try:
        opened.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(count))
    except OSError as error:
        raise exhausted(error) from None
    finally:
        for descriptor in opened:
            os.close(descriptor)
