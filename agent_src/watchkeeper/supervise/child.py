"""One child process in its own process group.

Its end is reported the moment the event loop's child watcher learns of it, whoever still holds its pipes open: a
grandchild that keeps them would otherwise hide the end of the child.
"""

from __future__ import annotations

import asyncio
import pathlib
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import cast

from watchkeeper import system

Sink = Callable[[int, bytes], None]
"""Takes the number of the stream (1 or 2) and what was read; empty at its end."""


class SpawnError(Exception):
    """The program could not be started; the text says why."""


class Child(asyncio.SubprocessProtocol):
    """A process that was started. `exit_code` is subprocess's (negative: a signal), None while it runs."""

    def __init__(self, on_output: Sink, on_exit: Callable[[Child], None]) -> None:
        self._on_output = on_output
        self._on_exit = on_exit
        self._transport: asyncio.SubprocessTransport | None = None
        self.pid = 0
        self.exit_code: int | None = None
        self.started_at = 0.0
        """The loop's clock."""
        self.exited_at: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.SubprocessTransport", transport)
        self.pid = self._transport.get_pid()
        self.started_at = asyncio.get_running_loop().time()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self._on_output(fd, data)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self._on_output(fd, b"")

    def process_exited(self) -> None:
        transport = cast("asyncio.SubprocessTransport", self._transport)
        self.exit_code = transport.get_returncode()
        self.exited_at = asyncio.get_running_loop().time()
        self._on_exit(self)

    def terminate(self) -> bool:
        """Ask the whole group to end; whether anybody was there."""
        return system.terminate_group(self.pid)

    def kill(self) -> bool:
        """End the whole group; whether anybody was there."""
        return system.kill_group(self.pid)

    def group_alive(self) -> bool:
        """Whether the child, or anything it has started in its group, is left."""
        return self.exit_code is None or system.group_alive(self.pid)

    def close(self) -> None:
        """Let go of the pipes. What the child wrote before its end has been read by then, or is a grandchild's."""
        if self._transport is not None:
            self._transport.close()


async def spawn(
    command: Sequence[str],
    *,
    environment: Mapping[str, str],
    working_directory: str | None,
    on_output: Sink,
    on_exit: Callable[[Child], None],
) -> Child:
    """Start a program without a shell, without input, with its output read.

    Raises:
        SpawnError: there is no such program or directory, or it may not be run.
    """
    loop = asyncio.get_running_loop()
    try:
        _, child = await loop.subprocess_exec(
            lambda: Child(on_output, on_exit),
            *command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=working_directory,
            env=system.child_environment() | dict(environment),
            **system.spawn_options(),
        )
    except (OSError, ValueError) as error:
        raise SpawnError(_reason(error, command[0], working_directory)) from None
    return child


def _reason(error: Exception, program: str, working_directory: str | None) -> str:
    """Python names the directory or the program in the same way; people need to know which of them it is."""
    if working_directory is not None and not pathlib.Path(working_directory).is_dir():
        return f"the working directory {working_directory} is not there"
    if isinstance(error, FileNotFoundError):
        return f"the program {program} is not there"
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

    def _take(self, piece: bytes) -> None:
        if self._dropping:
            return
        self._part += piece
        if len(self._part) > self._limit:
            self._emit(self._part[: self._limit], cut=True)
            self._part, self._dropping = b"", True

    def _emit(self, line: bytes, *, cut: bool) -> None:
        self._on_line(line.rstrip(b"\r").decode("utf-8", "replace"), cut)
