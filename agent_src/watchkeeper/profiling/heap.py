"""What holds memory, by tracemalloc: off until it is started, because every allocation costs more while it is on.

While it is on, allocating takes about twice as long and each block that lives needs about 100 bytes more, per frame that is
kept. A snapshot holds the interpreter while it is copied: some tens of milliseconds for 100,000 blocks. It goes off by itself
after LIMIT.
"""

from __future__ import annotations

import asyncio
import gc
import time
import tracemalloc
from collections import Counter
from dataclasses import dataclass
from typing import Any

LIMIT = 900.0
"""Seconds after which a tracing that somebody has forgotten ends."""
FRAMES = 10
TOP = 30
COST = "allocations take about twice as long while this is on, and every block that lives about 100 bytes more per frame"
OURS = (
    tracemalloc.Filter(False, tracemalloc.__file__),
    tracemalloc.Filter(False, "<frozen importlib._bootstrap>"),
)


@dataclass
class Heap:
    """The tracing of one process."""

    _before: tracemalloc.Snapshot | None = None
    _end: asyncio.TimerHandle | None = None
    _since: float = 0.0

    def start(self, frames: int = FRAMES) -> dict[str, Any]:
        """Begin; begun already, it goes on from where it is."""
        if not tracemalloc.is_tracing():
            tracemalloc.start(frames)
            self._since = time.time()
            self._before = None
        self._no_timer()
        self._end = asyncio.get_running_loop().call_later(LIMIT, self.stop)
        return {"tracing": True, "since": self._since, "ends_in": LIMIT, "cost": COST}

    def stop(self) -> dict[str, Any]:
        """End it, and give back what it has taken."""
        self._no_timer()
        self._before = None
        tracemalloc.stop()
        return {"tracing": False}

    async def report(self, *, diff: bool = False, top: int = TOP) -> dict[str, Any]:
        """The places that hold most; with `diff`, those that hold more than at the last question with `diff`."""
        if not tracemalloc.is_tracing():
            objects = await asyncio.to_thread(_objects, top)
            return {
                "tracing": False,
                "cost": COST,
                "start": "POST /debug/pprof/heap/start",
                "objects": objects,
            }
        held, peak = tracemalloc.get_traced_memory()
        snapshot = await asyncio.to_thread(_snapshot)
        before, self._before = self._before, snapshot if diff or self._before is None else self._before
        found = await asyncio.to_thread(_top, snapshot, before if diff else None, top)
        return {
            "tracing": True,
            "since": self._since,
            "held_bytes": held,
            "peak_bytes": peak,
            "own_bytes": tracemalloc.get_tracemalloc_memory(),
            "compared": diff and before is not None,
            "top": found,
        }

    def _no_timer(self) -> None:
        if self._end is not None:
            self._end.cancel()
            self._end = None


def _snapshot() -> tracemalloc.Snapshot:
    return tracemalloc.take_snapshot().filter_traces(OURS)


def _top(
    snapshot: tracemalloc.Snapshot, before: tracemalloc.Snapshot | None, top: int
) -> list[dict[str, Any]]:
    if before is None:
        return [
            {"where": str(each.traceback), "bytes": each.size, "blocks": each.count}
            for each in snapshot.statistics("lineno")[:top]
        ]
    return [
        {
            "where": str(each.traceback),
            "bytes": each.size,
            "blocks": each.count,
            "more_bytes": each.size_diff,
            "more_blocks": each.count_diff,
        }
        for each in snapshot.compare_to(before, "lineno")[:top]
    ]


def _objects(top: int) -> list[dict[str, Any]]:
    """How many objects of which type there are: of those that the garbage collector follows. Costs no tracing."""
    counts = Counter(type(each).__qualname__ for each in gc.get_objects())
    return [{"type": name, "count": count} for name, count in counts.most_common(top)]
