"""Both buckets, against models of them and on a clock of their own."""

from __future__ import annotations

import asyncio
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.limits import LeakyBucket, TokenBucket


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


# Eighths of a second and rates that are powers of two: floats hold all that comes of them exactly.
RATES = st.sampled_from([0.5, 1, 2, 4, 8])


@given(rate=RATES, burst=st.integers(1, 8), steps=st.lists(st.tuples(st.integers(0, 40), st.integers(0, 6))))
def test_tokens_are_arithmetic(rate: float, burst: int, steps: list[tuple[int, int]]) -> None:
    """T1, T2: every answer of `allow` is the one that fractions give."""
    clock = Clock()
    bucket = TokenBucket(rate, burst, clock)
    model = Fraction(burst)
    for eighths, wanted in steps:
        clock.now += eighths / 8
        model = min(Fraction(burst), model + Fraction(eighths, 8) * Fraction(rate))
        assert bucket.allow(wanted) == (wanted <= model)
        if wanted <= model:
            model -= wanted
        assert bucket.tokens == model


@pytest.mark.parametrize(("rate", "queue"), [(0, 1), (1, -1)])
def test_impossible_leaky_buckets(rate: float, queue: int) -> None:
    """One that lets nothing through is a defect of the caller."""
    with pytest.raises(ValueError, match="leaky"):
        LeakyBucket(rate, queue)


@given(rate=RATES, queue=st.integers(0, 4), gaps=st.lists(st.integers(0, 20), max_size=60))
def test_leaky_turns_are_arithmetic(rate: float, queue: int, gaps: list[int]) -> None:
    """L1, L2: every turn is the one that a list of turns gives; nobody waits beyond the queue."""
    clock = Clock()
    bucket = LeakyBucket(rate, queue, clock)
    now, turns = Fraction(100), [Fraction(-1000)]
    for gap in gaps:
        clock.now += gap / 8
        now += Fraction(gap, 8)
        turn = max(now, turns[-1] + 1 / Fraction(rate))
        full = sum(each > now for each in turns) >= queue and turn > now
        assert bucket.reserve() == (None if full else turn - now)
        if not full:
            turns.append(turn)
        assert bucket.waiting == sum(each > now for each in turns)


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_leaky_waiting() -> None:
    """L1 to L3: an even flow, refusals at once, and a turn that nobody uses passes."""
    loop = asyncio.get_running_loop()
    bucket = LeakyBucket(4, 3, loop.time)
    begun = loop.time()

    async def one() -> tuple[bool, float]:
        return await bucket.wait(), loop.time() - begun

    tasks = [asyncio.create_task(one()) for _ in range(6)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    ended = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(ended[1], asyncio.CancelledError)
    assert [ended[0], *ended[2:]] == [(True, 0), (True, 0.5), (True, 0.75), (False, 0), (False, 0)]


def test_who_cannot_wait_takes_no_turn() -> None:
    """L2: at twice the rate, by callers who wait for one turn at most, as many get through as the rate allows."""
    clock = Clock()
    bucket = LeakyBucket(1, 100, clock)
    passed = 0
    for _ in range(200):
        passed += bucket.reserve(1.0) is not None
        clock.now += 0.5
    assert passed == 101
    assert bucket.waiting <= 1
