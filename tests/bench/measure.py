"""Programs are started in turn and timed; what is promised is a ratio between two that were started side by side.

Wall time from the call that makes the process to the one that reaps it, without pipes and without a shell in between:
for a program of eight milliseconds those would be a tenth of what is seen, on both sides of the ratio, and flatter it.

Where the system permits it, what is timed runs with real-time priority, and so does the clock: on a machine with other
work both sides of a ratio would mostly wait for a processor, and every ratio would come near to one.
"""

from __future__ import annotations

import math
import os
import random
import statistics
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

NOTHING = [
    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
]


@dataclass(frozen=True, kw_only=True)
class Start:
    """One way to start one program."""

    name: str
    args: Sequence[str]
    env: Mapping[str, str]
    code: int = 0  # what it ends with
    before: Callable[[], object] | None = None  # every start, outside of the time that is measured


@dataclass(frozen=True, kw_only=True)
class Took:
    """Seconds of one run: on the clock, and of processor time in all of its processes."""

    wall: float
    cpu: float


def run(start: Start) -> Took:
    """Run it to its end. Another exit code than expected ends the bench: a failure is fast, and worth nothing."""
    if start.before is not None:
        start.before()
    began = time.perf_counter()
    pid = os.posix_spawn(start.args[0], list(start.args), start.env, file_actions=NOTHING)
    _, status, used = os.wait4(pid, 0)
    took = Took(wall=time.perf_counter() - began, cpu=used.ru_utime + used.ru_stime)
    if (code := os.waitstatus_to_exitcode(status)) != start.code:
        raise SystemExit(f"{start.name} ended with {code} instead of {start.code}:\n{output(start)}")
    return took


def output(start: Start) -> str:
    """What it prints, from a run that is not timed."""
    done = subprocess.run(
        start.args, env=start.env, stdin=subprocess.DEVNULL, capture_output=True, check=False
    )
    return (done.stdout + done.stderr).decode(errors="replace")


@contextmanager
def undisturbed() -> Iterator[bool]:
    """This process, and all that it starts, before every ordinary process; False where it may not have that."""
    policy, priority = os.sched_getscheduler(0), os.sched_getparam(0)
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        os.sched_setscheduler(0, policy, priority)


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """The median of the ratios of each round, and the interval that holds the true median in 95 of 100 cases."""

    value: float
    low: float
    high: float
    rounds: int


@dataclass
class Times:
    """What every start took, one value per round."""

    seen: dict[str, list[Took]] = field(default_factory=dict)

    def add(self, name: str, took: Took) -> None:
        self.seen.setdefault(name, []).append(took)

    def wall(self, name: str) -> float:
        return statistics.median(took.wall for took in self.seen[name])

    def cpu(self, name: str) -> float:
        return statistics.median(took.cpu for took in self.seen[name])

    def ratio(self, ours: str, theirs: str) -> Ratio:
        pairs = zip(self.seen[ours], self.seen[theirs], strict=True)
        ratios = sorted(first.wall / second.wall for first, second in pairs)
        count = len(ratios)
        # The median lies between these two in 95 of 100 cases, whatever the ratios are distributed like.
        rank = max(0, math.floor(count / 2 - 0.98 * math.sqrt(count)) - 1)
        return Ratio(
            value=statistics.median(ratios), low=ratios[rank], high=ratios[count - 1 - rank], rounds=count
        )


def in_turn(
    starts: Iterable[Start],
    *,
    least: int,
    most: int = 0,
    decided: Callable[[Times], bool] | None = None,
    warmup: int = 2,
) -> Times:
    """Every one once per round, in an order that chance makes anew, so that none always follows the heavy one.

    ``least`` rounds, then more until ``decided`` says that they tell enough, at most ``most``.
    """
    line, times = list(starts), Times()
    chance = random.Random(1)  # the same order in every run
    with undisturbed():
        for start in line * warmup:
            run(start)
        done = 0
        while done < least or (done < most and decided is not None and not decided(times)):
            chance.shuffle(line)
            for start in line:
                times.add(start.name, run(start))
            done += 1
    return times


def against(ours: Start, theirs: Start, *, limit: float, least: int, most: int) -> tuple[Ratio, Times]:
    """Two in turn, until the interval of the ratio lies on one side of the limit."""

    def decided(times: Times) -> bool:
        ratio = times.ratio(ours.name, theirs.name)
        return not ratio.low <= limit <= ratio.high

    times = in_turn([ours, theirs], least=least, most=most, decided=decided)
    return times.ratio(ours.name, theirs.name), times
