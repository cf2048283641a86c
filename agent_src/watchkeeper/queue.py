"""A work queue of keys, with the semantics of client-go's util/workqueue.

Rules:
    Q1  A key that is added while it waits is not added a second time.
    Q2  A key that is added while it is being worked on is only marked, and waits again once that work is done: one key
        is never in two hands.
    Q3  `done` ends the work on a key; without it the key is not handed out again. `done` without `get` changes nothing.
    Q4  `add_after` adds later; of several such requests for one key the earliest counts.
    Q5  `add_rate_limited` adds after the longer of two delays: min(base * 2^n, cap), n being the failures of the key since
        the last `forget`; and the wait for a token of one bucket for all keys (delays.py).
    Q6  After a shutdown nothing is added; what waits is still handed out, a key that was marked in hand comes back once,
        and `get` raises ShutDownError when no more is.
    Q7  `drain` is a shutdown that returns when all that waits and all that is in hand is done; `shut_down` ends that wait.
    Q8  First come, first served: a key that comes back goes behind those that wait.
    Q9  `withdraw` forgets a later time, for a key of which nothing is left. (client-go keeps it: there a look at what is
        gone costs nothing. Here thousands of names an hour may come and go, each with a time that is hours away.)

All times are the event loop's own, which is monotonic.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Hashable, Iterable
from typing import Generic, Protocol, TypeVar

from watchkeeper.delays import FailureDelays, RetryDelays

__all__ = ["FailureDelays", "Measures", "ShutDownError", "WorkQueue"]

K = TypeVar("K", bound=Hashable)


class ShutDownError(Exception):
    """The queue is shut down and empty: the worker that asked may end."""


class Measures(Protocol):
    """Who counts; seconds are the loop's."""

    def added(self) -> None:
        """A key was accepted; one that waits already is not."""

    def retried(self) -> None:
        """A key was asked for again, later."""

    def taken(self, waited: float) -> None:
        """A key was handed out, `waited` seconds after it was added."""

    def finished(self, worked: float) -> None:
        """It was given back."""


class Unmeasured:
    """Nobody counts."""

    def added(self) -> None:
        pass

    def retried(self) -> None:
        pass

    def taken(self, waited: float) -> None:
        pass

    def finished(self, worked: float) -> None:
        pass


class WorkQueue(Generic[K]):
    """The queue; all methods are called from one event loop."""

    def __init__(self, delays: RetryDelays[K] | None = None) -> None:
        self.delays = delays or RetryDelays()
        self.measures: Measures = Unmeasured()
        self._order: deque[K] = deque()
        self._dirty: dict[K, float] = {}
        """What waits or is marked, and since when."""
        self._processing: dict[K, float] = {}
        """What is in hand, and since when."""
        self._later: dict[K, asyncio.TimerHandle] = {}
        self._shut = False
        self._moved = 0.0
        """When a key was last taken or given back."""
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._drains: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        """How many keys wait; those in hand are not counted."""
        return len(self._order)

    @property
    def processing(self) -> int:
        """How many keys are in hand."""
        return len(self._processing)

    @property
    def later(self) -> int:
        """How many keys have a time at which they are added."""
        return len(self._later)

    def add(self, key: K) -> None:
        """Let a key be worked on soon."""
        if self._shut or key in self._dirty:  # Q6, Q1
            return
        self.measures.added()
        self._dirty[key] = _now()
        if key not in self._processing:  # Q2
            self._append(key)

    def add_after(self, key: K, delay: float) -> None:
        """Let a key be worked on in `delay` seconds, or sooner when an earlier time is already set."""
        if self._shut:
            return
        self.measures.retried()
        if delay <= 0:
            self.add(key)
            return
        loop = asyncio.get_running_loop()
        when = loop.time() + delay
        earlier = self._later.get(key)
        if earlier is not None:
            if earlier.when() <= when:  # Q4
                return
            earlier.cancel()
        self._later[key] = loop.call_at(when, self._due, key)

    def add_rate_limited(self, key: K) -> None:
        """Let a key be tried again, the later the more often it has failed, and the more fail with it."""
        if not self._shut:
            self.add_after(key, self.delays.next(key, _now()))  # Q5

    def forget(self, key: K) -> None:
        """The key has succeeded; its next failure is its first."""
        self.delays.forget(key)

    def withdraw(self, key: K) -> None:
        """Let the time pass at which a key would have been added; if it waits already, it is handed out."""
        later = self._later.pop(key, None)
        if later is not None:
            later.cancel()  # Q9

    async def get(self) -> K:
        """The next key; the caller owes a `done`.

        Raises:
            ShutDownError: there is none and there will be none.
        """
        while not self._order:
            if self._shut:
                raise ShutDownError  # Q6
            await self._wait()
        key = self._order.popleft()  # Q8
        now = self._moved = _now()
        self.measures.taken(now - self._dirty.pop(key))
        self._processing[key] = now
        return key

    def done(self, key: K) -> None:
        """The work on a key has ended; when the key was added meanwhile, it waits again."""
        if key not in self._processing:
            return  # Q3
        now = self._moved = _now()
        self.measures.finished(now - self._processing.pop(key))
        if key in self._dirty:
            self._append(key)  # Q2
        elif not self._processing and not self._order:
            _release(self._drains)

    def shut_down(self) -> None:
        """Take nothing more; forget what was to be added later. Whoever waits in `drain` is let go."""
        self._stop_adding()
        _release(self._drains)

    async def drain(self) -> None:
        """Shut down, and return when all that waits and all that is in hand is done."""
        self._stop_adding()
        if self._order or self._processing:
            drained: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._drains.append(drained)
            await drained  # Q7

    def longest_running(self) -> float:
        """Seconds since the key that has been in hand longest was taken; 0: none is."""
        return _now() - min(self._processing.values(), default=_now())

    def unfinished(self) -> float:
        """The sum of such seconds over all keys in hand."""
        now = _now()
        return sum(now - since for since in self._processing.values())

    def stalled(self) -> float:
        """For how many seconds keys have waited while none was taken or given back; 0: all is well."""
        if not self._order:
            return 0.0
        return max(0.0, _now() - max(self._moved, self._dirty[self._order[0]]))

    def _stop_adding(self) -> None:
        self._shut = True
        for handle in self._later.values():
            handle.cancel()
        self._later.clear()
        _release(self._waiters)

    def _append(self, key: K) -> None:
        self._order.append(key)
        self._wake()

    def _due(self, key: K) -> None:
        self._later.pop(key, None)
        self.add(key)

    async def _wait(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            # A wake-up that this waiter took with it belongs to the next one.
            if waiter.done() and not waiter.cancelled():
                self._wake()
            raise
        finally:
            self._waiters.remove(waiter)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
                return


def _release(waiters: Iterable[asyncio.Future[None]]) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(None)


def _now() -> float:
    """The loop's clock; a key may also be added before there is a loop."""
    try:
        return asyncio.get_running_loop().time()
    except RuntimeError:
        return time.monotonic()
