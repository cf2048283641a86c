"""Where the configuration comes from: a file that is looked at about once a second.

A look costs one stat; only when modification time, inode or size differ is the file read, and only when its content
differs is it parsed. A file that is not there for one look is being replaced by an editor; that it is missing is
reported when it is missing at the next look as well.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from typing import Protocol

from watchkeeper.config.load import Loaded, parse, read_bytes
from watchkeeper.errors import AgentError, ConfigUnreadableError

Fingerprint = tuple[int, int, int]
UNSETTLED_NS = 2_000_000_000


class ConfigSource(Protocol):
    """Anything a configuration can come from."""

    async def next(self) -> Loaded | AgentError:
        """The next configuration, or why it cannot be used; returns only when there is something new to say."""

    def ask(self) -> None:
        """Look now, and answer even if nothing has changed (SIGHUP)."""


class FileSource:
    """One file."""

    def __init__(self, path: str, interval: float) -> None:
        self.path = path
        self.interval = interval
        self._asked = asyncio.Event()
        self._seen: Fingerprint | None = None
        self._digest = ""
        self._missing = 0

    async def load(self) -> Loaded | AgentError:
        """The configuration as it is now. The file is read in a thread: a network file system may hang."""
        self._seen = self._fingerprint()
        return await asyncio.to_thread(self._load)

    async def next(self) -> Loaded | AgentError:
        while True:
            asked = await self._pause()
            current = await asyncio.to_thread(self._fingerprint)
            if not asked and not self._differs(current):
                continue
            before = self._digest
            self._seen = current
            answer = await asyncio.to_thread(self._load)
            if asked or self._digest != before:
                return answer

    def ask(self) -> None:
        self._asked.set()

    async def _pause(self) -> bool:
        """Wait for the next look; whether it was asked for."""
        try:
            async with asyncio.timeout(self.interval):
                await self._asked.wait()
        except TimeoutError:
            return False
        self._asked.clear()
        return True

    def _differs(self, current: Fingerprint | None) -> bool:
        self._missing = self._missing + 1 if current is None else 0
        return current != self._seen and self._missing != 1

    def _fingerprint(self) -> Fingerprint | None:
        try:
            found = os.stat(self.path)  # noqa: PTH116 - one system call, no object in between
        except (OSError, ValueError):
            return None
        # Two writes within one tick of the file system's clock look alike; so young a file is looked into again.
        if abs(time.time_ns() - found.st_mtime_ns) < UNSETTLED_NS:
            return time.time_ns(), found.st_ino, found.st_size
        return found.st_mtime_ns, found.st_ino, found.st_size

    def _load(self) -> Loaded | AgentError:
        try:
            content = read_bytes(self.path)
        except ConfigUnreadableError as error:
            self._digest = str(error)
            return error
        self._digest = hashlib.sha256(content).hexdigest()
        try:
            return parse(content, file=self.path)
        except AgentError as error:
            return error
