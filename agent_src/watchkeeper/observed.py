"""What is there: one record per service and per check. Reconcilers write here, status and metrics read."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

from watchkeeper.checks import Memory, Outcome
from watchkeeper.checks.gate import Gate, Verdict
from watchkeeper.config.model import AnyCheck, Role
from watchkeeper.config.snapshot import BoundCheck, Key, Snapshot
from watchkeeper.supervise.lifecycle import Record

if TYPE_CHECKING:
    from watchkeeper.supervise.child import Child

STANDALONE = 0
"""The instance of a check that belongs to no service: it is always there, and always the same."""


@dataclass(slots=True)
class CheckRecord:
    """What is known of one check."""

    bound: BoundCheck
    gate: Gate
    probe: asyncio.Task[None] | None = None
    """The look that is under way."""
    outcome: Outcome | None = None
    """The last look, once it is over."""
    unread: bool = False
    """Whether the last outcome has not been taken by the gate yet."""
    next_due: float = 0.0
    """The loop's clock, as for `slot`."""
    slot: float = 0.0
    """When the next look would be due without jitter."""
    since: float = 0.0
    """When the verdict last changed, in seconds since the epoch; `last_run` likewise."""
    last_run: float | None = None
    memory: Memory = field(default_factory=dict)
    """What the probe keeps from one look to the next."""

    @property
    def spec(self) -> AnyCheck:
        return self.bound.spec

    @property
    def role(self) -> str:
        return self.bound.spec.role.value

    @property
    def kind(self) -> str:
        """The check's type, as it is written."""
        return str(type(self.bound.spec).__struct_config__.tag)


@dataclass
class ObjectRecord:
    """What is known of a key that is neither a service nor a check; `since` is seconds since the epoch."""

    state: str = ""
    why: str = ""
    since: float = 0.0
    last_error: str | None = None
    details: dict[str, Any] = field(default_factory=dict)


@dataclass
class Observed:
    """Everything that was observed."""

    services: dict[str, Record] = field(default_factory=dict)
    checks: dict[str, CheckRecord] = field(default_factory=dict)
    objects: dict[Key, ObjectRecord] = field(default_factory=dict)
    draining: bool = False
    started: bool = False
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    """Set whenever a service has come to rest, or has been looked at."""
    under_way: int = 0
    """How many services are being looked at: each may have a process in a moment."""

    def failed_check(self, service: str, instance: int) -> str | None:
        """Why this instance has to be replaced: the liveness or startup check that failed on it."""
        for name, record in self.checks.items():
            if record.bound.service == service and record.gate.on_hold and record.gate.instance == instance:
                detail = record.outcome.detail if record.outcome else ""
                return f"check {name} ({record.spec.role}) failed: {detail}"
        return None

    def has_started(self, snapshot: Snapshot, service: str, instance: int) -> bool:
        """Whether all startup checks of this instance have passed; without any, it has started as soon as it runs."""
        records = (self.checks.get(name) for name in snapshot.checks_of(service, Role.STARTUP))
        return all(
            record is not None and record.gate.instance == instance and record.gate.verdict is Verdict.SUCCESS
            for record in records
        )

    def failing_readiness(self) -> list[str]:
        """The readiness checks that do not pass."""
        return sorted(
            name
            for name, record in self.checks.items()
            if record.spec.role is Role.READINESS and record.gate.verdict is not Verdict.SUCCESS
        )

    def pids(self) -> dict[str, int]:
        """The first process of each service, where that one still runs."""
        running = (record for record in self.processes() if cast("Child", record.process).exit_code is None)
        return {record.name: cast("Child", record.process).pid for record in running}

    def processes(self) -> list[Record]:
        """The services of which something still runs."""
        return [record for record in self.services.values() if record.process is not None]


def wall_clock() -> float:
    """Seconds since the epoch; for people. Nothing is timed by it."""
    return time.time()
