"""An agent's core on a clock of its own: the reconcilers and the queue are real, probes and processes are not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from watchkeeper.checks import Memory, Outcome
from watchkeeper.checks.gate import Verdict
from watchkeeper.config.load import parse
from watchkeeper.config.model import AnyCheck
from watchkeeper.config.snapshot import Kind
from watchkeeper.config.store import Store
from watchkeeper.context import Context
from watchkeeper.metrics import Metrics
from watchkeeper.reconcile import Reconciler, work
from watchkeeper.reconcilers.checks import CheckReconciler
from watchkeeper.reconcilers.services import ServiceReconciler

Script = Callable[[AnyCheck], Awaitable[Outcome]]


class FakeChild:
    """A process that ends when it is told to, unless it is deaf."""

    made: list[FakeChild]
    adopted = False

    def __init__(self, on_exit: Callable[[Any], None], *, deaf: bool) -> None:
        self._on_exit = on_exit
        self._deaf = deaf
        self.pid = 1000 + len(FakeChild.made)
        self.started_at = asyncio.get_running_loop().time()
        self.exited_at: float | None = None
        self.exit_code: int | None = None
        FakeChild.made.append(self)

    def end(self, code: int) -> None:
        if self.exit_code is None:
            self.exit_code, self.exited_at = code, asyncio.get_running_loop().time()
            self._on_exit(self)

    def terminate(self) -> bool:
        if not self._deaf:
            asyncio.get_running_loop().call_soon(self.end, -15)
        return True

    def kill(self) -> bool:
        asyncio.get_running_loop().call_soon(self.end, -9)
        return True

    def group_alive(self) -> bool:
        return self.exit_code is None

    def close(self) -> None:
        pass


class World:
    """An agent's core with a clock of its own."""

    def __init__(self, look: Script, *, fresh: bool = False) -> None:
        """`fresh`: the agent has just started, and spreads its first looks."""
        context = self.context = Context(Store(), Metrics(), chance=lambda: 0.5)
        self.store, self.observed, self.metrics = context.store, context.observed, context.metrics
        self.queue = context.queue
        self.looks: list[tuple[float, str]] = []
        self.look = look
        self.services = ServiceReconciler(context)
        self.checks = CheckReconciler(context, self._look, fresh=fresh)
        reconcilers: dict[Kind, Reconciler] = {Kind.SERVICE: self.services, Kind.CHECK: self.checks}
        self.worker = asyncio.create_task(work(self.queue, reconcilers, self.metrics, lambda _key: None))

    async def _look(self, spec: AnyCheck, _memory: Memory) -> Outcome:
        name = next(name for name, bound in self.store.snapshot.checks.items() if bound.spec is spec)
        self.looks.append((asyncio.get_running_loop().time(), name))
        return await self.look(spec)

    def load(self, text: str) -> None:
        """A new configuration, as the agent would take it."""
        for key in self.store.apply(parse(text.encode(), file="f.yaml")):
            self.queue.add(key)

    def times(self, name: str) -> list[float]:
        return [round(when, 3) for when, looked in self.looks if looked == name]

    def verdict(self, name: str) -> Verdict:
        return self.observed.checks[name].gate.verdict

    def series(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"watchkeeper_{name}", labels)
