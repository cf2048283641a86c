"""The twin of native/ring.c: the same buffer, the same policies and the same counts, with Python's own locks.

Producers append to `_active`; a drainer takes all of it as `_flight` under the lock and writes that without it. What a
policy may still drop is what is not in flight yet. At any moment

    appended == written + lost + dropped_oldest + queued
"""

from __future__ import annotations

import errno
import math
import os
import select
import threading
import time
from collections import deque
from dataclasses import asdict, dataclass

POLICIES = ("block", "drop-newest", "drop-oldest")
LEAST_CAPACITY, MOST_CAPACITY = 64, 1 << 30
MOST_SECONDS = 86400.0
BYTES_A_SLOT = 16
"""A ring holds capacity / BYTES_A_SLOT lines at most, however short they are."""
MOST_NOTICE = 512
SLICE = 0.1
FIRST_PAUSE, LAST_PAUSE = 0.01, 1.0
LAST_GRACE = 0.2
FULL = frozenset({errno.ENOSPC, errno.EDQUOT} if hasattr(errno, "EDQUOT") else {errno.ENOSPC})


@dataclass
class _Counts:
    """As ring_counts in native/ring.h, where each has its meaning."""

    appended: int = 0
    written: int = 0
    lost: int = 0
    dropped_oldest: int = 0
    dropped_newest: int = 0
    too_long: int = 0
    queued: int = 0
    bytes: int = 0
    writes: int = 0
    partial: int = 0
    interrupted: int = 0
    busy: int = 0
    errors: int = 0
    last_error: int = 0
    waits: int = 0
    most_bytes: int = 0
    notices: int = 0


class Ring:
    """A bounded buffer of lines in front of a descriptor, which stays the caller's.

    Args:
        fd: where lines go. The caller keeps it open until `close` has returned True, and closes it.
        capacity: bytes that wait for the drainer, and once more as many that are on their way.
        policy: what a full ring does with a line: "block" until there is room, "drop-newest", "drop-oldest".
        linger: seconds for which the drainer lets lines gather, so that they share a system call.
        block_seconds: how long "block" waits before it drops the line after all. It does not wait on a full device.
        hold: without a thread in `run` lines stay until `flush`; otherwise the producer writes them itself.
        notice: what is written where lines are missing, before the next batch; {count} becomes their number and {time}
            the time, as in 2026-01-31T23:59:59.999Z. Empty: nothing is.

    Raises:
        ValueError: an argument is out of its range.
    """

    def __init__(
        self,
        fd: int,
        capacity: int = 1 << 20,
        policy: str = "block",
        linger: float = 0.01,
        block_seconds: float = 1.0,
        hold: bool = False,
        notice: bytes = b"",
    ) -> None:
        if policy not in POLICIES:
            raise ValueError(f"policy is block, drop-newest or drop-oldest, and not '{policy}'")
        self._linger, self._block = _span("linger", linger), _span("block_seconds", block_seconds)
        if not LEAST_CAPACITY <= capacity <= MOST_CAPACITY:
            raise ValueError(f"capacity is {LEAST_CAPACITY} to {MOST_CAPACITY} bytes")
        if fd < 0:
            raise ValueError("a descriptor is not negative")
        self._notice = notice if not notice or notice.endswith(b"\n") else notice + b"\n"
        if len(self._notice) > MOST_NOTICE or 0 in notice:
            raise ValueError(
                f"notice is at most {MOST_NOTICE} bytes with its line break, and none of them is 0"
            )
        self._fd, self._capacity, self._policy, self._hold = fd, capacity, policy, hold
        self._slots = capacity // BYTES_A_SLOT
        self._lock = threading.Lock()
        self._closing = self._closed = False
        self._reset()

    def _reset(self) -> None:
        self._filled, self._moved = threading.Condition(self._lock), threading.Condition(self._lock)
        self._active: deque[bytes] = deque()
        self._used = 0
        self._flight: list[bytes] = []
        self._flight_bytes = memoryview(b"")
        self._flight_done = self._flight_last = 0
        self._hurry = self._waiting = 0
        self._running = self._draining = self._sleeping = self._lingering = False
        self._failing = self._torn = self._abandon = False
        self._heading = memoryview(b"")
        self._heading_done = self._announced = self._announcing = 0
        self._counts = _Counts()

    # -- producers -----------------------------------------------------------------------------------------------------

    def write(self, line: bytes | str, /) -> bool:
        """Append a line; whether it was taken. A line break is added when it has none at its end."""
        if isinstance(line, str):
            line = line.encode("utf-8", "backslashreplace")
        elif not isinstance(line, bytes):
            raise TypeError("a line is bytes or str")
        whole = line if line.endswith(b"\n") else line + b"\n"
        with self._lock:
            answer = self._append(whole)
            if answer is None:
                answer = self._append_waiting(whole)
            if answer and not self._running and not self._hold and not self._draining:
                self._drain(time.monotonic() + self._block)
        return answer

    def _has_room(self, size: int) -> bool:
        return self._used + size <= self._capacity and len(self._active) < self._slots

    def _append(self, line: bytes) -> bool | None:
        """None: full, and waiting makes sense; nothing has been counted yet."""
        counts, size = self._counts, len(line)
        if self._closing:
            counts.dropped_newest += 1
            return False
        if size > self._capacity:
            counts.too_long += 1
            return False
        while self._policy == "drop-oldest" and not self._has_room(size):
            self._used -= len(self._active.popleft())
            counts.dropped_oldest += 1
            self._tell_moved()
        if not self._has_room(size):
            # A device that is full does not get emptier by waiting for it in every line.
            if self._policy == "block" and self._block > 0 and not self._failing:
                self._tell_filled(enough=True)
                return None
            counts.dropped_newest += 1
            return False
        self._active.append(line)
        self._used += size
        counts.appended += 1
        counts.most_bytes = max(counts.most_bytes, self._used)
        self._tell_filled(enough=False)
        return True

    def _append_waiting(self, line: bytes) -> bool:
        deadline = time.monotonic() + self._block
        self._counts.waits += 1
        while (answer := self._append(line)) is None and (left := deadline - time.monotonic()) > 0:
            if self._running or self._hold or self._draining:
                self._wait_moved(min(left, SLICE))
            else:
                self._drain(deadline)
        if answer is None:
            self._counts.dropped_newest += 1
        return bool(answer)

    # -- waiting; with the lock, here and below ---------------------------------------------------------------------------

    def _wait_moved(self, seconds: float) -> None:
        self._waiting += 1
        self._moved.wait(seconds)
        self._waiting -= 1

    def _tell_moved(self) -> None:
        if self._waiting:
            self._moved.notify_all()

    def _tell_filled(self, *, enough: bool) -> None:
        enough = enough or self._used >= self._capacity // 2 or len(self._active) >= self._slots // 2
        if self._sleeping or (self._lingering and enough):
            self._wake_drainer()

    def _wake_drainer(self) -> None:
        self._sleeping = self._lingering = False
        self._filled.notify_all()

    def _is_settled(self, mark: int) -> bool:
        """Whether nothing of the first `mark` lines is still on its way; lines are numbered as they are appended."""
        if self._flight:
            return self._flight_last - len(self._flight) >= mark
        return self._counts.appended - len(self._active) >= mark

    def _is_empty(self) -> bool:
        return not self._active and not self._flight

    # -- the drainer -----------------------------------------------------------------------------------------------------

    def run(self) -> bool:
        """Be the drainer in this thread until `close`; False: another thread is, or the ring is closed."""
        with self._lock:
            if self._running or self._closed:
                return False
            self._running = True
            try:
                while self._wait_for_lines():
                    self._wait_for_more()
                    if self._draining:  # a flush that began before this thread did
                        self._wait_moved(SLICE)
                    else:
                        self._drain(math.inf)
            finally:  # also without memory: then producers write their lines themselves
                self._running = False
                self._tell_moved()
        return True

    def _wait_for_lines(self) -> bool:
        """False: the ring is closing, and there are none."""
        while self._is_empty() and not self._closing:
            self._sleeping = True
            self._filled.wait(60)
        self._sleeping = False
        return not self._is_empty()

    def _wait_for_more(self) -> None:
        until = time.monotonic() + self._linger
        self._lingering = True
        while self._lingering and not self._closing and self._is_settled(self._hurry):
            left = until - time.monotonic()
            if left <= 0:
                break
            self._filled.wait(left)
        self._lingering = False

    def _drain(self, deadline: float) -> bool:
        """Write batch after batch until nothing is left; False: the deadline came first."""
        complete = True
        self._draining = True
        try:
            while complete and not self._is_empty():
                if not self._flight:
                    self._take_off()
                complete = self._write_flight(deadline)
        finally:
            self._draining = False
            self._tell_moved()
        return complete

    def _take_off(self) -> None:
        """Let all lines be the flight, behind a notice where some are missing.

        Both at one moment, so that the notice counts what is missing before this batch and nothing else: what is dropped
        while it is written is missing before the next one.
        """
        self._take_off_notice()
        batch = list(self._active)
        data = memoryview(b"".join(batch))
        self._flight, self._flight_bytes, self._active, self._used = batch, data, deque(), 0
        self._flight_last = self._counts.appended
        self._tell_moved()

    def _take_off_notice(self) -> None:
        counts = self._counts
        missing = counts.dropped_oldest + counts.dropped_newest + counts.too_long + counts.lost
        count = missing - self._announced
        if not self._notice or not count or self._abandon:
            return
        text = self._notice.replace(b"{time}", _now()).replace(b"{count}", b"%d" % count)
        if len(text) <= self._capacity:
            self._heading, self._announcing = memoryview(text), count

    def _write_flight(self, deadline: float) -> bool:
        """Write the notice and the lines to their end; False: the deadline came first, and the rest stays for the next."""
        pause = FIRST_PAUSE
        while (self._announcing or self._flight_done < len(self._flight_bytes)) and not self._abandon:
            error = self._write_some()
            if error is None:
                pause = FIRST_PAUSE
                if self._heading_done == len(self._heading):
                    self._finish_notice()
                continue
            if not self._after_failure(error, pause, deadline):
                if not self._announcing:
                    break
                self._finish_notice()  # the lines have a try of their own
                continue
            pause = min(pause * 2, LAST_PAUSE)
            if time.monotonic() >= deadline:
                return False
        self._finish_flight()
        return True

    def _write_some(self) -> OSError | None:
        """One system call, without the lock. What was given up within a line left it open: end it first."""
        notice = self._announcing > 0
        rest = self._heading[self._heading_done :] if notice else self._flight_bytes[self._flight_done :]
        data = b"\n" + rest if self._torn else rest
        self._lock.release()
        try:
            written = os.write(self._fd, data)
        except OSError as error:
            return error
        finally:
            self._lock.acquire()
        if written == 0:
            return OSError(errno.EIO, "nothing was written")
        if notice:
            self._heading_done += written - self._torn
        else:
            self._flight_done += written - self._torn
        self._torn = self._failing = False
        self._counts.bytes += written
        self._counts.writes += 1
        self._counts.partial += written < len(data)
        return None

    def _after_failure(self, error: OSError, pause: float, deadline: float) -> bool:
        """What to do about a write that wrote nothing. False: give the batch up."""
        left = max(deadline - time.monotonic(), 0)
        if isinstance(error, BlockingIOError):
            self._counts.busy += 1
            self._wait_writable(min(left, SLICE))
            return True
        self._counts.errors += 1
        self._counts.last_error = error.errno or 0
        if error.errno not in FULL:
            return False
        self._failing = True
        self._tell_moved()
        until = time.monotonic() + min(pause, left or 0.001)
        while (left := until - time.monotonic()) > 0 and not self._abandon:
            self._filled.wait(min(left, SLICE))
        return True

    def _wait_writable(self, seconds: float) -> None:
        self._lock.release()
        try:
            if hasattr(select, "poll"):
                poll = select.poll()
                poll.register(self._fd, select.POLLOUT)
                poll.poll(seconds * 1000)
            else:
                time.sleep(min(seconds, 0.01))
        finally:
            self._lock.acquire()

    def _finish_notice(self) -> None:
        """The notice is over: what it has not said, the next one will."""
        if not self._announcing:
            return
        if self._heading_done == len(self._heading):
            self._announced += self._announcing
            self._counts.notices += 1
        elif self._heading_done:
            self._torn = True
        self._heading, self._heading_done, self._announcing = memoryview(b""), 0, 0

    def _finish_flight(self) -> None:
        """The flight is over: what was not written is lost."""
        self._finish_notice()
        whole = end = 0
        for line in self._flight:
            if end + len(line) > self._flight_done:
                break
            end += len(line)
            whole += 1
        self._counts.written += whole
        self._counts.lost += len(self._flight) - whole
        if self._flight_done:
            self._torn = end < self._flight_done
        self._flight, self._flight_bytes, self._flight_done = [], memoryview(b""), 0
        self._tell_moved()

    # -- flush, close, counts --------------------------------------------------------------------------------------------

    def flush(self, timeout: float | None = None) -> bool:
        """Wait until every line so far is out; whether that was so within `timeout` seconds."""
        deadline = _deadline(timeout)
        with self._lock:
            mark = self._counts.appended
            self._hurry = max(self._hurry, mark)
            self._wake_drainer()
            if not self._is_settled(mark) and not self._running and not self._draining:
                self._drain(deadline)  # one try, also when there is no time at all
            return self._wait_done(mark, deadline)

    def _wait_done(self, mark: int, deadline: float) -> bool:
        while not self._is_settled(mark) and (left := deadline - time.monotonic()) > 0:
            if self._running or self._draining:
                self._wait_moved(min(left, SLICE))
            else:
                self._drain(deadline)
        return self._is_settled(mark)

    def close(self, timeout: float | None = None) -> bool:
        """Take no more lines and write the rest; whether all of it was written within `timeout` seconds."""
        deadline = _deadline(timeout)
        with self._lock:
            lost, self._closing = self._counts.lost, True
            self._hurry = self._counts.appended
            self._wake_drainer()
            self._tell_moved()
            if not self._running and not self._draining and not self._is_empty():
                self._drain(deadline)
            self._wait_done(self._counts.appended, deadline)
            self._leave()
            self._closed = True
            self._tell_moved()
            return self._is_empty() and self._counts.lost == lost

    def _leave(self) -> None:
        """Give up what was not written in time, unless a drainer is within a write that does not return."""
        if not self._is_empty():
            self._abandon = True
            self._filled.notify_all()
        until = time.monotonic() + LAST_GRACE
        while (self._running or self._draining) and (left := until - time.monotonic()) > 0:
            self._wait_moved(left)
        if not self._running and not self._draining:
            self._finish_flight()
            self._counts.lost += len(self._active)
            self._active.clear()
            self._used = 0

    def stats(self) -> dict[str, int]:
        """Counts since the ring was made: native/ring.h says what each counts."""
        with self._lock:
            self._counts.queued = len(self._active) + len(self._flight)
            return asdict(self._counts)

    @property
    def running(self) -> bool:
        """Whether a thread is in `run`."""
        with self._lock:
            return self._running

    # -- fork --------------------------------------------------------------------------------------------------------------

    def _before_fork(self) -> None:
        self._lock.acquire()

    def _after_fork_in_parent(self) -> None:
        self._lock.release()

    def _after_fork_in_child(self) -> None:
        """No thread but this one came along, and what was queued is the parent's to write.

        Nothing is in use, so the lock is made anew, also where `_before_fork` failed and some other thread held it.
        """
        self._closed = self._closing
        self._lock = threading.Lock()
        self._reset()


def _now() -> bytes:
    seconds, milliseconds = divmod(time.time_ns() // 1_000_000, 1000)
    return time.strftime(f"%Y-%m-%dT%H:%M:%S.{milliseconds:03d}Z", time.gmtime(seconds)).encode()


def _span(name: str, seconds: float) -> float:
    if not 0 <= seconds <= MOST_SECONDS:
        raise ValueError(f"{name} is a number of seconds from 0 to {int(MOST_SECONDS)}")
    return seconds


def _deadline(timeout: float | None) -> float:
    return math.inf if timeout is None else time.monotonic() + _span("timeout", timeout)
