"""Files of this machine as a source: one, or a folder of fragments (config/folder.py says which of its files count)."""

from __future__ import annotations

import asyncio
import pathlib

from watchkeeper.config.changes import Changes
from watchkeeper.config.folder import Fingerprint, fingerprint, fragment_names, read_path
from watchkeeper.config.fragments import Fetched, digest
from watchkeeper.config.schema.sources import FileSourceSpec
from watchkeeper.config.sources import SourceError
from watchkeeper.errors import ConfigUnreadableError


class Files:
    """A `FragmentSource`. What is read is read in a thread: a network file system may hang."""

    def __init__(self, spec: FileSourceSpec) -> None:
        self._spec = spec
        self._changes = Changes([spec.path], spec.interval, telling=spec.watch)
        self._seen: Fingerprint | None = None
        self._version = ""
        self._missing = 0

    async def fetch(self) -> Fetched:
        self._seen = await asyncio.to_thread(fingerprint, self._spec.path)
        fetched = await asyncio.to_thread(self._read)
        self._version = fetched.version
        return fetched

    async def watch(self) -> Fetched:
        """As of the agent's own file: one look at which it is missing is an editor at work."""
        while True:
            await self._changes.wait()
            current = await asyncio.to_thread(fingerprint, self._spec.path)
            self._missing = self._missing + 1 if current is None else 0
            if self._missing == 1:
                self._changes.soon()
            if current == self._seen or self._missing == 1:
                continue
            self._seen = current
            fetched = await asyncio.to_thread(self._read)
            if fetched.version != self._version:
                self._version = fetched.version
                return fetched

    async def close(self) -> None:
        self._changes.close()

    def _read(self) -> Fetched:
        try:
            if self._spec.allow_missing and _nothing_there(self._spec.path):
                return Fetched((), "")
            fragments = read_path(self._spec.path)
        except ConfigUnreadableError as error:
            raise SourceError(str(error)) from None
        return Fetched(fragments, digest(fragments)[:12])


def _nothing_there(path: str) -> bool:
    place = pathlib.Path(path)
    return not place.exists() or (place.is_dir() and not fragment_names(path))
