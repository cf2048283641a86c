"""The agent as a whole: puts the parts together and starts them in order; life/drain.py stops them in order."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
from typing import Any

from watchkeeper import system
from watchkeeper._version import __version__
from watchkeeper.config.model import AgentSettings, LogLevel
from watchkeeper.config.snapshot import Key
from watchkeeper.config.source import FileSource
from watchkeeper.config.store import Store
from watchkeeper.context import Context
from watchkeeper.endpoints.exposition import Exposition
from watchkeeper.endpoints.site import Site
from watchkeeper.errors import AgentError, ExitCode
from watchkeeper.event_log import begin as begin_event_log
from watchkeeper.life.configuration import Configuration
from watchkeeper.life.controls import Controls, Signals
from watchkeeper.life.drain import Drain
from watchkeeper.life.exit import LIMIT, leave_within
from watchkeeper.life.hooks import Rank
from watchkeeper.life.manager_link import ManagerLink
from watchkeeper.life.notify import Notifier
from watchkeeper.life.resources import raise_file_limit, require_files
from watchkeeper.life.signals import StopRequests
from watchkeeper.logs import configure, flush, get_logger
from watchkeeper.manager import Manager
from watchkeeper.metrics import Metrics
from watchkeeper.observed import wall_clock
from watchkeeper.queue_metrics import QueueMetrics
from watchkeeper.reconcile import work
from watchkeeper.report import check_status, config_status, not_ready_because, object_statuses, service_status
from watchkeeper.status import AgentStatus, rfc3339

journal = get_logger("agent")

LAG_INTERVAL = 0.5
CLOSE_LIMIT = 1.0


def run_agent(
    config: str,
    listen: str | None,
    log_level: str | None,
    state_dir: str | None,
    *,
    notifier: Notifier | None = None,
    controls: Controls | None = None,
) -> int:
    """Run until a signal ends it; the exit code of errors.py.

    Args:
        config, listen, log_level, state_dir: the command line's.
        notifier: who is told how it goes; None: systemd, if it has started this process.
        controls: where "stop" and "reload" come from; None: signals, and this thread is the main one.

    Raises:
        AgentError: it could not be started.
    """
    if controls is None:
        system.ignore_early_reload()
    system.watch_children_by_pidfd()
    raise_file_limit()
    require_files()
    with contextlib.suppress(RuntimeError, AttributeError, ValueError):  # there is no standard error
        faulthandler.enable()  # a watchdog's SIGABRT then says where every thread stood
    configure(log_level or "info")
    state = state_dir or os.environ.get("STATE_DIRECTORY") or None
    notifier = notifier or Notifier.taken_from(os.environ)
    agent = Agent(config, listen, log_level, state, notifier, controls or Signals())
    try:
        with asyncio.Runner() as runner:
            code = runner.run(agent.run())
            last_resort = leave_within(LIMIT, code)
        last_resort.cancel()
        return code
    except AgentError as error:
        notifier.status(str(error))
        raise
    finally:
        flush()  # before cli.py, or a traceback, says why it ended


class Agent:
    """One running agent."""

    def __init__(
        self,
        config: str,
        listen: str | None,
        log_level: str | None,
        state_dir: str | None,
        notifier: Notifier | None = None,
        controls: Controls | None = None,
    ) -> None:
        self._file = config
        self._listen = listen
        self._listening_on: str | None = None
        self._log_level = log_level
        self._context = Context(Store(state_dir), Metrics())
        self._store, self._observed = self._context.store, self._context.observed
        self._metrics, self._tasks = self._context.metrics, self._context.tasks
        self._started_at = wall_clock()
        self._needs_restart: list[str] = []
        self._level_set: LogLevel | None = None
        self._workers = 0
        self._manager_link = ManagerLink(self._context, notifier or Notifier())
        self._controls = controls or Signals()

    async def run(self) -> int:
        """Start, wait for a signal, stop."""
        self._metrics.watch(
            queue_depth=lambda: len(self._context.queue),
            tasks_alive=lambda: self._tasks.alive,
            service_pids=self._observed.pids,
        )
        QueueMetrics(self._metrics, self._context.queue)
        site = Site(self._context, self.status, self._not_ready_because, set_level=configure)
        self._exposition = self._context.exposition = Exposition(site, self._store.state_dir)
        requests = StopRequests()
        self._context.ask_stop = requests.begin
        await self._start_unless(requests)
        code = await self._stop(await requests.stop, requests)
        status = self._context.exit_status
        return code if status is None or code == ExitCode.ABORTED else status

    async def _start_unless(self, requests: StopRequests) -> None:
        """Start; whoever asks for a stop meanwhile does not wait for a file system that hangs."""
        starting = asyncio.create_task(self._start(requests), name="start")
        either: set[asyncio.Future[Any]] = {starting, requests.stop}
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()
            await asyncio.wait({starting}, timeout=CLOSE_LIMIT)
        if starting.done() and not starting.cancelled() and starting.exception() is not None:
            await self._abandon()
            starting.result()

    async def _abandon(self) -> None:
        """A start that failed leaves nothing behind: neither a listener nor a process."""
        drain = Drain(self._context, self._exposition)
        await self._exposition.stop(CLOSE_LIMIT)
        await self._context.tasks.stop(CLOSE_LIMIT)
        drain.kill_all()
        await drain.reap()

    async def _start(self, requests: StopRequests) -> None:
        """Read the configuration, listen, and let the work begin."""
        source = FileSource(self._file, AgentSettings().reload_interval)
        self._store.prepare()
        begin_event_log(self._context)
        link = self._manager_link
        configuration = Configuration(self._context, source, self._apply_settings, link)
        self._controls.attach(asyncio.get_running_loop(), stop=requests.ask, reload=configuration.ask)
        self._exposition.site.reload = configuration.ask
        changed = await configuration.first()
        settings = self._store.snapshot.settings
        self._listening_on = self._listen or settings.listen
        await self._exposition.start(self._listening_on, settings.request_timeout)
        journal.info("listening", address=self._exposition.address, version=__version__, pid=os.getpid())
        self._context.hooks.add(Rank.EXPORT, "outbound connections", self._context.http.close, CLOSE_LIMIT)
        self._begin([*changed, *(key for key in self._remembered() if key not in changed)])
        link.start()
        self._tasks.start("configuration", configuration.watch)
        self._tasks.start("loop-lag", self._measure_lag)

    def _remembered(self) -> list[Key]:
        """Services of an agent before this one, which may not be configured any more."""
        from watchkeeper.supervise.memory import remembered_keys

        return remembered_keys(self._store.state_dir)

    def _begin(self, changed: list[Key]) -> None:
        """Hand the first keys to the workers."""
        self._first_round = set(changed)
        for key in changed:
            self._context.add(key)
        if not changed:
            self._say_started()
        manager = Manager(self._context)
        self._workers = self._store.snapshot.settings.queue.workers
        for number in range(1, self._workers + 1):
            self._tasks.start(
                f"reconcile-{number}",
                lambda: work(
                    self._context.queue,
                    manager,
                    self._metrics,
                    self._looked_at,
                    lambda: self._store.snapshot.settings.queue.limit,
                ),
            )

    async def _stop(self, cause: str, requests: StopRequests) -> int:
        """Drain; a second request aborts."""
        self._manager_link.stopping(cause)
        drain = Drain(self._context, self._exposition)
        draining = asyncio.create_task(drain.run(cause), name="drain")
        requests.abort.add_done_callback(lambda _asked: draining.cancel())
        try:
            return await draining
        except asyncio.CancelledError:
            journal.error("aborted by a second signal; services are killed", signal=requests.abort.result())
            return ExitCode.ABORTED
        finally:
            drain.kill_all()
            await drain.reap()
            self._manager_link.close()

    def _apply_settings(self, settings: AgentSettings) -> None:
        """What can change while the agent runs does; of the rest it is said that it does not."""
        if settings.log_level is not self._level_set:
            self._level_set = settings.log_level  # otherwise one that was set while it runs stays
            configure(self._log_level or settings.log_level.value)
        queue = settings.queue
        self._context.queue.delays.configure(queue.base, queue.cap, queue.rate, queue.burst)
        listening = self._listening_on
        changed = {
            "agent.listen": self._listen is None and listening is not None and settings.listen != listening,
            "agent.queue.workers": self._workers not in (0, queue.workers),
        }
        before, self._needs_restart = self._needs_restart, [name for name, new in changed.items() if new]
        for name in set(self._needs_restart) - set(before):
            journal.warning(f"{name} has changed; that takes effect when the agent is started anew")

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
            self._say_started()

    def _say_started(self) -> None:
        self._observed.started = True
        journal.info("started", services=len(self._observed.services), checks=len(self._observed.checks))
        self._manager_link.started()

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
