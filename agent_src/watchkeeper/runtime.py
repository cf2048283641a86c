"""The agent as a whole: wires the parts together, starts them in order and stops them in order.

The order of a stop: readiness falls; services are stopped, all at once; requests in flight end; tasks end. Each part
has its limit, and all together have drain_timeout. A second signal ends everything at once.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from typing import cast

from watchkeeper import system
from watchkeeper._version import __version__
from watchkeeper.config.load import Loaded
from watchkeeper.config.model import AgentSettings
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.config.source import FileSource
from watchkeeper.config.store import Store
from watchkeeper.context import Context
from watchkeeper.errors import AgentError, ConfigInvalidError, ErrorClass, ExitCode, StateError
from watchkeeper.exposition import Exposition
from watchkeeper.life.hooks import Rank
from watchkeeper.logs import configure, flush, get_logger
from watchkeeper.manager import Manager
from watchkeeper.metrics import Metrics
from watchkeeper.observed import Observed, wall_clock
from watchkeeper.reconcile import work
from watchkeeper.report import check_status, config_status, not_ready_because, object_statuses, service_status
from watchkeeper.status import AgentStatus, rfc3339
from watchkeeper.supervise.child import Child

journal = get_logger("agent")

WORKERS = 4
LAG_INTERVAL = 0.5
TASK_LIMIT = 1.0
REAP_LIMIT = 1.0
CLOSE_LIMIT = 1.0


def run_agent(config: str, listen: str | None, log_level: str | None, state_dir: str | None) -> int:
    """Run until a signal ends it; the exit code of errors.py.

    Raises:
        AgentError: it could not be started.
    """
    system.ignore_early_reload()
    system.watch_children_by_pidfd()
    configure(log_level or "info")
    state = state_dir or os.environ.get("STATE_DIRECTORY") or None
    try:
        return asyncio.run(Agent(config, listen, log_level, state).run())
    finally:
        flush()  # before cli.py, or a traceback, says why it ended


class Agent:
    """One running agent."""

    def __init__(self, config: str, listen: str | None, log_level: str | None, state_dir: str | None) -> None:
        self._file = config
        self._listen = listen
        self._log_level = log_level
        self._store = Store(state_dir)
        self._metrics = Metrics()
        self._observed = Observed()
        self._started_at = wall_clock()
        self._needs_restart: list[str] = []

    async def run(self) -> int:
        """Start, wait for a signal, stop."""
        context = self._context = Context(self._store, self._metrics, self._observed)
        self._queue, self._tasks = context.queue, context.tasks
        self._manager = Manager(context)
        self._metrics.watch(
            queue_depth=lambda: len(self._queue),
            tasks_alive=lambda: self._tasks.alive,
            service_pids=self._observed.pids,
        )
        self._exposition = Exposition(self._metrics.registry, self._not_ready_because, self.status)
        self._stop_asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._abort_asked: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        await self._start()
        await self._stop_asked
        drain = asyncio.create_task(self._drain(), name="drain")
        self._abort_asked.add_done_callback(lambda _asked: drain.cancel())
        try:
            return await drain
        except asyncio.CancelledError:
            journal.error(
                "aborted by a second signal; services are killed", signal=self._abort_asked.result()
            )
            return ExitCode.ABORTED
        finally:
            self._kill_all()
            await self._reap()

    async def _start(self) -> None:
        """Read the configuration, listen, and let the work begin."""
        self._source = FileSource(self._file, AgentSettings().reload_interval)
        system.handle_signals(asyncio.get_running_loop(), stop=self._on_stop, reload=self._source.ask)
        self._store.prepare()
        changed = await self._first_configuration()
        settings = self._store.snapshot.settings
        self._listening_on = self._listen or settings.listen
        await self._exposition.start(self._listening_on, settings.request_timeout)
        journal.info("listening", address=self._exposition.address, version=__version__, pid=os.getpid())
        self._context.hooks.add(Rank.EXPORT, "outbound connections", self._context.http.close, CLOSE_LIMIT)
        self._first_round = set(changed)
        for key in changed:
            self._queue.add(key)
        if not changed:
            self._observed.started = True
        for number in range(1, WORKERS + 1):
            self._tasks.start(
                f"reconcile-{number}",
                lambda: work(self._queue, self._manager, self._metrics, self._looked_at),
            )
        self._tasks.start("configuration", self._watch_configuration)
        self._tasks.start("loop-lag", self._measure_lag)

    async def _first_configuration(self) -> list[Key]:
        """From the file; when that is wrong, the last good copy, if there is one."""
        answer = await self._source.load()
        if isinstance(answer, Loaded):
            return self._take(answer)
        last_good = self._store.last_good()
        if last_good is None:
            raise answer
        changed = self._take(last_good, save=False)
        self._refuse(answer)
        self._store.from_last_good = True
        journal.warning("started with the last good configuration", error_class=answer.error_class)
        return changed

    async def _watch_configuration(self) -> None:
        while True:
            answer = await self._source.next()
            if isinstance(answer, Loaded):
                for key in self._take(answer):
                    self._queue.add(key)
            else:
                self._refuse(answer)

    def _take(self, loaded: Loaded, *, save: bool = True) -> list[Key]:
        """A good configuration comes into force; the keys that changed."""
        before = self._store.snapshot
        changed = self._store.apply(loaded)
        now = self._store.snapshot
        new = now is not before
        self._metrics.reloads.labels("success" if new else "unchanged").inc()
        self._metrics.reload_time.set(wall_clock())
        self._metrics.reload_ok.set(1)
        self._metrics.generation.set(now.generation)
        self._apply_settings(now.settings)
        message = "configuration in force" if new else "configuration unchanged"
        journal.info(
            message, generation=now.generation, digest=now.digest[:12], changed=[str(key) for key in changed]
        )
        if save:
            self._save(loaded)
        return changed

    def _save(self, loaded: Loaded) -> None:
        try:
            self._store.save(loaded)
        except StateError as error:
            self._metrics.error(error.error_class)
            journal.error(str(error), error_class=error.error_class, advice=error.advice)

    def _apply_settings(self, settings: AgentSettings) -> None:
        """What can change while the agent runs does; of the rest it is said that it does not."""
        configure(self._log_level or settings.log_level.value)
        self._source.interval = settings.reload_interval
        listening = getattr(self, "_listening_on", None)
        moved = self._listen is None and listening is not None and settings.listen != listening
        if moved and not self._needs_restart:
            journal.warning("agent.listen has changed; that takes effect when the agent is started anew")
        self._needs_restart = ["agent.listen"] if moved else []

    def _refuse(self, error: AgentError) -> None:
        """A configuration that cannot be used changes nothing, and is reported everywhere."""
        self._store.refuse(error)
        self._metrics.reloads.labels("failure").inc()
        self._metrics.reload_ok.set(0)
        self._metrics.error(error.error_class)
        problems = list(error.problems) if isinstance(error, ConfigInvalidError) else []
        reason, kept = str(error).splitlines()[0], self._store.snapshot.generation
        journal.error(
            f"configuration refused, generation {kept} stays in force: {reason}",
            error_class=error.error_class,
            problems=problems,
        )

    async def _measure_lag(self) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            due = clock() + LAG_INTERVAL
            await asyncio.sleep(LAG_INTERVAL)
            self._metrics.lagged(max(0.0, clock() - due))

    def _looked_at(self, key: Key) -> None:
        """The agent has started when every key of its first configuration has been looked at once."""
        self._first_round.discard(key)
        if not self._first_round and not self._observed.started:
            self._observed.started = True
            journal.info("started", services=len(self._observed.services), checks=len(self._observed.checks))

    def _on_stop(self, signal: str) -> None:
        """The first signal drains, the second aborts."""
        if not self._stop_asked.done():
            self._stop_asked.set_result(signal)
        elif not self._abort_asked.done():
            self._abort_asked.set_result(signal)

    async def _drain(self) -> int:
        settings = self._store.snapshot.settings
        clock = asyncio.get_running_loop().time
        deadline = clock() + settings.drain_timeout
        self._observed.draining = True
        journal.info("draining", signal=self._stop_asked.result(), limit=settings.drain_timeout)
        reserve = min(settings.request_timeout, settings.drain_timeout / 2)
        late = await self._context.hooks.run(deadline - reserve, frozenset({Rank.ANNOUNCE}))
        late += await self._stop_services(deadline - reserve)
        late += await self._context.hooks.run(deadline - reserve, frozenset({Rank.WORK}))
        in_time = await self._exposition.stop(
            min(settings.request_timeout + 0.5, max(0.1, deadline - clock()))
        )
        self._queue.shut_down()
        late += await self._tasks.stop(min(TASK_LIMIT, max(0.1, deadline - clock())))
        late += await self._context.hooks.run(deadline)
        if late or not in_time:
            self._metrics.error(ErrorClass.DRAIN_TIMEOUT)
            journal.error("stopped, but not in order", late=late, error_class=ErrorClass.DRAIN_TIMEOUT)
            return ExitCode.DRAIN_INCOMPLETE
        journal.info("stopped")
        return ExitCode.OK

    async def _stop_services(self, deadline: float) -> list[str]:
        """Stop all of them at once, through the queue like everything else; the names of those that had to be killed."""
        for key in self._keys():
            self._queue.add(key)
        clock = asyncio.get_running_loop().time
        while self._observed.processes():
            self._observed.idle.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._observed.idle.wait()
            except TimeoutError:
                break
        late = [record.name for record in self._observed.processes()]
        self._kill_all()
        if late:
            journal.error(
                "services outlived the drain limit and were killed", services=late, at=round(clock(), 3)
            )
        return late

    def _keys(self) -> list[Key]:
        services = [Key(Kind.SERVICE, name) for name in self._observed.services]
        return services + [Key(Kind.CHECK, name) for name in self._observed.checks]

    async def _reap(self) -> None:
        """Wait until the end of every killed child is known: a loop must not close while it still watches some."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REAP_LIMIT):
                while any(  # noqa: ASYNC110 - a few looks at the very end; nobody is left who could set an event
                    cast("Child", record.process).exit_code is None for record in self._observed.processes()
                ):
                    await asyncio.sleep(0.005)

    def _kill_all(self) -> None:
        for record in self._observed.processes():
            cast("Child", record.process).kill()

    def _not_ready_because(self) -> list[str]:
        return not_ready_because(self._store, self._observed)

    def status(self) -> AgentStatus:
        """Everything, as /status says it."""
        observed, reasons = self._observed, self._not_ready_because()
        return AgentStatus(
            version=__version__,
            pid=os.getpid(),
            state="draining" if observed.draining else "running" if observed.started else "starting",
            ready=not reasons,
            not_ready_because=reasons,
            started_at=rfc3339(self._started_at),
            listen=self._exposition.address,
            config=config_status(self._store, self._file, self._needs_restart),
            services=[
                service_status(observed.services[name], self._store, observed)
                for name in sorted(observed.services)
            ],
            checks=[check_status(name, observed.checks[name], observed) for name in sorted(observed.checks)],
            objects=object_statuses(observed),
        )
