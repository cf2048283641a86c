"""A queue of lines with one thread that writes them: what stands between the agent and an output.

Rules:
    W1  `write` never waits for the output. A full queue drops its oldest line.
    W2  Lines are handed to the sink in order, up to `batch` at a time, `interval` seconds after the first of them at the
        latest; an error, or a full batch, hurries.
    W3  A sink that fails keeps the batch with the writer, which tries again after 0.1 s * 2^n, at most 30 s, and jitter.
        With a spool the batch goes there instead, and is sent from there, before anything newer.
    W4  A sink that refuses a batch for good loses it.
    W5  At any moment accepted == written + spooled + dropped + lost + queued, lines in hand being queued.
    W6  `close` takes nothing more and writes the rest; what is left after its limit goes to the spool, or is lost.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from dataclasses import dataclass, replace
from typing import Protocol

FIRST_PAUSE, LAST_PAUSE = 0.1, 30.0


class SinkError(Exception):
    """The output cannot take lines now; the same batch is tried again. `after`: not before so many seconds."""

    def __init__(self, message: str, after: float = 0.0) -> None:
        super().__init__(message)
        self.after = after


class RefusedError(Exception):
    """The output will never take this batch, or so many lines of it; `lines` None: all."""

    def __init__(self, message: str, lines: int | None = None) -> None:
        super().__init__(message)
        self.lines = lines


class Sink(Protocol):
    """What takes batches; called from one thread, and may wait."""

    def write(self, lines: list[bytes]) -> None:
        """All of these lines, each without a line break.

        Raises:
            SinkError: nothing was written.
            RefusedError: it will not be, ever.
        """

    def close(self) -> None:
        """Let go of files and connections."""


class Spool(Protocol):
    """Where batches wait on disk (outputs/spool.py)."""

    def append(self, lines: list[bytes]) -> int:
        """Keep a batch, behind all others; how many older lines had to go for it. Raises OSError."""

    def first(self) -> list[bytes]:
        """The oldest batch; empty: there is none."""

    def remove_first(self) -> None:
        """It has been written."""

    @property
    def lines(self) -> int:
        """How many wait."""


@dataclass(frozen=True)
class Counts:
    """Lines; rule W5. `spooled`: put on disk by this run and not written since. `failures` are tries, not lines."""

    accepted: int = 0
    written: int = 0
    dropped: int = 0
    lost: int = 0
    spooled: int = 0
    queued: int = 0
    failures: int = 0


class Writer:
    """One output's queue and thread.

    Args:
        name: for the thread, and for messages.
        capacity: lines that wait.
        batch: lines that are written at once.
        interval: seconds.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        *,
        capacity: int = 10_000,
        batch: int = 1024,
        interval: float = 0.1,
        spool: Spool | None = None,
    ) -> None:
        self.name, self._sink, self._spool = name, sink, spool
        self._capacity, self._batch, self._interval = capacity, batch, interval
        self._queue: deque[bytes] = deque()
        self._lock = threading.Lock()
        self._filled, self._hurry, self._stop = threading.Event(), threading.Event(), threading.Event()
        self._empty = threading.Event()
        self._empty.set()
        self._counts = Counts()
        # Each line costs these two; everything else is counted by the batch.
        self._accepted = self._dropped = 0
        self.last_error = ""
        """Why the last try failed; empty once one has succeeded."""
        self.last_refusal = ""
        """Why lines were last lost."""
        self._pending: list[bytes] = []
        """The batch in hand; changed by the thread alone, under the lock."""
        self._after = 0.0
        # Oldest first, so these come before all that this run puts there.
        self._foreign = spool.lines if spool is not None else 0
        self._thread = threading.Thread(target=self._run, name=f"output-{name}", daemon=True)
        self._thread.start()

    def write(self, line: bytes, *, hurry: bool = False) -> bool:
        """Take one line; False: the writer is closed."""
        with self._lock:
            if self._stop.is_set():
                return False
            self._queue.append(line)
            self._accepted += 1
            if len(self._queue) > self._capacity:
                self._queue.popleft()  # W1
                self._dropped += 1
            size = len(self._queue)
            if size == 1:
                self._empty.clear()
        if size == 1:
            self._filled.set()
        if hurry or size == self._batch:
            self._hurry.set()  # W2
        return True

    def counts(self) -> Counts:
        """What became of the lines so far."""
        with self._lock:
            return replace(
                self._counts,
                accepted=self._counts.accepted + self._accepted,
                dropped=self._counts.dropped + self._dropped,
                queued=len(self._queue) + len(self._pending),
            )

    def take_over(self, spool: Spool) -> None:
        """From now on keep batches there, and send what is there already: of an earlier writer, which has ended."""
        with self._lock:
            self._foreign = spool.lines
            self._spool = spool
        self._filled.set()
        self._hurry.set()

    def flush(self, timeout: float) -> bool:
        """Whether all lines so far, and those that come meanwhile, were written within `timeout` seconds."""
        self._hurry.set()
        return self._empty.wait(timeout)

    def close(self, timeout: float) -> bool:
        """Rule W6; whether every line was written or spooled."""
        with self._lock:
            self._stop.set()
        self._filled.set()
        self._hurry.set()
        self._thread.join(timeout)
        with self._lock:
            stuck = self._thread.is_alive() and bool(self._pending)
            left = list(self._queue)
            self._queue.clear()
            kept = self._put_away(left)
            self._count(lost=0 if kept else len(left))
            return kept and not stuck and not self._counts.lost

    def _put_away(self, lines: list[bytes]) -> bool:
        """On disk, if there is a spool that takes them; the lock is the caller's."""
        if not lines or self._spool is None:
            return not lines
        try:
            pushed_out = self._spool.append(lines)
        except OSError as error:
            self.last_error = f"the spool cannot be written: {error.strerror}"
            return False
        foreign = self._adopt(pushed_out)
        self._count(spooled=len(lines) - (pushed_out - foreign), dropped=pushed_out)
        return True

    def _adopt(self, lines: int) -> int:
        """So many of the oldest lines leave the spool; those of an earlier run among them, which are accepted by that."""
        foreign = min(lines, self._foreign)
        self._foreign -= foreign
        self._count(accepted=foreign)
        return foreign

    def _count(self, **more: int) -> None:
        """Add to some counts; the lock is the caller's."""
        self._counts = replace(
            self._counts, **{name: getattr(self._counts, name) + number for name, number in more.items()}
        )

    # -- the thread ----------------------------------------------------------------------------------------------------

    def _run(self) -> None:
        failures = 0
        while self._due():
            if self._try():
                failures = 0
            elif self._stop.is_set():
                break
            else:
                failures += 1
                self._rest(failures)
        self._give_up()
        self._sink.close()
        self._empty.set()

    def _due(self) -> bool:
        """Wait for something to do; False: the writer is closed and everything is done."""
        while not self._pending and not self._backlog():
            if self._take():
                return True
            if self._stop.is_set():
                return False
            self._filled.wait()
            if len(self._queue) < self._batch:
                self._hurry.wait(self._interval)  # W2
        return True

    def _take(self) -> bool:
        """The next batch into the hand; whether there was one."""
        with self._lock:
            count = min(self._batch, len(self._queue))
            self._pending = [self._queue.popleft() for _ in range(count)]
            if not count:
                self._empty.set()
                self._filled.clear()
            self._hurry.clear()
            return bool(count)

    def _backlog(self) -> bool:
        return self._spool is not None and bool(self._spool.first())

    def _try(self) -> bool:
        """Write all of the spool, and then what is in hand; whether it went."""
        try:
            while self._spool is not None and (oldest := self._spool.first()):
                self._send(oldest, spooled=True)
                self._spool.remove_first()
            if self._pending:
                self._send(self._pending)
        except SinkError as error:
            self.last_error, self._after = str(error), error.after
            with self._lock:
                self._count(failures=1)
            return False
        self.last_error = ""
        return True

    def _send(self, lines: list[bytes], *, spooled: bool = False) -> None:
        lost = 0
        try:
            self._sink.write(lines)
        except RefusedError as error:  # W4
            lost = len(lines) if error.lines is None else min(error.lines, len(lines))
            self.last_refusal = str(error)
        except SinkError:
            raise
        except Exception as error:  # noqa: BLE001 - a defect in a sink costs a batch, and not the output
            lost, self.last_refusal = len(lines), f"the output itself failed: {error!r}"
        with self._lock:
            if spooled:
                self._count(spooled=self._adopt(len(lines)) - len(lines))
            else:
                self._pending = []
            self._count(written=len(lines) - lost, lost=lost)

    def _rest(self, failures: int) -> None:
        """W3: wait; meanwhile what comes goes to the spool, if there is one."""
        pause = min(FIRST_PAUSE * 2.0 ** min(failures - 1, 20), LAST_PAUSE) * (0.5 + random.random() / 2)  # noqa: S311 - jitter
        until = time.monotonic() + max(self._after, pause)
        while not self._stop.is_set() and (left := until - time.monotonic()) > 0:
            if self._spool is not None and self._shelve():
                self._hurry.wait(min(left, 1.0))
            else:
                self._stop.wait(left)

    def _shelve(self) -> bool:
        """From the hand and the queue to the spool; whether it took all."""
        while True:
            with self._lock:
                if not self._put_away(self._pending):
                    return False
                self._pending = []
            if not self._take():
                return True

    def _give_up(self) -> None:
        """W6: what is in hand when the thread ends was not taken by the sink."""
        with self._lock:
            if not self._put_away(self._pending):
                self._count(lost=len(self._pending))
            self._pending = []
