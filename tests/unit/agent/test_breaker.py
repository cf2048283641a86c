"""The breaker's rules one by one, and all of them together against a naive model that remembers everything."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from watchkeeper.outbound.breaker import (
    Breaker,
    Counts,
    RefusedError,
    Result,
    State,
    consecutive_failures,
    failure_rate,
)

GOOD, BAD, GONE = Result.SUCCESS, Result.FAILURE, Result.EXCLUDED


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def seeds(clock: Clock, **options: Any) -> Breaker:
    """With the seeds' numbers."""
    return Breaker(
        **{"max_requests": 3, "interval": 10, "timeout": 5, "trips": consecutive_failures(3), "clock": clock}
        | options
    )


def feed(breaker: Breaker, *results: Result) -> None:
    for result in results:
        breaker.done(breaker.allow(), result)


def test_the_fourth_failure_trips() -> None:
    """C1: `ConsecutiveFailures > 3` is the fourth failure in a row; a success in between begins anew."""
    breaker = seeds(Clock())
    feed(breaker, BAD, BAD, BAD, GOOD, BAD, BAD, BAD)
    assert breaker.state is State.CLOSED
    feed(breaker, BAD)
    assert breaker.state is State.OPEN
    with pytest.raises(RefusedError, match="is open"):
        breaker.allow()


def test_the_failure_rate_trips() -> None:
    """C1: above one half, and not before min_requests were made."""
    breaker = seeds(Clock(), trips=failure_rate(0.5, 4))
    feed(breaker, BAD, BAD, BAD)
    assert breaker.state is State.CLOSED
    feed(breaker, GOOD, GOOD, GOOD, BAD)
    assert breaker.state is State.OPEN  # 4 of 7


def test_exactly_half_does_not_trip() -> None:
    """C1: the rate has to be above the limit."""
    breaker = seeds(Clock(), trips=failure_rate(0.5, 2))
    feed(breaker, GOOD, BAD, GOOD, BAD)
    assert breaker.state is State.CLOSED
    assert breaker.counts == Counts(4, 2, 2, 0, 1)


def test_only_a_failure_is_asked_about() -> None:
    """C1: a success does not open a breaker whose predicate is true already."""
    breaker = seeds(Clock(), trips=lambda counts: counts.requests > 1)
    feed(breaker, GOOD, GOOD, GOOD)
    assert breaker.state is State.CLOSED
    feed(breaker, BAD)
    assert breaker.state is State.OPEN


@pytest.mark.parametrize(("after", "state"), [(4.9, State.OPEN), (5.0, State.OPEN), (5.1, State.HALF_OPEN)])
def test_half_open_after_the_timeout(after: float, state: State) -> None:
    """C2: later than the timeout, and not at it (gobreaker: expiry.Before(now))."""
    clock = Clock()
    breaker = seeds(clock)
    feed(breaker, BAD, BAD, BAD, BAD)
    clock.now += after
    assert breaker.state is state


def test_half_open_lets_three_through() -> None:
    """C3: a fourth is refused while they are under way; three successes close it."""
    clock = Clock()
    breaker = seeds(clock)
    feed(breaker, BAD, BAD, BAD, BAD)
    clock.now += 6
    generations = [breaker.allow() for _ in range(3)]
    with pytest.raises(RefusedError, match="too many"):
        breaker.allow()
    for generation in generations:
        assert breaker.state is State.HALF_OPEN
        breaker.done(generation, GOOD)
    assert breaker.state is State.CLOSED
    assert breaker.counts == Counts()


def test_half_open_closes_only_when_all_are_back() -> None:
    """C3: two good answers of three are not enough, and no fourth is let through to make up for the slow one."""
    clock = Clock()
    breaker = seeds(clock)
    feed(breaker, BAD, BAD, BAD, BAD)
    clock.now += 6
    slow = breaker.allow()
    feed(breaker, GOOD, GOOD)
    assert not breaker.would_pass
    breaker.done(slow, BAD)
    assert breaker.state is State.OPEN


@pytest.mark.parametrize("asked", [0, 1])
def test_zero_means_one(asked: int) -> None:
    """C3: max_requests 0 is 1."""
    clock = Clock()
    breaker = seeds(clock, max_requests=asked)
    feed(breaker, BAD, BAD, BAD, BAD)
    clock.now += 6
    generation = breaker.allow()
    assert not breaker.would_pass
    breaker.done(generation, GOOD)
    assert breaker.state is State.CLOSED


def test_the_interval_clears_the_counts() -> None:
    """C1, C4: three failures, a new interval, and three more are no four in a row."""
    clock = Clock()
    breaker = seeds(clock)
    feed(breaker, BAD, BAD, BAD)
    clock.now += 10.1
    assert breaker.counts == Counts()
    feed(breaker, BAD, BAD, BAD)
    assert breaker.state is State.CLOSED


def test_without_an_interval_nothing_is_forgotten() -> None:
    """C1: interval 0 never clears."""
    clock = Clock()
    breaker = seeds(clock, interval=0)
    feed(breaker, BAD, BAD, BAD)
    clock.now += 1e9
    feed(breaker, BAD)
    assert breaker.state is State.OPEN


def test_an_old_generation_says_nothing() -> None:
    """C4: what was let through before the breaker opened neither closes it nor opens it again."""
    clock = Clock()
    breaker = seeds(clock)
    old = [breaker.allow() for _ in range(8)]
    feed(breaker, BAD, BAD, BAD, BAD)
    clock.now += 6
    assert breaker.state is State.HALF_OPEN
    for generation in old[:4]:
        breaker.done(generation, GOOD)
    breaker.done(old[4], BAD)
    breaker.done(old[5], GONE)
    assert breaker.state is State.HALF_OPEN
    assert breaker.counts == Counts()


def test_an_exception_is_a_failure() -> None:
    """C5: and the caller has it all the same."""
    breaker = seeds(Clock(), trips=consecutive_failures(0))
    with pytest.raises(ZeroDivisionError), breaker.attempt():
        _ = 1 / 0
    assert breaker.state is State.OPEN


def test_an_answer_may_be_a_failure() -> None:
    """A block that ends well can still say that what it got was no success."""
    breaker = seeds(Clock())
    with breaker.attempt() as attempt:
        attempt.result = BAD
    assert breaker.counts.failures == 1


@pytest.mark.asyncio
async def test_a_cancellation_gives_its_slot_back() -> None:
    """C6: half-open with one slot, whose owner was cancelled, lets another one try."""
    clock = Clock()
    breaker = seeds(clock, max_requests=1)
    feed(breaker, BAD, BAD, BAD, BAD)
    clock.now += 6

    async def wait_for_ever() -> None:
        with breaker.attempt():
            await asyncio.Event().wait()

    task = asyncio.create_task(wait_for_ever())
    await asyncio.sleep(0)
    assert not breaker.would_pass
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert breaker.state is State.HALF_OPEN
    assert breaker.would_pass


def test_changes_are_told() -> None:
    """Each once, with both states, and in order."""
    clock, told = Clock(), []
    breaker = seeds(clock, on_change=lambda before, after: told.append((before, after)))
    feed(breaker, BAD, BAD, BAD, BAD)
    clock.now += 6
    feed(breaker, GOOD, GOOD, GOOD)
    assert told == [
        (State.CLOSED, State.OPEN),
        (State.OPEN, State.HALF_OPEN),
        (State.HALF_OPEN, State.CLOSED),
    ]


def test_gobreakers_own_defaults() -> None:
    """For who asks for nothing: the sixth failure, a minute, one request."""
    clock = Clock()
    breaker = Breaker(clock=clock, timeout=0)
    feed(breaker, *[BAD] * 5)
    assert breaker.state is State.CLOSED
    feed(breaker, BAD)
    clock.now += 60
    assert breaker.state is State.OPEN
    clock.now += 0.1
    assert breaker.state is State.HALF_OPEN


class Model:
    """Remembers when each stretch began and all that was sent and came back in it; everything else is counted anew."""

    def __init__(self, max_requests: int, interval: float, timeout: float, trip: tuple[str, Any], now: float):
        self.max_requests, self.interval, self.timeout, self.trip = (
            max(1, max_requests),
            interval,
            timeout,
            trip,
        )
        self.stretches: list[tuple[State, float, list[str]]] = [(State.CLOSED, now, [])]

    def now(self, now: float) -> tuple[State, float, list[str]]:
        state, begun, _ = self.stretches[-1]
        if state is State.OPEN and now > begun + self.timeout:
            self.stretches.append((State.HALF_OPEN, now, []))
        elif state is State.CLOSED and self.interval and now > begun + self.interval:
            self.stretches.append((State.CLOSED, now, []))
        return self.stretches[-1]

    def passes(self, now: float) -> bool:
        state, _, story = self.now(now)
        sent = story.count("sent") - story.count("gone")
        return state is State.CLOSED or (state is State.HALF_OPEN and sent < self.max_requests)

    def returns(self, stretch: int, word: str, now: float) -> None:
        state, _, story = self.now(now)
        if stretch != len(self.stretches):
            return
        story.append(word)
        back = [each for each in story if each in ("good", "bad")]
        if word == "bad" and (state is State.HALF_OPEN or self.trips(story, back)):
            self.stretches.append((State.OPEN, now, []))
        if (
            word == "good"
            and state is State.HALF_OPEN
            and back[-self.max_requests :] == ["good"] * self.max_requests
        ):
            self.stretches.append((State.CLOSED, now, []))

    def trips(self, story: list[str], back: list[str]) -> bool:
        kind, limit = self.trip
        if kind == "consecutive":
            return back[-limit - 1 :] == ["bad"] * (limit + 1)
        requests = story.count("sent") - story.count("gone")
        return requests >= limit and story.count("bad") * 2 > requests


class BreakerAgainstModel(RuleBasedStateMachine):
    """Any order of requests, returns (late ones among them) and time."""

    @initialize(
        max_requests=st.integers(0, 3),
        interval=st.sampled_from([0, 1, 4]),
        timeout=st.sampled_from([1, 3]),
        trip=st.one_of(
            st.tuples(st.just("consecutive"), st.integers(0, 3)),
            st.tuples(st.just("rate"), st.integers(1, 4)),
        ),
    )
    def begin(self, max_requests: int, interval: float, timeout: float, trip: tuple[str, int]) -> None:
        self.clock = Clock()
        kind, limit = trip
        trips = consecutive_failures(limit) if kind == "consecutive" else failure_rate(0.5, limit)
        self.breaker = Breaker(
            max_requests=max_requests, interval=interval, timeout=timeout, trips=trips, clock=self.clock
        )
        self.model = Model(max_requests, interval, timeout, trip, self.clock.now)
        self.away: list[tuple[int, int]] = []

    @rule()
    def send(self) -> None:
        passes = self.model.passes(self.clock.now)
        assert self.breaker.would_pass == passes
        if passes:
            self.model.now(self.clock.now)[2].append("sent")
            self.away.append((self.breaker.allow(), len(self.model.stretches)))
        else:
            with pytest.raises(RefusedError):
                self.breaker.allow()

    @precondition(lambda self: self.away)
    @rule(which=st.integers(0, 100), result=st.sampled_from([GOOD, BAD, BAD, GONE]))
    def come_back(self, which: int, result: Result) -> None:
        generation, stretch = self.away.pop(which % len(self.away))
        self.breaker.done(generation, result)
        word = {GOOD: "good", BAD: "bad", GONE: "gone"}[result]
        self.model.returns(stretch, word, self.clock.now)

    @rule(halves=st.integers(1, 9))
    def wait(self, halves: int) -> None:
        self.clock.now += halves / 2

    @invariant()
    def same(self) -> None:
        if hasattr(self, "model"):
            state, _, story = self.model.now(self.clock.now)
            assert self.breaker.state is state
            assert self.breaker.generation == len(self.model.stretches)
            counts = self.breaker.counts
            assert counts.requests == story.count("sent") - story.count("gone")
            assert (counts.successes, counts.failures) == (story.count("good"), story.count("bad"))


TestBreakerAgainstModel = BreakerAgainstModel.TestCase
