"""The reconciler of services: does what supervise/lifecycle.py decides, through the driver of the service."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from watchkeeper.config.model import AnyService, ProcessService, Service, same_program
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.context import Context
from watchkeeper.errors import ErrorClass
from watchkeeper.logs import get_logger
from watchkeeper.orders import Order
from watchkeeper.reconcile import Result
from watchkeeper.supervise.child import SpawnError, spawn
from watchkeeper.supervise.condition import ask
from watchkeeper.supervise.dependencies import Dependencies
from watchkeeper.supervise.drivers import Drivers, Running, Start
from watchkeeper.supervise.lifecycle import (
    Cause,
    Condition,
    Decision,
    Do,
    Record,
    State,
    Stop,
    calm_down,
    decide,
    enter,
    fail,
    settle,
    stop_on_purpose,
)
from watchkeeper.supervise.memory import Memory
from watchkeeper.supervise.recollection import Recollection
from watchkeeper.supervise.warden import warden_of
from watchkeeper.system import describe_exit

journal = get_logger("service")
LOOK_SOON = 0.05
SAVE_AGAIN = 2.0
"""Seconds until what the disk did not take is written once more."""


class ServiceReconciler:
    """Level-triggered: every call asks the rules for the next step, and does that one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store, self._observed, self._metrics = context.store, context.observed, context.metrics
        self._add, self._chance = context.add, context.chance
        memory = Memory(context.store.state_dir)
        self._drivers = Drivers(context, memory, spawn)
        self._recollection = Recollection(context, memory, self._drivers)
        self._dependencies = Dependencies(context)
        self._shown: dict[str, tuple[object, ...]] = {}
        self._asking: set[asyncio.Task[None]] = set()
        self._steps: dict[Do, Callable[[Record, AnyService | None, Decision], Result]] = {
            Do.NOTHING: self._nothing,
            Do.ASK: self._ask,
            Do.WAIT: self._wait,
            Do.STOP: self._stop,
            Do.KILL: self._kill,
            Do.SETTLE: self._settle,
            Do.LEAVE: self._leave,
        }

    async def reconcile(self, key: Key) -> Result:
        self._observed.under_way += 1
        try:
            return await self._look(key)
        finally:
            self._observed.under_way -= 1
            self._observed.idle.set()

    async def _look(self, key: Key) -> Result:
        wanted = None if self._observed.draining else self._store.snapshot.services.get(key.name)
        record = self._observed.services.get(key.name)
        if record is None:
            record = await self._recollection.meet(key, wanted, self._exited)
            if record is None:
                return Result()
            self._observed.services[key.name] = record
            wanted = None if self._observed.draining else wanted  # that may have begun meanwhile
        before = record.state
        around = self._dependencies.around(record, wanted)
        failed = self._observed.failed_check(key.name, record.instance)
        decision = decide(record, wanted, failed, _now(), around)
        if self._observed.draining and decision.do is Do.STOP:
            decision = replace(decision, why="the agent is stopping")
        result = await self._act(record, wanted, decision)
        self._finish(key, record, wanted, before)
        if self._observed.draining and wanted is not None:
            return Result(0.0)  # it was on its way when the end of the agent began
        if key.name in self._recollection.unsaved:  # a later agent would believe the file that there is
            return replace(result, requeue_after=_sooner(result.requeue_after, SAVE_AGAIN))
        return result

    async def _act(self, record: Record, wanted: AnyService | None, decision: Decision) -> Result:
        if decision.do is Do.START and wanted is not None:
            return await self._start(record, wanted)
        return self._steps[decision.do](record, wanted, decision)

    def _nothing(self, record: Record, _wanted: AnyService | None, decision: Decision) -> Result:
        if record.stop is not None and record.stop.killed_at is not None:
            cast("Running", record.process).kill()  # what was started between two looks is ended as well
        if record.running:
            self._context.orders.done(Key(Kind.SERVICE, record.name), Order.START)  # S12: it runs
        if calm_down(record, _now()):  # S13
            journal.info(f"service {record.name} is stable again", service=record.name)
            enter(record, record.state, "it has run long enough", _now())
        return Result(decision.again)

    def _wait(self, record: Record, _wanted: AnyService | None, decision: Decision) -> Result:
        state = State.STOPPED if decision.cause is Cause.ORDER else State.WAITING
        enter(record, state, decision.why, _now())
        return Result(decision.again)

    async def _start(self, record: Record, wanted: AnyService) -> Result:
        """S1: a new instance, with a new number, about which no check has said anything yet."""
        key = Key(Kind.SERVICE, record.name)
        self._forget_failures(record, wanted, key)
        record.spec, record.final, record.condition = wanted, False, Condition()
        record.instance += 1
        start = Start(
            record.name,
            wanted,
            record.instance,
            on_exit=lambda child: self._exited(record, child, key),
            remember=lambda pid: self._recollection.begun(record, pid),
            on_change=lambda: self._add(key),
        )
        try:
            running = await self._drivers.of(wanted).start(start)
        except SpawnError as error:
            return self._unstartable(record, str(error))
        record.process = running
        if record.instance > 1:
            record.restarts += 1
            self._metrics.restarts.labels(record.name).inc()
        enter(record, State.STARTING, "started", _now())
        journal.info(
            f"service {record.name} started", service=record.name, pid=running.pid, instance=record.instance
        )
        self._wake_checks(record.name)
        # A child may have ended before its record was complete; one look right away misses nothing, and finds what there
        # is to wait for.
        timed = bool(wanted.start_timeout) or record.degraded
        return Result(0.0) if timed or running.exit_code is not None else Result()

    def _forget_failures(self, record: Record, wanted: Service, key: Key) -> None:
        """S4 and S12: another definition, or an operator's word, begins anew."""
        order = self._context.orders.of(key)
        if order is not None:
            self._context.orders.done(key, order)
        if order is not None or (record.spec is not None and not same_program(wanted, record.spec)):
            record.failures, record.degraded = 0, False
            record.failed_at.clear()

    def _unstartable(self, record: Record, why: str) -> Result:
        """S11."""
        now = _now()
        record.last_error = why
        fail(record, why, now, now, self._chance())
        self._metrics.error(ErrorClass.SERVICE_SPAWN_FAILED)
        journal.error(
            f"service {record.name} cannot be started: {why}",
            service=record.name,
            error_class=ErrorClass.SERVICE_SPAWN_FAILED,
            **_retry(record, now),
        )
        return Result(None if record.final else record.next_start - now)

    def _ask(self, record: Record, wanted: AnyService | None, _decision: Decision) -> Result:
        """S17: in a task of its own, so that a slow answer keeps no worker."""
        assert wanted is not None
        record.condition.asking, record.condition.command = True, wanted.condition
        enter(record, State.WAITING, "its condition is being asked", _now())
        task = asyncio.create_task(self._asked(record, wanted), name=f"condition of {record.name}")
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)
        return Result()

    async def _asked(self, record: Record, wanted: AnyService) -> None:
        condition = record.condition
        try:
            condition.holds, condition.why = await ask(wanted, warden_of(self._context))
        finally:
            condition.asking = False
            condition.ask_again = _now() + wanted.condition_period
            self._add(Key(Kind.SERVICE, record.name))

    def _exited(self, record: Record, child: Any, key: Key) -> None:
        """Called by the driver, at once."""
        code = child.exit_code or 0
        expected = record.stop is not None
        record.last_exit = getattr(child, "ended_because", None) or describe_exit(code)
        self._metrics.exits.labels(record.name, str(expected).lower()).inc()
        if not expected:
            record.last_error = f"it ended by itself: {record.last_exit}"
        self._add(key)

    def _stop(self, record: Record, wanted: AnyService | None, decision: Decision) -> Result:
        """S3, S4, S5, S7, S12, S16, S18."""
        running, key = cast("Running", record.process), Key(Kind.SERVICE, record.name)
        grace = (record.spec or wanted or ProcessService(command=("",))).stop_grace
        if decision.cause is Cause.ORDER:
            self._context.orders.done(key, Order.RESTART)
        record.stop = Stop(decision.cause, decision.why, _now(), grace)
        enter(record, State.STOPPING, decision.why, _now())
        journal.info(
            f"service {record.name} is stopped: {decision.why}", service=record.name, pid=running.pid
        )
        running.terminate()
        self._wake_checks(record.name)
        return Result(grace if running.exit_code is None else min(grace, LOOK_SOON))

    def _kill(self, record: Record, _wanted: AnyService | None, _decision: Decision) -> Result:
        """S6."""
        running, stop = cast("Running", record.process), record.stop
        assert stop is not None
        stop.killed_at = _now()
        self._metrics.error(ErrorClass.SERVICE_STOP_TIMEOUT)
        journal.warning(
            f"service {record.name} did not end within its grace of {stop.grace:g} s and is killed",
            service=record.name,
            pid=running.pid,
            error_class=ErrorClass.SERVICE_STOP_TIMEOUT,
        )
        running.kill()
        return Result(LOOK_SOON)

    def _leave(self, record: Record, _wanted: AnyService | None, decision: Decision) -> Result:
        """S19."""
        running = cast("Running", record.process)
        self._recollection.left(record)
        self._driver(record).left(record.name, running)
        running.leave()
        record.process = None
        enter(record, State.STOPPED, decision.why, _now())
        journal.info(f"service {record.name} goes on without the agent", service=record.name, pid=running.pid)
        return Result()

    def _settle(self, record: Record, wanted: AnyService | None, _decision: Decision) -> Result:
        """S8: the process is gone; what now?"""
        running, stop = cast("Running", record.process), record.stop
        running.close()
        self._driver(record).gone(record.name, running)
        now = _now()
        settle(record, wanted, now, self._chance())
        fields = {"service": record.name, "pid": running.pid, "exit": record.last_exit}
        if record.state in (State.BACKOFF, State.FAILED, State.DEGRADED):
            self._metrics.error(ErrorClass.SERVICE_EXITED)
            message = f"service {record.name} ended: {record.why}"
            journal.warning(message, **fields, error_class=ErrorClass.SERVICE_EXITED, **_retry(record, now))
        else:
            journal.info(f"service {record.name} ended", **fields, why=stop.why if stop else record.why)
        self._wake_checks(record.name)
        if wanted is None or record.final:
            return Result()
        return Result(max(0.0, record.next_start - now))

    def _driver(self, record: Record) -> Any:
        """Of what runs; what an earlier agent has left is a process."""
        return self._drivers.of(record.spec or ProcessService(command=("",)))

    def _finish(self, key: Key, record: Record, wanted: AnyService | None, before: State) -> None:
        """Show the state; keep what the next agent has to know; forget what is neither wanted nor there."""
        if record.running and record.state is State.STARTING and self._dependencies.started(record):
            enter(record, State.RUNNING, "its startup checks have passed", _now())
        if record.running and wanted is not None and record.spec != wanted:
            self._rule_changed(record, wanted)
        if record.state is not before:
            self._context.events.note(key, record.state, record.why)
        for state in State:
            self._metrics.service_state.labels(record.name, state.value).set(record.state is state)
        if record.exit_agent is not None and not self._observed.draining:
            self._end_agent(record)
        self._recollection.keep(key, record, wanted)
        self._wake_neighbours(record, wanted)
        if record.process is None:
            self._observed.idle.set()
            if wanted is None and not self._observed.draining:
                self._forget(key, record)

    def _rule_changed(self, record: Record, wanted: Service) -> None:
        """S4: what does not concern the process holds from now on."""
        if stop_on_purpose(record, wanted, self._dependencies.around(record, wanted)) is None:
            record.spec = wanted

    def _end_agent(self, record: Record) -> None:
        """S8, `exit-agent`; of several the first counts."""
        if self._context.exit_status is not None:
            return
        status = record.exit_agent
        self._context.exit_status = status
        journal.warning(
            f"service {record.name} has ended, and the agent with it: exit status {status}",
            service=record.name,
        )
        self._context.ask_stop(f"the end of service {record.name}")

    def _forget(self, key: Key, record: Record) -> None:
        del self._observed.services[record.name]
        self._shown.pop(record.name, None)
        order = self._context.orders.of(key)
        if order is not None:
            self._context.orders.done(key, order)
        self._metrics.remove("service", record.name)
        self._metrics.drop("service_output_dropped_lines_total", "service", record.name)

    def _wake_checks(self, service: str) -> None:
        for name in self._store.snapshot.checks_of(service):
            self._add(Key(Kind.CHECK, name))

    def _wake_neighbours(self, record: Record, wanted: AnyService | None) -> None:
        """What others wait for has changed (S14 to S16)."""
        name = record.name
        shown = (
            self._dependencies.ready(name),
            record.process is None,
            record.final,
            self._dependencies.about_to_stop(name),
        )
        if self._shown.get(name) != shown:
            self._shown[name] = shown
            for neighbour in self._dependencies.neighbours(name):
                self._add(Key(Kind.SERVICE, neighbour))


def _retry(record: Record, now: float) -> dict[str, object]:
    if record.final:
        return {"restart": "never"}
    return {"restart_in": round(record.next_start - now, 3), "retry_count": record.failures}


def _sooner(one: float | None, other: float) -> float:
    return other if one is None else min(one, other)


def _now() -> float:
    return asyncio.get_running_loop().time()
