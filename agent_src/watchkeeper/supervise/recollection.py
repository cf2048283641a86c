"""What an agent knows of services from the one before it, and what it keeps for the one after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from watchkeeper import system
from watchkeeper.config.model import AnyService, Policy, ProcessService, Service
from watchkeeper.config.schema.services import OnAgentDeath
from watchkeeper.config.snapshot import Key
from watchkeeper.context import Context
from watchkeeper.errors import ErrorClass
from watchkeeper.logs import get_logger
from watchkeeper.orders import Order
from watchkeeper.supervise.drivers import Drivers, OnExit, Running
from watchkeeper.supervise.followed import Followed
from watchkeeper.supervise.identity import start_of
from watchkeeper.supervise.lifecycle import Record, State, enter
from watchkeeper.supervise.memory import Memory, Remembered, digest, facts

journal = get_logger("service")
Exited = Callable[[Record, Any, Key], None]


class Recollection:
    """Between the files of memory.py and the records of services."""

    def __init__(self, context: Context, memory: Memory, drivers: Drivers) -> None:
        self._context, self._memory, self._drivers = context, memory, drivers
        self._left: set[str] = set()
        self.unsaved: set[str] = set()
        """Services whose files say something else than what is so, because the disk did not take it."""
        self._failing = False

    async def meet(self, key: Key, wanted: AnyService | None, exited: Exited) -> Record | None:
        """The record of a service that this agent sees for the first time; None: there is nothing to know of it."""
        remembered = self._memory.load(key.name)
        if wanted is None and remembered is None:
            return None
        record = Record(key.name, since=_now())
        same = wanted is not None and remembered is not None and remembered.digest == digest(wanted)
        if remembered is not None:
            self._restore(key, record, remembered, wanted, same=same)
        running = await self._find(wanted, remembered, key.name, lambda child: exited(record, child, key))
        if running is not None:
            self._take(record, running, remembered, wanted, same=same)
        elif wanted is None:
            self._save(key.name, None)
            return None
        return record

    async def _find(
        self, wanted: AnyService | None, remembered: Remembered | None, name: str, on_exit: OnExit
    ) -> Running | None:
        process = ProcessService(command=("",))
        if not isinstance(wanted, ProcessService):  # it may have been a process by an earlier definition
            left = await self._drivers.of(process).find(name, None, remembered, on_exit)
            if left is not None or wanted is None:
                return left
        return await self._drivers.of(wanted).find(name, wanted, remembered, on_exit)

    def _restore(
        self,
        key: Key,
        record: Record,
        remembered: Remembered,
        wanted: AnyService | None,
        *,
        same: bool,
    ) -> None:
        record.instance, record.restarts = remembered.instance, remembered.restarts
        record.last_exit, record.last_error = remembered.last_exit, remembered.last_error
        if same:  # another definition begins with nothing to its name (S4)
            record.spec = wanted
            record.failures, record.next_start = remembered.failures, remembered.next_start
            record.failed_at, record.degraded = list(remembered.failed_at), remembered.degraded
            record.final = remembered.final
        if remembered.final and same:
            state = State.FAILED if remembered.failed else State.FINISHED
            enter(record, state, "it ended before this agent was started", _now())
        stopped = remembered.order == Order.STOP
        if stopped and wanted is not None and wanted.policy is Policy.UNLESS_STOPPED:
            self._context.orders.give(key, Order.STOP)

    def _take(
        self,
        record: Record,
        running: Running,
        remembered: Remembered | None,
        wanted: AnyService | None,
        *,
        same: bool,
    ) -> None:
        """S18: go on with what runs, or end it."""
        record.process = running
        record.instance = max(1, record.instance)
        process = isinstance(running, Followed)
        adopt = isinstance(wanted, ProcessService) and remembered is not None and remembered.adopt
        record.left_over = process and wanted is not None and not adopt
        record.spec = wanted if same or not process else None
        why = (
            "taken over from an agent before this one"
            if not record.left_over
            else "left by an agent that was killed"
        )
        enter(record, State.STARTING, why, _now())
        journal.info(
            f"service {record.name} runs already: {why}", service=record.name, pid=running.pid, adopted=True
        )

    def begun(self, record: Record, pid: int) -> None:
        """A process of it is about to begin: let that be known before it does anything (M1)."""
        group = system.group_of(pid)
        self._save(
            record.name,
            self._what(record, pid=pid, start=start_of(pid), group=group, started_at=_now()),
        )

    def keep(self, key: Key, record: Record, wanted: Service | None) -> None:
        """Bring the file of a service to what is so now."""
        if not self._memory.kept or record.name in self._left:
            return
        order = self._context.orders.of(key)
        held = order if order is Order.STOP else None
        gone = record.process is None and wanted is None
        if gone and (held is None or not self._context.observed.draining):
            self._save(record.name, None)
        elif isinstance(record.spec, ProcessService) or held is not None or record.process is not None:
            known = (
                facts(record.process) if isinstance(record.spec, ProcessService) or record.left_over else {}
            )
            self._save(record.name, self._what(record, order=held, **known))

    def left(self, record: Record) -> None:
        """It goes on without the agent: what is known of it stays."""
        if isinstance(record.spec, ProcessService):
            self._save(record.name, self._what(record, **facts(record.process)))
            self._left.add(record.name)

    def _what(self, record: Record, **more: Any) -> Remembered:
        spec = record.spec
        return Remembered(
            boot=self._memory.boot,
            digest="" if spec is None else digest(spec),
            adopt=isinstance(spec, ProcessService) and spec.on_agent_death is OnAgentDeath.ADOPT,
            instance=record.instance,
            restarts=record.restarts,
            failures=record.failures,
            failed_at=tuple(record.failed_at),
            degraded=record.degraded,
            next_start=record.next_start,
            final=record.final,
            failed=record.state is State.FAILED,
            last_exit=record.last_exit,
            last_error=record.last_error,
            **more,
        )

    def _save(self, name: str, what: Remembered | None) -> None:
        try:
            self._memory.save(name, what)
            self._failing = False
            self.unsaved.discard(name)
        except OSError as error:
            self.unsaved.add(name)
            self._context.metrics.error(ErrorClass.STATE_UNUSABLE)
            if not self._failing:
                self._failing = True
                journal.error(
                    f"what is known of service {name} cannot be kept: {error.strerror}",
                    service=name,
                    error_class=ErrorClass.STATE_UNUSABLE,
                )


def _now() -> float:
    return asyncio.get_running_loop().time()
