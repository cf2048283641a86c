"""Lines to a file that is rotated by size and age, or by somebody else.

Rules:
    F1  A batch is written as a whole or not at all: what a full disk has cut off is taken back. A line that a crash has cut
        off ends before the next one begins.
    F2  Before a batch that would make the file larger than `max_bytes`, and once the file is `max_age` old, the file
        becomes FILE.1, FILE.1 becomes FILE.2 and so on; those beyond `keep` go.
    F3  A file that somebody else has moved or removed is opened anew by its name (logrotate without copytruncate).
    F4  A rotation that fails is no reason to lose lines: they go to the file as it is.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import pathlib
import time
from collections.abc import Callable

import msgspec

from watchkeeper.outputs.writer import SinkError
from watchkeeper.rotation import shift

FIRST_LINE = 65_536
"""Bytes; a line that is longer is not asked when it was written."""
FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class FileSink:
    """One file.

    Args:
        max_bytes: 0: never by size.
        max_age: seconds from the making of the file, after a restart from the time in its first line; 0: never by age.
        keep: how many older files stay.
        mode: of a new file.
    """

    def __init__(
        self,
        path: pathlib.Path,
        *,
        max_bytes: int = 0,
        max_age: float = 0.0,
        keep: int = 5,
        mode: int = 0o640,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._path, self._max_bytes, self._max_age, self._keep, self._mode = (
            path,
            max_bytes,
            max_age,
            keep,
            mode,
        )
        self._clock = clock
        self._fd = -1
        self._since = 0.0

    def write(self, lines: list[bytes]) -> None:
        data = b"".join(line + b"\n" for line in lines)
        try:
            self._open()
            self._rotate(len(data))
            self._append(data)
        except OSError as error:
            self.close()
            raise SinkError(f"{self._path}: {error.strerror or error}") from None

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _open(self) -> None:
        if self._fd >= 0 and not self._moved():
            return
        self.close()
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        self._fd = os.open(self._path, FLAGS, self._mode)
        self._since = self._clock() - self._age()
        if self._torn():
            os.write(self._fd, b"\n")

    def _torn(self) -> bool:
        """Whether the file ends within a line."""
        size = os.fstat(self._fd).st_size
        if not size:
            return False
        with self._path.open("rb") as written:
            written.seek(size - 1)
            return written.read(1) != b"\n"

    def _moved(self) -> bool:
        """F3."""
        try:
            named, opened = self._path.stat(), os.fstat(self._fd)
        except OSError:
            return True
        return (named.st_dev, named.st_ino) != (opened.st_dev, opened.st_ino)

    def _age(self) -> float:
        """How old a file is that was there before, in seconds; by the wall clock, which is all that a file has. Never negative."""
        found = os.fstat(self._fd)
        if not self._max_age or not found.st_size:
            return 0.0
        made = getattr(found, "st_birthtime", found.st_ctime)
        return max(0.0, time.time() - (self._first() or made))

    def _first(self) -> float | None:
        """When its first line was written, since the epoch. Linux tells of no file when it was made, and of each when it changed."""
        with self._path.open("rb") as written:
            line = written.readline(FIRST_LINE)
        try:
            return datetime.datetime.fromisoformat(msgspec.json.decode(line)["timestamp"]).timestamp()
        except (ValueError, KeyError, TypeError, RecursionError, OverflowError, OSError):
            return None

    def _rotate(self, coming: int) -> None:
        """F2."""
        size = os.fstat(self._fd).st_size
        too_large = self._max_bytes and size and size + coming > self._max_bytes
        too_old = self._max_age and size and self._clock() - self._since >= self._max_age
        if not too_large and not too_old:
            return
        self.close()
        with contextlib.suppress(OSError):  # F4
            shift(self._path, self._keep)
        self._open()
        self._since = self._clock()

    def _append(self, data: bytes) -> None:
        """F1."""
        start = os.fstat(self._fd).st_size
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, start)
            raise
