"""The reconciler of traces: one tracer, made anew when its section changes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily, Metric

from watchkeeper import tracing
from watchkeeper.config.schema.tracing import Exporter, TracingSettings
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.context import Context
from watchkeeper.errors import ErrorClass
from watchkeeper.life.hooks import Hook, Rank
from watchkeeper.logs import get_logger
from watchkeeper.outbound.calls import shown
from watchkeeper.reconcile import Result
from watchkeeper.tracing import exporters
from watchkeeper.tracing.batch import Batch, Tally
from watchkeeper.tracing.environment import Effective, Environment, effective
from watchkeeper.tracing.sampling import SAMPLERS
from watchkeeper.tracing.spans import OwnTracer

if TYPE_CHECKING:
    from watchkeeper.tracing.sdk import SdkTracer

journal = get_logger("tracing")
TASK = "traces"
FLUSH_LIMIT = 5.0
LOOK_INTERVAL = 10.0
"""Seconds; how old the numbers in /status may be."""


class TracingReconciler:
    """Level-triggered: every call compares what there is with what is wanted."""

    def __init__(self, context: Context, variables: Mapping[str, str] = os.environ) -> None:
        self._context, self._variables = context, variables
        self._spec: TracingSettings | None = None
        self._settings: Effective | None = None
        self._batch: Batch | None = None
        self._sdk: SdkTracer | None = None
        self._hook: Hook | None = None
        self._failing: str | None = None
        self._refused: str | None = None
        self._tally = Tally()
        self._collected = False

    async def reconcile(self, key: Key) -> Result:
        wanted = self._context.snapshot.of(Kind.TRACING).get(key.name)
        if wanted != self._spec:
            await self._end()
            if wanted is not None:
                self._begin(wanted)
            self._spec = wanted
        return self._show(key)

    def _begin(self, spec: TracingSettings) -> None:
        environment = Environment(self._variables)
        settings = self._settings = effective(spec, environment)
        for sentence in environment.warnings:
            journal.warning(sentence)
        if not settings.enabled:
            return
        if spec.sdk:
            from watchkeeper.tracing.sdk import SdkTracer

            self._sdk = SdkTracer(settings)
            tracing.use(self._sdk)
        else:
            self._batch = Batch(self._exporter(settings), settings, self._sent, self._tally)
            tracing.use(OwnTracer(SAMPLERS[settings.sampler](settings.ratio), self._batch.ended))
            self._context.tasks.start(TASK, self._batch.run)
            self._collect()
        self._hook = self._context.hooks.add(Rank.EXPORT, "traces", self._flush, FLUSH_LIMIT)

    async def _end(self) -> None:
        """What waits is sent in the background: a slow collector must not hold up a reload."""
        tracing.use(None)
        self._context.tasks.cancel(TASK)
        if self._hook is not None:
            self._context.hooks.remove(self._hook)
            self._context.tasks.start(f"{TASK}-last", partial(_last, self._batch, self._sdk))
        self._batch, self._sdk, self._hook, self._settings = None, None, None, None
        self._failing, self._refused = None, None

    def _exporter(self, settings: Effective) -> exporters.Exporter:
        if settings.exporter is Exporter.NONE:
            return exporters.Nowhere()
        if settings.exporter is Exporter.CONSOLE:
            return exporters.Console()
        return exporters.Otlp(self._context.http, settings, self._not_wanted, self._context.chance)

    def _sent(self, why: str | None) -> None:
        """A batch is out, or lost. A collector that stays away is said once, and once that it is back."""
        if why is not None:
            self._context.metrics.error(ErrorClass.NETWORK_FAILURE)
        if why is not None and self._failing is None:
            journal.warning(f"spans are lost: {why}", error_class=ErrorClass.NETWORK_FAILURE)
        elif why is None and self._failing is not None:
            journal.info("spans are sent again")
        self._failing = why

    def _not_wanted(self, text: str) -> None:
        if self._refused != text:
            journal.warning(f"the collector answers that {text}", error_class=ErrorClass.NETWORK_FAILURE)
        self._refused = text

    async def _flush(self) -> None:
        """At the end of the agent: what is made from now on is nobody's."""
        tracing.use(None)
        await _last(self._batch, self._sdk)

    def _collect(self) -> None:
        if not self._collected:
            self._collected = True
            self._context.metrics.registry.register(SpanCollector(self._tally, lambda: self._batch))

    def _show(self, key: Key) -> Result:
        settings = self._settings
        if self._spec is None or settings is None:
            self._context.forget(key)
            return Result()
        if not settings.enabled:
            self._context.show(key, "disabled", "OTEL_SDK_DISABLED is true")
            return Result()
        details: dict[str, Any] = {"exporter": settings.exporter.value, "sampler": settings.sampler.value}
        if settings.exporter is Exporter.OTLP:
            details["endpoint"] = shown(settings.endpoint)
        if self._batch is not None:
            tally = self._batch.tally
            details |= {"waiting": len(self._batch), "exported": tally.exported, "dropped": tally.dropped}
            details |= {"lost": tally.lost, "rejected": tally.rejected}
        if self._failing is not None:
            self._context.show(key, "failing", self._failing, last_error=self._failing, **details)
        else:
            self._context.show(key, "running", "", **details)
        return Result(LOOK_INTERVAL)


async def _last(batch: Batch | None, sdk: SdkTracer | None) -> None:
    """Send what waited when a tracer was replaced, or the agent ends."""
    if batch is not None:
        await batch.flush()
    if sdk is not None:
        await asyncio.to_thread(sdk.shut_down)


class SpanCollector:
    """What became of spans, and what waits."""

    def __init__(self, tally: Tally, batch: Callable[[], Batch | None]) -> None:
        self._tally, self._batch = tally, batch

    def describe(self) -> list[Metric]:
        """Nothing: the names are those of `collect`."""
        return []

    def collect(self) -> Iterator[Metric]:
        spans = CounterMetricFamily(
            "watchkeeper_trace_spans", "Recorded spans, by what became of them.", labels=["outcome"]
        )
        for outcome in ("exported", "dropped", "lost", "rejected"):
            spans.add_metric([outcome], getattr(self._tally, outcome))
        yield spans
        batch = self._batch()
        waiting, held = (len(batch), batch.bytes) if batch is not None else (0, 0)
        text = "Spans that wait to be sent."
        yield GaugeMetricFamily("watchkeeper_trace_spans_waiting", text, value=waiting)
        yield GaugeMetricFamily("watchkeeper_trace_waiting_bytes", "What these take, roughly.", value=held)
