"""A program under test while it runs: its output goes to a file, its group can be ended, nothing of it may stay.

How it is started and asked to stop is the place's business (runners/base.py).

Who belongs to it is found in three ways, each of which reaches further: its group and session; its HOME, which nobody else
has; and its mounts, which a child cannot leave by forgetting session and variables: a place that makes a mount namespace
for every program (native, rootfs, qemu) mounts the program's working folder there, and that folder is its own.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from ferryman_build.cmd import Runner, end_group
from ferryman_build.runners.base import Command, Place, Watching

_TAIL_LINES = 20
_DRAIN_SECONDS = 2.0
_SETTLE_SECONDS = 1.0  # a child that is on its way out is no leftover


class Child:
    """One started program; leaving the ``with`` block ends whatever is left of it and writes its log."""

    def __init__(
        self,
        command: Command,
        *,
        name: str,
        echo: Sequence[str],
        output: Path,
        runner: Runner,
        place: Place,
        pace: float = 1.0,
    ) -> None:
        """``pace``: how many times as slow as this machine the place is; processes get so much longer to go."""
        self._echo, self._name, self._runner, self._output = echo, name, runner, output
        self._place, self._settle = place, _SETTLE_SECONDS * pace
        self._home, self._folder = command.env.get("HOME", ""), str(command.cwd)
        # A file and not a pipe: a grandchild that keeps it open cannot make us wait.
        with output.open("wb") as file:
            self.process = runner.start(
                command.words,
                cwd=command.cwd,
                env=command.env,
                output=subprocess.PIPE if place.pipes else file,
            )
        self._pump = self._pumped(self.process.stdout)

    def _pumped(self, pipe: IO[bytes] | None) -> threading.Thread | None:
        """What copies a pipe into the output file, for places whose programs write to no file."""
        if pipe is None:
            return None
        thread = threading.Thread(target=_copy, args=(pipe, self._output), daemon=True)
        thread.start()
        return thread

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        self._drained()
        self._runner.forget(self.process)
        log = self._runner.log_path(self._name)
        self._runner.write_log(log, self._echo, self.output(), self.process.returncode)

    def wait(self, seconds: float) -> int | None:
        """The exit code, None when the program still runs after ``seconds``."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None

    def terminate(self) -> None:
        """Ask the program, and it alone, to stop."""
        self._place.stop(self.process)

    def end(self) -> None:
        """End the program's group, and those of its children that left the group."""
        if self.process.poll() is None or self._survivors():
            end_group(self.process)
        for pid in self._survivors():
            _kill(pid)
        self._settled()  # a signal that was sent needs a moment to be obeyed

    def leftovers(self) -> list[str]:
        """Processes that outlived the program, as ``name (pid)``; asked again until they had a second to go."""
        found = [f"{_command_name(pid)} ({pid})" for pid in self._settled()]
        return list(dict.fromkeys([*found, *self._watched()]))

    def _settled(self) -> list[int]:
        """The survivors, none of which is only on its way out."""
        deadline = time.monotonic() + self._settle
        while (found := self._survivors()) or self._watched():
            if time.monotonic() >= deadline:
                break
            time.sleep(0.05)
        return found

    def _watched(self) -> list[str]:
        """What the place itself knows of, which has neither our group nor our home."""
        return self._place.leftovers() if isinstance(self._place, Watching) else []

    def _drained(self) -> None:
        """Wait until all that was written has arrived, unless somebody holds the pipe open for ever."""
        if self._pump is not None:
            self._pump.join(_DRAIN_SECONDS)

    def _survivors(self) -> list[int]:
        """Living processes of the program's session or group, with its home, or with its folder mounted."""
        leader = self.process.pid
        alive = self.process.returncode is None
        return [pid for pid in _all_pids() if not (alive and pid == leader) and self._owns(pid, leader)]

    def _owns(self, pid: int, leader: int) -> bool:
        return _belongs(pid, leader) or _has_home(pid, self._home) or _has_mount(pid, self._folder)

    def output(self) -> str:
        """What the program has written until now, without secrets."""
        if self.process.returncode is not None:
            self._drained()
        return self._runner.redact(self._output.read_bytes().decode("utf-8", "replace"))

    def tail(self) -> str:
        """The last lines of the output, each behind a newline."""
        lines = [line for line in self.output().splitlines() if line.strip()]
        return "".join(f"\n{line}" for line in lines[-_TAIL_LINES:])


def _copy(pipe: IO[bytes], path: Path) -> None:
    with pipe, path.open("ab", buffering=0) as file:
        while chunk := pipe.read1(65536):  # type: ignore[attr-defined]
            file.write(chunk)


def _all_pids() -> list[int]:
    """Every process that /proc shows; none where there is no /proc."""
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdigit()]  # noqa: PTH208
    except OSError:
        return []


def _belongs(pid: int, leader: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    # proc(5): pid (comm) state ppid pgrp session …; comm may hold blanks and brackets.
    state, _, group, session = stat.rpartition(")")[2].split()[:4]
    return state not in "ZX" and str(leader) in (group, session)


def _has_home(pid: int, home: str) -> bool:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return bool(home) and f"HOME={home}".encode() in variables


def _has_mount(pid: int, folder: str) -> bool:
    """Whether ``folder`` is a mount point of its own in another namespace than ours; of zombies the kernel tells none."""
    try:
        if Path(f"/proc/{pid}/ns/mnt").readlink() == _our_mounts():
            return False
    except OSError:
        pass  # not ours to ask; its mounts may be read all the same
    try:
        rows = Path(f"/proc/{pid}/mountinfo").read_bytes().splitlines()
    except OSError:
        return False
    # proc(5): id, parent, device, root, mount point, options
    return any(row.split(b" ", 5)[4] == _as_mounted(folder) for row in rows)


def _as_mounted(folder: str) -> bytes:
    """As the kernel writes it there: what would end a field, and the backslash itself, as octal digits."""
    return re.sub(rb"[\\ \t\n]", lambda found: b"\\%03o" % ord(found[0]), os.fsencode(folder))


def _our_mounts() -> Path:
    return Path("/proc/self/ns/mnt").readlink()


def _command_name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return "process"


def _kill(pid: int) -> None:
    try:
        os.kill(pid, getattr(signal, "SIGKILL", signal.SIGTERM))
    except ProcessLookupError:
        return
