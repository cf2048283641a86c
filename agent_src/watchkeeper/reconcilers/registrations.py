"""The reconciler of registrations: does what registry/registration.py decides.

What a registry is asked runs in a task of its own, which puts the key back into the queue: a registry that hangs holds up
nobody. When the agent drains, everything is withdrawn before the first service is stopped.
"""

from __future__ import annotations

import asyncio

from watchkeeper.config.schema.registrations import AnyRegistration
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.context import Context
from watchkeeper.errors import ErrorClass
from watchkeeper.events import Event
from watchkeeper.life.hooks import Rank
from watchkeeper.logs import get_logger
from watchkeeper.reconcile import Result
from watchkeeper.registry.answers import ForgottenError, RegistryError
from watchkeeper.registry.readiness import readiness
from watchkeeper.registry.registrar import registrar
from watchkeeper.registry.registration import (
    Decision,
    Do,
    Record,
    State,
    adopt,
    decide,
    failed,
    forgotten,
    state,
    succeeded,
)

journal = get_logger("registration")
LOOK = 1.0
"""Seconds from one look at the service's readiness to the next; a change that is noted as an event is seen at once."""
WITHDRAW_LIMIT = 3600.0
"""Seconds. Each withdrawal has the limit that its registration sets, and all of them that of the drain."""


class RegistrationReconciler:
    """Level-triggered: every call reads the service's readiness, and asks the rules for the next step."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._records: dict[str, Record] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        metrics = context.metrics
        self._attempts = metrics.counter(
            "registration_attempts_total",
            "What registries were asked to do.",
            "registration",
            "action",
            "outcome",
        )
        self._losses = metrics.counter(
            "registration_losses_total", "How often a registry had forgotten a registration.", "registration"
        )
        self._state = metrics.gauge(
            "registration_state", "1 for the state that a registration is in.", "registration", "state"
        )
        context.events.subscribe(self._on_event)
        context.hooks.add(Rank.ANNOUNCE, "registrations", self._withdraw_all, WITHDRAW_LIMIT)

    async def reconcile(self, key: Key) -> Result:
        if self._context.observed.draining:
            return Result()
        wanted: AnyRegistration | None = self._context.snapshot.of(Kind.REGISTRATION).get(key.name)
        record = self._records.get(key.name)
        if record is None:
            if wanted is None:
                return Result()
            record = self._records[key.name] = Record(wanted, registrar(wanted, self._context.http))
        ready, why = self._readiness(record.spec)
        new = (
            record.registrar
            if wanted is None or wanted == record.spec
            else registrar(wanted, self._context.http)
        )
        decision = decide(record, wanted, new.place if wanted else None, ready, _now())
        if decision.do is Do.ADOPT and wanted is not None:
            adopt(record, wanted, new)
            return Result(0.0)
        if decision.do is Do.FORGET:
            self._forget(key)
            return Result()
        return self._act(key, record, decision, ready, why)

    def _act(self, key: Key, record: Record, decision: Decision, ready: bool, why: str) -> Result:
        if decision.do is not Do.NOTHING:
            record.doing = decision.do
            run = self._run(key, record, decision.do, ready, why)
            self._tasks[key.name] = asyncio.create_task(run, name=f"{decision.do} {key}")
        self._show(key, record, why)
        return Result(min(LOOK, LOOK if decision.again is None else decision.again))

    async def _run(self, key: Key, record: Record, do: Do, ready: bool, why: str) -> None:
        """One attempt; whatever comes of it, the key goes back to the queue."""
        before = state(record)
        try:
            outcome = await self._attempt(record, do, ready, why)
        finally:
            record.doing = None
            self._context.add(key)
        self._attempts.labels(key.name, do.value, outcome).inc()
        if outcome == "forgotten":
            self._losses.labels(key.name).inc()
            journal.warning(
                f"registration {key.name} was lost and is made again: {record.last_error}",
                registration=key.name,
                error_class=ErrorClass.REGISTRY_FAILED,
            )
        elif outcome == "failure":
            self._complain(key, record, do)
        elif state(record) is not before:
            journal.info(f"registration {key.name} is now {state(record)}", registration=key.name, why=why)
        self._show(key, record, why)

    async def _attempt(self, record: Record, do: Do, ready: bool, why: str) -> str:
        """Do it; the outcome in a word."""
        chance = self._context.chance()
        try:
            if do is Do.WITHDRAW:
                await record.registrar.withdraw()
            elif do is Do.RENEW:
                await record.registrar.renew(ready, why)
            else:
                record.present = True  # R7
                await record.registrar.announce(ready, why)
        except ForgottenError as error:
            forgotten(record, str(error), _now())
            return "forgotten"
        except RegistryError as error:
            failed(record, str(error), _now(), chance)
            return "failure"
        except Exception as error:  # noqa: BLE001 - a defect in one registrar must not silence the others
            failed(record, f"{type(error).__name__}: {error}", _now(), chance)
            journal.crash(f"registration: {do} crashed: {error}", error_class=ErrorClass.INTERNAL)
            return "failure"
        succeeded(record, do, ready, _now())
        return "success"

    def _complain(self, key: Key, record: Record, do: Do) -> None:
        """The first failure of a row is worth a line, and then every tenth."""
        self._context.metrics.error(ErrorClass.REGISTRY_FAILED)
        write = journal.warning if record.failures % 10 == 1 else journal.debug
        write(
            f"registration {key.name}: {do} failed: {record.last_error}",
            registration=key.name,
            error_class=ErrorClass.REGISTRY_FAILED,
            retry_count=record.failures,
            retry_in=round(record.next_at - _now(), 3),
        )

    def _show(self, key: Key, record: Record, why: str) -> None:
        if key.name not in self._records:
            return
        current = state(record)
        for each in State:
            self._state.labels(key.name, each.value).set(current is each)
        self._context.show(
            key,
            current.value,
            record.last_error if current is State.RETRYING and record.last_error else why,
            last_error=record.last_error,
            service=record.spec.service,
            id=record.spec.instance_id,
            next_try_in=round(max(0.0, record.next_at - _now()), 3)
            if record.told is not None or record.failures
            else None,
            failures_in_a_row=record.failures,
            losses=record.losses,
        )

    def _forget(self, key: Key) -> None:
        del self._records[key.name]
        self._tasks.pop(key.name, None)
        self._context.forget(key)
        for family in ("registration_attempts_total", "registration_losses_total", "registration_state"):
            self._context.metrics.drop(family, "registration", key.name)

    def _readiness(self, spec: AnyRegistration) -> tuple[bool, str]:
        return readiness(spec.service, self._context.snapshot, self._context.observed)

    def _on_event(self, event: Event) -> None:
        """What happens to a service or one of its checks may change its readiness."""
        if event.key.kind in (Kind.SERVICE, Kind.CHECK):
            service = event.key.name.partition("/")[0]
            for name, record in self._records.items():
                if record.spec.service == service:
                    self._context.add(Key(Kind.REGISTRATION, name))

    async def _withdraw_all(self) -> None:
        """R4, for all at once: the agent ends, and nobody should come any more."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
        present = {name: record for name, record in self._records.items() if record.present}
        await asyncio.gather(*(self._withdraw_last(name, record) for name, record in present.items()))

    async def _withdraw_last(self, name: str, record: Record) -> None:
        """One attempt; what does not succeed is left to the registry's own time limits."""
        try:
            async with asyncio.timeout(record.spec.withdraw_timeout):
                outcome = await self._attempt(record, Do.WITHDRAW, False, "the agent ends")
        except TimeoutError:
            failed(record, "no answer in time", _now(), self._context.chance())
            outcome = "failure"
        self._attempts.labels(name, Do.WITHDRAW.value, outcome).inc()
        if outcome == "success":
            journal.info(f"registration {name} is withdrawn", registration=name, why="the agent ends")
        else:
            self._complain(Key(Kind.REGISTRATION, name), record, Do.WITHDRAW)


def _now() -> float:
    return asyncio.get_running_loop().time()
