"""Paired timing: two commands in turn, A B A B …, so that a drift of the machine's speed hits both alike."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Medians in seconds of both sides, and the median of the ratios A/B taken pair by pair."""

    ours: float
    theirs: float
    ratio: float
    runs: int


def pair(ours: Callable[[], float], theirs: Callable[[], float], *, runs: int, warmup: int = 1) -> Pair:
    """Call both in turn ``runs`` times after ``warmup`` uncounted rounds; each answers its seconds."""
    for _ in range(warmup):
        ours(), theirs()
    seconds = [(ours(), theirs()) for _ in range(runs)]
    return Pair(
        ours=statistics.median(first for first, _ in seconds),
        theirs=statistics.median(second for _, second in seconds),
        ratio=statistics.median(first / second for first, second in seconds),
        runs=runs,
    )


def command(
    args: Sequence[str], env: Mapping[str, str] | None = None, cwd: str | None = None
) -> Callable[[], float]:
    """A function that runs ``args`` to its end and answers the wall seconds; a failure raises."""

    def run() -> float:
        started = time.perf_counter()
        done = subprocess.run(
            args,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        seconds = time.perf_counter() - started
        if done.returncode != 0:
            raise SystemExit(f"{args} failed:\n{done.stdout.decode()}\n{done.stderr.decode()}")
        return seconds

    return run
