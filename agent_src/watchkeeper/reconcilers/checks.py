"""The reconciler of checks: decides when to look, and hands each outcome to the check's gate.

The look itself runs in a task of its own, which puts the key back into the queue when it is over: a check that hangs
occupies neither a worker nor another check.

Rules:
    C1  Looks have slots: the first, and one every period after it, whatever a look takes. A slot in which the look before
        still runs, or the check has nothing to say, is left out.
    C2  The first slot is initial_delay after the start of the service, and a random part of the splay later. Where no
        splay is given it is the period, and only while the agent itself is younger than that (kubernetes worker.go).
    C3  jitter delays single looks and moves no slot.
"""

from __future__ import annotations

import asyncio

from watchkeeper import tracing
from watchkeeper.checks import Looker, Outcome, Word, look
from watchkeeper.checks.gate import Gate, Verdict
from watchkeeper.checks.guarded import KEEPER
from watchkeeper.checks.threads import THREADS
from watchkeeper.config.model import Role
from watchkeeper.config.schema.checks import Action
from watchkeeper.config.snapshot import BoundCheck, Key, Kind
from watchkeeper.context import Context
from watchkeeper.logs import get_logger
from watchkeeper.observed import STANDALONE, CheckRecord, wall_clock
from watchkeeper.reconcile import Result
from watchkeeper.supervise.lifecycle import EARLY
from watchkeeper.supervise.warden import warden_of

journal = get_logger("check")

LATENESS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0)
NOTHING = Result()
GONE = Result(gone=True)


class CheckReconciler:
    """Level-triggered: every call works out anew what the check should be doing."""

    def __init__(self, context: Context, look: Looker = look, *, fresh: bool = True) -> None:
        """`fresh`: the agent has just started (C2)."""
        self._context = context
        self._store, self._observed, self._metrics = context.store, context.observed, context.metrics
        self._add, self._chance = context.add, context.chance
        self._look = look
        # Not since there are checks: the first ones may come with a reload, when the agent is old.
        born = asyncio.get_running_loop().time() if context.born is None else context.born
        self._born = born if fresh else -float("inf")
        self._lateness = context.metrics.histogram(
            "check_lateness_seconds", "How late a look began, after its slot.", buckets=LATENESS
        )
        threads = context.metrics.gauge("check_threads", "Threads for calls that may hang.", "state")
        for state in ("alive", "busy", "abandoned"):
            threads.labels(state).set_function(lambda state=state: getattr(THREADS, state))  # type: ignore[misc]

    async def reconcile(self, key: Key) -> Result:
        bound = self._store.snapshot.checks.get(key.name)
        record = self._observed.checks.get(key.name)
        # Equal definitions are one object while nothing changes; after a reload they are compared once.
        if record is not None and record.bound is not bound:
            if record.bound != bound:
                self._forget(key.name, record)
                record = None
            elif bound is not None:
                record.bound = bound
        if bound is None:
            return GONE
        THREADS.limit = self._store.snapshot.settings.check_threads
        if record is None:
            record = self._observed.checks[key.name] = self._new(bound)
        instance, started_at = self._target(bound)
        if instance is not None and instance != record.gate.instance:
            self._begin(record, instance, started_at)
        if record.unread:
            self._take(key, record)
        if instance is None and record.gate.not_running():
            record.since = wall_clock()
        self._show(key.name, record)
        return NOTHING if instance is None else self._next(key, record, instance)

    def _next(self, key: Key, record: CheckRecord, instance: int) -> Result:
        """Look now, later, or when something happens."""
        if record.probe is not None or record.gate.finished or not self._wanted(record, instance):
            return NOTHING
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now + EARLY < record.next_due:
            return Result(record.next_due - now)
        # C1: slots keep their distance; after those that were missed, as behind a startup check, they begin anew.
        on_time = now - record.slot < record.spec.period
        if on_time:
            self._lateness.observe(max(0.0, now - record.next_due))
        self._schedule(record, (record.slot if on_time else now) + record.spec.period)
        record.last_run = wall_clock()
        record.probe = loop.create_task(self._run(key, record), name=f"look at {key.name}")
        return NOTHING

    def _schedule(self, record: CheckRecord, slot: float) -> None:
        """C3."""
        record.slot = record.next_due = slot
        if record.spec.jitter:
            record.next_due += record.spec.jitter * record.spec.period * self._chance()

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
        spec = record.spec
        record.gate.begin(instance)
        record.unread = False
        record.since = wall_clock()
        splay = spec.splay
        if splay is None:
            young = asyncio.get_running_loop().time() - self._born < spec.period
            splay = spec.period if young else 0.0  # C2
        record.slot = record.next_due = started_at + spec.initial_delay + splay * self._chance()

    async def _run(self, key: Key, record: CheckRecord) -> None:
        """One look; whatever comes of it, the key goes back to the queue."""
        instance = record.gate.instance
        KEEPER.set(lambda: warden_of(self._context))
        try:
            with tracing.span("check") as span:
                outcome = await self._look(record.spec, record.memory)
                if span.recording:
                    span.set("watchkeeper.key", str(key))
                    span.set("watchkeeper.outcome", outcome.word)
                    if outcome.error_class is not None:
                        span.fail(outcome.error_class, outcome.detail)
            # What was seen of an earlier instance says nothing about the present one.
            if record.gate.instance == instance:
                record.outcome, record.unread = outcome, True
        finally:
            record.probe = None
            self._add(key)

    def _take(self, key: Key, record: CheckRecord) -> None:
        """The gate's and everybody else's share of an outcome."""
        record.unread = False
        outcome = record.outcome
        assert outcome is not None
        self._count(key.name, record, outcome)
        changed = record.gate.observe(outcome.success)
        if changed:
            record.since = wall_clock()
            self._changed(key, record, outcome)
        if record.spec.effect is Action.LOG:
            self._write(key.name, record, outcome)
        elif not changed and outcome.word is not Word.OK:
            journal.debug(
                f"check {key.name}: {outcome.detail}", check=key.name, outcome=outcome.word, **_class(outcome)
            )

    def _count(self, name: str, record: CheckRecord, outcome: Outcome) -> None:
        metrics = self._metrics
        metrics.check_runs.labels(name, outcome.word.value).inc()
        metrics.check_level.labels(name).set(outcome.level)
        metrics.check_last_duration.labels(name).set(outcome.seconds)
        metrics.check_duration.labels(record.kind).observe(outcome.seconds)
        if outcome.error_class is not None:
            metrics.error(outcome.error_class)

    def _write(self, name: str, record: CheckRecord, outcome: Outcome) -> None:
        """Every look of a check whose action is `log`."""
        write = journal.info if outcome.word is Word.OK else journal.warning
        write(
            f"check {name}: {outcome.word}: {outcome.detail}",
            check=name,
            outcome=outcome.word,
            latency_ms=round(outcome.seconds * 1000, 3),
            **_class(outcome),
        )

    def _changed(self, key: Key, record: CheckRecord, outcome: Outcome) -> None:
        """A new verdict: say so, and let those look who depend on it."""
        verdict = record.gate.verdict
        write = journal.info if verdict is Verdict.SUCCESS else journal.warning
        write(
            f"check {key.name} is now {verdict}",
            check=key.name,
            role=record.spec.role,
            outcome=outcome.word,
            detail=outcome.detail,
            **_class(outcome),
        )
        self._context.events.note(key, verdict.value, outcome.detail)
        service = record.bound.service
        if service is not None:
            self._add(Key(Kind.SERVICE, service))
            if record.spec.role is not Role.READINESS:
                for sibling in self._store.snapshot.checks_of(service):
                    self._add(Key(Kind.CHECK, sibling))

    def _show(self, name: str, record: CheckRecord) -> None:
        passing = record.gate.verdict is Verdict.SUCCESS
        self._metrics.check_success.labels(name, record.role).set(passing)

    @staticmethod
    def _new(bound: BoundCheck) -> CheckRecord:
        spec = bound.spec
        gate = Gate(
            spec.role,
            spec.success_threshold,
            spec.failure_threshold,
            spec.failure_window,
            holds=spec.effect is Action.RESTART,
        )
        return CheckRecord(bound, gate, since=wall_clock())

    def _forget(self, name: str, record: CheckRecord) -> None:
        if record.probe is not None:
            record.probe.cancel()
        del self._observed.checks[name]
        self._metrics.remove("check", name)


def _class(outcome: Outcome) -> dict[str, object]:
    return {} if outcome.error_class is None else {"error_class": outcome.error_class}
