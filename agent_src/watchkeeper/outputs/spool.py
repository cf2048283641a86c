"""Batches on disk, for an output that is away: a folder of segments, one batch each, sent oldest first.

Rules:
    P1  A segment is written beside its place, flushed, and renamed: one that is there is whole.
    P2  A segment is removed after it has been sent: a crash between the two sends it twice, never not at all.
    P3  All segments together have at most `limit` bytes; the oldest go first, and their lines are counted.
    P4  What is no segment, or cannot be read, is passed over and left where it is.
"""

from __future__ import annotations

import contextlib
import os
import pathlib
import re

_SEGMENT = re.compile(r"(\d{12})-(\d+)\.ndjson")


class FileSpool:
    """A folder of its own; the only one that writes there is this object.

    Args:
        folder: is made when the first batch comes.
        limit: bytes.
    """

    def __init__(self, folder: pathlib.Path, limit: int) -> None:
        self._folder, self._limit = folder, limit
        self._segments = self._found()

    def append(self, lines: list[bytes]) -> int:
        """Keep a batch; the lines of older ones that had to go for it (P3), or all of this one when it is too large.

        Raises:
            OSError: it could not be written; nothing has changed.
        """
        content = b"".join(line + b"\n" for line in lines)
        if len(content) > self._limit:
            return len(lines)
        for folder in (self._folder.parent, self._folder):  # of parents mkdir itself takes the umask's mode
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        there = self._found()  # what an earlier object has put there late is not written over
        number = int(there[-1].name[:12]) + 1 if there else 1
        place = self._folder / f"{number:012d}-{len(lines)}.ndjson"
        partial = self._folder / f".{place.name}"
        try:
            with partial.open("wb") as stream:  # P1
                partial.chmod(0o600)
                stream.write(content)
                stream.flush()
                os.fsync(stream.fileno())
            partial.rename(place)
        except OSError:
            with contextlib.suppress(OSError):
                partial.unlink()
            raise
        self._segments.append(place)
        return self._make_room()

    def first(self) -> list[bytes]:
        """The lines of the oldest segment; empty: there is none."""
        while self._segments:
            try:
                lines = self._segments[0].read_bytes().split(b"\n")[:-1]
            except OSError:
                lines = []
            if lines:
                return lines
            del self._segments[0]  # P4
        return []

    def remove_first(self) -> None:
        """It has been sent (P2)."""
        place = self._segments.pop(0)
        with contextlib.suppress(OSError):
            place.unlink()

    @property
    def lines(self) -> int:
        """How many wait."""
        return sum(_lines(place) for place in self._segments)

    def _make_room(self) -> int:
        sizes = [_size(place) for place in self._segments]
        pushed_out = 0
        while sum(sizes) > self._limit:
            pushed_out += _lines(self._segments[0])
            self.remove_first()
            del sizes[0]
        return pushed_out

    def _found(self) -> list[pathlib.Path]:
        with contextlib.suppress(OSError):
            return sorted(place for place in self._folder.iterdir() if _SEGMENT.fullmatch(place.name))
        return []


def _lines(place: pathlib.Path) -> int:
    found = _SEGMENT.fullmatch(place.name)
    return int(found[2]) if found else 0


def _size(place: pathlib.Path) -> int:
    with contextlib.suppress(OSError):
        return place.stat().st_size
    return 0
