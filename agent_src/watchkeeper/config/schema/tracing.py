"""Traces: which are recorded, how they wait, and where they are sent."""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta, field

from watchkeeper.config.schema.common import (
    PositiveDuration,
    PositiveSize,
    Secret,
    StrictStruct,
    Text,
    TlsClient,
)


class Exporter(enum.StrEnum):
    """Where spans go."""

    OTLP = "otlp"
    CONSOLE = "console"
    NONE = "none"


class SamplerName(enum.StrEnum):
    """Which traces are recorded; names and meaning are OpenTelemetry's."""

    ALWAYS_ON = "always_on"
    ALWAYS_OFF = "always_off"
    RATIO = "traceidratio"
    PARENT_ALWAYS_ON = "parentbased_always_on"
    PARENT_ALWAYS_OFF = "parentbased_always_off"
    PARENT_RATIO = "parentbased_traceidratio"


class TracingSettings(StrictStruct, frozen=True, kw_only=True):
    """Off unless it is switched on. What is null here is what the OTEL_* variable says, or else OpenTelemetry's default."""

    enabled: bool = False
    """OTEL_SDK_DISABLED=true beats it."""
    sdk: bool = False
    """Whether OpenTelemetry's own SDK and exporter do it; needs the extra `watchkeeper[otel]`."""
    exporter: Exporter | None = None
    """OTEL_TRACES_EXPORTER, otlp. console: one line of JSON per span on standard output."""
    endpoint: Text | None = None
    """http or https; /v1/traces is added where it has no path. OTEL_EXPORTER_OTLP_ENDPOINT, http://localhost:4318."""
    headers: dict[str, Secret] = field(default_factory=dict)
    """Added to those of OTEL_EXPORTER_OTLP_HEADERS."""
    tls: TlsClient | None = None
    """OTEL_EXPORTER_OTLP_CERTIFICATE, _CLIENT_CERTIFICATE, _CLIENT_KEY."""
    timeout: PositiveDuration | None = None
    """For one attempt to send. OTEL_EXPORTER_OTLP_TIMEOUT, 10s."""
    compress: bool | None = None
    """With gzip. OTEL_EXPORTER_OTLP_COMPRESSION, none."""
    service_name: Text | None = None
    """OTEL_SERVICE_NAME, watchkeeper."""
    resource: dict[str, str] = field(default_factory=dict)
    """What else is said about the agent, added to OTEL_RESOURCE_ATTRIBUTES."""
    sampler: SamplerName | None = None
    """OTEL_TRACES_SAMPLER, parentbased_always_on."""
    ratio: Annotated[float, Meta(ge=0, le=1)] | None = None
    """The share of traces, for the two ratios. OTEL_TRACES_SAMPLER_ARG, 1."""
    max_queue: Annotated[int, Meta(ge=1, le=1_000_000)] | None = None
    """Spans that wait; further ones are dropped and counted. OTEL_BSP_MAX_QUEUE_SIZE, 2048."""
    max_batch: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    """Spans that are sent together. OTEL_BSP_MAX_EXPORT_BATCH_SIZE, 512."""
    max_memory: PositiveSize = 8 * 1024 * 1024
    """Of the spans that wait, roughly; further ones are dropped and counted."""
    interval: PositiveDuration | None = None
    """How long a span waits for others at most. OTEL_BSP_SCHEDULE_DELAY, 5s."""
    export_timeout: PositiveDuration | None = None
    """For one batch, with all attempts; then it is dropped. OTEL_BSP_EXPORT_TIMEOUT, 30s."""
