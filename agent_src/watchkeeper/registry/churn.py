"""What a loop of watches owes its server: a token bucket that lets a few changes through at once and then slows down."""

from __future__ import annotations

import asyncio

BURST = 2
"""Changes in a row that are taken without a pause (Consul, "Blocking Queries": a token bucket with burst of 2)."""


class Churn:
    """One token per `interval` seconds, at most BURST of them; the clock is the loop's."""

    def __init__(self, interval: float, burst: int = BURST) -> None:
        self.interval = interval
        self._burst = burst
        self._tokens = float(burst)
        self._at: float | None = None

    async def pause(self) -> None:
        """Take a token, and wait for it where there is none. A cancelled wait takes none."""
        clock = asyncio.get_running_loop().time
        self._refill(clock())
        if self._tokens < 1:
            await asyncio.sleep((1 - self._tokens) * self.interval)
            self._refill(clock())
        # A timer may fire a tick before its time: there is never less than nothing.
        self._tokens = max(0.0, self._tokens - 1)

    def _refill(self, now: float) -> None:
        if self._at is not None:
            self._tokens = min(self._burst, self._tokens + (now - self._at) / self.interval)
        self._at = now
