"""Threads for calls that may hang."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from watchkeeper.checks import HangsError, ProbeError
from watchkeeper.checks.threads import Threads

pytestmark = pytest.mark.asyncio


async def until(condition: Callable[[], bool]) -> None:
    """Until something is so; pytest's own timeout is the limit."""
    while not condition():  # noqa: ASYNC110 - a thread sets no asyncio.Event
        await asyncio.sleep(0.002)


async def test_results_and_exceptions_come_back() -> None:
    """From a thread that is not the loop's, and is used again."""
    threads = Threads()
    names = [await threads.run(n, threading.get_ident) for n in range(5)]
    assert set(names) != {threading.get_ident()}
    assert threads.alive == 1
    with pytest.raises(ZeroDivisionError):
        await threads.run("x", lambda: 1 // 0)
    assert (threads.busy, threads.abandoned) == (0, 0)


async def test_a_hanging_call_costs_one_thread_and_touches_nobody_else() -> None:
    """P1, P2: who gives up is free at once; the same key is told that it hangs; others get their answers."""
    threads, release = Threads(), threading.Event()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await threads.run("dead mount", release.wait)
    assert (threads.busy, threads.abandoned, threads.abandoned_total) == (1, 1, 1)
    for _ in range(3):
        with pytest.raises(HangsError, match="has not answered an earlier look"):
            await threads.run("dead mount", release.wait)
    assert await threads.run("other", lambda: 7) == 7
    assert threads.alive == 2
    release.set()
    await until(lambda: threads.abandoned == 0)
    assert await threads.run("dead mount", lambda: 8) == 8
    assert (threads.alive, threads.abandoned_total) == (2, 1)


async def test_there_are_never_more_than_the_limit() -> None:
    """P3: one call too many is an error of the agent's, and says what the threads do."""
    threads, release = Threads(limit=3), threading.Event()
    calls = [asyncio.create_task(threads.run(n, release.wait)) for n in range(3)]
    await asyncio.sleep(0)
    calls[0].cancel()
    await asyncio.sleep(0)
    with pytest.raises(ProbeError, match="all 3 threads for checks are busy, and 1 of them hang"):
        await threads.run("more", lambda: 1)
    assert threads.busy == 3
    release.set()
    assert await asyncio.gather(*calls[1:]) == [True, True]
    await until(lambda: threads.busy == 0)
    assert await threads.run("more", lambda: 1) == 1
    assert threads.alive == 3


async def test_many_calls_at_once_each_get_their_own_answer() -> None:
    """However threads and jobs meet."""
    threads = Threads(limit=8)

    async def one(number: int) -> int:
        while True:
            try:
                return await threads.run(number, lambda: number * 2)
            except ProbeError:
                await asyncio.sleep(0)

    assert await asyncio.gather(*map(one, range(300))) == [n * 2 for n in range(300)]
    assert 1 <= threads.alive <= 8


async def test_idle_threads_end() -> None:
    """P4: and what comes after that gets a new one."""
    threads = Threads(idle=0.01)
    for _ in range(20):
        assert await threads.run("x", lambda: 1) == 1
        await asyncio.sleep(0.011)
    await until(lambda: threads.alive == 0)
    assert await threads.run("x", lambda: 2) == 2


async def test_no_thread_to_be_had(monkeypatch: pytest.MonkeyPatch) -> None:
    """A system that gives no more threads is the agent's trouble, not the target's, and it is not counted."""

    def refuse(_self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    threads = Threads()
    monkeypatch.setattr(threading.Thread, "start", refuse)
    with pytest.raises(ProbeError, match="can't start new thread"):
        await threads.run("x", time.monotonic)
    assert (threads.alive, threads.busy) == (0, 0)


async def test_what_a_bad_hour_has_called_for_is_gone_soon_after() -> None:
    """P4: a little to do, all the time, keeps one thread and not each of them in its turn."""
    threads, release = Threads(idle=0.2), threading.Event()
    many = [asyncio.create_task(threads.run(n, release.wait)) for n in range(12)]
    await until(lambda: threads.alive == 12)
    release.set()
    await asyncio.gather(*many)
    deadline = time.monotonic() + 10
    while threads.alive > 1:
        assert time.monotonic() < deadline, f"{threads.alive} threads stay"
        await threads.run("now and then", lambda: None)
        await asyncio.sleep(0.01)
