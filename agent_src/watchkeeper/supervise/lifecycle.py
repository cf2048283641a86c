"""When a service is started, stopped and killed: a state machine without input or output.

Rules:
    S1  What is wanted, does not run and is due, is started.
    S2  What is not due yet waits for its backoff.
    S3  What is no longer wanted is stopped: its stop signal goes to its process group.
    S4  What is wanted with another definition is stopped, and started again at once, with no failures to its name. A
        change of what does not concern the process (Service.WITHOUT_RESTART) stops nothing.
    S5  What has failed its liveness or startup check, or has not passed its startup checks within start_timeout, is
        stopped; that counts as a failure.
    S6  A stop that lasts longer than the grace becomes a KILL of the group, once.
    S7  When a process has ended and others of its group are left, these are stopped as in S3 and S6 before anything is
        started: they may hold its port.
    S8  A process that has ended by itself, or by S5, follows its policy. `no` is final; `on-failure` is final after exit
        status 0; `exit-agent` is final, and the agent ends as well; everything else is started again after the backoff.
    S9  A run of at least reset_after forgets the failures before it.
    S10 Whoever outlives KILL by KILL_PATIENCE (a process in the kernel's hands, or a zombie that nobody collects) is
        given up, so that the service can be started again.
    S11 A program that cannot be started is a failure like any other: S8.
    S12 An operator's `stop` holds until `start` or `restart`, whatever the policy. `start` and `restart` forget failures,
        backoff and last words; `restart` stops first what runs.
    S13 As many failures within a window as `flap` says make a service degraded: it is started every flap.retry only. It
        is never given up, and a run of flap.stable ends it.
    S14 A service is started only while all that it requires is ready, and when what it comes after is ready or at rest.
    S15 When one is stopped on purpose (S3, S4, S12, S16, the agent's end), those that require it are stopped before it,
        and what comes after it too when the agent ends. A service that ends by itself takes nobody with it.
    S16 A service whose requirement is about to be stopped on purpose is stopped first, and waits by S14.
    S17 A condition is asked before each start. While it does not hold, nothing is started, and that is no failure.
    S18 What an agent that was killed has left running is taken over (`adopt`) or ended as in S7 before anything is started.
    S19 When the agent ends, what is configured to be left alone is let go, and not stopped; so is a unit, a service of
        Windows or a container that is not configured any more.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Protocol

from watchkeeper.config.model import Policy, Service, same_program
from watchkeeper.orders import Order
from watchkeeper.supervise.backoff import delay

KILL_PATIENCE = 2.0
DEPENDENCY_POLL = 1.0
"""Seconds. Whoever becomes ready wakes those that wait for it; this is for what nobody has said."""
EARLY = 0.001
"""Seconds. A timer may fire a tick before its time; that is in time, and not a reason to wait for the rest."""


class State(enum.StrEnum):
    """What /status and watchkeeper_service_state call it."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    DEGRADED = "degraded"
    WAITING = "waiting"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"


class Do(enum.Enum):
    """The one thing to do now."""

    NOTHING = enum.auto()
    START = enum.auto()
    ASK = enum.auto()
    WAIT = enum.auto()
    STOP = enum.auto()
    KILL = enum.auto()
    SETTLE = enum.auto()
    LEAVE = enum.auto()


class Cause(enum.Enum):
    """Why a stop was ordered; decides what follows from it."""

    UNWANTED = enum.auto()
    CHANGED = enum.auto()
    CHECK = enum.auto()
    LEFTOVERS = enum.auto()
    ORDER = enum.auto()
    REQUIREMENT = enum.auto()


ON_PURPOSE = frozenset({Cause.UNWANTED, Cause.CHANGED, Cause.ORDER, Cause.REQUIREMENT})
"""Stops after which nothing counts as a failure, and that those who require the service are told of first."""


class Process(Protocol):
    """What the rules need to know of a child."""

    started_at: float
    exited_at: float | None
    exit_code: int | None

    def group_alive(self) -> bool:
        """Whether the child or anything of its group is left."""


@dataclass
class Stop:
    """A stop that was ordered."""

    cause: Cause
    why: str
    at: float
    grace: float
    killed_at: float | None = None


@dataclass
class Condition:
    """What is known of the condition for the next start (S17)."""

    holds: bool | None = None
    """None: it has not been asked, or not since the last start."""
    command: tuple[str, ...] | None = None
    """Which one was asked; None: none yet."""
    asking: bool = False
    ask_again: float = 0.0
    why: str = ""


@dataclass
class Record:
    """What is known of one service."""

    name: str
    spec: Service | None = None
    """The definition that the present or last process was started with."""
    process: Process | None = None
    instance: int = 0
    """Counts the starts; a check's verdict belongs to one of them."""
    stop: Stop | None = None
    failures: int = 0
    """In a row; decides the backoff."""
    failed_at: list[float] = field(default_factory=list)
    """The failures within flap.window, oldest first (S13)."""
    degraded: bool = False
    next_start: float = 0.0
    final: bool = False
    """The policy wants no further start of this definition."""
    left_over: bool = False
    """The process is one of an agent before this one, and has to be ended (S18)."""
    condition: Condition = field(default_factory=Condition)
    exit_agent: int | None = None
    """What the agent is to exit with (S8)."""
    state: State = State.STOPPED
    why: str = "not started yet"
    last_error: str | None = None
    last_exit: str | None = None
    restarts: int = 0
    since: float = field(default=0.0)

    @property
    def running(self) -> bool:
        """Whether there is a process that nobody has told to stop: the one that checks speak about."""
        return self.process is not None and self.process.exit_code is None and self.stop is None


@dataclass(frozen=True)
class Around:
    """What a service depends on outside of itself; None: nothing holds it."""

    order: Order | None = None
    not_yet: str | None = None
    """Why it must not be started now (S14)."""
    first: str | None = None
    """Who has to be stopped before it (S15)."""
    pulled: str | None = None
    """Why it has to be stopped for another one's sake (S16)."""
    started: bool = True
    """Whether its startup checks have passed."""
    leave: bool = False
    """S19."""


CALM = Around()


@dataclass(frozen=True)
class Decision:
    """What to do, why, and when to look again (seconds from now; None: when something happens)."""

    do: Do
    why: str = ""
    cause: Cause = Cause.UNWANTED
    again: float | None = None


def decide(
    record: Record, wanted: Service | None, failed_check: str | None, now: float, around: Around = CALM
) -> Decision:
    """The next step for a service."""
    process = record.process
    if process is None:
        return _start(record, wanted, now, around)
    if record.stop is not None:
        return _stopping(record.stop, process, now)
    if process.exit_code is not None:
        return _ended(process)
    if around.leave:
        return Decision(Do.LEAVE, "the agent leaves it alone")  # S19
    if record.left_over:
        return Decision(Do.STOP, "an agent that was killed has left it behind", Cause.LEFTOVERS)  # S18
    return _running(record, process, wanted, failed_check, now, around)


def _running(
    record: Record,
    process: Process,
    wanted: Service | None,
    failed_check: str | None,
    now: float,
    around: Around,
) -> Decision:
    on_purpose = stop_on_purpose(record, wanted, around)
    if on_purpose is not None:
        return Decision(Do.NOTHING, around.first) if around.first else on_purpose  # S15
    if failed_check is not None:
        return Decision(Do.STOP, failed_check, Cause.CHECK)  # S5
    # One that runs has started once, and one that was taken over did so before there was anybody to look.
    starting = not around.started and record.state is not State.RUNNING
    limit = wanted.start_timeout if wanted and starting else 0.0
    left = max(process.started_at, record.since) + limit - now
    if limit and left <= EARLY:
        return Decision(Do.STOP, f"it has not started within {limit:g} s", Cause.CHECK)  # S5
    return Decision(Do.NOTHING, again=_sooner(left if limit else None, _until_stable(record, process, now)))


def stop_on_purpose(record: Record, wanted: Service | None, around: Around) -> Decision | None:
    """The stop that somebody wants for what runs, if anybody does."""
    if wanted is None:
        return Decision(Do.STOP, "it is no longer wanted")  # S3
    if around.order is Order.STOP:
        return Decision(Do.STOP, "an operator has stopped it", Cause.ORDER)  # S12
    if around.order is Order.RESTART:
        return Decision(Do.STOP, "an operator has restarted it", Cause.ORDER)
    if not same_program(wanted, record.spec):
        return Decision(Do.STOP, "its definition has changed", Cause.CHANGED)  # S4
    if around.pulled is not None:
        return Decision(Do.STOP, around.pulled, Cause.REQUIREMENT)  # S16
    return None


def _until_stable(record: Record, process: Process, now: float) -> float | None:
    """Seconds until a degraded service has run long enough (S13)."""
    if not record.degraded or record.spec is None:
        return None
    return max(EARLY, process.started_at + record.spec.flap.stable - now)


def calm_down(record: Record, now: float) -> bool:
    """S13: end the degradation of what has run long enough; whether it ended now."""
    if not record.degraded or not record.running or record.spec is None or record.process is None:
        return False
    if now + EARLY < record.process.started_at + record.spec.flap.stable:
        return False
    record.degraded = False
    record.failed_at.clear()
    return True


def _sooner(one: float | None, other: float | None) -> float | None:
    return one if other is None else other if one is None else min(one, other)


def _ended(process: Process) -> Decision:
    if process.group_alive():
        return Decision(Do.STOP, "it ended, and others of its process group are left", Cause.LEFTOVERS)  # S7
    return Decision(Do.SETTLE)


def _start(record: Record, wanted: Service | None, now: float, around: Around) -> Decision:
    if wanted is None:
        return Decision(Do.NOTHING)
    if around.order is Order.STOP:
        return Decision(Do.WAIT, "an operator has stopped it", Cause.ORDER)  # S12
    if around.order is None and same_program(wanted, record.spec):  # S4: only an own backoff holds it up
        if record.final:
            return Decision(Do.NOTHING)  # S8
        if now + EARLY < record.next_start:
            return Decision(Do.NOTHING, again=record.next_start - now)  # S2
    if around.not_yet is not None:
        return Decision(Do.WAIT, around.not_yet, Cause.REQUIREMENT, again=DEPENDENCY_POLL)  # S14
    return (
        Decision(Do.START) if wanted.condition is None else _conditional(record.condition, wanted, now)
    )  # S1, S17


def _conditional(condition: Condition, wanted: Service, now: float) -> Decision:
    if condition.asking:
        return Decision(Do.NOTHING)
    if condition.command not in (None, wanted.condition):
        return Decision(Do.ASK)  # what another one has said does not matter any more
    if condition.holds:
        return Decision(Do.START)
    if condition.holds is False and now + EARLY < condition.ask_again:
        return Decision(Do.WAIT, condition.why, again=condition.ask_again - now)
    return Decision(Do.ASK)


def _stopping(stop: Stop, process: Process, now: float) -> Decision:
    if not process.group_alive():
        return Decision(Do.SETTLE)
    # The end of a child is reported; the end of the last of its group is not, and has to be asked for.
    poll = 0.05 if process.exit_code is not None else None
    if stop.killed_at is not None:
        left = stop.killed_at + KILL_PATIENCE - now
        return (
            Decision(Do.SETTLE) if left <= EARLY else Decision(Do.NOTHING, again=min(left, poll or left))
        )  # S10
    left = stop.at + stop.grace - now
    if left <= EARLY:
        return Decision(Do.KILL)  # S6
    return Decision(Do.NOTHING, again=min(left, poll or left))


def settle(record: Record, wanted: Service | None, now: float, chance: float) -> None:
    """The process is gone: what follows from that."""
    process, stop = record.process, record.stop
    record.process = record.stop = None
    record.condition = Condition()
    left_over, record.left_over = record.left_over, False
    if wanted is None:
        enter(record, State.STOPPED, stop.why if stop else "it is no longer wanted", now)
    elif stop is not None and (stop.cause in ON_PURPOSE or left_over):
        record.failures, record.next_start, record.final = 0, now, False  # S4, S12
        enter(record, State.STOPPED, stop.why, now)
    else:
        _ended_unasked(record, process, stop, now, chance)


def _ended_unasked(
    record: Record, process: Process | None, stop: Stop | None, now: float, chance: float
) -> None:
    ended = now if process is None or process.exited_at is None else process.exited_at
    if record.spec and process and ended - process.started_at >= record.spec.backoff.reset_after:
        record.failures = 0  # S9
        record.failed_at.clear()
    by_check = stop is not None and stop.cause is Cause.CHECK
    clean = process is not None and process.exit_code == 0 and not by_check
    why = stop.why if stop is not None and by_check else record.last_exit or "it ended"
    status = None if process is None or by_check else process.exit_code
    fail(record, why, ended, now, chance, clean=clean, status=status)


def fail(
    record: Record,
    why: str,
    ended: float,
    now: float,
    chance: float,
    *,
    clean: bool = False,
    status: int | None = None,
) -> None:
    """Count a failure and decide about the next start.

    Args:
        ended: the backoff counts from there.
        status: how the process ended, as subprocess says it; None: it was not that.
    """
    spec = record.spec
    record.condition = Condition()
    if spec is not None and spec.policy is Policy.EXIT_AGENT:
        record.exit_agent = exit_status(status)
    final = spec is None or spec.policy in (Policy.NO, Policy.EXIT_AGENT)
    if final or (clean and spec is not None and spec.policy is Policy.ON_FAILURE):  # S8, S11
        record.final = True
        enter(record, State.FINISHED if clean else State.FAILED, why, now)
        return
    assert spec is not None
    _count(record, spec, ended)
    wait = delay(spec.backoff, record.failures, chance)
    if record.degraded:
        wait = max(wait, spec.flap.retry)  # S13
    record.next_start = ended + wait
    record.failures += 1
    enter(record, State.DEGRADED if record.degraded else State.BACKOFF, why, now)


def _count(record: Record, spec: Service, ended: float) -> None:
    """S13."""
    flap = spec.flap
    recent = [at for at in record.failed_at if at > ended - flap.window]
    record.failed_at = [*recent[-flap.failures :], ended]
    if flap.failures and len(record.failed_at) >= flap.failures:
        record.degraded = True


SERVICE_FAILED = 13
"""errors.ExitCode.SERVICE_FAILED; the rules import nothing that has to do with processes."""


def exit_status(status: int | None) -> int:
    """What the agent exits with for a service that ended so: its status, 128 + a signal's number, or SERVICE_FAILED."""
    if status is None:
        return SERVICE_FAILED
    return status if 0 <= status < 256 else 128 - status if -128 < status < 0 else SERVICE_FAILED


def enter(record: Record, state: State, why: str, now: float) -> None:
    """Note a state, why it came to be, and since when."""
    if record.state is not state:
        record.since = now
    record.state, record.why = state, why
