"""A command that puts itself in the background: it ends with 0, and the number of the service's process is in a file.

Rules:
    P1  Until the command has ended and the file names a process that runs, the service is what was started.
    P2  A command that ends with anything but 0, or a file that names nobody in time, is a failure.
    P3  What the file said before the command was started is not believed: it has to be newer, and so has the process that
        it names: another one is not the service's, whoever has written the number, and must never be signalled.
"""

from __future__ import annotations

import asyncio
import pathlib
import time
from collections.abc import Callable
from typing import Any

from watchkeeper import system
from watchkeeper.config.schema.services import ProcessService
from watchkeeper.supervise.child import Child, Strays
from watchkeeper.supervise.followed import Followed
from watchkeeper.supervise.identity import start_before, start_of

LOOK = 0.02
NEVER_APPEARED = 1
"""Stands for the exit status of a command that has put nobody in the background."""


class Forking:
    """What was started, and then the process that it has left."""

    adopted = False

    def __init__(
        self,
        child: Child,
        spec: ProcessService,
        limit: float,
        on_exit: Callable[[Any], None],
        remember: Callable[[int], None],
        strays: Strays | None,
        on_begun: Callable[[], None],
    ) -> None:
        self._child, self._spec, self._limit = child, spec, limit
        self._on_exit: Callable[[Any], None] | None = on_exit
        self._remember, self._strays = remember, strays
        self._main: Followed | None = None
        self.begun = False
        self._on_begun = on_begun
        age = asyncio.get_running_loop().time() - child.started_at
        self._begun, self._oldest = time.time() - age, start_before(age)
        self.started_at = child.started_at
        self.exit_code: int | None = None
        self.exited_at: float | None = None
        self.stop_with: Callable[[], Any] | None = None
        child.on_exit(self._command_ended)
        self._task: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int:
        return self._main.pid if self._main else self._child.pid

    @property
    def group(self) -> int:
        return self._main.group if self._main else self._child.pid

    def terminate(self) -> bool:
        if self.stop_with is not None and self.exit_code is None:
            self.stop_with()
            return True
        return self._child.terminate() | (self._main is not None and self._main.terminate())

    def kill(self) -> bool:
        return self._child.kill() | (self._main is not None and self._main.kill())

    def group_alive(self) -> bool:
        if self.exit_code is None:
            return True
        return (self._main is not None and self._main.group_alive()) or self._child.group_alive()

    def leave(self) -> None:
        if self._main is None:
            self._child.leave()
        self.close()

    def close(self) -> None:
        self._on_exit = None
        if self._task is not None:
            self._task.cancel()
        if self._main is not None:
            self._main.close()
        self._child.close()

    def _command_ended(self, child: Child) -> None:
        if child.exit_code:
            self._end(child.exit_code)
        else:
            self._task = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        """P1, P2, P3."""
        deadline = asyncio.get_running_loop().time() + self._limit
        while asyncio.get_running_loop().time() < deadline:
            pid = self._named()
            if pid is not None:
                self._take(pid)
                return
            await asyncio.sleep(LOOK)
        self._end(NEVER_APPEARED)

    def _named(self) -> int | None:
        file = pathlib.Path(self._spec.working_directory or ".") / str(self._spec.pid_file)
        try:
            # A second is as exact as some file systems are.
            if file.stat().st_mtime < self._begun - 1:
                return None
            pid = int(file.read_text().split()[0])
        except (OSError, ValueError, IndexError):
            return None
        start = start_of(pid) if pid > 1 else None
        return pid if start is not None and start >= self._oldest else None

    def _take(self, pid: int) -> None:
        number = system.signal_number(self._spec.stop)
        self._main = Followed(
            pid,
            system.group_of(pid),
            self.started_at,
            self._main_ended,
            stop_signal=number,
            strays=self._strays,
        )
        self._remember(pid)
        self.begun = True
        self._on_begun()

    def _main_ended(self, main: Followed) -> None:
        self._end(main.exit_code if main.exit_code is not None else system.NOT_SEEN)

    def _end(self, code: int) -> None:
        if self.exit_code is None:
            self.exit_code, self.exited_at = code, asyncio.get_running_loop().time()
            if self._on_exit is not None:
                self._on_exit(self)
