"""How a transfer is watched: a bar with rate and time left on a terminal, a line for each tenth elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TextIO

from ferryman_build.ui import human_size
from ferryman_release.store.base import Progress

_TENTHS = 10


@contextlib.contextmanager
def watched(
    title: str, total: int, *, plain: bool = False, stream: TextIO | None = None
) -> Iterator[Progress]:
    """A callback for stores, while ``total`` bytes are carried; ``stream`` is stderr when None."""
    out = stream or sys.stderr
    if plain or not out.isatty():
        yield Lines(title, total, lambda line: print(line, file=out, flush=True))
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=Console(file=out), transient=True) as bars:
        task = bars.add_task(title, total=total)
        yield lambda _key, more: bars.advance(task, more)


class Lines:
    """A line whenever another tenth has arrived. Calls may come from several threads."""

    def __init__(
        self,
        title: str,
        total: int,
        say: Callable[[str], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._title = title
        self._total = total
        self._say = say
        self._clock = clock
        self._begun = clock()
        self._done = 0
        self._said = 0
        self._lock = threading.Lock()

    def __call__(self, _key: str, more: int) -> None:
        with self._lock:
            self._done += more
            tenth = self._done * _TENTHS // self._total if self._total else _TENTHS
            if tenth <= self._said:
                return
            self._said = tenth
            self._say(self._line())

    def _line(self) -> str:
        seconds = max(self._clock() - self._begun, 1e-6)
        rate = self._done / seconds
        left = (self._total - self._done) / rate if rate else 0.0
        done = f"{self._title}: {human_size(self._done)} of {human_size(self._total)}"
        tail = f", {left:.0f} s left" if self._done < self._total else f" in {seconds:.0f} s"
        return f"{done}, {human_size(int(rate))}/s{tail}"
