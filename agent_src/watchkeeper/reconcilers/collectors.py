"""The reconciler of collectors: decides when to measure, and puts what was measured into the registry.

Rules (those of node_exporter's collectors, where they are the same):
    C1  A collector is called every `interval`; what takes longer than `timeout` has failed. collector_success and
        collector_duration_seconds say of each how its last call went.
    C2  A failure touches no other collector. The last values stay for STALE_AFTER intervals after they were measured; then
        they are taken out, because a value that is too old is worse than none.
    C3  A call that hangs is left behind (threads.py) and not repeated until it has ended.
    C4  A collector that this platform does not have says so once, and has no series.
    C5  What a changed or removed definition has left in the registry goes with it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from watchkeeper.collectors import REGISTRY, Collector, Reading
from watchkeeper.collectors.cgroup import effective_cpus
from watchkeeper.collectors.threads import StuckError, Threads, thread_limit
from watchkeeper.config.schema.collectors import CollectorSpec
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.context import Context
from watchkeeper.durations import format_duration
from watchkeeper.errors import ErrorClass
from watchkeeper.life.hooks import Rank
from watchkeeper.logs import get_logger
from watchkeeper.metrics.families import Counter, Gauge
from watchkeeper.reconcile import Result
from watchkeeper.supervise.lifecycle import EARLY

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

journal = get_logger("collector")

STALE_AFTER = 3
STOP_LIMIT = 1.0


@dataclass
class Record:
    """What is known of one collector. Times are the loop's."""

    spec: CollectorSpec
    collector: Collector
    next_due: float
    measured: float | None = None
    """When the values in the registry were measured."""
    call: asyncio.Task[None] | None = None
    readings: list[Reading | Metric] | None = None
    """What was measured and is not in the registry yet."""
    problem: str | None = None
    """Why the last call failed."""
    failed_anew: bool = False
    seconds: float = 0.0
    published: set[str] = field(default_factory=set)


class Foreign:
    """Series under names of their own, as prometheus_client has them."""

    def __init__(self) -> None:
        self.metrics: dict[str, list[Metric]] = {}

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        for metrics in self.metrics.values():
            yield from metrics


class CollectorReconciler:
    """Level-triggered: every call works out anew what the collector should be doing."""

    def __init__(self, context: Context, threads: Threads | None = None) -> None:
        self._context, self._metrics = context, context.metrics
        self._threads = threads or Threads(thread_limit(effective_cpus()), self._ended)
        self._records: dict[str, Record] = {}
        self._unsupported: set[str] = set()
        self._foreign = Foreign()
        metrics = self._metrics
        metrics.registry.register(self._foreign)
        self._success = metrics.gauge("collector_success", "Whether the last collection worked.", "collector")
        self._duration = metrics.gauge(
            "collector_duration_seconds", "How long the last collection took.", "collector"
        )
        self._measured = metrics.gauge(
            "collector_last_success_timestamp_seconds", "When a collection last worked, since the epoch.", "collector"
        )  # fmt: skip
        metrics.gauge(
            "collector_abandoned_threads", "Collections that hang and are no longer waited for."
        ).set_function(lambda: self._threads.abandoned)
        context.hooks.add(Rank.WORK, "collectors", self._stop, STOP_LIMIT)

    async def reconcile(self, key: Key) -> Result:
        spec = self._context.snapshot.of(Kind.COLLECTOR).get(key.name)
        record = self._records.get(key.name)
        if record is not None and record.spec != spec:
            self._forget(key, record)
            record = None
        if spec is None:
            self._unsupported.discard(key.name)
            self._context.forget(key)
            return Result()
        if not REGISTRY[key.name].supported:
            return self._refuse(key)
        now = asyncio.get_running_loop().time()
        if record is None:
            record = self._records[key.name] = Record(spec, REGISTRY[key.name].make(spec), now)
        if record.readings is not None or record.failed_anew:
            self._take(key, record, now)
        self._expire(key, record, now)
        return self._next(key, record, now)

    def _next(self, key: Key, record: Record, now: float) -> Result:
        """Measure now, later, or when something happens."""
        if record.call is not None or self._context.observed.draining:
            return Result()
        if now + EARLY < record.next_due:
            return Result(record.next_due - now)
        # Slots keep their distance; those that were missed are left out, as with checks.
        on_time = now - record.next_due < record.spec.interval
        record.next_due = (record.next_due if on_time else now) + record.spec.interval
        if self._threads.is_stuck(key.name):  # C3
            record.problem = record.problem or "an earlier collection has not ended"
            self._failed(key, record)
            return Result(record.next_due - now)
        record.call = asyncio.create_task(self._call(key, record), name=f"collect {key.name}")
        return Result()

    async def _call(self, key: Key, record: Record) -> None:
        """One collection; whatever comes of it, the key goes back to the queue."""
        clock = asyncio.get_running_loop().time
        started = clock()
        collect, timeout = record.collector.collect, record.spec.timeout
        try:
            record.readings = await self._threads.call(key.name, lambda: list(collect()), timeout)
            record.problem = None
        except TimeoutError:
            record.problem = f"it took longer than {format_duration(timeout)}{_place(record.collector)}"
        except StuckError:
            record.problem = record.problem or "an earlier collection has not ended"
        except Exception as error:  # noqa: BLE001 - C2
            record.problem = f"{type(error).__name__}: {error}"
        finally:
            record.seconds = clock() - started
            record.failed_anew = record.problem is not None
            record.call = None
            self._context.add(key)

    def _take(self, key: Key, record: Record, now: float) -> None:
        """What came of a call goes into the registry."""
        record.failed_anew = False
        readings, record.readings = record.readings, None
        if readings is not None:
            try:
                self._publish(key.name, record, readings)
            except ValueError as error:  # a reading that the registry does not allow
                record.problem = str(error)
        self._duration.labels(key.name).set(record.seconds)
        if record.problem is not None:
            self._failed(key, record)
            return
        record.measured = now
        self._measured.labels(key.name).set_to_current_time()
        self._success.labels(key.name).set(1)
        self._context.show(
            key, "collecting", "", series=self._series(key.name, record), seconds=round(record.seconds, 4)
        )

    def _failed(self, key: Key, record: Record) -> None:
        """Said once for each stretch of failures, and counted each time."""
        self._success.labels(key.name).set(0)
        self._metrics.error(ErrorClass.COLLECTOR_FAILED)
        known = self._context.observed.objects.get(key)
        if known is None or known.state != "failing":
            journal.warning(
                f"collector {key.name} failed: {record.problem}",
                collector=key.name,
                error_class=ErrorClass.COLLECTOR_FAILED,
            )
        self._context.show(key, "failing", record.problem or "", last_error=record.problem)

    def _publish(self, name: str, record: Record, readings: Iterable[Reading | Metric]) -> None:
        """Every series that was measured, and no other of this collector."""
        published: set[str] = set()
        foreign: list[Metric] = []
        for reading in readings:
            if isinstance(reading, Reading):
                family: Counter | Gauge = (
                    self._metrics.counter(reading.name, reading.text, *reading.labels)
                    if reading.kind == "counter"
                    else self._metrics.gauge(reading.name, reading.text, *reading.labels)
                )
                family.replace(reading.rows)
                published.add(reading.name)
            else:
                foreign.append(reading)
        for gone in record.published - published:
            self._metrics.discard(gone)
        record.published = published
        self._foreign.metrics[name] = foreign

    def _series(self, name: str, record: Record) -> int:
        own = sum(self._metrics.size(each) for each in record.published)
        return own + sum(len(metric.samples) for metric in self._foreign.metrics.get(name, ()))

    def _expire(self, key: Key, record: Record, now: float) -> None:
        """C2."""
        if record.measured is not None and now - record.measured > STALE_AFTER * record.spec.interval:
            record.measured = None
            self._withdraw(key.name, record)

    def _withdraw(self, name: str, record: Record) -> None:
        for each in record.published:
            self._metrics.discard(each)
        record.published = set()
        self._foreign.metrics.pop(name, None)

    def _forget(self, key: Key, record: Record) -> None:
        """C5."""
        if record.call is not None:
            record.call.cancel()
        self._withdraw(key.name, self._records.pop(key.name))
        for family in (self._success, self._duration, self._measured):
            family.remove(key.name)

    def _refuse(self, key: Key) -> Result:
        """C4."""
        if key.name not in self._unsupported:
            self._unsupported.add(key.name)
            why = "this platform has no such collector"
            self._context.show(key, "unsupported", why)
            journal.info(f"collector {key.name} is not supported: {why}", collector=key.name)
        return Result()

    def _ended(self, name: str) -> None:
        """A call that hung has ended: the collector may be called again."""
        if name in self._records:
            self._context.add(Key(Kind.COLLECTOR, name))

    async def _stop(self) -> None:
        """Wait for nobody; what hangs must not hold up the end."""
        for record in self._records.values():
            if record.call is not None:
                record.call.cancel()


def _place(collector: Any) -> str:
    """Where a collector hangs, if it says so."""
    at = getattr(collector, "at", None)
    return f", at {at}" if at else ""
