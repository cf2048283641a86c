"""When a request is made again, and whether at all.

Rules:
    R1  Only methods that may be repeated without harm (RFC 9110 section 9.2.2), or what the caller vouches for. Nothing
        of an answer has been handed on by then.
    R2  The n-th repetition waits a random time from 0 to min(max_delay, first_delay * 2^n): full jitter, so that those who
        failed together do not come back together.
    R3  What the server says in Retry-After is the least that is waited, up to max_retry_after; after a longer one its
        answer is handed on.
    R4  A repetition that could not begin before the deadline is not waited for.
    R5  Each request earns `budget_ratio` of a repetition, at most `budget_burst` are saved; without one there is none. A
        destination that is down for good sees 1 + budget_ratio times the usual number of requests and not `attempts` times.
"""

from __future__ import annotations

import email.utils
import math
from collections.abc import Callable, Mapping
from datetime import UTC

from watchkeeper.config.schema.outbound import RetrySettings


class Budget:
    """R5. It starts full."""

    def __init__(self, ratio: float, burst: float) -> None:
        self._ratio, self._burst = ratio, float(burst)
        self._saved = self._burst

    def earn(self) -> None:
        """A request is made for the first time."""
        self._saved = min(self._burst, self._saved + self._ratio)

    def spend(self) -> bool:
        """Whether there is one repetition; it is taken."""
        # Ten times 0.1 is less than 1 in binary, and one is meant.
        if self._saved < 1 - 1e-9:
            return False
        self._saved -= 1
        return True


def delay(settings: RetrySettings, repetition: int, chance: Callable[[], float]) -> float:
    """Seconds before the repetition with that number, beginning at 0 (R2)."""
    longest = min(settings.max_delay, settings.first_delay * 2.0 ** min(repetition, 30))
    return longest * chance()


def retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds, from either form of the header (RFC 9110 section 10.2.3); None: it is not there, or means nothing.

    Args:
        now: seconds since the epoch.
    """
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:10])
    try:
        date = email.utils.parsedate_to_datetime(text) if text else None
        # The oldest of the three forms of a date names no zone: it is UTC (RFC 9110 section 5.6.7).
        at = math.nan if date is None else date.replace(tzinfo=date.tzinfo or UTC).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
    return None if math.isnan(at) else max(0.0, at - now)
