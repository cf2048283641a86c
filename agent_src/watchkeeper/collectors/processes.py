"""How many processes there are, by state; one pass over all of them, without their arguments."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from watchkeeper.collectors import Reading, counter, gauge, single
from watchkeeper.native import processes

PROC = Path("/proc")
STATES = {
    "R": "running",
    "S": "sleeping",
    "D": "blocked",
    "T": "stopped",
    "t": "traced",
    "Z": "zombie",
    "I": "idle",
    "X": "dead",
}
"""The letters of ps(1). Blocked is a sleep that no signal ends, as in front of a disk."""


class Processes:
    """The collector."""

    def __init__(self, proc: Path = PROC) -> None:
        self._proc = proc

    def collect(self) -> Iterator[Reading]:
        counts = Counter(STATES.get(one.state, "other") for one in processes(self._proc, command=False))
        rows = {(state,): float(counts[state]) for state in (*STATES.values(), "other")}
        yield gauge("processes_present", "Processes that there are, by state.", rows, "state")
        text = "Processes and threads that were started since the machine was."
        yield from single(counter, "processes_forks_total", text, self._forks())

    def _forks(self) -> float | None:
        if sys.platform != "linux":
            return None
        lines = (self._proc / "stat").read_text().splitlines()
        return next((float(line.split()[1]) for line in lines if line.startswith("processes ")), None)
