"""Services that are processes of this agent."""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from watchkeeper import system
from watchkeeper.config.schema.services import OnAgentDeath, ProcessService
from watchkeeper.context import Context
from watchkeeper.errors import ErrorClass
from watchkeeper.life.hooks import Rank
from watchkeeper.logs import get_logger
from watchkeeper.supervise.child import Child, SpawnError
from watchkeeper.supervise.drivers import OnExit, Running, Start
from watchkeeper.supervise.environment import environment, identity_options
from watchkeeper.supervise.followed import Followed
from watchkeeper.supervise.identity import MarkedStrays, agent_id
from watchkeeper.supervise.limits import limit
from watchkeeper.supervise.logfile import LogFiles
from watchkeeper.supervise.memory import FOLDER, Memory, Remembered, group_left, still_runs
from watchkeeper.supervise.output import STREAMS, Output, discard
from watchkeeper.supervise.warden import warden_of

journal = get_logger("service")
FILES_LIMIT = 1.0
"""Seconds that the end of the agent waits for the services' own files."""
PID_FILE_WAIT = 30.0
Spawn = Callable[..., Awaitable[Child]]


class ProcessDriver:
    """One per agent: its warden, its thread for files."""

    def __init__(self, context: Context, memory: Memory, spawn: Spawn) -> None:
        self._context, self._memory, self._spawn = context, memory, spawn
        self._warden, self._files = warden_of(context), LogFiles()
        self._agent = agent_id(context.store.state_dir)
        self._outputs: dict[Any, Output] = {}
        self._guarded: dict[str, set[int]] = {}
        """The groups of each service that the warden knows."""
        self._folder = None if context.store.state_dir is None else context.store.state_dir / FOLDER
        self._without_memory: set[str] = set()
        context.hooks.add(Rank.EXPORT, "service files", self._close_files, FILES_LIMIT + 0.5)

    async def start(self, start: Start) -> Running:
        name, spec = start.name, start.spec
        assert isinstance(spec, ProcessService)
        variables, options = environment(name, spec, self._agent), identity_options(spec)
        output = Output(name, spec, self._context.metrics, self._files)
        strays = self._strays(name, spec)
        ends: dict[str, int] = {}
        try:
            if self._outlives(spec):
                ends = await self._pipes(name, output)
            child = await self._spawn(
                spec.command,
                environment=variables,
                whole_environment=True,
                working_directory=spec.working_directory,
                on_output=output,
                on_exit=start.on_exit,
                options=options | ends,
                prepare=lambda pid: self._prepare(pid, start),
                stop_signal=system.signal_number(spec.stop),
                strays=strays,
            )
        except BaseException:
            output.close()
            raise
        finally:
            for end in ends.values():
                os.close(end)
        return self._begun(child, start, output, strays)

    def _begun(self, child: Child, start: Start, output: Output, strays: MarkedStrays | None) -> Running:
        name, spec = start.name, start.spec
        if strays is not None:
            strays.group = child.pid
        running: Running = child
        if spec.pid_file is not None:
            from watchkeeper.supervise.forking import Forking

            limit_ = spec.start_timeout or PID_FILE_WAIT

            def remember(pid: int) -> None:
                self._guard(name, system.group_of(pid), spec)
                start.remember(pid)

            running = Forking(child, spec, limit_, start.on_exit, remember, strays, start.on_change)
        self._outputs[running] = output
        self._stop_by_command(running, name, spec)
        return running

    async def find(
        self, name: str, spec: ProcessService | None, remembered: Remembered | None, on_exit: OnExit
    ) -> Running | None:
        if remembered is None or remembered.pid is None:
            return None
        led = still_runs(remembered)
        left = led or group_left(name, remembered, self._agent)
        group = remembered.group if left else 0  # it is somebody else's by now
        strays = None if spec is None else self._strays(name, spec, group)
        if not led and not group and not (strays and strays.pids()):
            return None
        running = Followed(
            remembered.pid if led else 0,
            group,
            remembered.started_at,
            on_exit,
            stop_signal=system.signal_number(spec.stop if spec else "term"),
            strays=strays,
        )
        if spec is not None and led:
            await self._read_again(name, spec, running)
            self._stop_by_command(running, name, spec)
            self._guard(name, remembered.group, spec)
        return running

    def gone(self, name: str, running: Running) -> None:
        self._release(name)
        self._close_output(running)

    def left(self, name: str, running: Running) -> None:
        self._release(name)
        self._close_output(running)

    def _guard(self, name: str, group: int, spec: ProcessService) -> None:
        if spec.on_agent_death is OnAgentDeath.END and group > 1 and group != system.own_group():
            self._guarded.setdefault(name, set()).add(group)
            self._warden.guard(group, spec.stop_grace)

    def _release(self, name: str) -> None:
        for group in self._guarded.pop(name, ()):
            self._warden.release(group)

    def _close_output(self, running: Running) -> None:
        output = self._outputs.pop(running, None)
        if output is not None:
            output.close()

    def _prepare(self, pid: int, start: Start) -> str:
        """Everything that has to be so before the first instruction of the program."""
        spec, first = start.spec, ""
        if system.WINDOWS:
            from watchkeeper.supervise.windows_job import hold

            hold(pid, end_with_agent=spec.on_agent_death is OnAgentDeath.END)
        else:
            first = limit(pid, spec)
            self._guard(start.name, pid, spec)
        start.remember(pid)
        return first

    def _strays(self, name: str, spec: ProcessService, group: int = 0) -> MarkedStrays | None:
        if not spec.follow_orphans or not sys.platform.startswith("linux"):
            return None
        strays = MarkedStrays(name, self._agent)
        strays.group = group
        return strays

    def _outlives(self, spec: ProcessService) -> bool:
        return spec.on_agent_death is OnAgentDeath.ADOPT and not system.WINDOWS

    async def _pipes(self, name: str, output: Output) -> dict[str, int]:
        """Named pipes for a service that outlives its agent (O4)."""
        if self._folder is None:
            if name not in self._without_memory:
                self._without_memory.add(name)
                journal.warning(
                    f"service {name} cannot be taken over by a later agent: there is no --state-dir",
                    service=name,
                )
            return {}
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return await output.connect(self._folder)
        except OSError as error:
            self._context.metrics.error(ErrorClass.STATE_UNUSABLE)
            raise SpawnError(f"its pipes in {self._folder} cannot be made: {error.strerror}") from None

    async def _read_again(self, name: str, spec: ProcessService, running: Running) -> None:
        """What an adopted service writes from now on, and what it has written while there was no agent."""
        if self._folder is None or not self._outlives(spec):
            return
        output = self._outputs[running] = Output(name, spec, self._context.metrics, self._files)
        for number, stream in STREAMS.items():
            with contextlib.suppress(OSError, ValueError):  # ValueError: it is no pipe
                await output.read(self._folder / f"{name}.{stream}", number)

    def _stop_by_command(self, running: Any, name: str, spec: ProcessService) -> None:
        if spec.stop_command is not None:
            running.stop_with = lambda: asyncio.ensure_future(self._run_stop_command(running, name, spec))

    async def _run_stop_command(self, running: Running, name: str, spec: ProcessService) -> None:
        ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_exit(_child: Child) -> None:
            if not ended.done():
                ended.set_result(None)

        try:
            child = await self._spawn(
                spec.stop_command or (),
                environment=environment(name, spec, self._agent) | {"MAINPID": str(running.pid)},
                whole_environment=True,
                working_directory=spec.working_directory,
                on_output=discard,
                on_exit=on_exit,
                options=identity_options(spec),
            )
        except SpawnError as error:
            journal.error(f"service {name}: its stop command failed: {error}", service=name)
            return
        try:
            async with asyncio.timeout(spec.stop_grace or 0.001):
                await ended
            if child.exit_code:
                said = system.describe_exit(child.exit_code)
                journal.error(f"service {name}: its stop command ended with {said}", service=name)
        except TimeoutError:
            journal.error(f"service {name}: its stop command did not end in time", service=name)
        finally:
            child.kill()
            child.close()

    async def _close_files(self) -> None:
        if not await asyncio.to_thread(self._files.close, FILES_LIMIT):
            journal.error("some output of services was not written in time")
