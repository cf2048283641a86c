"""A ring with a thread that drains it and a descriptor of its own: what a log handler writes to.

In a child made by fork() nobody drains: its lines are written at once, each by one call of the system, and what was
queued at the fork stays the parent's. Where a thread cannot be started (an interpreter without daemon threads, a limit of
the system) it is the same.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref

from watchkeeper.native import Ring

OPEN_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
CLOSE_LIMIT = 2.0


class LogRing:
    """Lines go in by `write`, from any thread; a thread of this object brings them out.

    Args:
        fd: is duplicated; the caller's own may be closed at any time.
        capacity, policy, linger, block_seconds: as for `Ring`.
        thread: False: nobody drains, and every line is written before `write` returns.
    """

    def __init__(
        self,
        fd: int,
        *,
        capacity: int = 1 << 20,
        policy: str = "block",
        linger: float = 0.01,
        block_seconds: float = 1.0,
        thread: bool = True,
    ) -> None:
        self._fd = os.dup(fd)
        try:
            self.ring = Ring(self._fd, capacity, policy, linger, block_seconds)
        except BaseException:
            os.close(self._fd)
            raise
        self.write = self.ring.write
        self.stats = self.ring.stats
        self.flush = self.ring.flush
        self._thread = threading.Thread(target=self.ring.run, name="log-ring", daemon=True)
        with _fork_lock:
            _rings.add(self)
        if thread:
            with contextlib.suppress(RuntimeError):
                self._thread.start()

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
        if self._fd < 0:
            return True
        complete = self.ring.close(timeout)
        # A thread that hangs in a write keeps its descriptor: the number must not become another file's meanwhile.
        if not self.ring.running:
            os.close(self._fd)
        self._fd = -1
        return complete


_rings: weakref.WeakSet[LogRing] = weakref.WeakSet()
_forking: list[LogRing] = []
_fork_lock = threading.Lock()
"""Held from before a fork until after it: between the two, other threads run, and one of them may fork as well."""


def _before_fork() -> None:
    _fork_lock.acquire()
    _forking.extend(_rings)
    for one in _forking:
        one.ring._before_fork()


def _after_fork_in_parent() -> None:
    while _forking:
        _forking.pop().ring._after_fork_in_parent()
    _fork_lock.release()


def _after_fork_in_child() -> None:
    while _forking:
        _forking.pop().ring._after_fork_in_child()
    _fork_lock.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
