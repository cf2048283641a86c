"""What of the faults is on, and how many are going on.

Rules:
    S1  Off, until a section with enabled: true comes into force; then on for its ttl, and not longer.
    S2  The switch beats the section: what was switched off stays off over every reload, until it is switched on again. Switched
        on is on for another ttl.
    S3  What is switched off ends at once: delays that wait are let go, threads that burn stop within a few milliseconds.
    S4  At most max_active go on at the same time; a request that comes then is left alone, and counted. A fault ends with the
        request that suffers it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from watchkeeper.config.schema.faults import FaultSettings, Side
from watchkeeper.faults.decision import NOTHING, ChaosHeaderError, Fault, Subject, decide

if TYPE_CHECKING:
    from watchkeeper.metrics import Counter, Gauge, Metrics

TICK = 0.005
"""Seconds between two looks of a burning thread at the switch."""


@dataclass
class Instruments:
    """What is counted."""

    status: Gauge
    result: Counter

    @classmethod
    def of(cls, metrics: Metrics) -> Instruments:
        return cls(
            metrics.gauge("chaos_experiment_status", "1 while faults may be put in, 0 otherwise."),
            metrics.counter(
                "chaos_experiment_result_total",
                "Faults, by what became of them.",
                *("side", "fault", "result"),
            ),
        )


class Faults:
    """One per agent. Until a section arms it, asking costs one comparison."""

    def __init__(
        self,
        metrics: Metrics | None = None,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._metrics, self._chance, self._clock = metrics, chance, clock
        self._instruments: Instruments | None = None
        self._until = 0.0
        self._off = asyncio.Event()
        self.settings = FaultSettings()
        self.killed = False
        """Whether somebody has switched them off."""
        self.active = 0

    @property
    def on(self) -> bool:
        """Whether a fault may happen now."""
        return self.settings.enabled and not self.killed and self._clock() < self._until

    @property
    def left(self) -> float:
        """Seconds until they go off by themselves."""
        return max(0.0, self._until - self._clock()) if self.on else 0.0

    def arm(self, settings: FaultSettings) -> None:
        """A section comes into force (S1)."""
        self.settings = settings
        if self._instruments is None and self._metrics is not None:
            self._instruments = Instruments.of(self._metrics)
        self._start()

    def disarm(self) -> None:
        """The section is gone."""
        self.settings = FaultSettings()
        self._stop()

    def switch(self, *, on: bool) -> bool:
        """The switch (S2); whether they are on now."""
        self.killed = not on
        if on:
            self._start()
        else:
            self._stop()
        return self.on

    def expire(self) -> None:
        """The time is up, or may be: say so."""
        if not self.on:
            self._stop()

    def decide(self, subject: Subject) -> Fault:
        """The fault of a request.

        Raises:
            ChaosHeaderError: its headers ask for nonsense.
        """
        if not self.on:
            return NOTHING
        try:
            fault = decide(self.settings, subject, self._chance())
        except ChaosHeaderError:
            self._count(subject.side, ("header",), "invalid")
            raise
        if fault and self.active >= self.settings.max_active:
            self._count(subject.side, fault.kinds, "limited")  # S4
            return NOTHING
        return fault

    async def suffer(self, fault: Fault, side: Side) -> bool:
        """Do the part that takes time; False: it was switched off meanwhile, and nothing more is to be done.

        What is left for the caller: `abort` and `reset`.
        """
        self.active += 1
        try:
            if fault.delay:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(fault.delay):
                        await self._off.wait()
            if fault.cpu and self.on:
                done = threading.Event()
                try:
                    await asyncio.to_thread(self._burn, fault.cpu, done)
                finally:
                    done.set()  # whoever asked for it has gone: his thread is not to burn on, past every count
        finally:
            self.active -= 1
        through = self.on
        self._count(side, fault.kinds, "injected" if through else "stopped")
        return through

    def _burn(self, seconds: float, done: threading.Event) -> None:
        """In a thread: the loop gets its share of the interpreter as from any other busy thread."""
        until = time.monotonic() + seconds
        while (now := time.monotonic()) < until and self.on and not done.is_set():
            pause = now + TICK
            while time.monotonic() < pause:
                pass

    def _start(self) -> None:
        self._until = self._clock() + self.settings.ttl
        self._off.clear()
        self._show()

    def _stop(self) -> None:
        self._until = 0.0
        self._off.set()  # S3
        self._show()

    def _show(self) -> None:
        if self._instruments is not None:
            self._instruments.status.set(self.on)

    def _count(self, side: Side, kinds: tuple[str, ...], result: str) -> None:
        if self._instruments is not None:
            for kind in kinds:
                self._instruments.result.labels(side.value, kind, result).inc()
