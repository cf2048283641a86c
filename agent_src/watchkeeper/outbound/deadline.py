"""How long whoever asks will still wait: carried by a context variable within the agent, by a header between programs.

Rules:
    T1  Within a block a deadline can only come nearer: `within(5)` inside `within(1)` is `within(1)`.
    T2  A deadline belongs to what is called from its block, tasks that are started there included.
    T3  A request never has longer than what is left. With nothing left it is not made.
    T4  The header says what is left when the request goes out, rounded down: the other side never believes that it has
        longer than its caller. What comes in is at most as long as one allows oneself.
    T5  `end_within` also ends the block: what it waits for is cancelled, so that connections and locks are given back.

The header is X-Request-Timeout (outbound.deadline_header). Its value is written as gRPC writes grpc-timeout: at most eight
digits and a unit, one of H M S m u n: hours, minutes, seconds, milli-, micro- and nanoseconds. "800m" is 0.8 s.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextvars import ContextVar

HEADER = "X-Request-Timeout"
UNITS = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
LARGEST = 99_999_999
_FORM = re.compile(r"(\d{1,8})([HMSmun])", re.ASCII)

_until: ContextVar[float | None] = ContextVar("watchkeeper_deadline", default=None)


def _clock() -> float:
    return asyncio.get_running_loop().time()


def until() -> float | None:
    """The deadline, on the loop's clock; None: there is none."""
    return _until.get()


def remaining() -> float | None:
    """Seconds that are left, at least 0; None: there is no deadline."""
    at = _until.get()
    return None if at is None else max(0.0, at - _clock())


@contextlib.contextmanager
def within(seconds: float | None) -> Iterator[None]:
    """What is called in this block has at most so long (T1); None: as long as it has already."""
    if seconds is None:
        yield
        return
    at, outer = _clock() + seconds, _until.get()
    token = _until.set(at if outer is None else min(at, outer))
    try:
        yield
    finally:
        _until.reset(token)


@contextlib.asynccontextmanager
async def end_within(seconds: float | None) -> AsyncIterator[None]:
    """The same, and the block ends when the time is up (T5).

    Raises:
        TimeoutError: it was.
    """
    with within(seconds):
        async with asyncio.timeout_at(_until.get()):
            yield


def to_header(seconds: float) -> str:
    """The value of the header, never longer than `seconds` (T4)."""
    for unit, size in (("u", 1e-6), ("m", 1e-3), ("S", 1.0), ("M", 60.0)):
        if (count := int(max(0.0, seconds) / size)) <= LARGEST:
            return f"{count}{unit}"
    return f"{min(LARGEST, int(seconds / 3600.0))}H"


def from_header(text: str | None) -> float | None:
    """Seconds; None: no header, or one that means nothing. Who sends nonsense is treated as who sends nothing."""
    found = _FORM.fullmatch(text.strip()) if text else None
    return int(found[1]) * UNITS[found[2]] if found else None


@contextlib.asynccontextmanager
async def of_request(header: Callable[[str], str | None], name: str = HEADER) -> AsyncIterator[None]:
    """For servers: what is done for a request has as long as its sender will wait.

    Args:
        header: the request's headers: from a name to a value.

    Raises:
        TimeoutError: the time was up; 504 is the answer, though hardly anybody will read it.
    """
    async with end_within(from_header(header(name))):
        yield
