"""From what is wanted and what is observed to the structs of status.py."""

from __future__ import annotations

import asyncio
from typing import cast

from watchkeeper.checks.gate import Verdict
from watchkeeper.config.model import ReadyWhen, Role
from watchkeeper.config.store import Store
from watchkeeper.errors import ConfigInvalidError
from watchkeeper.observed import CheckRecord, Observed, wall_clock
from watchkeeper.status import CheckStatus, ConfigStatus, ObjectStatus, ServiceStatus, rfc3339
from watchkeeper.supervise.child import Child
from watchkeeper.supervise.lifecycle import Record, State


def not_ready_because(store: Store, observed: Observed) -> list[str]:
    """Why /readyz would say no; empty: it says yes."""
    if observed.draining:
        return ["the agent is draining"]
    if not observed.started:
        return ["the agent is starting"]
    if store.snapshot.settings.ready_when is ReadyWhen.CHECKS:
        failing = [f"readiness check {name} does not pass" for name in observed.failing_readiness()]
        return failing + _critical(store, observed)
    return []


def _critical(store: Store, observed: Observed) -> list[str]:
    """The services without which the machine is of no use. A job that has done its work is fine."""
    reasons = []
    for name, spec in store.snapshot.services.items():
        record = observed.services.get(name)
        state = State.STOPPED if record is None else record.state
        if spec.critical and state not in (State.RUNNING, State.FINISHED):
            reasons.append(f"critical service {name} is {state}")
    return reasons


def service_status(record: Record, store: Store, observed: Observed) -> ServiceStatus:
    """One service as it is now."""
    now = asyncio.get_running_loop().time()
    waiting = record.state in (State.BACKOFF, State.DEGRADED)
    return ServiceStatus(
        name=record.name,
        state=record.state.value,
        why=record.why,
        since=rfc3339(wall_clock() - (now - record.since)),
        ready=_service_ready(record, store, observed),
        pid=(cast("Child", record.process).pid or None) if record.process else None,
        instance=record.instance,
        restarts=record.restarts,
        failures_in_a_row=record.failures,
        last_exit=record.last_exit,
        last_error=record.last_error,
        next_try_in=round(max(0.0, record.next_start - now), 3) if waiting else None,
        adopted=record.process is not None and cast("Child", record.process).adopted,
        degraded=record.degraded,
    )


def _service_ready(record: Record, store: Store, observed: Observed) -> bool:
    """It runs, has started, and its readiness checks pass."""
    names = store.snapshot.checks_of(record.name, Role.READINESS)
    records = (observed.checks.get(name) for name in names)
    passing = all(each is not None and each.gate.verdict is Verdict.SUCCESS for each in records)
    return record.state is State.RUNNING and passing


def check_status(name: str, record: CheckRecord, observed: Observed) -> CheckStatus:
    """One check as it is now."""
    now = asyncio.get_running_loop().time()
    outcome = record.outcome
    service = observed.services.get(record.bound.service) if record.bound.service else None
    stopped = record.bound.service is not None and (service is None or not service.running)
    idle = stopped or record.probe is not None or record.gate.finished
    why = "its service does not run" if stopped else outcome.detail if outcome else "not checked yet"
    return CheckStatus(
        name=name,
        service=record.bound.service,
        role=record.spec.role.value,
        state=record.gate.verdict.value,
        why=why,
        since=rfc3339(record.since),
        on_hold=record.gate.on_hold,
        run=record.gate.run,
        last_run=None if record.last_run is None else rfc3339(record.last_run),
        last_error=outcome.detail if outcome and not outcome.success else None,
        next_try_in=None if idle else round(max(0.0, record.next_due - now), 3),
        outcome=outcome.word.value if outcome else "",
    )


def object_statuses(observed: Observed) -> list[ObjectStatus]:
    """Everything that is neither a service nor a check."""
    return [
        ObjectStatus(
            kind=key.kind.value,
            name=key.name,
            state=record.state,
            why=record.why,
            since=rfc3339(record.since),
            last_error=record.last_error,
            details=record.details,
        )
        for key, record in sorted(observed.objects.items())
    ]


def config_status(store: Store, file: str, needs_restart: list[str]) -> ConfigStatus:
    """The configuration in force and the newest one that was refused."""
    error = store.last_error
    return ConfigStatus(
        file=file,
        generation=store.snapshot.generation,
        digest=store.snapshot.digest,
        loaded_at=None if store.last_success is None else rfc3339(store.last_success),
        from_last_good=store.from_last_good,
        last_reload_error=None if error is None else str(error).splitlines()[0],
        problems=list(error.problems) if isinstance(error, ConfigInvalidError) else [],
        needs_restart=needs_restart,
        refused_at=None if store.last_refusal is None else rfc3339(store.last_refusal),
    )
