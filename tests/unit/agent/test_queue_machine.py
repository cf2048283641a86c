"""The work queue against a model that is nothing but lists and numbers, on a clock that only the test moves.

Steps come in any order: keys are added, now or later, worked on by up to three workers, given back, failed, forgotten,
while time passes and in the end, or in the middle, the queue is shut down or drained.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from watchkeeper.delays import RetryDelays
from watchkeeper.queue import ShutDownError, WorkQueue

KEYS = st.sampled_from(["a", "b", "c"])
BASE, CAP, RATE, BURST = 0.5, 2.0, 0.5, 2
DELAYS = st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.5, 7.0])


class StillLoop(asyncio.SelectorEventLoop):
    """A loop whose clock stands still until `advance`."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0

    def time(self) -> float:
        return self.now

    def settle(self) -> None:
        """Let everything run that can run now."""
        for _ in range(8):
            self.run_until_complete(asyncio.sleep(0))


class Model:
    """What the rules of queue.py say, in the plainest form."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.waiting: list[str] = []
        self.hand: dict[str, float] = {}
        self.marked: list[str] = []
        self.later: dict[str, float] = {}
        self.due: dict[str, float] = {}
        """When a key that waits was added by its time; of several at one moment any may be the first."""
        self.failures: dict[str, int] = {}
        self.tokens, self.filled_at = float(BURST), self.now
        self.shut = False
        self.adds = self.retries = 0

    def add(self, key: str) -> None:
        if self.shut or key in self.waiting or key in self.marked:
            return
        self.adds += 1
        (self.marked if key in self.hand else self.waiting).append(key)

    def add_after(self, key: str, delay: float) -> None:
        if self.shut:
            return
        self.retries += 1
        if delay <= 0:
            self.add(key)
        else:
            self.later[key] = min(self.later.get(key, math.inf), self.now + delay)

    def withdraw(self, key: str) -> None:
        self.later.pop(key, None)

    def delay(self, key: str) -> float:
        failures = self.failures.get(key, 0)
        self.failures[key] = failures + 1
        self.tokens = min(BURST, self.tokens + (self.now - self.filled_at) * RATE) - 1
        self.filled_at = self.now
        return max(min(BASE * 2**failures, CAP), -self.tokens / RATE)

    def may_be_next(self, key: str) -> bool:
        first = self.waiting[0]
        return key == first or (key in self.due and self.due[key] == self.due.get(first))

    def take(self, key: str) -> None:
        self.waiting.remove(key)
        self.due.pop(key, None)
        self.hand[key] = self.now

    def done(self, key: str) -> None:
        del self.hand[key]
        if key in self.marked:
            self.marked.remove(key)
            self.waiting.append(key)

    def advance(self, until: float) -> None:
        while due := sorted((when, key) for key, when in self.later.items() if when <= until):
            self.now, key = due[0]
            del self.later[key]
            if key not in self.waiting and key not in self.hand:
                self.due[key] = self.now
            self.add(key)
        self.now = until

    @property
    def busy(self) -> bool:
        return bool(self.waiting or self.hand)


class Counts:
    """Implements queue.Measures."""

    def __init__(self) -> None:
        self.adds = self.retries = self.takes = self.ends = 0
        self.worked: list[float] = []

    def added(self) -> None:
        self.adds += 1

    def retried(self) -> None:
        self.retries += 1

    def taken(self, waited: float) -> None:
        assert waited >= 0
        self.takes += 1

    def finished(self, worked: float) -> None:
        self.worked.append(worked)


class QueueMachine(RuleBasedStateMachine):
    """One queue, one model, and workers that wait."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = StillLoop()
        self.model = Model()
        self.queue: WorkQueue[str] = WorkQueue(RetryDelays(BASE, CAP, RATE, BURST))
        self.counts = self.queue.measures = Counts()
        self.workers: list[asyncio.Task[str]] = []
        self.drain: asyncio.Task[None] | None = None
        self.forced = False
        """Whether the queue was shut down after it had begun to drain."""

    def call(self, function: Any, *arguments: Any) -> Any:
        """One method of the queue, called within the loop; then whatever that lets happen."""

        async def inside() -> Any:
            return function(*arguments)

        answer = self.loop.run_until_complete(inside())
        self.hand_out()
        return answer

    def hand_out(self) -> None:
        """Q8: who waits longest gets the key that waits longest."""
        self.loop.settle()
        while self.workers and self.model.waiting:
            worker = self.workers.pop(0)
            assert worker.done(), "a key waits, and so does a worker"
            key = worker.result()
            assert key not in self.model.hand, "a key in two hands"
            assert self.model.may_be_next(key)
            self.model.take(key)
        if self.model.shut:
            for worker in self.workers:
                assert isinstance(worker.exception(), ShutDownError)
            self.workers = []
        assert not any(worker.done() for worker in self.workers), "a worker came back with nothing"

    @rule(key=KEYS)
    def add(self, key: str) -> None:
        self.model.add(key)
        self.call(self.queue.add, key)

    @rule(key=KEYS, delay=DELAYS)
    def add_after(self, key: str, delay: float) -> None:
        self.model.add_after(key, delay)
        self.call(self.queue.add_after, key, delay)

    @rule(key=KEYS)
    def withdraw(self, key: str) -> None:
        self.model.withdraw(key)
        self.call(self.queue.withdraw, key)

    @rule(key=KEYS)
    def fail(self, key: str) -> None:
        if not self.model.shut:
            self.model.add_after(key, self.model.delay(key))
        self.call(self.queue.add_rate_limited, key)

    @rule(key=KEYS, times=st.integers(2, 6))
    def fail_often(self, key: str, times: int) -> None:
        for _ in range(times):
            self.fail(key)

    @rule(key=KEYS, times=st.integers(2, 5))
    def fail_now_and_then(self, key: str, times: int) -> None:
        """So slowly that there is always a token: the delay is the key's own."""
        for _ in range(times):
            self.fail(key)
            self.advance(20.0)

    @rule(key=KEYS, delay=st.sampled_from([1.0, 2.5]))
    def bring_forward(self, key: str, delay: float) -> None:
        """Asked for later, then sooner; worked off as soon as it comes, so that a second coming shows."""
        self.add_after(key, 7.0)
        self.add_after(key, delay)
        self.advance(delay)
        self.work_off()
        self.advance(7.0)

    @precondition(lambda self: not self.workers)
    @rule()
    def work_off(self) -> None:
        """Everything that waits is taken and given back."""
        while self.model.waiting and not self.workers:
            self.get()
            for key in list(self.model.hand):
                self.done(key)

    @rule(key=KEYS)
    def forget(self, key: str) -> None:
        self.model.failures.pop(key, None)
        self.call(self.queue.forget, key)

    @precondition(lambda self: len(self.workers) < 3)
    @rule()
    def get(self) -> None:
        self.workers.append(self.loop.create_task(self.queue.get()))
        self.hand_out()

    @precondition(lambda self: self.workers)
    @rule(key=KEYS, others=st.integers(0, 1))
    def cancel_a_worker_as_a_key_comes(self, key: str, others: int) -> None:
        """The wake-up of a worker that is cancelled in the same moment goes to the next."""
        for _ in range(others):
            self.get()
        worker = self.workers.pop(0)
        self.model.add(key)

        def both() -> None:
            self.queue.add(key)
            worker.cancel()

        self.call(both)
        assert worker.cancelled()

    @rule(key=KEYS)
    def done(self, key: str) -> None:
        if key in self.model.hand:
            self.model.done(key)
        self.call(self.queue.done, key)

    @rule(seconds=st.sampled_from([0.25, 1.0, 3.0, 20.0]))
    def advance(self, seconds: float) -> None:
        until = self.loop.now + seconds
        while True:
            times = sorted(when for when in self.model.later.values() if when <= until)
            self.loop.now = times[0] if times else until
            self.model.advance(self.loop.now)
            self.hand_out()
            if not times:
                return

    @precondition(lambda self: self.model.shut or self.model.now > 1010)
    @rule()
    def shut_down(self) -> None:
        self.model.shut = True
        self.model.later.clear()
        self.call(self.queue.shut_down)
        self.forced = True

    @precondition(lambda self: self.drain is None and self.model.now > 1010)
    @rule()
    def begin_to_drain(self) -> None:
        self.model.shut = True
        self.model.later.clear()
        self.forced = False
        self.drain = self.loop.create_task(self.queue.drain())
        self.hand_out()

    @precondition(lambda self: self.drain is None and self.model.now > 1010 and not self.workers)
    @rule()
    def drain_with_work(self) -> None:
        """One key in hand, others waiting: neither alone lets the drain return."""
        for key in ("a", "b", "c"):
            self.add(key)
        if self.model.waiting:
            self.get()
        self.begin_to_drain()
        self.same()
        for key in list(self.model.hand):
            self.done(key)

    @invariant()
    def same(self) -> None:
        model, queue = self.model, self.queue
        assert (len(queue), queue.processing, queue.later) == (
            len(model.waiting),
            len(model.hand),
            len(model.later),
        )
        assert (self.counts.adds, self.counts.retries) == (model.adds, model.retries)
        ages = [model.now - since for since in model.hand.values()]
        assert self.call(queue.longest_running) == max(ages, default=0)
        assert abs(self.call(queue.unfinished) - sum(ages)) < 1e-6
        assert all(queue.delays.failures(key) == model.failures.get(key, 0) for key in "abc")
        if self.drain is not None:
            assert self.drain.done() == (self.forced or not model.busy), (
                "drain ends with the work, or when it is told to"
            )

    def teardown(self) -> None:
        for task in [*self.workers, *([self.drain] if self.drain else [])]:
            task.cancel()
        self.loop.settle()
        self.loop.close()


TestTheQueueIsItsModel = QueueMachine.TestCase
TestTheQueueIsItsModel.settings = settings(max_examples=200, stateful_step_count=50, deadline=None)
