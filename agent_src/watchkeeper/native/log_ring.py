"""A ring with a thread that drains it and a descriptor of its own: what a log handler writes to.

In a child made by fork() nobody drains: its lines are written at once, each by one call of the system, and what was
queued at the fork stays the parent's. Where a thread cannot be started (an interpreter without daemon threads, a limit of
the system) it is the same.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
import weakref

from watchkeeper.native import Ring

OPEN_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
CLOSE_LIMIT = 2.0
PATIENCE = 0.1
PIECE = getattr(select, "PIPE_BUF", 512)
"""What a pipe takes without waiting once it can be written to (POSIX, poll: PIPE_BUF)."""


class LogRing:
    """Lines go in by `write`, from any thread; a thread of this object brings them out.

    Args:
        fd: is duplicated; the caller's own may be closed at any time.
        capacity, policy, linger, block_seconds, notice: as for `Ring`.
        thread: False: nobody drains, and every line is written before `write` returns.
    """

    finished = False
    """Whether the ring takes no more lines: only `write_straight` does."""

    def __init__(
        self,
        fd: int,
        *,
        capacity: int = 1 << 20,
        policy: str = "block",
        linger: float = 0.01,
        block_seconds: float = 1.0,
        notice: bytes = b"",
        thread: bool = True,
    ) -> None:
        self._fd = os.dup(fd)
        try:
            self.ring = Ring(self._fd, capacity, policy, linger, block_seconds, notice=notice)
        except BaseException:
            os.close(self._fd)
            raise
        self.write = self.ring.write
        self.stats = self.ring.stats
        self.flush = self.ring.flush
        self._straight = threading.Lock()
        self._torn, self._patience = False, PATIENCE
        self._thread = threading.Thread(target=self.ring.run, name="log-ring", daemon=True)
        with _fork_lock:
            _rings.add(self)
        if thread:
            with contextlib.suppress(RuntimeError):
                self._thread.start()
                self._wait_for_thread()

    def _wait_for_thread(self) -> None:
        """Until it drains: a line that came before that would be written by its producer, however slow the reader is."""
        while not self.ring.running and self._thread.is_alive():
            time.sleep(0.0005)

    def __del__(self) -> None:
        if self.finished and self._fd >= 0 and not self.ring.running:
            os.close(self._fd)

    def _after_fork_in_child(self) -> None:
        self._straight = threading.Lock()
        self.ring._after_fork_in_child()

    @classmethod
    def at(cls, path: str | os.PathLike[str], *, mode: int = 0o666, **options: object) -> LogRing:
        """A ring that appends to the file at `path`, which is made when there is none."""
        fd = os.open(path, OPEN_FLAGS, mode)
        try:
            return cls(fd, **options)  # type: ignore[arg-type]
        finally:
            os.close(fd)

    def close(self, timeout: float | None = CLOSE_LIMIT) -> bool:
        """Write the rest; whether all of it was written within `timeout` seconds. A second call does nothing."""
        complete = self.finish(timeout)
        with self._straight:
            # A thread that hangs in a write keeps its descriptor: the number must not become another file's meanwhile.
            if self._fd >= 0 and not self.ring.running:
                os.close(self._fd)
            self._fd = -1
        return complete

    def finish(self, timeout: float | None = CLOSE_LIMIT) -> bool:
        """As `close`, but `write_straight` goes on writing: for threads that live longer than the log does."""
        if self.finished:
            return True
        self.finished = True
        with self._straight:
            complete = self.ring.close(timeout)
            self._torn = not complete
        return complete

    def write_straight(self, line: bytes | str) -> bool:
        """Write a line past the finished ring, and behind all that was in it; whether all of it was written.

        A reader that does not read costs PATIENCE once, and no time after that.
        """
        data = line.encode("utf-8", "backslashreplace") if isinstance(line, str) else line
        data = data if data.endswith(b"\n") else data + b"\n"
        with self._straight:
            if self._fd < 0 or self.ring.running:  # closed; or a write that hangs, and may be within a line
                return False
            left = data = b"\n" + data if self._torn else data
            with contextlib.suppress(OSError):
                while left and _is_writable(self._fd, self._patience):
                    left = left[os.write(self._fd, left[:PIECE]) :]
            self._patience = 0.0 if left else PATIENCE
            self._torn = bool(left) if len(left) < len(data) else self._torn
            return not left


def _is_writable(fd: int, timeout: float) -> bool:
    """Whether a write would not have to wait; True where nothing tells."""
    if not hasattr(select, "poll"):
        return True
    poll = select.poll()
    poll.register(fd, select.POLLOUT)
    return bool(poll.poll(timeout * 1000))


class _Forking(threading.local):
    """What a fork of this thread holds."""

    rings: tuple[LogRing, ...] | None = None
    """None: nothing, also not `_fork_lock`."""


_rings: weakref.WeakSet[LogRing] = weakref.WeakSet()
_forking = _Forking()
_fork_lock = threading.Lock()
"""Held from before a fork until after it: between the two, other threads run, and one of them may fork as well."""


def _before_fork() -> None:
    """Hold every ring. When that fails nothing stays held: Python reports it and forks all the same."""
    held = 0
    _fork_lock.acquire()
    rings: tuple[LogRing, ...] = ()
    try:
        rings = _forking.rings = tuple(_rings)
        for one in rings:
            one.ring._before_fork()
            held += 1
    except BaseException:
        _forking.rings = None
        for one in rings[:held]:
            one.ring._after_fork_in_parent()
        _fork_lock.release()
        raise


def _after_fork_in_parent() -> None:
    rings, _forking.rings = _forking.rings, None
    if rings is not None:
        for one in rings:
            one.ring._after_fork_in_parent()
        _fork_lock.release()


def _after_fork_in_child() -> None:
    """Every ring is made usable, whoever held it: only this thread is here."""
    global _fork_lock  # noqa: PLW0603 - whoever held the old one is not in this process
    _fork_lock = threading.Lock()
    _forking.rings = None
    for one in tuple(_rings):
        one._after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
