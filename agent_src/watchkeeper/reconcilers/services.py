"""The reconciler of services: does what supervise/lifecycle.py decides."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import cast

from watchkeeper.config.model import AnyService
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.context import Context
from watchkeeper.errors import ErrorClass
from watchkeeper.logs import get_logger
from watchkeeper.reconcile import Result
from watchkeeper.supervise.child import Child, LineReader, SpawnError, spawn
from watchkeeper.supervise.lifecycle import Decision, Do, Record, State, Stop, decide, enter, fail, settle
from watchkeeper.system import describe_exit

journal = get_logger("service")
STREAMS = {1: "stdout", 2: "stderr"}


class ServiceReconciler:
    """Level-triggered: every call asks the rules for the next step, and does that one."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._store, self._observed, self._metrics = context.store, context.observed, context.metrics
        self._add, self._chance = context.add, context.chance

    async def reconcile(self, key: Key) -> Result:
        wanted = None if self._observed.draining else self._store.snapshot.services.get(key.name)
        record = self._observed.services.get(key.name)
        if record is None:
            if wanted is None:
                return Result()
            record = self._observed.services[key.name] = Record(key.name, since=_now())
        failed = self._observed.failed_check(key.name, record.instance)
        decision = decide(record, wanted, failed, _now())
        if self._observed.draining and decision.do is Do.STOP:
            decision = replace(decision, why="the agent is stopping")
        result = await self._act(record, wanted, decision)
        self._finish(record, wanted)
        return result

    async def _act(self, record: Record, wanted: AnyService | None, decision: Decision) -> Result:
        match decision.do:
            case Do.NOTHING:
                return Result(decision.again)
            case Do.START if wanted is not None:
                return await self._start(record, wanted)
            case Do.STOP:
                return self._stop(record, decision)
            case Do.KILL:
                return self._kill(record)
            case _:
                return self._settle(record, wanted)

    async def _start(self, record: Record, wanted: AnyService) -> Result:
        """S1: a new instance, with a new number, about which no check has said anything yet."""
        if record.spec is not None and wanted != record.spec:
            record.failures = 0
        record.spec, record.final = wanted, False
        record.instance += 1
        key = Key(Kind.SERVICE, record.name)
        output = _Output(record.name, wanted.line_limit)
        try:
            child = await spawn(
                wanted.command,
                environment=wanted.environment,
                working_directory=wanted.working_directory,
                on_output=output,
                on_exit=lambda child: self._exited(record, child, key),
            )
        except SpawnError as error:
            return self._unstartable(record, str(error))
        record.process = child
        if record.instance > 1:
            record.restarts += 1
            self._metrics.restarts.labels(record.name).inc()
        enter(record, State.STARTING, "started", _now())
        journal.info(
            f"service {record.name} started", service=record.name, pid=child.pid, instance=record.instance
        )
        self._wake_checks(record.name)
        # A child may have ended before its record was complete; one look right away misses nothing.
        return Result(0.0) if child.exit_code is not None else Result()

    def _unstartable(self, record: Record, why: str) -> Result:
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

    def _exited(self, record: Record, child: Child, key: Key) -> None:
        """Called by the child watcher, at once."""
        code = child.exit_code or 0
        expected = record.stop is not None
        record.last_exit = describe_exit(code)
        self._metrics.exits.labels(record.name, str(expected).lower()).inc()
        if not expected:
            record.last_error = f"it ended by itself: {record.last_exit}"
        self._add(key)

    def _stop(self, record: Record, decision: Decision) -> Result:
        """S3, S4, S5, S7."""
        child = cast("Child", record.process)
        grace = record.spec.stop_grace if record.spec else 0.0
        record.stop = Stop(decision.cause, decision.why, _now(), grace)
        enter(record, State.STOPPING, decision.why, _now())
        journal.info(f"service {record.name} is stopped: {decision.why}", service=record.name, pid=child.pid)
        child.terminate()
        self._wake_checks(record.name)
        return Result(grace if child.exit_code is None else min(grace, 0.05))

    def _kill(self, record: Record) -> Result:
        """S6."""
        child, stop = cast("Child", record.process), record.stop
        assert stop is not None
        stop.killed_at = _now()
        self._metrics.error(ErrorClass.SERVICE_STOP_TIMEOUT)
        journal.warning(
            f"service {record.name} did not end within its grace of {stop.grace:g} s and is killed",
            service=record.name,
            pid=child.pid,
            error_class=ErrorClass.SERVICE_STOP_TIMEOUT,
        )
        child.kill()
        return Result(0.05)

    def _settle(self, record: Record, wanted: AnyService | None) -> Result:
        """S8: the process is gone; what now?"""
        child, stop = cast("Child", record.process), record.stop
        child.close()
        now = _now()
        settle(record, wanted, now, self._chance())
        fields = {"service": record.name, "pid": child.pid, "exit": record.last_exit}
        if record.state in (State.BACKOFF, State.FAILED):
            self._metrics.error(ErrorClass.SERVICE_EXITED)
            message = f"service {record.name} ended: {record.why}"
            journal.warning(message, **fields, error_class=ErrorClass.SERVICE_EXITED, **_retry(record, now))
        else:
            journal.info(f"service {record.name} ended", **fields, why=stop.why if stop else record.why)
        self._wake_checks(record.name)
        if wanted is None or record.final:
            return Result()
        return Result(max(0.0, record.next_start - now))

    def _finish(self, record: Record, wanted: AnyService | None) -> None:
        """Show the state; forget what is neither wanted nor there."""
        started = self._observed.has_started(self._store.snapshot, record.name, record.instance)
        if record.running and record.state is State.STARTING and started:
            enter(
                record, State.RUNNING, "its startup checks have passed" if record.spec else "started", _now()
            )
        for state in State:
            self._metrics.service_state.labels(record.name, state.value).set(record.state is state)
        if record.process is None:
            self._observed.idle.set()
            if wanted is None and not self._observed.draining:
                del self._observed.services[record.name]
                self._metrics.remove("service", record.name)

    def _wake_checks(self, service: str) -> None:
        for name in self._store.snapshot.checks_of(service):
            self._add(Key(Kind.CHECK, name))


class _Output:
    """What a service writes, line by line, in the agent's log."""

    def __init__(self, service: str, limit: int) -> None:
        self._journal = get_logger(f"output.{service}")
        self._readers = {
            fd: LineReader(limit, lambda line, cut, fd=fd: self._line(service, fd, line, cut))  # type: ignore[misc]
            for fd in STREAMS
        }

    def __call__(self, stream: int, data: bytes) -> None:
        self._readers[stream].feed(data)

    def _line(self, service: str, stream: int, line: str, cut: bool) -> None:
        fields: Mapping[str, object] = {"truncated": True} if cut else {}
        self._journal.info(line, service=service, stream=STREAMS[stream], **fields)


def _retry(record: Record, now: float) -> dict[str, object]:
    if record.final:
        return {"restart": "never"}
    return {"restart_in": round(record.next_start - now, 3), "retry_count": record.failures}


def _now() -> float:
    return asyncio.get_running_loop().time()
