"""How often something may be done: a token bucket, as golang.org/x/time/rate has it, and a leaky one for an even flow.

Rules of the token bucket:
    T1  The bucket holds at most `burst` tokens and is full at the start; `rate` tokens come per second.
    T2  `allow` takes what is there, or nothing, and never waits.
    T3  `reserve` always takes; the bucket goes below nothing, and the answer is how long to wait for what was taken.
        More than `burst` at once can never be had.
    T4  `wait` reserves and sleeps; who gives up gives back.

Rules of the leaky bucket:
    L1  What it lets through is at least 1/rate seconds apart. The first one after a pause goes at once.
    L2  At most `queue` wait for their turn; who comes then is refused at once. So is who cannot wait as long as he would
        have to, and takes no turn.
    L3  Turns are given in order of arrival. The turn of somebody who gave up passes unused: the flow stays even.

The clock is the caller's. One that goes backwards brings nothing, and takes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable


class TokenBucket:
    """One bucket.

    Args:
        rate: tokens per second.
        burst: how many it holds.
        clock: seconds from anywhere; one that `wait` is used with has to be that of the loop, or run like it.
    """

    def __init__(
        self, rate: float = 10, burst: float = 50, clock: Callable[[], float] = time.monotonic
    ) -> None:
        if rate <= 0 or burst <= 0:
            raise ValueError("a token bucket has a rate and a burst above 0")
        self.rate, self.burst = rate, burst
        self._clock = clock
        self._tokens = float(burst)  # T1
        self._at = clock()

    @property
    def tokens(self) -> float:
        """How many there are now; below 0 while reservations wait."""
        now = self._clock()
        if now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
        self._at = now
        return self._tokens

    def allow(self, count: float = 1) -> bool:
        """Take `count` tokens if they are there (T2)."""
        if self.tokens < count:
            return False
        self._tokens -= count
        return True

    def delay(self, count: float = 1) -> float:
        """Seconds until `allow(count)` would say yes, if nobody else came; nothing is taken."""
        return max(0.0, (count - self.tokens) / self.rate)

    def reserve(self, count: float = 1) -> float | None:
        """Take `count` tokens that may still have to come; seconds until they are there, None: they never will be (T3)."""
        if count > self.burst:
            return None
        self._tokens = self.tokens - count
        return max(0.0, -self._tokens / self.rate)

    def give_back(self, count: float = 1) -> None:
        """What was reserved is not used after all."""
        self._tokens = min(self.burst, self.tokens + count)

    async def wait(self, count: float = 1, limit: float | None = None) -> bool:
        """Wait for `count` tokens (T4); whether they were had within `limit` seconds, which is known at once."""
        delay = self.reserve(count)
        if delay is None:
            return False
        if limit is not None and delay > limit:
            self.give_back(count)
            return False
        try:
            await asyncio.sleep(delay)
        except asyncio.CancelledError:
            self.give_back(count)
            raise
        return True


class LeakyBucket:
    """Args: rate in turns a second, queue: how many may wait."""

    def __init__(self, rate: float, queue: int, clock: Callable[[], float] = time.monotonic) -> None:
        if rate <= 0 or queue < 0:
            raise ValueError("a leaky bucket has a rate of more than 0 and a queue of 0 or more")
        self.rate, self.queue = rate, queue
        self._clock = clock
        self._now = clock()
        self._next = self._now
        self._turns: deque[float] = deque()

    @property
    def waiting(self) -> int:
        """How many have a turn that is still to come."""
        self._now = max(self._now, self._clock())
        while self._turns and self._turns[0] <= self._now:
            self._turns.popleft()
        return len(self._turns)

    def reserve(self, limit: float | None = None) -> float | None:
        """Seconds until one's turn, which is taken now; None: too many wait, or it is more than `limit` seconds away."""
        waiting, turn = self.waiting, max(self._next, self._now)
        if limit is not None and turn - self._now > limit:
            return None  # L2
        if turn > self._now:
            if waiting >= self.queue:
                return None  # L2
            self._turns.append(turn)  # L3
        self._next = turn + 1 / self.rate  # L1
        return turn - self._now

    async def wait(self) -> bool:
        """Wait for one's turn; False: too many wait already."""
        delay = self.reserve()
        if delay is None:
            return False
        await asyncio.sleep(delay)
        return True
