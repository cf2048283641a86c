"""The token bucket, against a model of it and on a clock of its own."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.limits import TokenBucket


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_the_seeds_numbers() -> None:
    """10 per second with a burst of 50: 50 at once, then none, then one every 100 ms."""
    clock = Clock()
    bucket = TokenBucket(10, 50, clock)
    assert [bucket.allow() for _ in range(51)] == [True] * 50 + [False]
    assert bucket.delay() == pytest.approx(0.1)
    clock.now = 0.11
    assert [bucket.allow(), bucket.allow()] == [True, False]
    clock.now = 1000
    assert bucket.tokens == 50


@given(
    rate=st.integers(1, 100),
    burst=st.integers(1, 100),
    steps=st.lists(st.tuples(st.integers(-5, 2000), st.integers(1, 3)), max_size=100),
)
def test_never_more_than_rate_and_burst(rate: int, burst: int, steps: list[tuple[int, int]]) -> None:
    """T1, T2: over any stretch of time at most burst + rate * time are allowed, also on a clock that goes backwards."""
    clock = Clock()
    bucket = TokenBucket(rate, burst, clock)
    taken, forward = 0, 0.0
    for milliseconds, count in steps:
        clock.now += milliseconds / 1000
        forward += max(0, milliseconds) / 1000
        taken += count * bucket.allow(count)
        assert taken <= burst + rate * forward + 1e-6
        assert bucket.tokens <= burst


@given(rate=st.integers(1, 50), burst=st.integers(1, 20), counts=st.lists(st.integers(1, 30), max_size=30))
def test_reservations_queue_up(rate: int, burst: int, counts: list[int]) -> None:
    """T3: each waits for all before it; what can never be had is refused, and takes nothing."""
    bucket = TokenBucket(rate, burst, Clock())
    owed = -burst
    for count in counts:
        delay = bucket.reserve(count)
        if count > burst:
            assert delay is None
            continue
        owed += count
        assert delay == pytest.approx(max(0.0, owed / rate))


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_waiting() -> None:
    """T4: in turn; who does not want to wait that long is told at once; who gives up gives back."""
    loop = asyncio.get_running_loop()
    bucket = TokenBucket(2, 1, loop.time)
    begun = loop.time()
    assert await bucket.wait()
    assert loop.time() == begun
    assert await bucket.wait()
    assert loop.time() - begun == pytest.approx(0.5)
    assert not await bucket.wait(limit=0.1)
    assert not await bucket.wait(2)
    waiter = asyncio.create_task(bucket.wait())
    await asyncio.sleep(0.1)
    waiter.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert bucket.delay() == pytest.approx(0.4)


@pytest.mark.parametrize(("rate", "burst"), [(0, 1), (1, 0), (-1, 1)])
def test_what_is_no_bucket(rate: float, burst: float) -> None:
    with pytest.raises(ValueError, match="above 0"):
        TokenBucket(rate, burst)
