"""What a console of Windows says: Ctrl-C, Ctrl-Break, that its window is closed, that the user or the system leaves.

Python makes signals of the first two (SIGINT, SIGBREAK). The other three come to a handler of their own, in a thread of
their own, and Windows ends the process when that handler returns, or after its own limit (5 s for a closed window and a
logoff, 20 s for a shutdown: HungAppTimeout and WaitToKillTimeout). So the handler waits for the end of the agent.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable

from watchkeeper.life.windows_api import Libraries

CLOSE, LOGOFF, SHUTDOWN = 2, 5, 6
EVENTS = {CLOSE: "CTRL_CLOSE_EVENT", LOGOFF: "CTRL_LOGOFF_EVENT", SHUTDOWN: "CTRL_SHUTDOWN_EVENT"}

_kept: list[object] = []
"""Windows calls the handler as long as the process lives; Python must not throw it away."""


def watch_console(loop: asyncio.AbstractEventLoop, stop: Callable[[str], None]) -> None:
    """Have `stop` called in the loop when the console goes; the process then has until Windows ends it."""
    libraries = Libraries()
    for_ever = threading.Event()

    def handler(event: int) -> int:
        if event not in EVENTS:
            return 0  # Ctrl-C and Ctrl-Break are Python's
        try:
            loop.call_soon_threadsafe(stop, EVENTS[event])
        except RuntimeError:
            return 0  # the loop is closed: it has ended already
        for_ever.wait()  # the process ends meanwhile
        return 1

    callback = libraries.console_type(handler)
    _kept.append(callback)
    libraries.kernel.SetConsoleCtrlHandler(callback, 1)
