"""Threads for calls that may hang in the system: a dead mount, a name server that is away.

Rules:
    P1  A call has a thread of its own until it returns. Nobody can end a thread: when the look that waited has given up,
        the call is abandoned, and counted until it returns.
    P2  For one key at most one call is under way. Whoever asks again meanwhile is told that it hangs.
    P3  There are never more than `limit` threads. A call for which there is none is an error of the agent's.
    P4  Threads are used again, the one that has worked last before the others, and one that has had nothing to do for IDLE
        seconds ends: what a bad hour has called for is gone soon after. (In turn, each of them would get enough to stay.)
    P5  None of them keeps the agent from ending.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from watchkeeper.checks import HangsError, Memory, ProbeError

T = TypeVar("T")
LIMIT = 64
IDLE = 30.0

_Job = tuple[Callable[[], Any], Callable[[Any, BaseException | None], None]]


class Threads:
    """All threads of all checks."""

    def __init__(self, limit: int = LIMIT, idle: float = IDLE) -> None:
        self.limit = limit
        self._idle_seconds = idle
        self._lock = threading.Lock()
        self._idle: list[queue.SimpleQueue[_Job]] = []
        """Of each thread that waits, where it does."""
        self.alive = 0
        """Threads that there are."""
        self._busy: dict[Hashable, float] = {}
        self._abandoned: set[Hashable] = set()
        self.abandoned_total = 0

    @property
    def busy(self) -> int:
        """Calls under way."""
        return len(self._busy)

    @property
    def abandoned(self) -> int:
        """Of these, calls that nobody waits for any more."""
        return len(self._abandoned)

    async def run(self, key: Hashable, call: Callable[[], T]) -> T:
        """What `call()` returns or raises.

        Raises:
            HangsError: a call for the same key has not returned yet (P2).
            ProbeError: all threads are busy (P3).
        """
        if key in self._busy:
            hanging = time.monotonic() - self._busy[key]
            raise HangsError(f"the system has not answered an earlier look for {hanging:.0f} s")
        loop = asyncio.get_running_loop()
        result: asyncio.Future[T] = loop.create_future()

        def settle(value: Any, error: BaseException | None) -> None:
            self._busy.pop(key, None)
            self._abandoned.discard(key)
            if result.done():
                return
            result.set_result(value) if error is None else result.set_exception(error)

        def tell(value: Any, error: BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                loop.call_soon_threadsafe(settle, value, error)

        self._start((call, tell))
        self._busy[key] = time.monotonic()
        try:
            return await result
        except asyncio.CancelledError:
            if key in self._busy:  # P1
                self._abandoned.add(key)
                self.abandoned_total += 1
            raise

    def _start(self, job: _Job) -> None:
        """Hand a job to a free thread, or to a new one."""
        with self._lock:
            if self._idle:
                self._idle.pop().put(job)  # P4
                return
            if self.alive >= self.limit:
                raise ProbeError(  # P3
                    f"all {self.limit} threads for checks are busy, and {self.abandoned} of them hang in the system"
                )
            self.alive += 1
        try:
            threading.Thread(target=self._work, args=(job,), name="check", daemon=True).start()  # P5
        except RuntimeError as error:
            with self._lock:
                self.alive -= 1
            raise ProbeError(f"no thread could be started: {error}") from None

    def _work(self, job: _Job) -> None:
        mine: queue.SimpleQueue[_Job] = queue.SimpleQueue()
        while True:
            call, tell = job
            try:
                value, failure = call(), None
            except BaseException as error:  # noqa: BLE001 - it is raised where it is waited for
                value, failure = None, error
            with self._lock:
                self._idle.append(mine)
            tell(value, failure)
            del call, tell, value, failure
            try:
                job = mine.get(timeout=self._idle_seconds)
            except queue.Empty:
                if self._leave(mine):
                    return
                job = mine.get()  # it was handed over at this very moment

    def _leave(self, mine: queue.SimpleQueue[_Job]) -> bool:
        """Whether the thread that waits there may end; not when it has been given a job."""
        with self._lock:
            if mine not in self._idle:
                return False
            self._idle.remove(mine)
            self.alive -= 1
            return True


def owner(memory: Memory) -> Hashable:
    """The key of a check's own calls."""
    return memory.setdefault("owner", object())  # type: ignore[no-any-return]


THREADS = Threads()
"""The agent's own. A process has one set of threads, whoever asks."""
