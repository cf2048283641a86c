"""When services start, stop and are killed, rule by rule; time is a number that the test hands in."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.config.model import Backoff, Policy, ProcessService
from watchkeeper.config.schema.services import Flap
from watchkeeper.orders import Order
from watchkeeper.supervise.backoff import delay
from watchkeeper.supervise.lifecycle import (
    KILL_PATIENCE,
    Around,
    Cause,
    Condition,
    Decision,
    Do,
    Record,
    State,
    Stop,
    calm_down,
    decide,
    exit_status,
    fail,
    settle,
)
from watchkeeper.system import NOT_SEEN

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


def test_what_does_not_concern_the_process_restarts_nothing() -> None:
    """S4: neither order, nor flapping, nor a condition; everything else does."""
    record, _ = running()
    calm = spec(after=("x",), requires=("y",), critical=True, flap=Flap(failures=3), condition=("true",))
    assert decide(record, calm, None, 5.0).do is Do.NOTHING
    assert decide(record, spec(policy=Policy.NO), None, 5.0).cause is Cause.CHANGED


def test_start_timeout() -> None:
    """S5: counted from the start, and a failure; who has started is not measured any more."""
    record, _ = running(spec(start_timeout=30.0))
    record.state = State.STARTING
    slow = Around(started=False)
    assert decide(record, record.spec, None, 10.0, slow) == Decision(Do.NOTHING, again=20.0)
    late = decide(record, record.spec, None, 30.0, slow)
    assert (late.do, late.cause, late.why) == (Do.STOP, Cause.CHECK, "it has not started within 30 s")
    assert decide(record, record.spec, None, 31.0).do is Do.NOTHING


def test_start_timeout_of_what_was_taken_over() -> None:
    """S5, S18: it ran long before this agent could see its startup checks pass; they have the whole time from now."""
    record, _ = running(spec(start_timeout=30.0))
    record.state, record.since = State.STARTING, 5000.0
    slow = Around(started=False)
    assert decide(record, record.spec, None, 5000.0, slow) == Decision(Do.NOTHING, again=30.0)
    assert decide(record, record.spec, None, 5030.0, slow).do is Do.STOP


def test_orders() -> None:
    """S12: a stop holds whatever the policy; a start forgets backoff and last words; a restart stops first."""
    record, process = running()
    stopped, started, restarted = (Around(order=order) for order in (Order.STOP, Order.START, Order.RESTART))
    assert decide(record, spec(), None, 1.0, stopped).cause is Cause.ORDER
    assert decide(record, spec(), None, 1.0, restarted).cause is Cause.ORDER
    assert decide(record, spec(), None, 1.0, started).do is Do.NOTHING
    record.stop = Stop(Cause.ORDER, "an operator has stopped it", at=1.0, grace=1.0)
    settle(record, spec(), process.end(-15, 2.0).exited_at or 0.0, 0.5)
    assert (record.failures, record.state, record.why) == (0, State.STOPPED, "an operator has stopped it")
    held = decide(record, spec(), None, 1e6, stopped)
    assert (held.do, held.cause) == (Do.WAIT, Cause.ORDER)
    for around in (started, restarted):
        waiting = Record("app", spec=spec(), next_start=1000.0, final=True)
        assert decide(waiting, spec(), None, 0.0, around).do is Do.START


def flapping(failures: int = 3, **more: Any) -> ProcessService:
    return spec(flap=Flap(failures=failures, window=100.0, retry=300.0, stable=60.0, **more))


def test_flapping_degrades_and_ends_by_itself() -> None:
    """S13: the third failure within the window slows it down; a stable run gives it its pace back."""
    record = Record("app", spec=flapping())
    assert crash(record, started=0, ended=1) == 1
    assert crash(record, started=2, ended=3) == 2
    assert record.state is State.BACKOFF
    assert crash(record, started=5, ended=6) == 300
    assert (record.state, record.degraded) == (State.DEGRADED, True)
    record.process = FakeProcess(started_at=306.0)
    assert not calm_down(record, 340.0)
    assert decide(record, flapping(), None, 340.0) == Decision(Do.NOTHING, again=26.0)
    assert calm_down(record, 366.0)
    assert not record.degraded
    assert crash(record, started=306, ended=400) == 8


def test_it_is_never_given_up() -> None:
    """S13: a hundred failures later it is still tried."""
    record = Record("app", spec=flapping())
    now = 0.0
    for _ in range(100):
        now += crash(record, started=now, ended=now + 1) + 1
    assert record.state is State.DEGRADED
    assert decide(record, flapping(), None, record.next_start).do is Do.START


def test_failures_outside_of_the_window_do_not_count() -> None:
    """S13; and 0 means never."""
    record = Record("app", spec=flapping())
    for start in (0, 200, 400, 600):
        crash(record, started=start, ended=start + 1)
    assert not record.degraded
    record = Record("app", spec=flapping(failures=0))
    for start in range(20):
        crash(record, started=start, ended=start + 0.5)
    assert not record.degraded


def test_dependencies() -> None:
    """S14, S15, S16: as told by those around."""
    waiting = decide(Record("app"), spec(), None, 0.0, Around(not_yet="it requires db, which is not ready"))
    assert (waiting.do, waiting.why) == (Do.WAIT, "it requires db, which is not ready")
    record, _ = running()
    pulled = decide(record, spec(), None, 0.0, Around(pulled="it requires db, which is stopped"))
    assert (pulled.do, pulled.cause) == (Do.STOP, Cause.REQUIREMENT)
    first = decide(record, None, None, 0.0, Around(first="it waits until web has stopped"))
    assert (first.do, first.why) == (Do.NOTHING, "it waits until web has stopped")
    # What has failed its check is of no use to those that require it: it does not wait for them.
    assert decide(record, spec(), "dead", 0.0, Around(first="it waits until web has stopped")).do is Do.STOP


def test_conditions() -> None:
    """S17: asked, waited for, asked again after its time; a start forgets the answer."""
    wanted = spec(condition=("test",))
    record = Record("app")
    assert decide(record, wanted, None, 0.0).do is Do.ASK
    record.condition = Condition(asking=True)
    assert decide(record, wanted, None, 0.0) == Decision(Do.NOTHING)
    record.condition = Condition(holds=False, ask_again=60.0, why="no")
    assert decide(record, wanted, None, 20.0) == Decision(Do.WAIT, "no", again=40.0)
    assert decide(record, wanted, None, 60.0).do is Do.ASK
    record.condition = Condition(holds=True)
    assert decide(record, wanted, None, 60.0).do is Do.START
    for holds in (True, False):
        record.condition = Condition(holds=holds, ask_again=60.0, command=("another",))
        assert decide(record, wanted, None, 20.0).do is Do.ASK


def test_left_over() -> None:
    """S18: ended as leftovers, and no failure of the service."""
    record, process = running()
    record.left_over, record.spec = True, None
    assert decide(record, spec(), None, 0.0).cause is Cause.LEFTOVERS
    record.stop = Stop(Cause.LEFTOVERS, "an agent that was killed has left it behind", at=0.0, grace=1.0)
    process.end(NOT_SEEN, 1.0)
    settle(record, spec(), 1.0, 0.5)
    assert (record.failures, record.next_start, record.left_over) == (0, 1.0, False)


def test_left_alone() -> None:
    """S19: and not what has ended, or is being stopped already."""
    record, process = running()
    leave = Around(leave=True)
    assert decide(record, None, None, 0.0, leave).do is Do.LEAVE
    record.stop = Stop(Cause.CHECK, "x", at=0.0, grace=5.0)
    assert decide(record, None, None, 0.0, leave).do is Do.NOTHING
    record.stop = None
    process.end(0)
    assert decide(record, None, None, 0.0, leave).do is Do.SETTLE


@pytest.mark.parametrize(
    ("status", "code"),
    [(0, 0), (7, 7), (255, 255), (-15, 143), (-9, 137), (None, 13), (NOT_SEEN, 13), (70000, 13)],
)
def test_exit_statuses_of_the_agent(status: int | None, code: int) -> None:
    """S8, `exit-agent`: a shell's convention, and 13 for what was no end of the service's own."""
    assert exit_status(status) == code
    record = Record("app", spec=spec(policy=Policy.EXIT_AGENT))
    fail(record, "why", 0.0, 0.0, 0.5, status=status, clean=status == 0)
    assert (record.exit_agent, record.final) == (code, True)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["tick", "crash", "end", "order", "calm", "change", "remove", "want"]),
        st.floats(0.01, 700.0),
        st.sampled_from([*Order, None]),
    ),
    max_size=60,
)


@given(STEPS, st.sampled_from(list(Policy)), st.integers(0, 5))
def test_no_history_leads_astray(
    steps: list[tuple[str, float, Order | None]], policy: Policy, failures: int
) -> None:
    """Whatever happens: never two processes, nothing started that is not wanted or held, and the service comes back."""
    wanted: ProcessService | None = spec(policy=policy, flap=Flap(failures=failures), stop_grace=5.0)
    record, now, order = Record("app"), 0.0, None
    for what, passed, said in steps:
        now += passed
        process = record.process
        if what in ("crash", "end") and isinstance(process, FakeProcess) and process.exit_code is None:
            process.end(1 if what == "crash" else 0, now)
        elif what == "order":
            order = said
        elif what == "calm":
            calm_down(record, now)
        elif what == "change" and wanted is not None:
            wanted = spec(policy=policy, command=(str(now),))
        elif what in ("remove", "want"):
            wanted = None if what == "remove" else spec(policy=policy)
        order = act(record, wanted, order, now)
    wanted = spec(policy=Policy.ALWAYS, command=("last",))
    for _ in range(10):
        now += 1000.0
        act(record, wanted, None, now)
    assert record.running
    assert record.spec == wanted


def act(record: Record, wanted: ProcessService | None, order: Order | None, now: float) -> Order | None:
    """What the reconciler does with a decision; the order that is left."""
    decision = decide(record, wanted, None, now, Around(order=order if wanted else None))
    process = record.process
    if decision.do is Do.START:
        assert process is None
        assert wanted is not None
        assert order is not Order.STOP
        record.spec, record.final, record.process = wanted, False, FakeProcess(started_at=now)
        return None if order is not Order.STOP else order
    assert isinstance(process, FakeProcess) or decision.do in (Do.NOTHING, Do.WAIT)
    if decision.do is Do.STOP:
        record.stop = Stop(decision.cause, decision.why, now, 5.0)
        return None if order is Order.RESTART else order
    if decision.do is Do.KILL:
        assert isinstance(process, FakeProcess)
        assert record.stop is not None
        record.stop.killed_at = now
        process.end(-9, now)
    elif decision.do is Do.SETTLE:
        settle(record, wanted, now, 0.5)
    return order
