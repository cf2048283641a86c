"""A mapping that forgets: what was not used for longest goes when there is no room, and what is older than its time goes anyway.

Rules:
    L1  It never holds more than `maxsize` entries; a new one takes the place of the one that was used longest ago.
    L2  Reading and writing are uses. An entry that was not used for `ttl` seconds is not there any more.
    L3  Nothing runs in the background: an entry goes when somebody looks.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class TtlLru(Generic[K, V]):
    """Args: maxsize in entries; ttl in seconds; on_gone hears of every entry that was forgotten."""

    def __init__(
        self,
        maxsize: int = 1024,
        ttl: float = 3600.0,
        *,
        clock: Callable[[], float] = time.monotonic,
        on_gone: Callable[[K, V], None] = lambda _key, _value: None,
    ) -> None:
        self._maxsize, self._ttl, self._clock, self._on_gone = maxsize, ttl, clock, on_gone
        self._entries: OrderedDict[K, tuple[V, float]] = OrderedDict()
        """The one that was used longest ago comes first."""

    def __len__(self) -> int:
        self._expire()
        return len(self._entries)

    def __iter__(self) -> Iterator[K]:
        self._expire()
        return iter(list(self._entries))

    def values(self) -> list[V]:
        """All of them; this is no use of any."""
        self._expire()
        return [value for value, _ in self._entries.values()]

    def get(self, key: K) -> V | None:
        """The entry, which counts as used."""
        self._expire()
        found = self._entries.pop(key, None)
        if found is None:
            return None
        self._entries[key] = (found[0], self._clock())
        return found[0]

    def get_or_make(self, key: K, make: Callable[[], V]) -> V:
        """The entry; if there is none, a new one."""
        found = self.get(key)
        if found is None:
            found = make()
            self.set(key, found)
        return found

    def set(self, key: K, value: V) -> None:
        """Put an entry in, or in the place of an older one."""
        self._expire()
        self._entries.pop(key, None)
        self._entries[key] = (value, self._clock())
        while len(self._entries) > self._maxsize:  # L1
            self._forget_first()

    def _expire(self) -> None:
        oldest = self._clock() - self._ttl
        while self._entries and next(iter(self._entries.values()))[1] <= oldest:  # L2
            self._forget_first()

    def _forget_first(self) -> None:
        key, (value, _) = self._entries.popitem(last=False)
        self._on_gone(key, value)
