"""A circuit breaker: what fails again and again is left alone for a while. A faithful copy of sony/gobreaker (v2).

Rules:
    C1  Closed: everything passes. Its counts are cleared every `interval` seconds; 0: never. When a failure makes
        `trips(counts)` true, the breaker opens. A success never does, whatever the counts are.
    C2  Open: nothing passes. Once more than `timeout` seconds have gone by it is half-open; nobody has to look meanwhile.
    C3  Half-open: `max_requests` may pass (0 means 1); more are refused until these have come back. One failure opens the
        breaker again; `max_requests` successes in a row close it.
    C4  Each change of state, and each clearing of the counts, begins a new generation with counts of 0. What was let
        through in an older generation changes nothing when it comes back.
    C5  An exception is a failure (gobreaker: a panic), and goes on to the caller.
    C6  Who gives up (cancellation, `Result.EXCLUDED`) says nothing about the other side: the request is taken out of the
        counts, so that half-open is not left with a slot that nobody gives back. (gobreaker counts exclusions apart.)

The seeds' numbers are the defaults of config.schema.outbound.BreakerSettings: max_requests 3, interval 10 s, timeout 5 s;
`ConsecutiveFailures > 3`, so it is the fourth failure in a row that trips; or a failure rate above 0.5 of at least
min_requests. gobreaker's own, for who asks for nothing: more than 5 in a row, interval 0, timeout 60 s.
"""

from __future__ import annotations

import contextlib
import enum
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass


class State(enum.StrEnum):
    """Where a breaker is; the numbers of the metric are in this order."""

    CLOSED = "closed"
    HALF_OPEN = "half-open"
    OPEN = "open"


class Result(enum.Enum):
    """What became of a request that was let through."""

    SUCCESS = "success"
    FAILURE = "failure"
    EXCLUDED = "excluded"


@dataclass
class Counts:
    """Of one generation."""

    requests: int = 0
    successes: int = 0
    failures: int = 0
    consecutive_successes: int = 0
    consecutive_failures: int = 0


Trips = Callable[[Counts], bool]


def consecutive_failures(more_than: int) -> Trips:
    """That many failures in a row, and one more."""
    return lambda counts: counts.consecutive_failures > more_than


def failure_rate(more_than: float, min_requests: int) -> Trips:
    """Failures among all requests of the generation, those that are still under way included (as in gobreaker's README)."""
    return lambda counts: (
        counts.requests >= max(1, min_requests) and counts.failures / counts.requests > more_than
    )


GOBREAKERS_OWN = consecutive_failures(5)


class RefusedError(Exception):
    """The breaker let nothing through; `state` says which of the two reasons it was."""

    def __init__(self, state: State) -> None:
        super().__init__(
            "the circuit breaker is open" if state is State.OPEN else "too many requests at once"
        )
        self.state = state


class Attempt:
    """One request that was let through; a success unless somebody says otherwise."""

    def __init__(self) -> None:
        self.result = Result.SUCCESS


class Breaker:
    """One breaker, of one destination.

    Args:
        trips: asked after each failure while closed.
        on_change: hears of each change, before and after.
        clock: seconds that never go back.
    """

    def __init__(
        self,
        *,
        max_requests: int = 1,
        interval: float = 0.0,
        timeout: float = 60.0,
        trips: Trips = GOBREAKERS_OWN,
        on_change: Callable[[State, State], None] = lambda _before, _after: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_requests = max_requests or 1  # C3
        self._interval, self._timeout = max(0.0, interval), timeout if timeout > 0 else 60.0
        self._trips, self._on_change, self._clock = trips, on_change, clock
        self._state = State.CLOSED
        self._generation = 0
        self._begin(clock())

    @property
    def state(self) -> State:
        """Now."""
        return self._look()

    @property
    def seen(self) -> State:
        """When somebody last looked: open may mean half-open by now."""
        return self._state

    @property
    def generation(self) -> int:
        self._look()
        return self._generation

    @property
    def counts(self) -> Counts:
        """Of the present generation."""
        self._look()
        return self.counted

    @property
    def would_pass(self) -> bool:
        """Whether `allow` would say yes; nothing is counted."""
        state = self._look()
        return state is State.CLOSED or (
            state is State.HALF_OPEN and self.counted.requests < self._max_requests
        )

    def allow(self) -> int:
        """The generation, to be given to `done` whatever happens.

        Raises:
            RefusedError: nothing passes now.
        """
        if not self.would_pass:
            raise RefusedError(self._state)  # C2, C3
        self.counted.requests += 1
        return self._generation

    def done(self, generation: int, result: Result) -> None:
        """What became of it."""
        state = self._look()
        if generation != self._generation:
            return  # C4
        if result is Result.EXCLUDED:
            self.counted.requests -= 1  # C6
        elif result is Result.SUCCESS:
            self._succeeded(state)
        else:
            self._failed(state)

    @contextlib.contextmanager
    def attempt(self) -> Iterator[Attempt]:
        """Let what is within through, and note what becomes of it.

        Raises:
            RefusedError: nothing passes now.
        """
        generation, attempt = self.allow(), Attempt()
        try:
            yield attempt
        except Exception:
            attempt.result = Result.FAILURE  # C5
            raise
        except BaseException:
            attempt.result = Result.EXCLUDED  # C6
            raise
        finally:
            self.done(generation, attempt.result)

    def _succeeded(self, state: State) -> None:
        counts = self.counted
        counts.successes += 1
        counts.consecutive_successes += 1
        counts.consecutive_failures = 0
        if state is State.HALF_OPEN and counts.consecutive_successes >= self._max_requests:
            self._become(State.CLOSED)  # C3

    def _failed(self, state: State) -> None:
        counts = self.counted
        counts.failures += 1
        counts.consecutive_failures += 1
        counts.consecutive_successes = 0
        if state is State.HALF_OPEN or self._trips(counts):
            self._become(State.OPEN)  # C1, C3

    def _look(self) -> State:
        """Let time do what it has to do."""
        now = self._clock()
        if self._until is not None and now > self._until:
            if self._state is State.OPEN:
                self._become(State.HALF_OPEN)  # C2
            else:
                self._begin(now)  # C1
        return self._state

    def _become(self, state: State) -> None:
        before, self._state = self._state, state
        self._begin(self._clock())
        self._on_change(before, state)

    def _begin(self, now: float) -> None:
        self._generation += 1  # C4
        self.counted = Counts()
        self._until: float | None = None
        if self._state is State.OPEN:
            self._until = now + self._timeout
        elif self._state is State.CLOSED and self._interval:
            self._until = now + self._interval
