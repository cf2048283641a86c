"""Files that services write to, by way of the agent: rotated by size and count, written by a thread of their own.

Rules:
    F1  Whoever writes here never waits: what does not fit into the queue is dropped, counted, and missed by a line in the
        file itself.
    F2  A file that has reached max_size becomes FILE.1, FILE.1 becomes FILE.2 and so on; FILE.<keep> is the last. No line
        is torn by that.
    F3  A write that fails (a full disk) is dropped and counted; the next one tries again.
    F4  `close` writes what is queued, within a limit.
"""

from __future__ import annotations

import os
import pathlib
import threading
from collections import deque
from dataclasses import dataclass

from watchkeeper.logs import get_logger
from watchkeeper.rotation import shift

journal = get_logger("service.files")
QUEUE_LIMIT = 4 << 20
"""Bytes that wait, of all files together."""


@dataclass
class LogFile:
    """One file. Everything but `dropped` belongs to the thread."""

    path: pathlib.Path
    max_size: int
    keep: int
    dropped: int = 0
    """Bytes, ever."""
    missing: int = 0
    """Bytes that no line in the file speaks of yet."""
    failing: bool = False

    def __post_init__(self) -> None:
        self._descriptor = -1
        self._size = 0

    def write(self, data: bytes) -> None:
        """Write, and rotate between two lines (F2).

        Raises:
            OSError: it cannot be written.
        """
        if self._descriptor < 0:
            self._open()
        while self._size + len(data) > self.max_size:
            cut = data.rfind(b"\n", 0, max(0, self.max_size - self._size)) + 1
            if not cut and not self._size:
                cut = data.find(b"\n") + 1 or len(data)  # one line that is longer than a file
            self._put(data[:cut])
            data = data[cut:]
            if not data and self._size <= self.max_size:
                return
            self._rotate()
        self._put(data)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o750)
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0)
        self._descriptor = os.open(self.path, flags, 0o640)
        self._size = os.fstat(self._descriptor).st_size

    def _put(self, data: bytes) -> None:
        while data:
            written = os.write(self._descriptor, data)
            self._size += written
            data = data[written:]

    def _rotate(self) -> None:
        self.close()
        shift(self.path, self.keep)
        self._open()


class LogFiles:
    """The thread, and what waits for it."""

    def __init__(self, limit: int = QUEUE_LIMIT) -> None:
        self._limit = limit
        self._queue: deque[tuple[LogFile, bytes | None]] = deque()
        self._size = 0
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False

    def write(self, file: LogFile, data: bytes) -> bool:
        """Queue it; False: it was dropped (F1)."""
        with self._changed:
            if self._size + len(data) > self._limit or self._closing:
                file.dropped += len(data)
                file.missing += len(data)
                return False
            self._put(file, data)
            return True

    def finish(self, file: LogFile) -> None:
        """Close a file when all that waits for it is written."""
        with self._changed:
            self._put(file, None)

    def close(self, limit: float) -> bool:
        """Write what waits; whether that was done within `limit` seconds (F4)."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(limit)
        return self._thread is None or not self._thread.is_alive()

    def _put(self, file: LogFile, data: bytes | None) -> None:
        self._queue.append((file, data))
        self._size += len(data or b"")
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="service-files", daemon=True)
            self._thread.start()
        self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._queue and not self._closing:
                    self._changed.wait()
                if not self._queue:
                    return
                file, data = self._queue.popleft()
                self._size -= len(data or b"")
                missing, file.missing = file.missing, 0
            self._one(file, data, missing)

    def _one(self, file: LogFile, data: bytes | None, missing: int) -> None:
        if data is None:
            file.close()
            return
        try:
            if missing:
                file.write(f"[watchkeeper: {missing} bytes are missing here]\n".encode())
            file.write(data)
            file.failing = False
        except OSError as error:  # F3
            with self._changed:
                file.dropped += len(data)
                file.missing += missing + len(data)
            file.close()
            if not file.failing:
                file.failing = True
                journal.error(f"{file.path} cannot be written: {error.strerror}", error_class="OUTPUT_FAILED")
