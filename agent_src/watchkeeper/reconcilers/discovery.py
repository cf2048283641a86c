"""The reconciler of discovery: one long-lived task per section, which writes what it finds into the directory.

While a registry is down, what it said last goes on holding: an answer of yesterday is better than none. /status says that
it is stale, and since when; each failure is counted.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

from watchkeeper.config.schema.discovery import AnyDiscovery
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.context import Context
from watchkeeper.errors import ErrorClass
from watchkeeper.logs import get_logger
from watchkeeper.reconcile import Result
from watchkeeper.registry.answers import RegistryError
from watchkeeper.registry.finders import finder
from watchkeeper.registry.instances import Instance

journal = get_logger("discovery")
SHOWN = 20
"""Instances that /status names; it says how many there are."""


@dataclass
class Found:
    """What is known of one section."""

    spec: AnyDiscovery
    instances: tuple[Instance, ...] | None = None
    failures: int = 0
    """In a row."""
    last_error: str | None = None

    @property
    def state(self) -> str:
        if self.failures:
            return "unknown" if self.instances is None else "stale"
        return "searching" if self.instances is None else "current"


class DiscoveryReconciler:
    """Starts and ends the tasks; they do the rest."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._found: dict[str, Found] = {}
        metrics = context.metrics
        self._count = metrics.gauge("discovery_instances", "Instances that are known.", "discovery")
        self._stale = metrics.gauge(
            "discovery_stale",
            "1 while the registry does not answer and its last word goes on holding.",
            "discovery",
        )
        self._failures = metrics.counter(
            "discovery_failures_total", "Questions without an answer.", "discovery"
        )

    async def reconcile(self, key: Key) -> Result:
        wanted: AnyDiscovery | None = self._context.snapshot.of(Kind.DISCOVERY).get(key.name)
        found = self._found.get(key.name)
        if found is not None and found.spec == wanted:
            return Result()
        if wanted is None:
            self._forget(key)
            return Result()
        # A changed section starts from nothing: what the old one has found may be of another service.
        if found is not None:
            self._context.directory.remove(key.name)
        found = self._found[key.name] = Found(wanted)
        self._show(key, found)
        self._context.tasks.start(f"discovery-{key.name}", lambda: self._follow(key, found))
        return Result()

    async def _follow(self, key: Key, found: Found) -> None:
        """For ever: fetch, then wait for changes; after an error wait, longer each time, and fetch."""
        finds = finder(found.spec, self._context.http)
        ask = finds.fetch
        while True:
            try:
                self._take(key, found, await ask())
                ask = finds.next
            except RegistryError as error:
                self._fail(key, found, str(error))
                first, longest = found.spec.retry_initial, found.spec.retry_maximum
                delay = min(first * 2.0 ** min(found.failures - 1, 20), longest)
                await asyncio.sleep(delay * (0.9 + 0.2 * self._context.chance()))
                ask = finds.fetch

    def _take(self, key: Key, found: Found, instances: tuple[Instance, ...]) -> None:
        if found.failures:
            journal.info(f"discovery {key.name} has answers again", discovery=key.name)
        changed = found.instances != instances
        found.instances, found.failures, found.last_error = instances, 0, None
        self._context.directory.set(key.name, instances)
        self._count.labels(key.name).set(len(instances))
        self._stale.labels(key.name).set(0)
        if changed:
            named = [f"{each.host}:{each.port}" for each in instances[:SHOWN]]
            journal.info(
                f"discovery {key.name}: {len(instances)} instances", discovery=key.name, instances=named
            )
        self._show(key, found)

    def _fail(self, key: Key, found: Found, why: str) -> None:
        found.failures += 1
        found.last_error = why
        self._failures.labels(key.name).inc()
        self._stale.labels(key.name).set(1)
        self._context.metrics.error(ErrorClass.REGISTRY_FAILED)
        write = journal.warning if found.failures % 10 == 1 else journal.debug
        write(
            f"discovery {key.name}: {why}",
            discovery=key.name,
            error_class=ErrorClass.REGISTRY_FAILED,
            retry_count=found.failures,
            instances_kept=len(found.instances or ()),
        )
        self._show(key, found)

    def _show(self, key: Key, found: Found) -> None:
        known = found.instances or ()
        self._context.show(
            key,
            found.state,
            found.last_error or f"{len(known)} instances",
            last_error=found.last_error,
            count=len(known),
            instances=[f"{each.host}:{each.port}" for each in known[:SHOWN]],
            failures_in_a_row=found.failures,
        )

    def _forget(self, key: Key) -> None:
        if self._found.pop(key.name, None) is None:
            return
        self._context.tasks.cancel(f"discovery-{key.name}")
        self._context.directory.remove(key.name)
        self._context.forget(key)
        for family in ("discovery_instances", "discovery_stale", "discovery_failures_total"):
            self._context.metrics.drop(family, "discovery", key.name)
