"""The reconciler of outputs: one handler and one thread for each, replaced when its definition changes.

The new one takes lines before the old one stops taking them: at a change a line may be written twice, and none is missing.
The spool is one folder for both; the new one gets it when the old one has ended, with all that it has left there.
"""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from watchkeeper import logs
from watchkeeper.config.schema.outputs import (
    FileOutput,
    LokiOutput,
    OtlpOutput,
    Output,
    PostedOutput,
    StdoutOutput,
    SyslogOutput,
)
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.context import Context
from watchkeeper.errors import ErrorClass
from watchkeeper.life.hooks import Rank
from watchkeeper.logs import get_logger
from watchkeeper.outputs.handler import CLOSE_LIMIT, OutputHandler
from watchkeeper.outputs.spool import FileSpool
from watchkeeper.outputs.writer import Sink, SinkError, Writer
from watchkeeper.reconcile import Result

journal = get_logger("output")
LOOK_INTERVAL = 5.0
"""Seconds; an output says by itself neither that it fails nor that it has recovered."""


def _file(spec: FileOutput) -> Sink:
    from watchkeeper.outputs.sinks.file import FileSink

    path, mode = pathlib.Path(spec.path), int(spec.mode, 8)
    return FileSink(path, max_bytes=spec.max_size, max_age=spec.max_age, keep=spec.keep, mode=mode)


def _stdout(_spec: StdoutOutput) -> Sink:
    from watchkeeper.outputs.sinks.stdout import StdoutSink

    return StdoutSink()


def _syslog(spec: SyslogOutput) -> Sink:
    from watchkeeper.outputs.sinks.syslog import SyslogSink

    return SyslogSink(spec)


def _otlp(spec: OtlpOutput) -> Sink:
    from watchkeeper.outputs.sinks.otlp import OtlpSink

    return OtlpSink(spec)


def _loki(spec: LokiOutput) -> Sink:
    from watchkeeper.outputs.sinks.loki import LokiSink

    return LokiSink(spec)


SINKS: dict[type, Callable[[Any], Sink]] = {
    FileOutput: _file,
    StdoutOutput: _stdout,
    SyslogOutput: _syslog,
    OtlpOutput: _otlp,
    LokiOutput: _loki,
}


class OutputReconciler:
    """Level-triggered: every call compares what is attached with what is wanted."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._made: dict[str, tuple[Output, OutputHandler]] = {}
        context.metrics.registry.register(OutputCollector(self._made))
        context.hooks.add(Rank.EXPORT, "outputs", self._flush_all, CLOSE_LIMIT)

    async def reconcile(self, key: Key) -> Result:
        wanted = self._context.snapshot.of(Kind.OUTPUT).get(key.name)
        present = self._made.get(key.name)
        if present is not None and (wanted is None or present[0] != wanted):
            del self._made[key.name]
            if wanted is not None:
                self._make(key, wanted)
            await self._end(key, present[1])
            self._spool(key.name)
        elif present is None and wanted is not None:
            self._make(key, wanted)
            self._spool(key.name)
        return self._show(key)

    def _make(self, key: Key, spec: Output) -> None:
        try:
            sink = SINKS[type(spec)](spec)
        except SinkError as error:
            self._context.show(key, "failing", str(error), last_error=str(error))
            return
        writer = Writer(
            key.name,
            sink,
            capacity=spec.capacity,
            batch=spec.batch,
            interval=spec.flush_interval,
        )
        handler = OutputHandler(writer, logs.LEVELS[spec.level.value])
        self._made[key.name] = (spec, handler)
        logs.attach(handler)

    def _spool(self, name: str) -> None:
        """Its folder on disk, where it wants one."""
        spec, handler = self._made.get(name, (None, None))
        folder = self._context.store.state_dir
        if handler is not None and isinstance(spec, PostedOutput) and spec.spool and folder is not None:
            handler.writer.take_over(FileSpool(folder / "spool" / name, spec.spool))

    async def _end(self, key: Key, handler: OutputHandler) -> None:
        """In a thread: what it writes to may be slow."""
        logs.detach(handler)
        complete = await asyncio.to_thread(handler.close_within, CLOSE_LIMIT)
        if not complete:
            counts = handler.writer.counts()
            journal.warning(
                f"output {key.name} was closed with lines that nobody took",
                output=key.name,
                lost=counts.lost + counts.queued,
                error_class=ErrorClass.OUTPUT_FAILED,
            )

    def _show(self, key: Key) -> Result:
        if key.name not in self._made:
            if self._context.snapshot.of(Kind.OUTPUT).get(key.name) is None:
                self._context.forget(key)
                return Result()
            return Result(LOOK_INTERVAL)
        writer = self._made[key.name][1].writer
        counts, error = writer.counts(), writer.last_error
        before = self._context.observed.objects.get(key)
        if error and (before is None or before.state != "failing"):
            self._context.metrics.error(ErrorClass.OUTPUT_FAILED)
            journal.warning(
                f"output {key.name} fails and is tried again: {error}",
                output=key.name,
                error_class=ErrorClass.OUTPUT_FAILED,
            )
        self._context.show(
            key,
            "failing" if error else "writing",
            error or "lines are taken",
            last_error=error or writer.last_refusal or None,
            written=counts.written,
            queued=counts.queued,
            spooled=counts.spooled,
            dropped=counts.dropped,
            lost=counts.lost,
        )
        return Result(LOOK_INTERVAL)

    async def _flush_all(self) -> None:
        handlers = [handler for _, handler in self._made.values()]
        await asyncio.gather(*(asyncio.to_thread(handler.writer.flush, CLOSE_LIMIT) for handler in handlers))


class OutputCollector:
    """watchkeeper_output_*; names come from the configuration."""

    def __init__(self, made: dict[str, tuple[Output, OutputHandler]]) -> None:
        self._made = made

    def describe(self) -> list[Metric]:
        return []

    def collect(self) -> Iterator[Metric]:
        lines = CounterMetricFamily(
            "watchkeeper_output_lines",
            "Log lines of an output, by what became of them.",
            labels=["output", "outcome"],
        )
        waiting = GaugeMetricFamily(
            "watchkeeper_output_waiting_lines",
            "Log lines that wait for an output.",
            labels=["output", "where"],
        )
        failures = CounterMetricFamily(
            "watchkeeper_output_failures", "Tries of an output to write that failed.", labels=["output"]
        )
        for name, (_, handler) in list(self._made.items()):
            counts = handler.writer.counts()
            for outcome in ("accepted", "written", "dropped", "lost"):
                lines.add_metric([name, outcome], getattr(counts, outcome))
            waiting.add_metric([name, "memory"], counts.queued)
            waiting.add_metric([name, "disk"], counts.spooled)
            failures.add_metric([name], counts.failures)
        yield from (lines, waiting, failures)
