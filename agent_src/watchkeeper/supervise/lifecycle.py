"""When a service is started, stopped and killed: a state machine without input or output.

Rules:
    S1  What is wanted, does not run and is due, is started.
    S2  What is not due yet waits for its backoff.
    S3  What is no longer wanted is stopped: TERM to its process group.
    S4  What is wanted with another definition is stopped, and started again at once, with no failures to its name.
    S5  What has failed its liveness or startup check is stopped; that counts as a failure.
    S6  A stop that lasts longer than the grace becomes a KILL of the group, once.
    S7  When a process has ended and others of its group are left, these are stopped as in S3 and S6 before anything is
        started: they may hold its port.
    S8  A process that has ended by itself, or by S5, follows its policy. `no` is final; `on-failure` is final after exit
        status 0; everything else is started again after the backoff.
    S9  A run of at least reset_after forgets the failures before it.
    S10 Whoever outlives KILL by KILL_PATIENCE (a process in the kernel's hands, or a zombie that nobody collects) is
        given up, so that the service can be started again.
    S11 A program that cannot be started is a failure like any other: S8.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from typing import Protocol

from watchkeeper.config.model import Policy, ServiceSpec
from watchkeeper.supervise.backoff import delay

KILL_PATIENCE = 2.0
EARLY = 0.001
"""Seconds. A timer may fire a tick before its time; that is in time, and not a reason to wait for the rest."""


class State(enum.StrEnum):
    """What /status and watchkeeper_service_state call it."""

    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    BACKOFF = "backoff"
    FINISHED = "finished"
    FAILED = "failed"
    STOPPED = "stopped"


class Do(enum.Enum):
    """The one thing to do now."""

    NOTHING = enum.auto()
    START = enum.auto()
    STOP = enum.auto()
    KILL = enum.auto()
    SETTLE = enum.auto()


class Cause(enum.Enum):
    """Why a stop was ordered; decides what follows from it."""

    UNWANTED = enum.auto()
    CHANGED = enum.auto()
    CHECK = enum.auto()
    LEFTOVERS = enum.auto()


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
class Record:
    """What is known of one service."""

    name: str
    spec: ServiceSpec | None = None
    """The definition that the present or last process was started with."""
    process: Process | None = None
    instance: int = 0
    """Counts the starts; a check's verdict belongs to one of them."""
    stop: Stop | None = None
    failures: int = 0
    """In a row; decides the backoff."""
    next_start: float = 0.0
    final: bool = False
    """The policy wants no further start of this definition."""
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
class Decision:
    """What to do, why, and when to look again (seconds from now; None: when something happens)."""

    do: Do
    why: str = ""
    cause: Cause = Cause.UNWANTED
    again: float | None = None


def decide(record: Record, wanted: ServiceSpec | None, failed_check: str | None, now: float) -> Decision:
    """The next step for a service."""
    process = record.process
    if process is None:
        return _start(record, wanted, now)
    if record.stop is not None:
        return _stopping(record.stop, process, now)
    return _running(record, process, wanted, failed_check)


def _running(
    record: Record, process: Process, wanted: ServiceSpec | None, failed_check: str | None
) -> Decision:
    if process.exit_code is not None:
        return _ended(process)
    if wanted is None:
        return Decision(Do.STOP, "it is no longer wanted")  # S3
    if wanted != record.spec:
        return Decision(Do.STOP, "its definition has changed", Cause.CHANGED)  # S4
    if failed_check is not None:
        return Decision(Do.STOP, failed_check, Cause.CHECK)  # S5
    return Decision(Do.NOTHING)


def _ended(process: Process) -> Decision:
    if process.group_alive():
        return Decision(Do.STOP, "it ended, and others of its process group are left", Cause.LEFTOVERS)  # S7
    return Decision(Do.SETTLE)


def _start(record: Record, wanted: ServiceSpec | None, now: float) -> Decision:
    if wanted is None:
        return Decision(Do.NOTHING)
    if wanted != record.spec:
        return Decision(Do.START)  # S4: an earlier definition's backoff does not hold this one up
    if record.final:
        return Decision(Do.NOTHING)  # S8
    if now + EARLY < record.next_start:
        return Decision(Do.NOTHING, again=record.next_start - now)  # S2
    return Decision(Do.START)  # S1


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


def settle(record: Record, wanted: ServiceSpec | None, now: float, chance: float) -> None:
    """The process is gone: what follows from that."""
    process, stop = record.process, record.stop
    record.process = record.stop = None
    if wanted is None:
        enter(record, State.STOPPED, stop.why if stop else "it is no longer wanted", now)
    elif stop is not None and stop.cause in (Cause.UNWANTED, Cause.CHANGED):
        record.failures, record.next_start, record.final = 0, now, False  # S4
        enter(record, State.STOPPED, stop.why, now)
    else:
        ended = now if process is None or process.exited_at is None else process.exited_at
        if record.spec and process and ended - process.started_at >= record.spec.backoff.reset_after:
            record.failures = 0  # S9
        by_check = stop is not None and stop.cause is Cause.CHECK
        clean = process is not None and process.exit_code == 0 and not by_check
        why = stop.why if stop is not None and by_check else record.last_exit or "it ended"
        fail(record, why, ended, now, chance, clean=clean)


def fail(record: Record, why: str, ended: float, now: float, chance: float, *, clean: bool = False) -> None:
    """Count a failure and decide about the next start. `ended`: the backoff counts from there."""
    spec = record.spec
    if spec is None or spec.policy is Policy.NO or (clean and spec.policy is Policy.ON_FAILURE):  # S8, S11
        record.final = True
        enter(record, State.FINISHED if clean else State.FAILED, why, now)
        return
    record.next_start = ended + delay(spec.backoff, record.failures, chance)
    record.failures += 1
    enter(record, State.BACKOFF, why, now)


def enter(record: Record, state: State, why: str, now: float) -> None:
    """Note a state, why it came to be, and since when."""
    if record.state is not state:
        record.since = now
    record.state, record.why = state, why
