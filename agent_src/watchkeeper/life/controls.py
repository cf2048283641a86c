"""Where "stop" and "reload" come from: signals, the console, or a service manager that calls from a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Protocol

from watchkeeper import system


class Controls(Protocol):
    """Attached once, in the loop, before anything is started."""

    def attach(
        self, loop: asyncio.AbstractEventLoop, *, stop: Callable[[str], None], reload: Callable[[], None]
    ) -> None:
        """Call `stop` with a word for its cause, and `reload`, in the loop."""


class Signals:
    """SIGTERM, SIGINT and SIGHUP; on Windows, everything that a console says."""

    def attach(
        self, loop: asyncio.AbstractEventLoop, *, stop: Callable[[str], None], reload: Callable[[], None]
    ) -> None:
        system.handle_signals(loop, stop=stop, reload=reload)
        if system.WINDOWS:
            from watchkeeper.life.windows_console import watch_console

            watch_console(loop, stop)


class FromThread:
    """For whoever calls from another thread, also before the loop is there: what was asked for is kept until then."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._attached: Callable[[str], None] | None = None
        self._kept: list[str] = []

    def attach(
        self, loop: asyncio.AbstractEventLoop, *, stop: Callable[[str], None], reload: Callable[[], None]
    ) -> None:
        def carry(cause: str) -> None:
            if cause == RELOAD:
                loop.call_soon_threadsafe(reload)
            else:
                loop.call_soon_threadsafe(stop, cause)

        with self._lock:
            self._attached = carry
            for cause in self._kept:
                carry(cause)

    def say(self, cause: str) -> None:
        """RELOAD, or why the agent is to stop."""
        with self._lock:
            if self._attached is None:
                self._kept.append(cause)
                return
            try:
                self._attached(cause)
            except RuntimeError:
                return  # the loop is closed: the agent has ended


RELOAD = "reload"
