"""One child process in its own process group.

Its end is reported the moment the event loop's child watcher learns of it, whoever still holds its pipes open: a
grandchild that keeps them would otherwise hide the end of the child.

A child that something has to be done to before its program runs (limits, a record of its number) is held at a gate (gate.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import pathlib
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from watchkeeper import gate, system
from watchkeeper.programs import Program

Sink = Callable[[int, bytes], None]
"""Takes the number of the stream (1 or 2) and what was read; empty at its end."""
ABANDON_LIMIT = 2.0
Prepare = Callable[[int], str]
EXHAUSTED = {
    errno.EMFILE: "the agent has no file descriptor left",
    errno.ENFILE: "the system has no file descriptor left",
    errno.EAGAIN: "the limit of processes is reached",
    errno.ENOMEM: "there is not enough memory",
}


class SpawnError(Exception):
    """The program could not be started; the text says why."""


class Strays(Protocol):
    """Processes that belong to a child and have left its group."""

    def pids(self) -> list[int]:
        """Those that run now."""


class Child(Program):
    """A process that was started. `exit_code` is subprocess's (negative: a signal), None while it runs."""

    adopted = False
    begun = True

    def __init__(
        self,
        on_output: Sink,
        on_exit: Callable[[Child], None],
        *,
        stop_signal: int = signal.SIGTERM,
        strays: Strays | None = None,
    ) -> None:
        self._on_output = on_output
        self._on_exit: Callable[[Child], None] | None = on_exit
        self._stop_signal = stop_signal
        self._strays = strays
        self.pid = 0
        self.exit_code: int | None = None
        self.started_at = 0.0
        """The loop's clock."""
        self.exited_at: float | None = None
        self.stop_with: Callable[[], object] | None = None
        """What asks it to end in place of its signal."""

    def on_exit(self, on_exit: Callable[[Child], None]) -> None:
        """Tell somebody else of its end."""
        self._on_exit = on_exit
        if self.exit_code is not None:
            asyncio.get_running_loop().call_soon(on_exit, self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.pid = cast("asyncio.SubprocessTransport", transport).get_pid()
        self.started_at = asyncio.get_running_loop().time()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._on_output(fd, data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._on_output(fd, b"")

    def process_exited(self) -> None:
        transport = cast("asyncio.SubprocessTransport", self.transport)
        self.exit_code = transport.get_returncode()
        self.exited_at = asyncio.get_running_loop().time()
        if self._on_exit is not None:
            self._on_exit(self)

    def terminate(self) -> bool:
        """Ask the whole group to end; whether anybody was there."""
        if self.stop_with is not None and self.exit_code is None:
            self.stop_with()
            return True
        found = system.signal_group(self.pid, self._stop_signal)
        return system.signal_each(self._stray_pids(), self._stop_signal) or found

    def kill(self) -> bool:
        """End the whole group; whether anybody was there."""
        found = system.kill_group(self.pid)
        return system.signal_each(self._stray_pids(), system.KILL) or found

    def group_alive(self) -> bool:
        """Whether the child, or anything it has started in its group, is left."""
        return self.exit_code is None or system.group_alive(self.pid) or bool(self._stray_pids())

    def close(self) -> None:
        """Let go of the pipes. What the child wrote before its end has been read by then, or is a grandchild's."""
        self.let_go()
        system.forget_group(self.pid)

    def leave(self) -> None:
        """Let go of it while it runs. asyncio would end a process whose transport is closed, or collected."""
        self._on_exit = None
        system.stop_watching_child(self.pid)
        transport = cast("Any", self.transport)
        transport.get_extra_info("subprocess").returncode = 0  # nobody waits for it any more
        transport._proc = None
        transport.close()

    async def abandon(self) -> None:
        """It must not run, and nobody is to hear of its end but asyncio, which would else wait for it in two places."""
        over = asyncio.Event()
        self.on_exit(lambda _child: over.set())
        self.kill()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(ABANDON_LIMIT):
                await over.wait()
        self.close()

    def _stray_pids(self) -> list[int]:
        return self._strays.pids() if self._strays is not None else []


async def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    working_directory: str | None,
    on_output: Sink,
    on_exit: Callable[[Child], None],
    whole_environment: bool = False,
    options: Mapping[str, Any] | None = None,
    prepare: Prepare | None = None,
    stop_signal: int = signal.SIGTERM,
    strays: Strays | None = None,
) -> Child:
    """Start a program without a shell, without input, with its output read.

    Args:
        environment: added to the agent's own, or with `whole_environment` all there is.
        options: more for subprocess.Popen: user, group, extra_groups, umask, stdout, stderr.
        prepare: called with the number of the process before its program runs; an exception keeps it from running. What
            it returns, the shell at the gate does itself first.
        stop_signal: what asks it to end.

    Raises:
        SpawnError: there is no such program or directory, it may not be run, or it could not be prepared.
    """
    environment = dict(environment) if whole_environment else system.child_environment() | dict(environment)
    settings: dict[str, Any] = {
        "stdin": subprocess.DEVNULL,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.PIPE,
        "cwd": working_directory,
        "env": environment,
        **system.spawn_options(held=prepare is not None),
        **(options or {}),
    }

    def make() -> Child:
        return Child(on_output, on_exit, stop_signal=stop_signal, strays=strays)

    try:
        if prepare is None or not gate.there():
            child = await _exec(make, command, settings)
            if prepare is not None:
                await _prepare(child, prepare)
            return child
        words = gate.behind(command, environment, working_directory)
        with gate.Gate() as held:
            child = await _exec(make, words, settings | {"stdin": held.reader})
            held.open(await _prepare(child, prepare))
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        raise SpawnError(_reason(error, command[0], working_directory, options or {})) from None
    return child


async def _exec(make: Callable[[], Child], words: Sequence[str], settings: dict[str, Any]) -> Child:
    _, child = await asyncio.get_running_loop().subprocess_exec(make, *words, **settings)
    return child


async def _prepare(child: Child, prepare: Prepare) -> str:
    try:
        return prepare(child.pid)
    except (OSError, ValueError) as error:
        await child.abandon()
        raise SpawnError(str(error)) from None


def _reason(error: Exception, program: str, working_directory: str | None, options: Mapping[str, Any]) -> str:
    """Python names the directory or the program in the same way; people need to know which of them it is."""
    number = error.errno if isinstance(error, OSError) else None
    if number in EXHAUSTED:
        return f"the program {program} cannot be started: {EXHAUSTED[number]}"
    if working_directory is not None and not pathlib.Path(working_directory).is_dir():
        return f"the working directory {working_directory} is not there"
    if isinstance(error, FileNotFoundError):
        return f"the program {program} is not there"
    if isinstance(error, PermissionError) and "user" in options and not system.is_root():
        return f"the program {program} cannot be run as another user: the agent itself is not root"
    if isinstance(error, PermissionError):
        return f"the program {program} may not be run: {error.strerror}"
    return f"the program {program} cannot be started: {error}"


class LineReader:
    """Cuts a stream into lines of at most `limit` bytes; the rest of a longer line is dropped."""

    def __init__(self, limit: int, on_line: Callable[[str, bool], None]) -> None:
        self._limit = limit
        self._on_line = on_line
        self._part = b""
        self._dropping = False

    def feed(self, data: bytes) -> None:
        """Take what was read; empty data is the end, and ends a line that has no newline."""
        if not data:
            if self._part:
                self._emit(self._part, cut=False)
            self._part = b""
            return
        *complete, rest = data.split(b"\n")
        for piece in complete:
            self._take(piece)
            if not self._dropping:
                self._emit(self._part, cut=False)
            self._part, self._dropping = b"", False
        self._take(rest)

    def skip(self, *, ended: bool) -> None:
        """Something was left out; `ended`: up to the end of a line."""
        self._part, self._dropping = b"", not ended

    def _take(self, piece: bytes) -> None:
        if self._dropping:
            return
        self._part += piece
        if len(self._part) > self._limit:
            self._emit(self._part[: self._limit], cut=True)
            self._part, self._dropping = b"", True

    def _emit(self, line: bytes, *, cut: bool) -> None:
        self._on_line(line.rstrip(b"\r").decode("utf-8", "replace"), cut)
