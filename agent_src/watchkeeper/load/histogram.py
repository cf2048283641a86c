"""Latencies in buckets whose width grows with the value: a fixed amount of memory, and a known error everywhere.

As in an HDR histogram: 128 buckets between a power of two and the next, so that a value is known to better than 1 %. Up to
128 µs every microsecond has its own bucket. The greatest value is kept as it is.
"""

from __future__ import annotations

import math
from collections import Counter

STEPS = 128
"""Buckets per power of two."""
UNIT = 1e-6
"""Seconds of the smallest bucket."""


class Histogram:
    """Of times in seconds."""

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self.count = 0
        self.sum = 0.0
        self.max = 0.0

    def record(self, seconds: float) -> None:
        """One more; below zero counts as zero."""
        seconds = max(0.0, seconds)
        self._buckets[_index(round(seconds / UNIT))] += 1
        self.count += 1
        self.sum += seconds
        self.max = max(self.max, seconds)

    @property
    def mean(self) -> float:
        return self.sum / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """So many percent were not slower than this: the upper end of the bucket of the nearest rank; 0 without values."""
        rank = max(1, math.ceil(self.count * percent / 100 - 1e-9))
        for index in sorted(self._buckets):
            rank -= self._buckets[index]
            if rank <= 0:
                return min(self.max, _upper(index) * UNIT)
        return self.max


def _index(value: int) -> int:
    """The bucket of so many microseconds."""
    shift = max(0, value.bit_length() - STEPS.bit_length())
    return shift * STEPS + (value >> shift)


def _upper(index: int) -> int:
    """The greatest value of a bucket."""
    shift = max(0, index // STEPS - 1)
    mantissa = index - shift * STEPS
    return ((mantissa + 1) << shift) - 1
