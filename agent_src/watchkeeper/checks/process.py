"""The process check: how many processes there are of a kind, and what they use.

One pass over all processes answers every such check for a moment (PASS_SECONDS), however many there are.
"""

from __future__ import annotations

import pathlib
import re
import time
from collections.abc import Callable

from watchkeeper.checks import Memory, Outcome, ProbeError, failed, own_fault, passed
from watchkeeper.checks.amounts import about
from watchkeeper.checks.threads import THREADS, owner
from watchkeeper.config.schema.checks import ProcessCheck
from watchkeeper.native import Process, processes

PASS_SECONDS = 0.5
Ticks = dict[tuple[int, float | None], float]
"""Processor seconds by pid and start; a pid alone may be somebody else's by the next look."""


class Passes:
    """Passes over all processes, in a thread, and kept for a moment."""

    def __init__(self, read: Callable[..., list[Process]] = processes) -> None:
        self._read = read
        self._kept: dict[bool, tuple[float, list[Process]]] = {}

    def now(self, command: bool) -> list[Process]:
        """All processes; called in a thread."""
        kept = self._kept.get(command)
        if kept is None or time.monotonic() - kept[0] > PASS_SECONDS:
            kept = self._kept[command] = (time.monotonic(), self._read(command=command))
        return kept[1]


PASSES = Passes()


async def probe(spec: ProcessCheck, memory: Memory) -> Outcome:
    """Count, and add up."""
    try:
        found = await THREADS.run(owner(memory), lambda: matching(spec))
    except OSError as error:
        if own_fault(error):
            raise
        raise ProbeError(f"the processes cannot be read: {error.strerror}") from None
    if isinstance(found, str):
        return failed(found)
    return _judge(spec, found, memory)


def matching(spec: ProcessCheck) -> list[Process] | str:
    """The processes that are meant, or why there can be none."""
    pid = None
    if spec.pidfile is not None:
        try:
            pid = _pid(spec.pidfile)
        except (OSError, ValueError) as error:
            if isinstance(error, OSError) and own_fault(error):
                raise
            return f"the pid file {spec.pidfile} cannot be used: {getattr(error, 'strerror', None) or error}"
    found = [each for each in PASSES.now(spec.cmdline is not None) if each.state not in "ZX"]
    if pid is not None:
        found = [each for each in found if each.pid == pid]
    if spec.name is not None:
        found = [each for each in found if each.name == spec.name]
    if spec.cmdline is not None:
        pattern = re.compile(spec.cmdline)
        found = [each for each in found if each.command and pattern.search(" ".join(each.command))]
    return found


def _pid(file: str) -> int:
    with pathlib.Path(file).open("rb") as stream:
        words = stream.read(64).split()
    if not words or not words[0].isdigit():
        raise ValueError("its first word is no number")
    return int(words[0])


def _judge(spec: ProcessCheck, found: list[Process], memory: Memory) -> Outcome:
    count = len(found)
    said = f"{count} process{'es' * (count != 1)}"
    if count < spec.minimum:
        return failed(f"{said}, and {spec.minimum} are needed")
    if spec.maximum is not None and count > spec.maximum:
        return failed(f"{said}, and {spec.maximum} are allowed")
    rss = sum(each.rss_bytes or 0 for each in found)
    if spec.max_rss is not None and rss > spec.max_rss:
        return failed(f"{said} with {about(rss)} in memory, and {about(spec.max_rss)} are allowed")
    if spec.max_cpu is not None:
        percent = _cpu(found, memory)
        if percent is not None and percent > spec.max_cpu:
            return failed(f"{said} with {percent:.1f} % of a processor, and {spec.max_cpu:g} % are allowed")
    return passed(f"{said}, {about(rss)}")


def _cpu(found: list[Process], memory: Memory) -> float | None:
    """Percent of one processor since the look before; None at the first."""
    now = time.monotonic()
    ticks = {
        (each.pid, each.started): (each.user_seconds or 0.0) + (each.system_seconds or 0.0) for each in found
    }
    before: tuple[float, Ticks] | None = memory.get("ticks")
    memory["ticks"] = (now, ticks)
    if before is None or now <= before[0]:
        return None
    used = sum(max(0.0, seconds - before[1].get(key, seconds)) for key, seconds in ticks.items())
    return 100.0 * used / (now - before[0])
