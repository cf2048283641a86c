"""Who ends the services of an agent that was killed: one small shell that the agent tells which groups there are.

It holds the reading end of a pipe whose only writing end is the agent's. When the agent is gone, however that came about,
the pipe ends; the shell sends TERM to every group it knows and KILL to those that are left after their grace. Unlike
Linux's parent death signal this reaches whole groups, belongs to the agent and not to one of its threads, survives a
change of user, and works on macOS. A program is known here before it begins (gate.py).

Rules:
    W1  A group is known from before its first instruction until nothing of it is left, be it a service's or that of the
        command of a check, a condition or a job.
    W2  A warden that has died is replaced, and told everything again; one that does not listen is ended for that.
    W3  An agent that ends in order has let go of every group, so that its warden has nothing to do.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import subprocess
from typing import TYPE_CHECKING

from watchkeeper import gate, system
from watchkeeper.life.hooks import Rank
from watchkeeper.logs import get_logger
from watchkeeper.supervise.child import Prepare

if TYPE_CHECKING:
    from watchkeeper.context import Context

journal = get_logger("warden")

SCRIPT = r"""
trap '' TERM INT HUP QUIT USR1 USR2
groups= grace=0
while read -r what group seconds; do
  case $what in
  add) groups="$groups $group"; [ "$seconds" -le "$grace" ] || grace=$seconds ;;
  del) left=; for g in $groups; do [ "$g" = "$group" ] || left="$left $g"; done; groups=$left ;;
  esac
done
for g in $groups; do kill -s TERM -- "-$g"; done
n=$((grace * 10))
while [ "$n" -gt 0 ]; do
  left=; for g in $groups; do ! kill -s 0 -- "-$g" || left="$left $g"; done
  groups=$left; [ -n "$groups" ] || exit 0
  sleep 0.1 || sleep 1
  n=$((n - 1))
done
for g in $groups; do kill -s KILL -- "-$g"; done
"""
AGAIN = 1.0
"""Seconds before a warden that could not be started is tried again."""


class Warden:
    """The shell, started with the first group."""

    def __init__(self) -> None:
        self._groups: dict[int, int] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._watch: asyncio.Task[None] | None = None
        self._missing = False

    @property
    def pid(self) -> int | None:
        """The shell's, while there is one."""
        return None if self._process is None else self._process.pid

    def guard(self, group: int, grace: float) -> None:
        """End this group should the agent be killed."""
        self._groups[group] = math.ceil(grace)
        if self._process is None:
            self._start()
        else:
            self._tell(f"add {group} {self._groups[group]}")

    def at_the_gate(self, grace: float) -> Prepare | None:
        """For `spawn`: guard the group of what it starts. None on Windows, where a job object ends with the agent."""

        def prepare(pid: int) -> str:
            self.guard(pid, grace)
            return ""

        return None if system.WINDOWS else prepare

    def release(self, group: int) -> None:
        """Nothing of the group is left, or it may live on."""
        if self._groups.pop(group, None) is not None:
            self._tell(f"del {group}")

    async def close(self) -> None:
        """The agent ends in order: let go of the shell, which has nothing to do any more."""
        if self._watch is not None:
            self._watch.cancel()
        process, self._process = self._process, None
        if process is None:
            return
        for group in self._groups:
            self._write(process, f"del {group}")
        assert process.stdin is not None
        process.stdin.close()
        await asyncio.to_thread(process.wait)

    def _start(self) -> None:
        if not gate.there():
            if not self._missing:
                journal.warning(f"there is no {gate.SHELL}: services outlive an agent that is killed")
            self._missing = True
            return
        try:
            self._process = subprocess.Popen(
                [gate.SHELL, "-c", SCRIPT, "watchkeeper-warden"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath)},
            )
        except OSError as error:
            journal.warning(f"nobody would end the services if the agent were killed: {error}")
            asyncio.get_running_loop().call_later(AGAIN, self._again)
            return
        for group, grace in self._groups.items():
            self._tell(f"add {group} {grace}")
        assert self._process.stdin is not None
        os.set_blocking(self._process.stdin.fileno(), False)
        self._watch = asyncio.create_task(self._mourn(self._process), name="warden")

    def _again(self) -> None:
        if self._process is None and self._groups:
            self._start()

    async def _mourn(self, process: subprocess.Popen[bytes]) -> None:
        """W2."""
        await _end_of(process)
        if self._process is process:
            journal.warning("the warden has died and is replaced")
            self._process = None
            assert process.stdin is not None
            with contextlib.suppress(OSError):
                process.stdin.close()
            self._again()

    def _tell(self, line: str) -> None:
        if self._process is not None:
            self._write(self._process, line)

    @staticmethod
    def _write(process: subprocess.Popen[bytes], line: str) -> None:
        assert process.stdin is not None
        try:
            os.write(process.stdin.fileno(), line.encode() + b"\n")
        except BlockingIOError:
            process.kill()  # it reads no more, as one that somebody has stopped; nobody waits for it
        except OSError:
            pass  # it has just died: its successor hears everything again


def warden_of(context: Context) -> Warden:
    """The one of this agent; its shell is started with the first group, and its end is part of the agent's."""
    if context.warden is None:
        context.warden = Warden()
        context.hooks.add(Rank.EXPORT, "warden", context.warden.close, 1.0)
    return context.warden


async def _end_of(process: subprocess.Popen[bytes]) -> None:
    """Return when a process has ended: by its descriptor where there is one, else by looking."""
    opener = getattr(os, "pidfd_open", None)
    descriptor = -1
    if opener is not None:
        with contextlib.suppress(OSError):
            descriptor = opener(process.pid)
    if descriptor < 0:
        while process.poll() is None:  # noqa: ASYNC110 - nobody else says it
            await asyncio.sleep(AGAIN)
        return
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def end() -> None:
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(descriptor, end)
    try:
        await ended
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    process.poll()
