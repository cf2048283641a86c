"""When a service is announced, renewed and withdrawn: a state machine without input or output.

Rules:
    R1  What is wanted and may be seen is announced: its service is ready, or the registration stays when it is not.
    R2  What is announced is renewed every period, and at once when the readiness has changed.
    R3  What the registry has forgotten is announced again at once.
    R4  What is no longer wanted, or may no longer be seen, is withdrawn.
    R5  A failure is followed by another attempt after retry_initial * 2^n, at most retry_maximum, and never later than a
        renewal would come: as soon as the registry is back, the entry is.
    R6  Another definition with the same place in the registry takes the old one's place; one with another place begins
        when the old one is withdrawn.
    R7  An announcement that failed may have arrived: withdrawing follows it as if it had.
    R8  One thing is done at a time.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from watchkeeper.config.schema.registrations import AnyRegistration
from watchkeeper.registry.registrar import Registrar

RETRY_JITTER = 0.1
EARLY = 0.001
"""Seconds. A timer may fire a tick before its time."""


class State(enum.StrEnum):
    """What /status and watchkeeper_registration_state call it."""

    WAITING = "waiting"
    REGISTERING = "registering"
    REGISTERED = "registered"
    CRITICAL = "critical"
    RETRYING = "retrying"
    WITHDRAWING = "withdrawing"


class Do(enum.StrEnum):
    """The one thing to do now; also the `action` of watchkeeper_registration_attempts_total."""

    NOTHING = "nothing"
    ANNOUNCE = "announce"
    RENEW = "renew"
    WITHDRAW = "withdraw"
    ADOPT = "adopt"
    FORGET = "forget"


@dataclass
class Record:
    """What is known of one registration."""

    spec: AnyRegistration
    registrar: Registrar
    present: bool = False
    """Whether the registry may have it (R7)."""
    told: bool | None = None
    """The readiness that the registry was told last; None: it has to be announced."""
    failures: int = 0
    """In a row."""
    next_at: float = 0.0
    """When the next attempt or renewal is due, by the loop's clock."""
    doing: Do | None = None
    """What is under way (R8)."""
    last_error: str | None = None
    losses: int = 0
    """How often the registry had forgotten it."""


@dataclass(frozen=True)
class Decision:
    """What to do, and when to look again (seconds; None: when something happens)."""

    do: Do
    again: float | None = None


def decide(
    record: Record, wanted: AnyRegistration | None, place: tuple[object, ...] | None, ready: bool, now: float
) -> Decision:
    """The next step.

    Args:
        wanted: what the configuration says; None: nothing.
        place: where the wanted one stands in its registry.
        ready: whether its service is.
    """
    if record.doing is not None:
        return Decision(Do.NOTHING)  # R8
    if (
        wanted is not None
        and wanted != record.spec
        and (place == record.registrar.place or not record.present)
    ):
        return Decision(Do.ADOPT)  # R6
    if wanted is None or wanted != record.spec or not (ready or wanted.stays):
        return _absent(record, wanted, now)
    if record.told is ready or record.failures:
        left = record.next_at - now
        if left > EARLY:
            return Decision(Do.NOTHING, left)
    return Decision(Do.ANNOUNCE if record.told is None else Do.RENEW)  # R1, R2


def _absent(record: Record, wanted: AnyRegistration | None, now: float) -> Decision:
    if not record.present:
        return Decision(Do.FORGET if wanted is None else Do.NOTHING)
    left = record.next_at - now
    if record.failures and left > EARLY:
        return Decision(Do.NOTHING, left)
    return Decision(Do.WITHDRAW)  # R4


def adopt(record: Record, spec: AnyRegistration, registrar: Registrar) -> None:
    """R6: the new definition; what is in the registry is replaced by the next announcement."""
    record.spec, record.registrar = spec, registrar
    record.told, record.failures, record.next_at = None, 0, 0.0


def succeeded(record: Record, do: Do, ready: bool, now: float) -> None:
    """What was to be done is done."""
    record.failures, record.last_error = 0, None
    record.present = do is not Do.WITHDRAW
    record.told = ready if record.present else None
    record.next_at = now + record.registrar.period


def forgotten(record: Record, why: str, now: float) -> None:
    """R3."""
    record.told, record.failures, record.next_at = None, 0, now
    record.losses += 1
    record.last_error = why


def failed(record: Record, why: str, now: float, chance: float) -> None:
    """R5. `chance` is from 0 to 1."""
    first, longest = record.spec.retry_initial, record.spec.retry_maximum
    delay = min(first * 2.0 ** min(record.failures, 20), longest, max(first, record.registrar.period))
    record.next_at = now + delay * (1 + RETRY_JITTER * (2 * chance - 1))
    record.failures += 1
    record.last_error = why


def state(record: Record) -> State:
    """In one word."""
    if record.failures:
        return State.RETRYING
    if record.doing is Do.WITHDRAW:
        return State.WITHDRAWING
    if record.told is None:
        return State.REGISTERING if record.present or record.doing is Do.ANNOUNCE else State.WAITING
    return State.REGISTERED if record.told else State.CRITICAL
