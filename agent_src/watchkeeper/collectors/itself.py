"""The agent's own garbage collection: how often, how long, and the longest pause.

Python tells its `gc.callbacks` of the beginning and the end of each collection, in the thread in which it happens and
while everybody else waits; so the numbers need no lock. What else the agent says of itself is read at the scrape, and is
in the registry whether or not this collector runs: process_*, queue_depth, loop_lag_seconds, tasks_alive, log_lines_total.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator
from typing import Any

from watchkeeper.collectors import Reading, counter, gauge, single

GENERATIONS = 3


class Pauses:
    """What was seen of garbage collections since the first `watch`."""

    def __init__(self) -> None:
        self.seconds = [0.0] * GENERATIONS
        self.collections = [0] * GENERATIONS
        self.collected = [0] * GENERATIONS
        self.longest = 0.0
        self._began = 0.0
        self._watching = False

    def watch(self) -> None:
        """Begin, once."""
        if not self._watching:
            self._watching = True
            gc.callbacks.append(self.heard)

    def heard(self, phase: str, info: dict[str, Any]) -> None:
        """A collection begins ("start") or has ended ("stop")."""
        now = time.perf_counter()
        if phase == "start":
            self._began = now
            return
        generation, pause = int(info["generation"]), now - self._began
        if self._began:  # not one that began before anybody watched
            self.seconds[generation] += pause
            self.collections[generation] += 1
            self.collected[generation] += int(info["collected"])
            self.longest = max(self.longest, pause)


PAUSES = Pauses()
"""Of this process; there is one garbage collector."""


class Itself:
    """The collector."""

    def __init__(self, pauses: Pauses = PAUSES) -> None:
        pauses.watch()
        self._pauses = pauses

    def collect(self) -> Iterator[Reading]:
        seen = self._pauses
        for name, text, numbers in (
            ("gc_pause_seconds_total", "Time spent collecting garbage, by generation.", seen.seconds),
            ("gc_collections_total", "Collections, by generation.", seen.collections),
            ("gc_collected_objects_total", "Objects that were collected, by generation.", seen.collected),
        ):
            rows = {(str(at),): float(value) for at, value in enumerate(numbers)}
            yield counter(name, text, rows, "generation")
        yield from single(gauge, "gc_longest_pause_seconds", "The longest single collection.", seen.longest)
