"""The work queue against its rules, one by one; test_queue_machine.py plays them together against a model."""

from __future__ import annotations

import asyncio
import sys

import pytest

from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.delays import BucketDelay, FailureDelays, RetryDelays
from watchkeeper.metrics import Metrics
from watchkeeper.queue import ShutDownError, WorkQueue
from watchkeeper.queue_metrics import QueueMetrics


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


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_many_failures_share_one_bucket() -> None:
    """Q5: the burst is free, then one retry in 1/rate seconds, whichever keys fail; the longer delay counts."""
    queue: WorkQueue[int] = WorkQueue(RetryDelays(base=0.001, cap=1, rate=10, burst=100))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    for key in range(130):
        queue.add_rate_limited(key)
    times = []
    for _ in range(130):
        queue.done(await queue.get())
        times.append(round(loop.time() - begun, 6))
    assert times[:100] == [0.001] * 100
    assert times[100:103] == [0.1, 0.2, 0.3]
    assert times[-1] == 3.0


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_the_bucket_fills_again() -> None:
    """L2: up to the burst and no further; other numbers hold for what comes after them."""
    bucket = BucketDelay(rate=10, burst=2)
    assert [bucket.next(0), bucket.next(0), bucket.next(0)] == [0, 0, 0.1]
    assert [bucket.next(100), bucket.next(100), bucket.next(100)] == [0, 0, pytest.approx(0.1)]
    delays: RetryDelays[str] = RetryDelays()
    delays.configure(base=1.0, cap=2.0, rate=0.1, burst=1)
    assert [delays.next("a", 0), delays.next("a", 0), delays.next("b", 0)] == [1.0, 10.0, 20.0]


@pytest.mark.asyncio
async def test_a_key_that_comes_back_goes_behind_the_others() -> None:
    """Q8: 10,000 keys, one of which is added anew whenever it is worked on, are all worked on in one round."""
    queue: WorkQueue[int] = WorkQueue()
    for key in range(10_000):
        queue.add(key)
    seen: list[int] = []
    while len(set(seen)) < 10_000:
        key = await queue.get()
        seen.append(key)
        queue.add(0)
        queue.done(key)
    assert len(seen) <= 10_001
    assert seen[:3] == [0, 1, 2]


def _calls(keys: int) -> int:
    """How many functions are called, of Python and of C, until so many keys were added, worked on and tried again."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    async def play() -> None:
        queue: WorkQueue[int] = WorkQueue()
        for key in range(keys):
            queue.add(key)
        for _ in range(keys):
            key = await queue.get()
            queue.add_after(key, 100)
            queue.done(key)
        queue.shut_down()

    with asyncio.Runner() as runner:
        runner.get_loop()
        sys.setprofile(note)
        try:
            runner.run(play())
        finally:
            sys.setprofile(None)
    return count


def test_a_key_costs_the_same_among_ten_thousand() -> None:
    """The work for one key does not grow with the number of keys."""
    assert _calls(10_000) / 10_000 < 1.5 * _calls(100) / 100


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_queue_that_does_not_move_is_seen() -> None:
    """`stalled` counts from the last key that was taken or given back, and only while keys wait."""
    queue: WorkQueue[str] = WorkQueue()
    await asyncio.sleep(50)
    assert queue.stalled() == 0
    queue.add("a")
    queue.add("b")
    await asyncio.sleep(5)
    assert queue.stalled() == 5
    key = await queue.get()
    assert queue.stalled() == 0
    await asyncio.sleep(7)
    assert (queue.stalled(), queue.longest_running(), queue.unfinished()) == (7, 7, 7)
    queue.done(key)
    assert (queue.stalled(), queue.longest_running()) == (0, 0)


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_metrics_are_those_of_client_go() -> None:
    """adds, depth, both durations, retries, unfinished work and the longest running processor."""
    metrics = Metrics()
    queue: WorkQueue[Key] = WorkQueue()
    QueueMetrics(metrics, queue)
    web = Key(Kind.SERVICE, "web")

    def value(name: str) -> float | None:
        return metrics.registry.get_sample_value(f"watchkeeper_workqueue_{name}")

    queue.add(web)
    queue.add(web)
    await asyncio.sleep(2)
    assert (value("adds_total"), value("depth")) == (1, 1)
    await queue.get()
    await asyncio.sleep(3)
    assert (value("depth"), value("queue_duration_seconds_sum")) == (0, 2)
    assert (value("unfinished_work_seconds"), value("longest_running_processor_seconds")) == (3, 3)
    queue.add_after(web, 60)
    queue.done(web)
    assert (value("work_duration_seconds_sum"), value("retries_total")) == (3, 1)
    assert (value("unfinished_work_seconds"), value("longest_running_processor_seconds")) == (0, 0)
