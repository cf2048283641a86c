"""How long to wait before a start: initial * factor^n, at most the maximum, with some of it random."""

from __future__ import annotations

from watchkeeper.config.model import Backoff


def delay(backoff: Backoff, failures: int, chance: float) -> float:
    """Seconds before the start that follows `failures` earlier ones; `chance` is from [0, 1)."""
    # Past 2**64 every sensible configuration has reached its maximum, and floats do not overflow.
    plain = min(backoff.initial * backoff.factor ** min(failures, 64), backoff.maximum)
    return plain * (1.0 + backoff.jitter * (2.0 * chance - 1.0))
