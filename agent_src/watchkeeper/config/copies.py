"""Copies on disk of what was good: of the file or folder, and of each source its own.

A copy is written beside its place, flushed, and renamed into it; the earlier one is there until then. It carries a digest of
what it holds, so that one that was torn or changed by a hand is not believed. What it holds is what was written: references
to secrets stay references. Its mode is 0600, for secrets that stand in a configuration itself.
"""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

import msgspec

from watchkeeper.config.fragments import Fragment, digest
from watchkeeper.errors import StateError

OWN = "last-good"
"""The copy of the file or folder that the agent is started with."""
SOURCE = "source."
SUFFIX = ".json"


class _Document(msgspec.Struct):
    name: str
    suffix: str
    content: str


class _Copy(msgspec.Struct):
    sha256: str
    origin: str
    documents: list[_Document]


class Copies:
    """The copies in one state directory; without one nothing is kept."""

    def __init__(self, folder: pathlib.Path | None) -> None:
        self._folder = folder

    def save(self, name: str, origin: str, fragments: tuple[Fragment, ...]) -> None:
        """Keep a copy.

        Raises:
            StateError: the disk is full or has become unwritable; the earlier copy is still there.
        """
        if self._folder is None:
            return
        documents = [_Document(each.name, each.suffix, each.content.decode()) for each in fragments]
        content = msgspec.json.encode(_Copy(digest(fragments), origin, documents))
        try:
            write_whole(self._folder / (name + SUFFIX), content)
        except OSError as error:
            raise StateError(
                f"the last good configuration could not be kept in {self._folder}: {error.strerror}",
                "Look at the free space and the owner of the directory; the agent goes on without the copy.",
            ) from None

    def load(self, name: str, of: Callable[[str], bool]) -> tuple[Fragment, ...] | None:
        """What a copy holds; None: there is none, it is not whole, or its origin is not one that is asked for."""
        if self._folder is None:
            return None
        try:
            copy = msgspec.json.decode((self._folder / (name + SUFFIX)).read_bytes(), type=_Copy)
            fragments = tuple(
                Fragment(each.name, each.content.encode(), each.suffix) for each in copy.documents
            )
        except (OSError, ValueError):
            return None
        whole = digest(fragments) == copy.sha256
        return fragments if whole and of(copy.origin) else None

    def drop(self, name: str) -> None:
        """Take a copy away; one that cannot be taken away is of no use to anybody either."""
        if self._folder is not None:
            _remove(self._folder / (name + SUFFIX))

    def drop_sources_but(self, names: set[str]) -> None:
        """Take away the copies of sources that are no longer wanted."""
        kept = {SOURCE + name + SUFFIX for name in names}
        found = list(self._folder.glob(f"{SOURCE}*{SUFFIX}")) if self._folder is not None else []
        for file in found:
            if file.name not in kept:
                _remove(file)


def write_whole(target: pathlib.Path, content: bytes) -> None:
    """Write a file so that it is either the old one or the new one, whenever the power fails.

    Raises:
        OSError: it could not be written; the old one is still there.
    """
    partial = target.with_name(f".{target.name}.partial")
    try:
        with partial.open("wb") as stream:
            partial.chmod(0o600)  # before anything is in it
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(target)
    except OSError:
        _remove(partial)
        raise


def _remove(file: pathlib.Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError:
        return
