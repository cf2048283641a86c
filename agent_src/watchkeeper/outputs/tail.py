"""The last lines of the log in memory, for /logs and for people who want to follow along.

Lines are the bytes that went everywhere else, without their line break; numbers count from 1 and never repeat, so that
whoever comes back with the last one that he has seen learns what is new and how much he has missed.
"""

from __future__ import annotations

import asyncio
import itertools
import threading
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass

from watchkeeper.logs import LineHandler

CAPACITY = 1000
"""Lines."""
LONGEST = 8192
"""Bytes of a line that is kept; a longer one is left out of the tail, so that its memory has a limit."""


@dataclass(frozen=True)
class TailLine:
    """One line of the log; `number` counts all that there ever were."""

    number: int
    line: bytes


class Tail(LineHandler):
    """A taker of lines that keeps the newest. Lines come from any thread; who waits, waits in the loop that made this."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        super().__init__()
        self._kept: deque[TailLine] = deque(maxlen=capacity)
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._loop = asyncio.get_running_loop()
        self._waiting: set[asyncio.Future[None]] = set()

    def take(self, line: bytes, level: int) -> None:
        del level
        with self._lock:  # in the order of their numbers
            number = next(self._numbers)
            if len(line) <= LONGEST:
                self._kept.append(TailLine(number, line))
        if self._waiting and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    def last(self, count: int = CAPACITY, *, service: str | None = None, after: int = 0) -> list[TailLine]:
        """The newest `count` lines, oldest of them first.

        Args:
            count: at most so many.
            service: only lines that speak of that service, or come from it.
            after: only lines with a higher number.
        """
        found = [each for each in list(self._kept) if each.number > after and _speaks_of(each.line, service)]
        return found[-count:] if count else []

    async def follow(
        self, *, service: str | None = None, after: int | None = None
    ) -> AsyncIterator[TailLine]:
        """Lines as they come, for ever; `after` None: from now on. Who reads too slowly misses lines, by their numbers."""
        seen = (self._kept[-1].number if self._kept else 0) if after is None else after
        while True:
            # Before the look: what comes during it, or while the reader is busy with what it found, wakes as well.
            waiter: asyncio.Future[None] = self._loop.create_future()
            self._waiting.add(waiter)
            try:
                for each in self.last(service=service, after=seen):
                    seen = each.number
                    yield each
                await waiter
            finally:
                self._waiting.discard(waiter)

    def _wake(self) -> None:
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)


def _speaks_of(line: bytes, service: str | None) -> bool:
    return service is None or b'"service":"%b"' % service.encode() in line
