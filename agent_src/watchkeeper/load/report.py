"""What was measured, for people and for programs."""

from __future__ import annotations

from typing import Any

from watchkeeper.load.core import Result
from watchkeeper.load.histogram import Histogram

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)
LATE = 0.01
"""Seconds; a clockwork that was later than this measured its own machine as well."""


def plain(result: Result, url: str) -> dict[str, Any]:
    """As plain data: rates in requests a second, times in seconds."""
    plan = result.plan
    return {
        "url": url,
        "asked": {"qps": plan.qps, "duration": plan.duration, "requests": plan.total},
        "concurrency": plan.concurrency,
        "timeout": plan.timeout,
        "interrupted": result.interrupted,
        "elapsed": round(result.elapsed, 6),
        "requests": result.count,
        "answered": result.answered,
        "achieved_qps": round(achieved(result), 3),
        "latency": _times(result.latency),
        "service_time": _times(result.service),
        "statuses": {str(status): count for status, count in sorted(result.statuses.items())},
        "errors": dict(sorted(result.errors.items())),
        "scheduler_lag": round(result.lag, 6),
    }


def achieved(result: Result) -> float:
    """Answers a second."""
    seconds = max(result.elapsed, 0.0 if result.interrupted else result.plan.duration)
    return result.answered / seconds if seconds else 0.0


def text(result: Result, url: str) -> str:
    """A table."""
    plan = result.plan
    lines = [
        f"{url}: {result.count} of {plan.total} requests in {result.elapsed:.2f} s{_early(result)}",
        f"  rate      asked {plan.qps:g}/s, answered {achieved(result):.2f}/s",
        f"  latency   {_row(result.latency)}",
        f"  sending   {_row(result.service)}",
    ]
    if result.statuses:
        lines.append(f"  statuses  {_counts(result.statuses)}")
    if result.errors:
        lines.append(f"  errors    {_counts(result.errors)}")
    lines.append("  latency counts from when a request was due, sending from when it was sent")
    if result.lag > LATE:
        lines.append(
            f"  this machine was up to {_time(result.lag)} late by itself; ask for less, or from a quieter one"
        )
    return "\n".join(lines)


def _early(result: Result) -> str:
    return ", stopped early" if result.interrupted else ""


def _counts(counts: Any) -> str:
    return ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))


def _times(histogram: Histogram) -> dict[str, float]:
    found = {f"p{percent:g}": round(histogram.percentile(percent), 6) for percent in PERCENTILES}
    return {
        **found,
        "max": round(histogram.max, 6),
        "mean": round(histogram.mean, 6),
        "count": histogram.count,
    }


def _row(histogram: Histogram) -> str:
    parts = [f"p{percent:g} {_time(histogram.percentile(percent))}" for percent in PERCENTILES]
    return "  ".join([*parts, f"max {_time(histogram.max)}"])


def _time(seconds: float) -> str:
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f}us"
    return f"{seconds * 1000:.1f}ms" if seconds < 1 else f"{seconds:.2f}s"
