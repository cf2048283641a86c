"""When a job runs: a state machine without input or output.

Rules:
    J1  Slots are `every` apart, counted from the first; what a run takes moves none of them. Slots that were missed (the agent
        was busy, the machine slept) are left out, and only the latest counts.
    J2  A slot that comes while a run is under way is left out, and counted.
    J3  A run begins up to `jitter` after its slot.
    J4  A run that lasts longer than `timeout` is asked to end, and killed after `grace`.
    J5  A new definition begins its own slots; a run under way ends under the definition it began with. A job that is no
        longer wanted is asked to end like one that took too long.

Times are the event loop's.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from watchkeeper.config.schema.jobs import JobSpec

EARLY = 0.001


class Do(enum.Enum):
    """The one thing to do now."""

    NOTHING = enum.auto()
    START = enum.auto()
    STOP = enum.auto()
    KILL = enum.auto()
    FORGET = enum.auto()


@dataclass
class Schedule:
    """What is known of one job."""

    spec: JobSpec | None = None
    slot: float = 0.0
    """The next one."""
    due: float = 0.0
    """When the run of that slot begins (J3)."""
    running: JobSpec | None = None
    """The definition of the run under way."""
    started_at: float = 0.0
    stop_at: float | None = None
    """When the run was asked to end."""
    killed: bool = False
    skipped: int = 0

    def plan(self, spec: JobSpec, now: float, chance: float) -> None:
        """J5: a new definition."""
        self.spec = spec
        self.slot = now if spec.at_start else now + spec.every
        self.due = self.slot + spec.jitter * chance

    def decide(self, wanted: bool, now: float) -> tuple[Do, float | None]:
        """What to do, and in how many seconds to look again; None: when something happens."""
        if self.running is not None:
            return self._under_way(self.running, wanted, now)
        if not wanted or self.spec is None:
            return Do.FORGET, None
        if now + EARLY < self.due:
            return Do.NOTHING, self.due - now
        return Do.START, None

    def _under_way(self, spec: JobSpec, wanted: bool, now: float) -> tuple[Do, float | None]:
        if self.stop_at is None:
            end = self.started_at + spec.timeout
            if not wanted or now + EARLY >= end:  # J4, J5
                return Do.STOP, spec.grace
            slot = self.due - now if self.spec is not None else end - now
            return Do.NOTHING, max(0.0, min(end - now, slot if slot > 0 else end - now))
        if not self.killed and now + EARLY >= self.stop_at + spec.grace:
            return Do.KILL, None
        return Do.NOTHING, None if self.killed else self.stop_at + spec.grace - now

    def began(self, now: float, chance: float) -> None:
        """A run has begun, or could not be; the next slot (J1)."""
        assert self.spec is not None
        self.running, self.started_at, self.stop_at, self.killed = self.spec, now, None, False
        self._next(now, chance)

    def pass_over(self, now: float, chance: float) -> None:
        """J2: slots that have come while a run is under way."""
        if self.running is not None and self.spec is not None and now + EARLY >= self.due:
            self.skipped += 1
            self._next(now, chance)

    def ended(self) -> None:
        """The run is over, and everybody of its group is gone."""
        self.running = self.stop_at = None

    def _next(self, now: float, chance: float) -> None:
        assert self.spec is not None
        missed = max(0, int((now + EARLY - self.slot) // self.spec.every))  # J1
        self.slot += (missed + 1) * self.spec.every
        self.due = self.slot + self.spec.jitter * chance
