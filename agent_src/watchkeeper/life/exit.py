"""The very end: a process that has said good-bye does not stay because of a thread or a task that does not.

asyncio waits for cancelled tasks and for the threads of its executor, and so does the interpreter itself; one `stat` on a
network file system that is gone would keep the agent for ever. Rule: LIMIT seconds after the drain the process ends, with
the exit code of the drain, and says who was still there.
"""

from __future__ import annotations

import os
import sys
import threading
import traceback
from collections.abc import Callable

from watchkeeper.logs import flush, get_logger

journal = get_logger("life")

LIMIT = 2.0


def leave_within(limit: float, code: int, *, end: Callable[[int], object] = os._exit) -> threading.Timer:
    """Have the process end with `code` in `limit` seconds, if it has not ended by then."""
    timer = threading.Timer(limit, _leave, (code, end))
    timer.daemon = True
    timer.name = "exit"
    timer.start()
    return timer


def _leave(code: int, end: Callable[[int], object]) -> None:
    try:
        journal.error("what does not end is left behind", exit_code=code, threads=_threads())
        flush()
    finally:
        end(code)


def _threads() -> dict[str, str]:
    """Where each thread stands that keeps the interpreter from ending, or waits for one."""
    frames = sys._current_frames()
    stands = {}
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        if frame is None or thread is threading.current_thread():
            continue
        last = traceback.extract_stack(frame)[-1]
        stands[thread.name] = f"{os.path.basename(last.filename)}:{last.lineno} in {last.name}"  # noqa: PTH119 - a name in a trace, not a file
    return stands
