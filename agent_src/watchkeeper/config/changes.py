"""Waiting for changes of a file or a folder.

Rules:
    W1  Where watchfiles is installed (the extra `watch`) the system tells of changes, and a look every WATCHED_INTERVAL
        catches what it did not tell: a network file system, a queue of events that ran over.
    W2  Otherwise, or when the system refuses to tell, there is a look every `interval` seconds.
    W3  However many changes there are, there is at most one look per GAP. A look compares states and not events, so that
        the last one is never missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import os
from collections.abc import Iterable

from watchkeeper.logs import get_logger

journal = get_logger("config")

GAP = 0.2
WATCHED_INTERVAL = 10.0
REFUSED_PAUSE = 60.0
"""Seconds until the system is asked again to tell of changes."""


class Changes:
    """Says when to look. `interval` may be changed at any time; what is watched, with `watch`."""

    def __init__(self, paths: Iterable[str], interval: float, *, telling: bool = True) -> None:
        self.interval = interval
        self._paths = frozenset(paths)
        self._wanted = telling
        self._telling = telling and _installed()
        self._told, self._asked = asyncio.Event(), asyncio.Event()
        self._listener: asyncio.Task[None] | None = None
        self._last = -GAP

    def ask(self) -> None:
        """Let the next look be now."""
        self._asked.set()

    async def wait(self) -> bool:
        """Until it is time to look; whether that was asked for."""
        clock = asyncio.get_running_loop().time
        if self._telling and self._listener is None:
            self._listener = asyncio.create_task(self._listen(), name="watchfiles")
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._patience()):
                await self._either()
        if not self._asked.is_set() and clock() < self._last + GAP:  # W3
            await asyncio.sleep(self._last + GAP - clock())
        asked = self._asked.is_set()
        self._asked.clear()
        self._told.clear()
        self._last = clock()
        return asked

    def tell(self, *, wanted: bool) -> None:
        """Whether the system is asked to tell of changes, if it can."""
        if wanted == self._wanted:
            return  # it may have refused, and is asked again when its time comes
        self._wanted = wanted
        self._telling = wanted and _installed()
        if not self._telling:
            self.close()

    def soon(self) -> None:
        """Let there be another look after GAP, whether or not the system tells."""
        asyncio.get_running_loop().call_later(GAP, self._told.set)

    def watch(self, paths: Iterable[str]) -> None:
        """Look after other files from now on."""
        if frozenset(paths) != self._paths:
            self._paths = frozenset(paths)
            self.close()

    def close(self) -> None:
        """Let the system tell no more."""
        if self._listener is not None:
            self._listener.cancel()
            self._listener = None

    def _patience(self) -> float:
        return max(self.interval, WATCHED_INTERVAL) if self._listener is not None else self.interval

    async def _either(self) -> None:
        waits = [asyncio.ensure_future(event.wait()) for event in (self._asked, self._told)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def _listen(self) -> None:
        """W1; it ends when the system refuses to tell, and is tried again after a while."""
        watchfiles = await asyncio.to_thread(importlib.import_module, "watchfiles")
        try:
            # Set once more when the watch stands: what changed before it did is looked at.
            self.soon()
            async for _ in watchfiles.awatch(
                *sorted(_folders(self._paths)), recursive=False, step=50, debounce=200
            ):
                self._told.set()
        except (OSError, RuntimeError) as error:  # W2: no inotify watches are left, or the folder is gone
            journal.info("the system does not tell of changed files; they are looked at", reason=str(error))
            self._telling, self._listener = False, None
            asyncio.get_running_loop().call_later(REFUSED_PAUSE, self._try_again)

    def _try_again(self) -> None:
        self._telling = self._wanted


def _folders(paths: Iterable[str]) -> set[str]:
    """What is watched: of a file its folder, since a new file takes the place of the old one."""
    return {path if os.path.isdir(path) else os.path.dirname(path) or "." for path in paths}  # noqa: PTH112, PTH120 - text stays text


def _installed() -> bool:
    return importlib.util.find_spec("watchfiles") is not None
