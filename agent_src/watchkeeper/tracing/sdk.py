"""Spans made by OpenTelemetry's SDK, behind the same face: for whoever has the extra `watchkeeper[otel]` and wants its exporters.

Its exporter sends protobuf over HTTP from a thread of its own. Of the agent's settings the sampler, the resource, the queue
and the endpoint hold here as well.
"""

from __future__ import annotations

from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context as OtelContext
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, ConsoleSpanExporter, SpanExporter
from opentelemetry.sdk.trace.sampling import (
    ALWAYS_OFF,
    ALWAYS_ON,
    DEFAULT_OFF,
    DEFAULT_ON,
    ParentBasedTraceIdRatio,
    Sampler,
    TraceIdRatioBased,
)
from opentelemetry.trace.span import NonRecordingSpan, TraceState

from watchkeeper._version import __version__
from watchkeeper.config.schema.tracing import Exporter, SamplerName
from watchkeeper.tracing import CURRENT, SpanKind, Value
from watchkeeper.tracing.context import SpanContext
from watchkeeper.tracing.environment import Effective
from watchkeeper.tracing.otlp import text
from watchkeeper.tracing.scope import Scope

KINDS = {
    SpanKind.INTERNAL: trace.SpanKind.INTERNAL,
    SpanKind.SERVER: trace.SpanKind.SERVER,
    SpanKind.CLIENT: trace.SpanKind.CLIENT,
    SpanKind.PRODUCER: trace.SpanKind.PRODUCER,
    SpanKind.CONSUMER: trace.SpanKind.CONSUMER,
}


def samplers(ratio: float) -> dict[SamplerName, Sampler]:
    """The SDK's, by name."""
    return {
        SamplerName.ALWAYS_ON: ALWAYS_ON,
        SamplerName.ALWAYS_OFF: ALWAYS_OFF,
        SamplerName.RATIO: TraceIdRatioBased(ratio),
        SamplerName.PARENT_ALWAYS_ON: DEFAULT_ON,
        SamplerName.PARENT_ALWAYS_OFF: DEFAULT_OFF,
        SamplerName.PARENT_RATIO: ParentBasedTraceIdRatio(ratio),
    }


class SdkSpan(Scope):
    """One of the SDK's."""

    def __init__(self, span: trace.Span, state: str) -> None:
        self._span = span
        found = span.get_span_context()
        super().__init__(SpanContext(found.trace_id, found.span_id, found.trace_flags.sampled, state))
        self.recording = span.is_recording()
        self._failed = False

    @property
    def failed(self) -> bool:
        return self._failed

    def set(self, key: str, value: Value) -> None:
        self._span.set_attribute(key, text(value) if isinstance(value, str) else value)

    def event(self, name: str) -> None:
        self._span.add_event(text(name))

    def fail(self, kind: str, message: str = "") -> None:
        self._failed = True
        self._span.set_attribute("error.type", kind)
        self._span.set_status(trace.StatusCode.ERROR, text(message or kind))

    def end(self) -> None:
        if self._span.is_recording():
            self._span.end()


class SdkTracer:
    """Args: settings, and an exporter in place of theirs (for tests)."""

    def __init__(self, settings: Effective, exporter: SpanExporter | None = None) -> None:
        self.provider = TracerProvider(
            sampler=samplers(settings.ratio)[settings.sampler],
            resource=Resource(dict(settings.resource)),
            shutdown_on_exit=False,
        )
        way_out = exporter or _exporter(settings)
        if way_out is not None:
            self.provider.add_span_processor(
                BatchSpanProcessor(
                    way_out,
                    max_queue_size=settings.max_queue,
                    max_export_batch_size=settings.max_batch,
                    schedule_delay_millis=settings.interval * 1000,
                    export_timeout_millis=settings.export_timeout * 1000,
                )
            )
        self._tracer = self.provider.get_tracer("watchkeeper", __version__)

    def start(self, name: str, kind: SpanKind, parent: SpanContext | None) -> SdkSpan:
        """A span that has begun."""
        above = parent or getattr(CURRENT.get(), "context", None)
        context = OtelContext() if above is None else trace.set_span_in_context(_remote(above), OtelContext())
        span = self._tracer.start_span(name, context, KINDS[kind])
        return SdkSpan(span, above.state if above is not None else "")

    def shut_down(self) -> None:
        """Send what waits, and end the SDK's thread; takes as long as it takes."""
        self.provider.shutdown()


def _remote(context: SpanContext) -> trace.Span:
    flags = trace.TraceFlags(trace.TraceFlags.SAMPLED if context.sampled else 0)
    state = TraceState.from_header([context.state]) if context.state else None
    return NonRecordingSpan(
        trace.SpanContext(context.trace_id, context.span_id, context.remote, flags, state)
    )


def _exporter(settings: Effective) -> SpanExporter | None:
    if settings.exporter is Exporter.NONE:
        return None
    if settings.exporter is Exporter.CONSOLE:
        return ConsoleSpanExporter()
    from opentelemetry.exporter.otlp.proto.http import Compression
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    tls = settings.tls
    options: dict[str, Any] = {
        "certificate_file": tls.ca_file,
        "client_certificate_file": tls.cert_file,
        "client_key_file": tls.key_file,
    }
    return OTLPSpanExporter(
        endpoint=settings.endpoint,
        headers=dict(settings.headers),
        timeout=settings.timeout,
        compression=Compression.Gzip if settings.compress else Compression.NoCompression,
        **{name: value for name, value in options.items() if value},
    )
