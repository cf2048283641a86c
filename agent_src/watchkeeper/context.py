"""What every reconciler is given: what is wanted, what is there, and the ways to say and to do something about it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from watchkeeper.config.intake import Intake
from watchkeeper.config.snapshot import Key, Snapshot
from watchkeeper.config.store import Store
from watchkeeper.events import Events
from watchkeeper.faults.state import Faults
from watchkeeper.life.hooks import Hooks
from watchkeeper.metrics import Metrics
from watchkeeper.observed import ObjectRecord, Observed, wall_clock
from watchkeeper.orders import Orders
from watchkeeper.outbound.client import Client
from watchkeeper.queue import WorkQueue
from watchkeeper.registry.directory import Directory
from watchkeeper.tasks import Tasks

if TYPE_CHECKING:
    from watchkeeper.endpoints.exposition import Exposition
    from watchkeeper.supervise.warden import Warden


@dataclass
class Context:
    """One agent's shared parts. There is one loop, and everything here belongs to it."""

    store: Store
    metrics: Metrics
    observed: Observed = field(default_factory=Observed)
    queue: WorkQueue[Key] = field(default_factory=WorkQueue)
    hooks: Hooks = field(default_factory=Hooks)
    events: Events = field(default_factory=Events)
    orders: Orders = field(default_factory=Orders)
    http: Client = field(default_factory=Client)
    exposition: Exposition | None = None
    """What answers requests, once there is something that does."""
    directory: Directory = field(default_factory=Directory)
    """What discovery has found."""
    ask_stop: Callable[[str], None] = lambda _cause: None
    """Have the agent stop in order; takes the cause. The runtime puts its own here."""
    exit_status: int | None = None
    """What the agent then exits with; None: what the stop itself says."""
    chance: Callable[[], float] = random.random
    """A number from 0 to 1: jitter and splay; a test has its own."""

    warden: Warden | None = None
    """Who ends what the agent has started, should it be killed; supervise.warden.warden_of makes it."""
    reporters: dict[str, Any] = field(default_factory=dict)
    """Sources that want to hear what became of their documents, by their names."""

    born: float | None = None
    """When the agent began, on the loop's clock; None: before there was a loop."""

    def __post_init__(self) -> None:
        if self.born is None and (loop := asyncio._get_running_loop()) is not None:
            self.born = loop.time()
        self.tasks = Tasks(self.metrics)
        self.faults = Faults(self.metrics, self.chance)
        self.intake = Intake(self.store, self.metrics, self.add)
        if isinstance(self.http, Client):  # a test may have one of its own
            self.http.attach(
                lambda: self.snapshot.config.outbound, self.metrics, self.directory.of, self.faults
            )

    @property
    def snapshot(self) -> Snapshot:
        """What is wanted now."""
        return self.store.snapshot

    def add(self, key: Key) -> None:
        """Let a key be looked at soon."""
        self.queue.add(key)

    def show(
        self, key: Key, state: str, why: str = "", *, last_error: str | None = None, **details: Any
    ) -> None:
        """Say in what state a key is, for /status and `explain`; a new state is noted as an event.

        Args:
            state: one word of the kind's own closed list.
            why: a sentence.
            last_error: kept until another one takes its place.
            details: what else is worth knowing, as plain data.
        """
        record = self.observed.objects.get(key)
        if record is None:
            record = self.observed.objects[key] = ObjectRecord(since=wall_clock())
        if record.state != state:
            record.since = wall_clock()
            self.events.note(key, state, why)
        record.state, record.why, record.details = state, why, details
        record.last_error = last_error or record.last_error

    def forget(self, key: Key) -> None:
        """The key is neither wanted nor there."""
        self.observed.objects.pop(key, None)
