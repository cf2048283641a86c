"""The work queue against its rules, and against a model of them."""

from __future__ import annotations

import asyncio
from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.queue import FailureDelays, ShutDownError, WorkQueue


async def take(queue: WorkQueue[str]) -> list[str]:
    """Everything that waits, in order, each key worked on and done."""
    keys = []
    while len(queue):
        keys.append(await queue.get())
        queue.done(keys[-1])
    return keys


@pytest.mark.asyncio
async def test_a_waiting_key_waits_once() -> None:
    """Q1."""
    queue: WorkQueue[str] = WorkQueue()
    for key in ("a", "b", "a", "a"):
        queue.add(key)
    assert await take(queue) == ["a", "b"]


@pytest.mark.asyncio
async def test_a_key_in_hand_comes_back_only_when_done() -> None:
    """Q2 and Q3."""
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    assert await queue.get() == "a"
    queue.add("a")
    queue.add("a")
    assert len(queue) == 0
    queue.done("a")
    assert await take(queue) == ["a"]


@pytest.mark.asyncio
@pytest.mark.looptime
@pytest.mark.parametrize(("delays", "expected"), [((5, 3), 3), ((3, 5), 3), ((2,), 2), ((0,), 0), ((-1,), 0)])
async def test_the_earliest_delay_counts(delays: tuple[float, ...], expected: float) -> None:
    """Q4: and the later ones leave nothing behind."""
    queue: WorkQueue[str] = WorkQueue()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for delay in delays:
        queue.add_after("a", delay)
    queue.done(await queue.get())
    assert loop.time() - begun == expected
    await asyncio.sleep(100)
    assert len(queue) == 0


def test_delays_double_up_to_the_cap() -> None:
    """Q5: 5 ms, 10 ms, 20 ms ... 10 s; however often it fails, nothing overflows."""
    delays: FailureDelays[str] = FailureDelays()
    assert [delays.next("a") for _ in range(4)] == [0.005, 0.01, 0.02, 0.04]
    assert delays.next("b") == 0.005
    assert [delays.next("a") for _ in range(3000)][-1] == 10.0
    delays.forget("a")
    assert delays.next("a") == 0.005


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_rate_limited_keys_wait() -> None:
    """Q5, through the queue."""
    queue: WorkQueue[str] = WorkQueue()
    loop = asyncio.get_running_loop()
    waits = []
    for _ in range(3):
        begun = loop.time()
        queue.add_rate_limited("a")
        queue.done(await queue.get())
        waits.append(round(loop.time() - begun, 6))
    assert waits == [0.005, 0.01, 0.02]


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_shutdown_hands_out_what_waits() -> None:
    """Q6: nothing is added any more, neither now nor later; each waiting worker is told."""
    queue: WorkQueue[str] = WorkQueue()
    idle = [asyncio.create_task(queue.get()) for _ in range(3)]
    await asyncio.sleep(0)
    queue.shut_down()
    for task in idle:
        with pytest.raises(ShutDownError):
            await task
    other: WorkQueue[str] = WorkQueue()
    other.add("a")
    other.add_after("later", 1)
    other.shut_down()
    other.add("b")
    other.add_after("c", 0)
    await asyncio.sleep(10)
    assert await take(other) == ["a"]
    with pytest.raises(ShutDownError):
        await other.get()


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_drain_waits_for_the_work_in_hand() -> None:
    """Q7."""
    queue: WorkQueue[str] = WorkQueue()
    queue.add("a")
    key = await queue.get()
    loop = asyncio.get_running_loop()
    begun = loop.time()
    loop.call_later(7, queue.done, key)
    await queue.drain()
    assert loop.time() - begun == 7


@pytest.mark.asyncio
async def test_a_cancelled_waiter_passes_its_key_on() -> None:
    """A worker that is cancelled in the moment of its wake-up takes nothing with it."""
    queue: WorkQueue[str] = WorkQueue()
    first, second = (asyncio.create_task(queue.get()) for _ in range(2))
    await asyncio.sleep(0)
    queue.add("a")
    first.cancel()
    assert await asyncio.wait_for(second, 1) == "a"
    with pytest.raises(asyncio.CancelledError):
        await first


class Model:
    """The rules Q1 to Q3 with nothing but a list and a set: what waits, what is in hand, what was marked meanwhile."""

    def __init__(self) -> None:
        self.waiting: deque[int] = deque()
        self.hand: set[int] = set()
        self.marked: list[int] = []

    def add(self, key: int) -> None:
        if key in self.hand:
            if key not in self.marked:
                self.marked.append(key)
        elif key not in self.waiting:
            self.waiting.append(key)

    def get(self) -> int:
        key = self.waiting.popleft()
        self.hand.add(key)
        return key

    def done(self, key: int) -> None:
        self.hand.discard(key)
        if key in self.marked:
            self.marked.remove(key)
            self.waiting.append(key)


@given(st.lists(st.tuples(st.sampled_from(["add", "get", "done"]), st.integers(0, 4)), max_size=60))
def test_the_queue_behaves_as_its_model(steps: list[tuple[str, int]]) -> None:
    """Whatever is added, taken and done in whatever order: the same keys come out in the same order, none in two hands."""

    async def play() -> None:
        queue: WorkQueue[int] = WorkQueue()
        model = Model()
        for what, key in steps:
            if what == "add":
                queue.add(key)
                model.add(key)
            elif what == "get" and model.waiting:
                in_hand = set(model.hand)
                taken = await queue.get()
                assert taken not in in_hand
                assert taken == model.get()
            elif what == "done" and key in model.hand:
                queue.done(key)
                model.done(key)
            assert len(queue) == len(model.waiting)
            assert queue.processing == len(model.hand)

    with asyncio.Runner() as runner:
        runner.run(play())
