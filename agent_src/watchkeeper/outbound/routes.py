"""From a host and a port to the destination that it is, and what is remembered of each destination.

A reload keeps what is known of a destination (its breakers, buckets and budget) unless its definition has changed.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from watchkeeper.bounded import TtlLru
from watchkeeper.config.schema.outbound import (
    BreakerSettings,
    ConsecutiveFailures,
    Destination,
    OutboundSettings,
    Reach,
)
from watchkeeper.limits import LeakyBucket, TokenBucket
from watchkeeper.logs import get_logger
from watchkeeper.outbound.balance import balancer, name_of
from watchkeeper.outbound.breaker import Breaker, State, Trips, consecutive_failures, failure_rate
from watchkeeper.outbound.errors import Failure, RequestError
from watchkeeper.outbound.measures import OTHER, Measures
from watchkeeper.outbound.retry import Budget
from watchkeeper.registry.instances import Instance, Instances

journal = get_logger("outbound")

REACH = {Reach.INTERNAL: 1.0, Reach.EXTERNAL: 5.0}
"""Seconds for everything: inside 500 ms to 1 s is usual, outside 2 to 5 s."""
Discover = Callable[[str], Instances]


@dataclass(frozen=True)
class Times:
    """Seconds; None: no limit."""

    connect: float | None
    read: float | None
    write: float | None
    total: float | None


@dataclass
class Route:
    """What is known of one destination. `spec` None: every host that is none."""

    name: str
    spec: Destination | None
    breaker_spec: BreakerSettings | None
    measures: Measures
    discover: Discover
    clock: Callable[[], float] = time.monotonic
    chance: Callable[[], float] = random.random
    breakers: TtlLru[str, Breaker] = field(init=False)

    def __post_init__(self) -> None:
        self.breakers = TtlLru(clock=self.clock)
        spec = self.spec
        self.retry = spec.retry if spec else None
        self.budget = Budget(self.retry.budget_ratio, self.retry.budget_burst) if self.retry else None
        self.limit = (
            TokenBucket(spec.limit.rate, spec.limit.burst, self.clock) if spec and spec.limit else None
        )
        self.flow = LeakyBucket(spec.flow.rate, spec.flow.queue, self.clock) if spec and spec.flow else None
        self._balancer = balancer(spec.balance) if spec and spec.balance else None

    def times(self, settings: OutboundSettings) -> Times:
        """The limits of a request whose caller asks for none."""
        spec = self.spec
        if spec is None:
            total = settings.total_timeout
            return Times(settings.connect_timeout, settings.read_timeout, settings.write_timeout, total)
        return Times(
            spec.connect_timeout or settings.connect_timeout,
            spec.read_timeout or settings.read_timeout,
            spec.write_timeout or settings.write_timeout,
            spec.total_timeout or REACH[spec.reach],
        )

    def choose(self, key: str) -> Instance | None:
        """The instance that is next; None: the destination is not balanced.

        Raises:
            RequestError: there is none, or the breakers of all are open.
        """
        if self._balancer is None or self.spec is None or self.spec.balance is None:
            return None
        instances = self.discover(self.spec.balance.discovery).current()
        if not instances:
            where = f"discovery {self.spec.balance.discovery}"
            raise RequestError(f"{self.name}: {where} knows no instance", Failure.NO_INSTANCE)
        chosen = self._balancer.pick(instances, key, self._usable)
        if chosen is None:
            raise RequestError(f"{self.name}: the breakers of all instances are open", Failure.REFUSED)
        return chosen

    def breaker(self, name: str) -> Breaker | None:
        """The one of an instance, or of HOST:PORT; None: the destination has none."""
        spec = self.breaker_spec
        return self.breakers.get_or_make(name, partial(self._breaker, name, spec)) if spec else None

    def _usable(self, instance: Instance) -> bool:
        """Nobody is asked whom the breaker would refuse."""
        breaker = self.breaker(name_of(instance))
        return breaker is None or breaker.would_pass

    def _breaker(self, name: str, spec: BreakerSettings) -> Breaker:
        return Breaker(
            max_requests=spec.max_requests,
            interval=spec.interval,
            timeout=spec.timeout,
            trips=_trips(spec),
            on_change=partial(self._changed, name),
            clock=self.clock,
        )

    def _changed(self, name: str, before: State, after: State) -> None:
        # As they were last seen: were each asked for its state now, one change would ring the next, hundreds deep.
        open_now = sum(breaker.seen is not State.CLOSED for breaker in self.breakers.values())
        self.measures.breaker(self.name, after, open_now)
        write = journal.info if after is State.CLOSED else journal.warning
        write(f"the breaker of {name} is now {after}", destination=self.name, before=before.value)


def _trips(spec: BreakerSettings) -> Trips:
    trip = spec.trip
    if isinstance(trip, ConsecutiveFailures):
        return consecutive_failures(trip.more_than)
    return failure_rate(trip.more_than, trip.min_requests)


class Routes:
    """All destinations of one configuration."""

    def __init__(self, make: Callable[[str, Destination | None, BreakerSettings | None], Route]) -> None:
        self._make = make
        self._settings: OutboundSettings | None = None
        self._by_name: dict[str, Route] = {}
        self._by_host: dict[str, Route] = {}
        self._suffixes: list[tuple[str, Route]] = []

    def find(self, settings: OutboundSettings, host: str, port: int | None) -> Route:
        """HOST:PORT before HOST before the longest suffix; else the route of all others."""
        if settings is not self._settings:
            self._take(settings)
        host = f"[{host.lower()}]" if ":" in host else host.lower()
        found = self._by_host.get(f"{host}:{port}") or self._by_host.get(host)
        if found is None:
            found = next((route for suffix, route in self._suffixes if host.endswith(suffix)), None)
        return found or self._by_name[OTHER]

    def _take(self, settings: OutboundSettings) -> None:
        before, self._settings = self._by_name, settings
        specs: dict[str, Destination | None] = {**settings.destinations, OTHER: None}
        self._by_name = {}
        for name, spec in specs.items():
            breaker = settings.breaker if spec is None else spec.breaker
            old = before.get(name)
            kept = old is not None and (old.spec, old.breaker_spec) == (spec, breaker)
            self._by_name[name] = old if old is not None and kept else self._make(name, spec, breaker)
        for name, old in before.items():
            if name not in self._by_name:
                old.measures.forget(name)
            elif self._by_name[name] is not old:
                old.measures.no_breakers(name)
        hosts = [
            (host.lower(), self._by_name[name])
            for name, spec in settings.destinations.items()
            for host in spec.hosts
        ]
        self._by_host = {host: route for host, route in hosts if not host.startswith("*.")}
        suffixes = [(host[1:], route) for host, route in hosts if host.startswith("*.")]
        self._suffixes = sorted(suffixes, key=lambda each: -len(each[0]))


def seconds_left(until: float | None, now: float) -> float:
    """Until a moment; without one for ever."""
    return math.inf if until is None else until - now
