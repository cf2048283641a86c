"""The functions of PromQL that rules use, as Prometheus computes them (promql/functions.go, promql/quantile.go)."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

Point = tuple[float, float]
"""Seconds on any one clock, and a value."""

NAN = float("nan")
INFINITY = float("inf")


def rate(points: Sequence[Point], start: float, end: float) -> float | None:
    """How fast a counter grew in a window, per second; None: fewer than two points.

    A counter that falls has begun anew. What lies between the outermost points and the ends of the window is
    extrapolated, but for no more than half an interval when it is far, and never to where the counter would be below 0.

    Args:
        points: those in the window, oldest first.
        start, end: of the window.
    """
    if len(points) < 2:
        return None
    (first_at, first), (last_at, last) = points[0], points[-1]
    grown = last - first
    for (_, before), (_, after) in itertools.pairwise(points):
        if after < before:
            grown += before
    sampled = last_at - first_at
    if sampled <= 0:
        return None
    average = sampled / (len(points) - 1)
    at_start = first_at - start if first_at - start < average * 1.1 else average / 2
    if grown > 0 and first >= 0:
        at_start = min(at_start, sampled * (first / grown))
    at_end = end - last_at if end - last_at < average * 1.1 else average / 2
    return grown * ((sampled + at_start + at_end) / sampled) / (end - start)


def quantile(wanted: float, buckets: Sequence[Point]) -> float:
    """A quantile of a histogram, by interpolation in the bucket that it falls into.

    Args:
        wanted: 0 to 1.
        buckets: upper bound and cumulative count, by rising bound; the last bound is infinite.
    """
    if not buckets or not math.isinf(buckets[-1][0]) or len(buckets) < 2:
        return NAN
    counts = _monotonic([count for _, count in buckets])
    total = counts[-1]
    if total == 0 or total != total:  # noqa: PLR0124 - NaN
        return NAN
    rank = wanted * total
    at = next((place for place, count in enumerate(counts[:-1]) if count >= rank), len(counts) - 1)
    if at == len(counts) - 1:
        return buckets[-2][0]  # beyond the last finite bound nothing is known
    bound = buckets[at][0]
    if at == 0 and bound <= 0:
        return bound
    below, before = (buckets[at - 1][0], counts[at - 1]) if at else (0.0, 0.0)
    inside = counts[at] - before
    return below + (bound - below) * divide(rank - before, inside)


def _monotonic(counts: list[float]) -> list[float]:
    """Counts that were read at slightly different times may fall; they are taken as not falling."""
    highest = -INFINITY
    return [highest := max(highest, count) for count in counts]


def divide(dividend: float, divisor: float) -> float:
    """As IEEE 754 has it: nothing is raised."""
    if divisor == 0:
        return NAN if dividend == 0 or dividend != dividend else math.copysign(INFINITY, dividend)  # noqa: PLR0124
    return dividend / divisor
