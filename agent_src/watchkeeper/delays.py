"""How long a key waits before it is tried again, as client-go's default rate limiter decides it.

Rules:
    L1  One key: min(base * 2^n, cap), n being its failures since it was last forgotten.
    L2  All keys together: a bucket of `burst` tokens that fills at `rate` per second; each retry takes one, and when there
        is none it takes the next that will come, and waits for it.
    L3  The longer of the two counts. A key that is forgotten gives back no token.

Defaults: 5 ms, 10 s, 10 per second, 100. client-go's own cap is 1000 s; a machine's own services are worth a look sooner.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)

BASE = 0.005
CAP = 10.0
RATE = 10.0
BURST = 100


class FailureDelays(Generic[K]):
    """Rule L1 (client-go's ItemExponentialFailureRateLimiter)."""

    def __init__(self, base: float = BASE, cap: float = CAP) -> None:
        self.base, self.cap = base, cap
        self._failures: dict[K, int] = {}

    def next(self, key: K) -> float:
        """Seconds to wait this time; each call counts one more failure."""
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        # 2.0**1024 overflows; long before that the cap has been reached.
        return min(self.base * 2.0 ** min(failures, 1000), self.cap)

    def forget(self, key: K) -> None:
        """The next failure is the first."""
        self._failures.pop(key, None)

    def failures(self, key: K) -> int:
        """Since it was last forgotten."""
        return self._failures.get(key, 0)


class BucketDelay:
    """Rule L2 (client-go's BucketRateLimiter). `now` is any clock that does not go back."""

    def __init__(self, rate: float = RATE, burst: float = BURST) -> None:
        self.rate, self.burst = rate, burst
        self._tokens = float(burst)
        self._at: float | None = None

    def next(self, now: float) -> float:
        """Take a token; seconds until it is there."""
        if self._at is not None:
            self._tokens += (now - self._at) * self.rate
        self._at = now
        self._tokens = min(self._tokens, self.burst) - 1
        return max(0.0, -self._tokens / self.rate)


class RetryDelays(Generic[K]):
    """Rule L3. `single` and `overall` may be changed at any time; what waits already keeps its time."""

    def __init__(
        self, base: float = BASE, cap: float = CAP, rate: float = RATE, burst: float = BURST
    ) -> None:
        self.single: FailureDelays[K] = FailureDelays(base, cap)
        self.overall = BucketDelay(rate, burst)

    def next(self, key: K, now: float) -> float:
        """Seconds to wait this time; each call counts one more failure and takes one token."""
        return max(self.single.next(key), self.overall.next(now))

    def forget(self, key: K) -> None:
        self.single.forget(key)

    def failures(self, key: K) -> int:
        return self.single.failures(key)

    def configure(self, base: float, cap: float, rate: float, burst: float) -> None:
        """Other numbers; failures and tokens stay what they are, the latter up to the new burst."""
        self.single.base, self.single.cap = base, cap
        self.overall.rate, self.overall.burst = rate, burst
