"""A profile by sampling: a thread looks at the stacks of all others, so many times a second.

It sees what holds or has just given up the interpreter, at the moments when it gets a turn itself: time that is spent in C
without giving up the interpreter is seen once it is over, at the line that called. What waits is left out unless asked for.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from types import CodeType, FrameType

DEPTH = 200
"""Frames of a stack that are kept; the outermost go first."""
SAMPLES = 500_000
"""Stacks of one profile; a profile that has so many ends."""
WAITING = {
    ("selectors", "select"),
    ("threading", "wait"),
    ("threading", "_wait_for_tstate_lock"),
    ("threading", "join"),
    ("queue", "get"),
    ("thread", "_worker"),
    ("connection", "_poll"),
    ("log_ring", "_run"),
    ("socket", "accept"),
}
"""Module and function at the top of a stack that does nothing."""


@dataclass(frozen=True)
class Frame:
    """One function; `line` is where it begins."""

    name: str
    file: str
    line: int

    def __str__(self) -> str:
        module = self.file.replace("\\", "/").rpartition("/")[2]
        return f"{self.name} ({module}:{self.line})"


@dataclass
class ThreadSamples:
    """What one thread did: numbers of stacks in the order in which they were seen, and the seconds each stands for."""

    name: str
    stacks: list[int] = field(default_factory=list)
    weights: list[float] = field(default_factory=list)


@dataclass
class Profile:
    """All of it. A stack is a tuple of numbers of frames, outermost first."""

    seconds: float = 0.0
    rounds: int = 0
    frames: list[Frame] = field(default_factory=list)
    stacks: list[tuple[int, ...]] = field(default_factory=list)
    threads: dict[int, ThreadSamples] = field(default_factory=dict)

    @property
    def samples(self) -> int:
        return sum(len(thread.stacks) for thread in self.threads.values())


class Sampler:
    """One profile in the making."""

    def __init__(
        self, *, idle: bool = False, frames: Callable[[], dict[int, FrameType]] = sys._current_frames
    ) -> None:
        self.profile = Profile()
        self._idle, self._current = idle, frames
        self._frames: dict[CodeType, int] = {}
        self._stacks: dict[tuple[int, ...], int] = {}

    def run(self, seconds: float, hz: float, stop: threading.Event) -> Profile:
        """Sample until the time is up, `stop` is set, or there are too many; for a thread of its own."""
        interval, begun = 1.0 / hz, time.perf_counter()
        due = before = begun
        while not stop.is_set() and before - begun < seconds and self.profile.samples < SAMPLES:
            due += interval
            stop.wait(max(0.0, due - time.perf_counter()))
            now = time.perf_counter()
            if (
                now - due > interval
            ):  # what was missed is not made up for: its time counts for the stack that is seen now
                due = now
            self.look(now - before, {threading.get_ident()})
            before = now
        self.profile.seconds = before - begun
        return self.profile

    def look(self, weight: float, without: set[int]) -> None:
        """One sample of every thread, which stands for `weight` seconds."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        self.profile.rounds += 1
        for ident, frame in self._current().items():
            if ident in without or (not self._idle and waits(frame)):
                continue
            thread = self.profile.threads.get(ident)
            if thread is None:
                thread = self.profile.threads[ident] = ThreadSamples(names.get(ident, f"thread {ident}"))
            thread.stacks.append(self._stack(frame))
            thread.weights.append(weight)

    def _stack(self, innermost: FrameType) -> int:
        numbers: list[int] = []
        frame: FrameType | None = innermost
        while frame is not None and len(numbers) < DEPTH:
            numbers.append(self._frame(frame.f_code))
            frame = frame.f_back
        stack = tuple(reversed(numbers))
        number = self._stacks.get(stack)
        if number is None:
            number = self._stacks[stack] = len(self.profile.stacks)
            self.profile.stacks.append(stack)
        return number

    def _frame(self, code: CodeType) -> int:
        number = self._frames.get(code)
        if number is None:
            number = self._frames[code] = len(self.profile.frames)
            self.profile.frames.append(Frame(code.co_qualname, code.co_filename, code.co_firstlineno))
        return number


def waits(frame: FrameType) -> bool:
    """Whether the top of a stack is a function that waits."""
    code = frame.f_code
    module = code.co_filename.replace("\\", "/").rpartition("/")[2].removesuffix(".py")
    return (module, code.co_name) in WAITING
