"""Whether a service is ready, in the words that its registration passes on."""

from __future__ import annotations

from watchkeeper.checks.gate import Verdict
from watchkeeper.config.model import Role
from watchkeeper.config.snapshot import Snapshot
from watchkeeper.observed import Observed
from watchkeeper.supervise.lifecycle import State


def readiness(service: str, snapshot: Snapshot, observed: Observed) -> tuple[bool, str]:
    """Whether the service runs, has started and passes its readiness checks; and why, or why not."""
    record = observed.services.get(service)
    if record is None:
        known = service in snapshot.services
        return (
            False,
            f"service {service} has not been looked at yet" if known else f"there is no service {service}",
        )
    if record.state is not State.RUNNING:
        return False, f"service {service} is {record.state}: {record.why}"
    for name in snapshot.checks_of(service, Role.READINESS):
        check = observed.checks.get(name)
        if check is None or check.gate.verdict is not Verdict.SUCCESS:
            detail = (
                check.outcome.detail if check is not None and check.outcome is not None else "not checked yet"
            )
            return False, f"readiness check {name} does not pass: {detail}"
    return True, f"service {service} is ready"
