"""The reconciler of checks: decides when to look, and hands each outcome to the check's gate.

The look itself runs in a task of its own, which puts the key back into the queue when it is over: a check that hangs
occupies neither a worker nor another check.
"""

from __future__ import annotations

import asyncio

from watchkeeper.checks import Looker, Outcome, look
from watchkeeper.checks.gate import Gate, Verdict
from watchkeeper.config.model import Role
from watchkeeper.config.snapshot import BoundCheck, Key, Kind
from watchkeeper.context import Context
from watchkeeper.logs import get_logger
from watchkeeper.observed import STANDALONE, CheckRecord, wall_clock
from watchkeeper.reconcile import Result
from watchkeeper.supervise.lifecycle import EARLY

journal = get_logger("check")


class CheckReconciler:
    """Level-triggered: every call works out anew what the check should be doing."""

    def __init__(self, context: Context, look: Looker = look) -> None:
        self._context = context
        self._store, self._observed, self._metrics = context.store, context.observed, context.metrics
        self._add, self._chance = context.add, context.chance
        self._look = look

    async def reconcile(self, key: Key) -> Result:
        bound = self._store.snapshot.checks.get(key.name)
        record = self._observed.checks.get(key.name)
        if record is not None and record.bound != bound:
            self._forget(key.name, record)
            record = None
        if bound is None:
            return Result()
        if record is None:
            record = self._observed.checks[key.name] = self._new(bound)
        instance, started_at = self._target(bound)
        if instance is not None and instance != record.gate.instance:
            self._begin(record, instance, started_at)
        if record.unread:
            self._take(key.name, record)
        if instance is None:
            record.gate.not_running()
            self._show(key.name, record)
            return Result()
        self._show(key.name, record)
        return self._next(key, record, instance)

    def _next(self, key: Key, record: CheckRecord, instance: int) -> Result:
        """Look now, later, or when something happens."""
        if record.probe is not None or record.gate.finished or not self._wanted(record, instance):
            return Result()
        now = asyncio.get_running_loop().time()
        if now + EARLY < record.next_due:
            return Result(record.next_due - now)
        # Slots keep their distance, whatever a look takes; those that were missed, as behind a startup check, are left
        # out, and the period begins anew.
        on_time = now - record.next_due < record.spec.period
        record.next_due = (record.next_due if on_time else now) + record.spec.period
        record.last_run = wall_clock()
        record.probe = asyncio.create_task(self._run(key, record), name=f"look at {key.name}")
        return Result()

    def _wanted(self, record: CheckRecord, instance: int) -> bool:
        """Whether the check has anything to say now: the others wait for startup."""
        service, role = record.bound.service, record.spec.role
        if service is None or role is Role.STARTUP:
            return True
        return self._observed.has_started(self._store.snapshot, service, instance)

    def _target(self, bound: BoundCheck) -> tuple[int | None, float]:
        """The instance that the check is about and when it started; None while nothing runs."""
        if bound.service is None:
            return STANDALONE, asyncio.get_running_loop().time()
        service = self._observed.services.get(bound.service)
        if service is None or not service.running or service.process is None:
            return None, 0.0
        return service.instance, service.process.started_at

    def _begin(self, record: CheckRecord, instance: int, started_at: float) -> None:
        record.gate.begin(instance)
        record.unread = False
        record.since = wall_clock()
        record.next_due = started_at + record.spec.initial_delay + record.spec.splay * self._chance()

    async def _run(self, key: Key, record: CheckRecord) -> None:
        """One look; whatever comes of it, the key goes back to the queue."""
        instance = record.gate.instance
        try:
            outcome = await self._look(record.spec)
            # What was seen of an earlier instance says nothing about the present one.
            if record.gate.instance == instance:
                record.outcome, record.unread = outcome, True
        finally:
            record.probe = None
            self._add(key)

    def _take(self, name: str, record: CheckRecord) -> None:
        record.unread = False
        outcome = record.outcome
        assert outcome is not None
        self._metrics.check_runs.labels(name, outcome.word).inc()
        self._metrics.check_duration.labels(name).observe(outcome.seconds)
        if outcome.error_class is not None:
            self._metrics.error(outcome.error_class)
        if record.gate.observe(outcome.success):
            record.since = wall_clock()
            self._changed(name, record, outcome)
        elif outcome.success is not True:
            journal.debug(f"check {name}: {outcome.detail}", check=name, error_class=outcome.error_class)

    def _changed(self, name: str, record: CheckRecord, outcome: Outcome) -> None:
        """A new verdict: say so, and let those look who depend on it."""
        verdict = record.gate.verdict
        write = journal.info if verdict is Verdict.SUCCESS else journal.warning
        fields = {} if outcome.error_class is None else {"error_class": outcome.error_class}
        write(
            f"check {name} is now {verdict}",
            check=name,
            role=record.spec.role,
            detail=outcome.detail,
            **fields,
        )
        service = record.bound.service
        if service is not None and record.spec.role is not Role.READINESS:
            self._add(Key(Kind.SERVICE, service))
            for sibling in self._store.snapshot.checks_of(service):
                self._add(Key(Kind.CHECK, sibling))

    def _show(self, name: str, record: CheckRecord) -> None:
        passing = record.gate.verdict is Verdict.SUCCESS
        self._metrics.check_success.labels(name, record.spec.role.value).set(passing)

    @staticmethod
    def _new(bound: BoundCheck) -> CheckRecord:
        spec = bound.spec
        gate = Gate(spec.role, spec.success_threshold, spec.failure_threshold)
        return CheckRecord(bound, gate, since=wall_clock())

    def _forget(self, name: str, record: CheckRecord) -> None:
        if record.probe is not None:
            record.probe.cancel()
        del self._observed.checks[name]
        self._metrics.remove("check", name)
