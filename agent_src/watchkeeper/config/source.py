"""Where the configuration comes from first: the file or folder that the agent is started with.

Contents are read only when a look finds another modification time, inode, size or set of names, and parsed only when they
differ. A file that is not there for one look is being replaced by an editor; that it is missing is reported when it is
missing at the next look as well. The files that secrets are in are looked at in the same way.
"""

from __future__ import annotations

import asyncio
import time
from typing import Protocol

from watchkeeper.config.changes import Changes
from watchkeeper.config.folder import Fingerprint, fingerprint, read_path
from watchkeeper.config.fragments import Fragment, digest
from watchkeeper.config.load import Loaded, assemble
from watchkeeper.errors import AgentError, ConfigUnreadableError


class ConfigSource(Protocol):
    """Anything a configuration can come from."""

    async def next(self) -> Loaded | AgentError:
        """The next configuration, or why it cannot be used; returns only when there is something new to say."""

    def ask(self) -> None:
        """Look now, and answer even if nothing has changed (SIGHUP)."""


class FileSource:
    """One file or folder. Everything is read in a thread: a network file system may hang."""

    def __init__(self, path: str, interval: float, *, telling: bool = False) -> None:
        self.path = path
        self.others: frozenset[str] = frozenset()
        """The files that secrets are in."""
        self._changes = Changes([path], interval, telling=telling)
        self._seen: Fingerprint | None = None
        self._seen_others: Fingerprint | None = None
        self._digest = ""
        self._missing = 0
        self._read_at = 0
        """Wall clock, nanoseconds: as times of files are."""

    @property
    def interval(self) -> float:
        """Seconds from one look to the next."""
        return self._changes.interval

    @interval.setter
    def interval(self, seconds: float) -> None:
        self._changes.interval = seconds

    def tell(self, *, wanted: bool) -> None:
        """Whether the system is asked to tell of changes, if it can."""
        self._changes.tell(wanted=wanted)

    async def load(self) -> Loaded | AgentError:
        """The configuration as it is now."""
        self._seen = await asyncio.to_thread(fingerprint, self.path)
        return await asyncio.to_thread(self._load)

    async def next(self) -> Loaded | AgentError:
        while True:
            asked = await self._changes.wait()
            current = await asyncio.to_thread(fingerprint, self.path)
            others = await self._others_differ()
            if not asked and not others and not self._differs(current):
                continue
            before, self._seen = self._digest, current
            answer = await asyncio.to_thread(self._load)
            if asked or others or self._digest != before:
                return answer

    def ask(self) -> None:
        self._changes.ask()

    def close(self) -> None:
        """Let the system tell of changes no more."""
        self._changes.close()

    def look_after(self, files: frozenset[str]) -> None:
        """These are the files that secrets are in now."""
        if files != self.others:
            self.others, self._seen_others = files, None

    async def _others_differ(self) -> bool:
        if not self.others:
            return False
        current = await asyncio.to_thread(_prints, self.others)
        before, self._seen_others = self._seen_others, current
        if (
            before is None
        ):  # the first look at them: one that was written since they were read was read too early
            return any(found is not None and found[1] > self._read_at for _file, found in current)
        return before != current

    def _differs(self, current: Fingerprint | None) -> bool:
        self._missing = self._missing + 1 if current is None else 0
        if self._missing == 1:
            self._changes.soon()
        return current != self._seen and self._missing != 1

    def _load(self) -> Loaded | AgentError:
        self._read_at = time.time_ns()
        try:
            fragments: tuple[Fragment, ...] = read_path(self.path)
        except ConfigUnreadableError as error:
            self._digest = str(error)
            return error.bare()
        self._digest = digest(fragments)
        try:
            return assemble(fragments, origin=self.path)
        except AgentError as error:
            return error.bare()


def _prints(files: frozenset[str]) -> Fingerprint:
    """Young files are left to the next look: a secret that is written twice at once is read twice, a second apart."""
    found = (fingerprint(file, settled=True) for file in sorted(files))
    return tuple(part for each in found if each is not None for part in each)
