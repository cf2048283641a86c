"""The exec check: a command ends with a status that says how things are."""

from __future__ import annotations

import asyncio
import errno
import os
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from watchkeeper import gate, system
from watchkeeper.checks import (
    HangsError,
    Memory,
    Outcome,
    ProbeError,
    Word,
    failed,
    own_fault,
    passed,
    unknown,
    warned,
)
from watchkeeper.checks.guarded import Keeper, keeper
from watchkeeper.config.schema.checks import ExecCheck, ExitCodes
from watchkeeper.programs import Program
from watchkeeper.system import describe_exit

LAST_WORDS = 0.05
"""Seconds that are waited for what the command wrote just before its end; a grandchild may hold the pipe for ever."""


class _Run(Program):
    """One run of a command. What exceeds the limit is read and dropped, so that the command never waits for us."""

    def __init__(self, limit: int) -> None:
        loop = asyncio.get_running_loop()
        self._room = limit
        self._open = {1, 2}
        self.output = bytearray()
        self.ended: asyncio.Future[None] = loop.create_future()
        self.silent: asyncio.Future[None] = loop.create_future()
        """Done when both pipes have ended."""

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.output += data[: self._room]
        self._room -= min(self._room, len(data))

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._open.discard(fd)
        if not self._open and not self.silent.done():
            self.silent.set_result(None)

    def process_exited(self) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def probe(spec: ExecCheck, memory: Memory) -> Outcome:
    """Run the command in a process group of its own; whatever is left of the group afterwards is killed."""
    before: asyncio.SubprocessTransport | None = memory.get("command")
    if before is not None and before.get_returncode() is None:
        # It stands in a call that KILL does not end, a dead mount; another one at each look would fill the machine.
        raise HangsError("the command of an earlier look was killed and has not ended yet")
    guard = keeper()
    try:
        transport, run = await _start(spec, guard)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        # EAGAIN of fork: the user has too many processes, which is not the command's fault.
        if own_fault(error) or getattr(error, "errno", None) == errno.EAGAIN:
            raise ProbeError(f"the command cannot be started: {getattr(error, 'strerror', error)}") from None
        return failed(_reason(error, spec))
    memory["command"] = transport
    try:
        await run.ended
        await asyncio.wait({run.silent}, timeout=LAST_WORDS)
    finally:
        system.kill_group(transport.get_pid())
        run.let_go()
        if guard is not None:
            guard.release(transport.get_pid())
    return _judge(spec.exit_codes, transport.get_returncode() or 0, bytes(run.output))


async def _start(spec: ExecCheck, guard: Keeper | None) -> tuple[asyncio.SubprocessTransport, _Run]:
    """The command, which does not begin before somebody would end it should the agent be killed."""
    environment = system.child_environment() | spec.environment | spec.secrets
    if guard is None or not gate.there():
        started = await _exec(spec, spec.command, environment, subprocess.DEVNULL)
        if guard is not None:
            guard.guard(started[0].get_pid(), 0)
        return started
    words = gate.behind(spec.command, environment, spec.working_directory)
    with gate.Gate() as held:
        started = await _exec(spec, words, environment, held.reader)
        guard.guard(started[0].get_pid(), 0)
        held.open("")
    return started


async def _exec(
    spec: ExecCheck, words: Sequence[str], environment: dict[str, str], stdin: int
) -> tuple[asyncio.SubprocessTransport, _Run]:
    return await asyncio.get_running_loop().subprocess_exec(
        lambda: _Run(spec.output_limit),
        words[0],
        *words[1:],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=spec.working_directory,
        env=environment,
        **system.spawn_options(),
        **_identity(spec),
    )


def _identity(spec: ExecCheck) -> dict[str, Any]:
    """Whom the command runs as, with that user's groups and no others."""
    if spec.user is None or sys.platform == "win32":
        return {}
    import pwd

    try:
        entry = pwd.getpwuid(int(spec.user)) if spec.user.isdigit() else pwd.getpwnam(spec.user)
    except KeyError:
        raise ProbeError(f"there is no user {spec.user}") from None
    if entry.pw_uid == os.geteuid():
        return {}
    if os.geteuid() != 0:
        raise ProbeError(f"to run the command as {spec.user} the agent has to run as root")
    groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": groups}


def _reason(error: Exception, spec: ExecCheck) -> str:
    """Python names the directory or the program in the same way; people need to know which of them it is."""
    program, folder = spec.command[0], spec.working_directory
    if folder is not None and not os.path.isdir(folder):  # noqa: PTH112 - text in, an answer out
        return f"the working directory {folder} is not there"
    if isinstance(error, FileNotFoundError):
        return f"the program {program} is not there"
    if isinstance(error, PermissionError):
        return f"the program {program} may not be run: {error.strerror}"
    return f"the program {program} cannot be started: {error}"


def _judge(codes: ExitCodes, code: int, output: bytes) -> Outcome:
    said = output.decode("utf-8", "replace").strip()
    text = f"{describe_exit(code)}: {said}" if said else describe_exit(code)
    if code == 0:
        return passed(said or text)
    if codes is not ExitCodes.ZERO and code == 1:
        return warned(text)
    if codes is ExitCodes.NAGIOS and code > 2:
        return unknown(text)
    return failed(text, Word.BAD_STATUS)
