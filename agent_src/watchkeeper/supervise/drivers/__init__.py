"""Who runs a service: one module for each `driver` of the configuration.

A driver starts a service, and finds what already runs of it. What it hands out is asked to end, killed and looked at in the
same way whoever runs it; when to do what is the business of lifecycle.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from watchkeeper.config.schema.services import (
    ContainerService,
    ProcessService,
    Service,
    UnitService,
    WindowsService,
)
from watchkeeper.context import Context
from watchkeeper.supervise.memory import Memory, Remembered

OnExit = Callable[[Any], None]
"""Called with what has ended, in the loop."""


class Running(Protocol):
    """A service that was started or found. `exit_code` is subprocess's, None while it runs."""

    @property
    def pid(self) -> int:
        """Of its first process; 0: not known, or not one of this machine."""

    begun: bool
    """Whether its start is over; until then it does not count as started, whatever its checks say."""
    adopted: bool
    """Whether it ran before this agent looked after it."""
    started_at: float
    """The loop's clock, as `exited_at`."""
    exited_at: float | None
    exit_code: int | None

    def terminate(self) -> bool:
        """Ask it to end; whether anybody was there."""

    def kill(self) -> bool:
        """End it without asking."""

    def group_alive(self) -> bool:
        """Whether anything of it is left."""

    def leave(self) -> None:
        """Look at it no more, and let it run."""

    def close(self) -> None:
        """It is gone."""


@dataclass(frozen=True)
class Start:
    """What is to be started."""

    name: str
    spec: Any
    instance: int
    on_exit: OnExit
    remember: Callable[[int], None]
    """Called with the number of the process before its program begins."""
    on_change: Callable[[], None] = lambda: None
    """Called when what is started has begun."""


class Driver(Protocol):
    """One per kind and agent."""

    async def start(self, start: Start) -> Running:
        """Start it.

        Raises:
            SpawnError: it cannot be started; the text says why.
        """

    async def find(
        self, name: str, spec: Any, remembered: Remembered | None, on_exit: OnExit
    ) -> Running | None:
        """What runs of it already, be it from an earlier agent; None: nothing."""

    def gone(self, name: str, running: Running) -> None:
        """Nothing is left of it."""

    def left(self, name: str, running: Running) -> None:
        """The agent ends, and it goes on."""


Make = Callable[[Context, Memory, Any], Driver]


def _process(context: Context, memory: Memory, spawn: Any) -> Driver:
    from watchkeeper.supervise.drivers.process import ProcessDriver

    return ProcessDriver(context, memory, spawn)


def _unit(_context: Context, _memory: Memory, _spawn: Any) -> Driver:
    from watchkeeper.supervise.drivers.polled import RemoteDriver
    from watchkeeper.supervise.drivers.unit import Unit

    return RemoteDriver(Unit)


def _windows(_context: Context, _memory: Memory, _spawn: Any) -> Driver:
    from watchkeeper.supervise.drivers.polled import RemoteDriver
    from watchkeeper.supervise.drivers.windows_service import ServiceOfWindows

    return RemoteDriver(ServiceOfWindows)


def _container(context: Context, _memory: Memory, _spawn: Any) -> Driver:
    from watchkeeper.life.hooks import Rank
    from watchkeeper.supervise.drivers.container import Container, Engines
    from watchkeeper.supervise.drivers.polled import RemoteDriver

    engines = Engines()
    context.hooks.add(Rank.EXPORT, "container engines", engines.close, 1.0)
    return RemoteDriver(lambda name, spec: Container(name, spec, engines.at(spec.socket)))


DRIVERS: dict[type[Service], Make] = {
    ProcessService: _process,
    UnitService: _unit,
    WindowsService: _windows,
    ContainerService: _container,
}


class Drivers:
    """Those of one agent, each made when it is first needed."""

    def __init__(self, context: Context, memory: Memory, spawn: Any) -> None:
        self._context, self._memory, self._spawn = context, memory, spawn
        self._made: dict[type[Service], Driver] = {}

    def of(self, spec: Service) -> Driver:
        """The driver of a definition."""
        kind = type(spec)
        if kind not in self._made:
            self._made[kind] = DRIVERS[kind](self._context, self._memory, self._spawn)
        return self._made[kind]
