"""What happened to which key, and why: a bounded log in memory that `explain` and /status read.

Every change of state is noted where it is decided. The log is the cause of what is observed; it decides nothing itself.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from watchkeeper.config.snapshot import Key

CAPACITY = 1000
"""Events that are kept; the oldest go first."""


@dataclass(frozen=True)
class Event:
    """One change. `at` is seconds since the epoch; `number` counts from 1 and never repeats."""

    number: int
    at: float
    key: Key
    what: str
    why: str


class Events:
    """The log. Whoever subscribes hears of every event, in order, within the call that noted it."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._kept: deque[Event] = deque(maxlen=capacity)
        self._count = 0
        self._listeners: list[Callable[[Event], None]] = []

    def note(self, key: Key, what: str, why: str = "") -> None:
        """Add one."""
        self._count += 1
        event = Event(self._count, time.time(), key, what, why)
        self._kept.append(event)
        for listener in tuple(self._listeners):
            listener(event)

    def restore(self, events: Iterable[Event]) -> None:
        """Those of an agent before this one, oldest first; before anything is noted. Nobody hears of them again."""
        for event in events:
            self._kept.append(event)
            self._count = max(self._count, event.number)

    def subscribe(self, listener: Callable[[Event], None]) -> None:
        self._listeners.append(listener)

    def unsubscribe(self, listener: Callable[[Event], None]) -> None:
        """Hear of nothing any more."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def of(self, key: Key) -> list[Event]:
        """Those of one key that are still kept, oldest first."""
        return [event for event in self._kept if event.key == key]

    def __iter__(self) -> Iterator[Event]:
        return iter(list(self._kept))
