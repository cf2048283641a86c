"""A process that this agent did not start: one that an agent before it has left, or one that has put itself in the background.

Where the kernel gives a descriptor for a process (Linux's pidfd), its end is known at once; elsewhere it is looked at every
POLL seconds. Nobody but its parent learns how it ended: the exit code is NOT_SEEN, which counts as a failure.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable

from watchkeeper import system
from watchkeeper.supervise.child import Strays
from watchkeeper.supervise.identity import start_of

POLL = 1.0


class Followed:
    """As Child, but for its output: that comes by another way, or not at all."""

    adopted = True
    begun = True

    def __init__(
        self,
        pid: int,
        group: int,
        started_at: float,
        on_exit: Callable[[Followed], None],
        *,
        stop_signal: int = signal.SIGTERM,
        strays: Strays | None = None,
    ) -> None:
        """Follow a process whose identity the caller has made sure of.

        Args:
            pid: 0: it is gone, and others of its group are left.
            group: its process group; 0, or the agent's own: the process is signalled alone.
            started_at: the loop's clock.
        """
        self.pid, self.started_at = pid, started_at
        self.group = 0 if group == system.own_group() else group
        self.exit_code: int | None = None
        self.exited_at: float | None = None
        self._on_exit: Callable[[Followed], None] | None = on_exit
        self._stop_signal, self._strays = stop_signal, strays
        self._loop = asyncio.get_running_loop()
        self._descriptor = -1
        self._timer: asyncio.TimerHandle | None = None
        self.stop_with: Callable[[], object] | None = None
        self._start = start_of(pid) if pid else None
        self._watch()

    def _watch(self) -> None:
        if self._start is None:
            self._loop.call_soon(self._ended)
            return
        opener = getattr(os, "pidfd_open", None)
        if opener is not None:
            try:
                self._descriptor = opener(self.pid)
            except OSError:
                pass  # gone, an old kernel, or no descriptor left: the poll finds out
            else:
                self._loop.add_reader(self._descriptor, self._ended)
                return
        self._timer = self._loop.call_later(POLL, self._look)

    def _there(self) -> bool:
        return self.exit_code is None and self._start is not None and start_of(self.pid) == self._start

    def _look(self) -> None:
        if self._there():
            self._timer = self._loop.call_later(POLL, self._look)
        else:
            self._ended()

    def _ended(self) -> None:
        if self.exit_code is not None:
            return
        self._let_go()
        self.exit_code, self.exited_at = system.NOT_SEEN, self._loop.time()
        if self._on_exit is not None:
            self._on_exit(self)

    def terminate(self) -> bool:
        if self.stop_with is not None and self.exit_code is None:
            self.stop_with()
            return True
        return self._signal(self._stop_signal)

    def kill(self) -> bool:
        return self._signal(system.KILL)

    def _signal(self, number: int) -> bool:
        if self.group > 1:
            found = system.signal_group(self.group, number)
        else:  # its number may be another's as soon as it is gone
            found = self._there() and system.signal_each([self.pid], number)
        return system.signal_each(self._stray_pids(), number) or found

    def group_alive(self) -> bool:
        if self.exit_code is None:
            return True
        return (self.group > 1 and system.group_alive(self.group)) or bool(self._stray_pids())

    def leave(self) -> None:
        self.close()

    def close(self) -> None:
        """Look at it no more."""
        self._on_exit = None
        self._let_go()

    def _let_go(self) -> None:
        if self._descriptor >= 0:
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = -1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stray_pids(self) -> list[int]:
        return self._strays.pids() if self._strays is not None else []
