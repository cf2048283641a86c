"""When services start, stop and are killed, rule by rule; time is a number that the test hands in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from watchkeeper.config.model import Backoff, Policy, ProcessService
from watchkeeper.supervise.backoff import delay
from watchkeeper.supervise.lifecycle import (
    KILL_PATIENCE,
    Cause,
    Decision,
    Do,
    Record,
    State,
    Stop,
    decide,
    fail,
    settle,
)

STEADY = Backoff(jitter=0.0)


@dataclass
class FakeProcess:
    """A process whose life the test decides."""

    started_at: float = 0.0
    exited_at: float | None = None
    exit_code: int | None = None
    group: bool = True

    def group_alive(self) -> bool:
        return self.exit_code is None or self.group

    def end(self, code: int, at: float = 0.0, *, group: bool = False) -> FakeProcess:
        self.exit_code, self.exited_at, self.group = code, at, group
        return self


def spec(**fields: Any) -> ProcessService:
    return ProcessService(**{"command": ("app",), "backoff": STEADY, **fields})


def running(wanted: ProcessService | None = None) -> tuple[Record, FakeProcess]:
    process = FakeProcess()
    return Record("app", spec=wanted or spec(), process=process, instance=1, state=State.RUNNING), process


def test_start() -> None:
    """S1 and S2: at once when due, else after exactly the rest of the backoff; what is not wanted is left alone."""
    assert decide(Record("app"), spec(), None, 0).do is Do.START
    waiting = Record("app", spec=spec(), next_start=10.0)
    assert decide(waiting, spec(), None, 7.5) == Decision(Do.NOTHING, again=2.5)
    assert decide(waiting, spec(), None, 10.0).do is Do.START
    assert decide(Record("app"), None, None, 0) == Decision(Do.NOTHING)


def test_a_new_definition_does_not_wait() -> None:
    """S4: neither for the backoff of the old one nor for its last word."""
    waiting = Record("app", spec=spec(), next_start=1000.0)
    assert decide(waiting, spec(command=("other",)), None, 0).do is Do.START
    final = Record("app", spec=spec(), final=True)
    assert decide(final, spec(), None, 0).do is Do.NOTHING
    assert decide(final, spec(command=("other",)), None, 0).do is Do.START


@pytest.mark.parametrize(
    ("wanted", "failed", "cause"),
    [
        (None, None, Cause.UNWANTED),
        (spec(stop_grace=1.0), None, Cause.CHANGED),
        (spec(), "check app/alive (liveness) failed: x", Cause.CHECK),
        (spec(), None, None),
    ],
)
def test_stop(wanted: ProcessService | None, failed: str | None, cause: Cause | None) -> None:
    """S3, S4, S5; and what is wanted, unchanged and well is left alone."""
    record, _ = running()
    decision = decide(record, wanted, failed, 5.0)
    assert decision.do is (Do.STOP if cause else Do.NOTHING)
    assert cause is None or decision.cause is cause


def test_grace_then_kill_once() -> None:
    """S6 and S10: the grace, one KILL, and no eternity after it."""
    record, _ = running()
    record.stop = Stop(Cause.UNWANTED, "why", at=100.0, grace=10.0)
    assert decide(record, None, None, 104.0) == Decision(Do.NOTHING, again=6.0)
    assert decide(record, None, None, 110.0).do is Do.KILL
    record.stop.killed_at = 110.0
    assert decide(record, None, None, 110.5) == Decision(Do.NOTHING, again=KILL_PATIENCE - 0.5)
    assert decide(record, None, None, 110.0 + KILL_PATIENCE).do is Do.SETTLE


def test_leftovers_of_a_group() -> None:
    """S7: they are stopped first; the leader's end alone is not the end."""
    record, process = running()
    process.end(-9, 5.0, group=True)
    assert decide(record, spec(), None, 5.0).cause is Cause.LEFTOVERS
    record.stop = Stop(Cause.LEFTOVERS, "why", at=5.0, grace=10.0)
    assert decide(record, spec(), None, 5.1) == Decision(Do.NOTHING, again=0.05)
    assert decide(record, spec(), None, 15.0).do is Do.KILL
    process.group = False
    assert decide(record, spec(), None, 5.2).do is Do.SETTLE


@pytest.mark.parametrize(
    ("policy", "code", "state"),
    [
        (Policy.ALWAYS, 0, State.BACKOFF),
        (Policy.ALWAYS, 1, State.BACKOFF),
        (Policy.ON_FAILURE, 0, State.FINISHED),
        (Policy.ON_FAILURE, 3, State.BACKOFF),
        (Policy.ON_FAILURE, -15, State.BACKOFF),
        (Policy.NO, 0, State.FINISHED),
        (Policy.NO, 1, State.FAILED),
    ],
)
def test_policies(policy: Policy, code: int, state: State) -> None:
    """S8, for a process that ended by itself."""
    record, process = running(spec(policy=policy))
    process.end(code, at=50.0)
    assert decide(record, record.spec, None, 50.0).do is Do.SETTLE
    settle(record, record.spec, 50.0, 0.5)
    assert record.state is state
    assert record.final is (state is not State.BACKOFF)


@pytest.mark.parametrize("policy", list(Policy))
def test_a_failed_check_counts_as_a_failure_whatever_the_exit_status(policy: Policy) -> None:
    """S5 with S8: a service that obeys TERM with status 0 has failed its check all the same."""
    record, process = running(spec(policy=policy))
    record.stop = Stop(Cause.CHECK, "check app/alive (liveness) failed: x", at=1.0, grace=10.0)
    process.end(0, at=2.0)
    settle(record, record.spec, 2.0, 0.5)
    last = policy in (Policy.NO, Policy.EXIT_AGENT)
    assert record.state is (State.FAILED if last else State.BACKOFF)
    assert record.why == "check app/alive (liveness) failed: x"


def test_an_ordered_stop_is_no_failure() -> None:
    """S4: started again at once, with nothing to its name; S3: at rest."""
    record, process = running()
    record.failures = 5
    record.stop = Stop(Cause.CHANGED, "its definition has changed", at=1.0, grace=10.0)
    process.end(-15, at=2.0)
    settle(record, spec(command=("new",)), 2.0, 0.5)
    assert (record.failures, record.next_start, record.state) == (0, 2.0, State.STOPPED)
    assert decide(record, spec(command=("new",)), None, 2.0).do is Do.START


def crash(record: Record, *, started: float, ended: float) -> float:
    """One more run that ends badly; the delay before the next."""
    record.process = FakeProcess(started_at=started).end(1, at=ended)
    settle(record, record.spec, ended, 0.5)
    return record.next_start - ended


def test_backoff_grows_and_is_forgotten() -> None:
    """1 s doubled up to 60 s (S8); a run of 10 min starts over (S9), one of a second less does not."""
    record = Record("app", spec=spec())
    now, delays = 0.0, []
    for _ in range(8):
        delays.append(crash(record, started=now, ended=now + 1))
        now = record.next_start
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]
    assert crash(record, started=now, ended=now + 599) == 60
    assert crash(record, started=now, ended=now + 600) == 1
    assert crash(record, started=now, ended=now + 1) == 2


def test_the_backoff_counts_from_the_end_of_the_process() -> None:
    """A late look at an end neither lengthens the wait nor counts as a longer run."""
    record = Record("app", spec=spec())
    record.process = FakeProcess(started_at=0.0).end(1, at=10.0)
    settle(record, record.spec, 9999.0, 0.5)
    assert record.next_start == 11.0


def test_a_program_that_cannot_be_started_backs_off() -> None:
    """S11."""
    record = Record("app", spec=spec())
    fail(record, "no such program", 5.0, 5.0, 0.5)
    assert (record.state, record.next_start, record.failures) == (State.BACKOFF, 6.0, 1)


@pytest.mark.parametrize(("chance", "expected"), [(0.0, 0.9), (0.5, 1.0), (0.999999, 1.1)])
def test_jitter(chance: float, expected: float) -> None:
    """A tenth in both directions by default."""
    assert delay(Backoff(), 0, chance) == pytest.approx(expected, abs=1e-5)


def test_backoff_does_not_overflow() -> None:
    """After any number of failures it is the maximum."""
    assert delay(Backoff(factor=10.0, jitter=0), 10**6, 0.5) == 60.0
