"""Services that somebody else runs: they are looked at from time to time, and asked for by messages that take their time.

Rules:
    R1  What was started or found counts as running until a look says that it is not, or the start has failed.
    R2  Messages go out one after the other, in tasks of their own: no worker waits for systemd or for an engine.
    R3  A look that fails says nothing; after BLIND of them in a row the service counts as ended, and that is why.
    R4  A start that fails is the end of what was started.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from watchkeeper import system
from watchkeeper.logs import get_logger
from watchkeeper.supervise.drivers import OnExit, Running, Start
from watchkeeper.supervise.memory import Remembered

journal = get_logger("service")
BLIND = 5
FAILED = 1
"""Stands for the exit status of what could not be started."""
FIND_LIMIT = 5.0
AFTER_STOP = 0.1
"""Seconds between looks while it is being stopped."""


class RemoteError(Exception):
    """Whoever runs the service has refused, or does not answer; the text says why."""


@dataclass(frozen=True)
class Seen:
    """One look."""

    running: bool
    pid: int = 0
    exit_code: int = system.NOT_SEEN
    """When it does not run."""
    why: str = ""


class Remote(Protocol):
    """One service at the one that runs it. Every call may raise RemoteError."""

    async def start(self) -> None:
        """Have it run; done already when it does."""

    async def stop(self) -> None:
        """Ask it to end, and do not wait for that."""

    async def kill(self) -> None:
        """End it."""

    async def look(self) -> Seen:
        """How it is."""

    async def change(self, period: float) -> None:
        """Return when it may have changed, at the latest after the period."""


class Polled:
    """As Child, for what is somewhere else."""

    def __init__(
        self,
        name: str,
        remote: Remote,
        period: float,
        on_exit: OnExit,
        on_begun: Callable[[], None] = lambda: None,
        *,
        seen: Seen | None = None,
    ) -> None:
        """Start it, or with `seen` look after what runs already.

        Args:
            on_begun: called when the start has succeeded.
        """
        loop = asyncio.get_running_loop()
        self._name, self._remote, self._period = name, remote, period
        self._on_exit: OnExit | None = on_exit
        self._loop = loop
        self.adopted = self.begun = seen is not None
        self._on_begun = on_begun
        self.pid = 0 if seen is None else seen.pid
        self.started_at = loop.time()
        self.exited_at: float | None = None
        self.exit_code: int | None = None
        self.ended_because: str | None = None
        self._stopping = asyncio.Event()
        self._asks: asyncio.Queue[Callable[[], Awaitable[None]]] = asyncio.Queue()
        self._asked: set[str] = set()
        self._tasks = [
            asyncio.create_task(self._watch(start=seen is None), name=f"watch {name}"),
            asyncio.create_task(self._speak(), name=f"speak for {name}"),
        ]

    def terminate(self) -> bool:
        self._stopping.set()
        self._ask("stop", self._remote.stop)
        return self.exit_code is None

    def kill(self) -> bool:
        self._stopping.set()
        self._ask("kill", self._remote.kill)
        return self.exit_code is None

    def group_alive(self) -> bool:
        return self.exit_code is None

    def leave(self) -> None:
        self.close()

    def close(self) -> None:
        self._on_exit = None
        for task in self._tasks:
            task.cancel()

    def _ask(self, word: str, message: Callable[[], Awaitable[None]]) -> None:
        if word not in self._asked and self.exit_code is None:
            self._asked.add(word)
            self._asks.put_nowait(message)

    async def _speak(self) -> None:
        """R2."""
        while True:
            message = await self._asks.get()
            try:
                await message()
            except RemoteError as error:
                journal.error(f"service {self._name}: {error}", service=self._name)

    async def _watch(self, *, start: bool) -> None:
        if start:
            try:
                await self._remote.start()
            except RemoteError as error:
                self._end(FAILED, f"it cannot be started: {error}")  # R4
                return
            self.begun = True
            self._on_begun()
        blind = 0
        while self.exit_code is None:
            try:
                seen = await self._remote.look()
            except RemoteError as error:
                blind += 1
                if blind >= BLIND:
                    self._end(system.NOT_SEEN, f"it cannot be looked at: {error}")  # R3
                await asyncio.sleep(self._period)
                continue
            blind = 0
            self.pid = seen.pid
            if not seen.running:
                self._end(seen.exit_code, seen.why)
            else:
                await self._rest()

    async def _rest(self) -> None:
        """Until the next look; a stop is followed closely."""
        if self._stopping.is_set():
            await asyncio.sleep(AFTER_STOP)
            return
        changes = asyncio.ensure_future(self._remote.change(self._period))
        stops = asyncio.ensure_future(self._stopping.wait())
        try:
            await asyncio.wait({changes, stops}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changes.cancel()
            stops.cancel()
        if changes.done() and not changes.cancelled():
            changes.exception()  # a look will say what is the matter

    def _end(self, code: int, why: str) -> None:
        self.exit_code, self.exited_at = code, self._loop.time()
        self.ended_because = why or None
        if self._on_exit is not None:
            self._on_exit(self)


class RemoteDriver:
    """A driver for services of one sort; `remote` makes what speaks for a definition."""

    def __init__(self, remote: Callable[[str, Any], Remote]) -> None:
        self._remote = remote

    async def start(self, start: Start) -> Polled:
        return Polled(
            start.name,
            self._remote(start.name, start.spec),
            start.spec.period,
            start.on_exit,
            start.on_change,
        )

    async def find(
        self, name: str, spec: Any, _remembered: Remembered | None, on_exit: OnExit
    ) -> Polled | None:
        """What runs already; when that cannot be said now, the start will say it."""
        if spec is None:
            return None
        remote = self._remote(name, spec)
        try:
            async with asyncio.timeout(FIND_LIMIT):
                seen = await remote.look()
        except (RemoteError, TimeoutError):
            return None
        return Polled(name, remote, spec.period, on_exit, seen=seen) if seen.running else None

    def gone(self, name: str, running: Running) -> None:
        """Nothing is kept of it."""

    def left(self, name: str, running: Running) -> None:
        """It was never the agent's."""
