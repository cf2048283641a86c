"""A work queue of keys, with the semantics of client-go's util/workqueue.

Rules:
    Q1  A key that is added while it waits is not added a second time.
    Q2  A key that is added while it is being worked on is only marked, and waits again once that work is done: one key
        is never in two hands.
    Q3  `done` ends the work on a key; without it the key is not handed out again.
    Q4  `add_after` adds later; of several such requests for one key the earliest counts.
    Q5  `add_rate_limited` adds after min(base * 2^n, cap), n being the failures since the last `forget`.
    Q6  After a shutdown nothing is added; what waits is still handed out, and `get` raises ShutDownError when no more is.
    Q7  `drain` is a shutdown that returns when the work in hand is done.

All times are the event loop's own, which is monotonic.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

BASE_DELAY = 0.005
MAX_DELAY = 10.0


class ShutDownError(Exception):
    """The queue is shut down and empty: the worker that asked may end."""


class FailureDelays(Generic[K]):
    """Exponential delay per key (client-go ItemExponentialFailureRateLimiter)."""

    def __init__(self, base: float = BASE_DELAY, cap: float = MAX_DELAY) -> None:
        self.base = base
        self.cap = cap
        self._failures: dict[K, int] = {}

    def next(self, key: K) -> float:
        """Seconds to wait this time; each call counts one more failure."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # 2.0**1024 overflows; long before that the cap has been reached.
        return min(self.base * 2.0 ** min(failures, 1000), self.cap)

    def forget(self, key: K) -> None:
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        return self._failures.get(key, 0)


class WorkQueue(Generic[K]):
    """The queue; all methods are called from one event loop."""

    def __init__(self, delays: FailureDelays[K] | None = None) -> None:
        self.delays = delays or FailureDelays()
        self._order: deque[K] = deque()
        self._dirty: set[K] = set()
        self._processing: set[K] = set()
        self._later: dict[K, asyncio.TimerHandle] = {}
        self._shut = False
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        """How many keys wait; those in hand are not counted."""
        return len(self._order)

    @property
    def processing(self) -> int:
        """How many keys are in hand."""
        return len(self._processing)

    def add(self, key: K) -> None:
        """Let a key be worked on soon."""
        if self._shut or key in self._dirty:  # Q6, Q1
            return
        self._dirty.add(key)
        if key not in self._processing:  # Q2
            self._append(key)

    def add_after(self, key: K, delay: float) -> None:
        """Let a key be worked on in `delay` seconds, or sooner when an earlier time is already set."""
        if self._shut:
            return
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
        """Let a key be tried again, the later the more often it has failed."""
        self.add_after(key, self.delays.next(key))  # Q5

    def forget(self, key: K) -> None:
        """The key has succeeded; its next failure is its first."""
        self.delays.forget(key)

    async def get(self) -> K:
        """The next key; the caller owes a `done`.

        Raises:
            ShutDownError: there is none and there will be none.
        """
        while not self._order:
            if self._shut:
                raise ShutDownError  # Q6
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
                if waiter in self._waiters:
                    self._waiters.remove(waiter)
        key = self._order.popleft()
        self._dirty.discard(key)
        self._processing.add(key)
        self._idle.clear()
        return key

    def done(self, key: K) -> None:
        """The work on a key has ended; when the key was added meanwhile, it waits again."""
        self._processing.discard(key)  # Q3
        if key in self._dirty:
            self._append(key)  # Q2
        if not self._processing and not self._order:
            self._idle.set()

    def shut_down(self) -> None:
        """Take nothing more; forget what was to be added later."""
        self._shut = True
        for handle in self._later.values():
            handle.cancel()
        self._later.clear()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def drain(self) -> None:
        """Shut down, and return when all that waits and all that is in hand is done."""
        self.shut_down()
        await self._idle.wait()  # Q7

    def _append(self, key: K) -> None:
        self._order.append(key)
        self._idle.clear()
        self._wake()

    def _due(self, key: K) -> None:
        self._later.pop(key, None)
        self.add(key)

    def _wake(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
                return
