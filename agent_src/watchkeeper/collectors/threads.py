"""Calls that may block, each in a thread of its own, few at a time.

Rules:
    B1  At most `limit` calls are waited for at once; the others wait their turn, which their own limit of time does not
        count.
    B2  Nothing can end a thread. One that is late is abandoned: nobody waits for it any more, its place is free for
        others, and it is counted until it ends by itself.
    B3  A name whose thread is abandoned is not called again until that has ended: a dead server must not take one thread
        after the other.
    B4  The threads are daemons: they keep the agent from ending as little as its loop from turning.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

MOST = 4
"""More would not be faster: what is called waits for the kernel, and Python runs one thread at a time."""


def thread_limit(cpus: float) -> int:
    """How many calls at once are worth it on so many processors: two for each, at least one and at most MOST."""
    return max(1, min(MOST, math.ceil(2 * cpus)))


class StuckError(Exception):
    """An earlier call has not ended yet (B3)."""


class Threads:
    """The calls of one agent; `ended` hears of each abandoned one that has ended after all."""

    def __init__(self, limit: int, ended: Callable[[str], None] = lambda _name: None) -> None:
        self._places = asyncio.Semaphore(limit)
        self._ended = ended
        self._abandoned: set[str] = set()

    @property
    def abandoned(self) -> int:
        """Threads that nobody waits for any more."""
        return len(self._abandoned)

    def is_stuck(self, name: str) -> bool:
        """Whether an earlier call of that name has not ended."""
        return name in self._abandoned

    async def call(self, name: str, function: Callable[[], T], limit: float) -> T:
        """What `function` returns.

        Raises:
            TimeoutError: it did not return within `limit` seconds.
            StuckError: an earlier call of that name has not returned yet.
            Exception: what it has raised.
        """
        if name in self._abandoned:
            raise StuckError(name)
        async with self._places:  # B1
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[T] = loop.create_future()
            thread = threading.Thread(
                target=self._run, args=(name, function, loop, answer), name=f"collect {name}", daemon=True
            )
            thread.start()  # B4
            try:
                await asyncio.wait({answer}, timeout=limit)
            finally:
                if not answer.done():
                    self._abandoned.add(name)  # B2; also when the agent stops waiting for another reason
                    answer.cancel()
            if answer.cancelled():
                raise TimeoutError
            return answer.result()

    def _run(
        self, name: str, function: Callable[[], T], loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T]
    ) -> None:
        """In the thread."""
        result: Any = None
        error: BaseException | None = None
        try:
            result = function()
        except Exception as caught:  # noqa: BLE001 - whoever waits gets it
            error = caught
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody wants to know any more
            loop.call_soon_threadsafe(self._back, name, answer, result, error)

    def _back(self, name: str, answer: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        """In the loop again."""
        if answer.cancelled():
            self._abandoned.discard(name)
            self._ended(name)
        elif error is None:
            answer.set_result(result)
        else:
            answer.set_exception(error)
