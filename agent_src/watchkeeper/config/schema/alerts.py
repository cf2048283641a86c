"""Rules over the agent's own series, and who is told when they fire.

A rule looks at every series of a metric that has the labels in `match`, each on its own unless `by` says otherwise, and
compares what it makes of it with `threshold`. The same rules can be written out for Prometheus: docs/agent/alerts.md.
"""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta, field

from watchkeeper.config.schema.common import (
    Address,
    Duration,
    Name,
    PositiveDuration,
    Secret,
    StrictStruct,
    TlsClient,
)

MetricName = Annotated[str, Meta(pattern=r"^[a-zA-Z_:][a-zA-Z0-9_:]*$", max_length=200)]
LabelName = Annotated[str, Meta(pattern=r"^[a-zA-Z_][a-zA-Z0-9_]*$", max_length=100)]
Window = Annotated[float, Meta(ge=1, le=86_400, extra={"unit": "seconds"})]


class Severity(enum.StrEnum):
    """How bad it is; the label `severity` of the alert."""

    INFO = "info"
    WARNING = "warning"
    CRITICAL = "critical"


class Operator(enum.StrEnum):
    """How the value is compared with the threshold; what is not a number is never beyond it, but for `!=`."""

    ABOVE = ">"
    AT_LEAST = ">="
    BELOW = "<"
    AT_MOST = "<="
    EQUAL = "=="
    UNEQUAL = "!="


class AlertSpec(StrictStruct, frozen=True, kw_only=True, tag_field="type"):
    """What all rules have in common. Words and meaning are those of Prometheus's alerting rules."""

    enabled: bool = True
    metric: MetricName
    """Its whole name, as /metrics has it."""
    match: dict[LabelName, str] = field(default_factory=dict)
    """Labels that a series must have; `{check: web/alive}`."""
    by: tuple[LabelName, ...] | None = None
    """Add up the series that have these labels in common; []: all of them. None: each series on its own."""
    op: Operator = Operator.ABOVE
    threshold: float
    hold: Duration = field(name="for", default=0.0)
    """How long the condition must hold, at every look, before the alert fires; until then it is pending."""
    keep_firing_for: Duration = 0.0
    """How long an alert still fires after the condition has ended."""
    severity: Severity = Severity.WARNING
    labels: dict[LabelName, str] = field(default_factory=dict)
    """Added to the alert."""
    annotations: dict[LabelName, str] = field(default_factory=dict)
    """For people; {{ $value }} and {{ $labels.NAME }} are put in, as Prometheus does."""
    webhooks: tuple[Name, ...] | None = None
    """Which of alerting.webhooks are told; None: all of them."""
    triage: bool = False
    """Whether a firing alert leaves a bundle in the state directory: tasks, threads, memory, pauses, metrics."""


class ThresholdAlert(AlertSpec, frozen=True, kw_only=True, tag="threshold"):
    """The value itself: `metric > threshold`."""


class RateAlert(AlertSpec, frozen=True, kw_only=True, tag="rate"):
    """How fast a counter grows, per second: `rate(metric[window]) > threshold`."""

    window: Window = 300.0


class AverageAlert(AlertSpec, frozen=True, kw_only=True, tag="average"):
    """The average observation of a histogram or summary: `rate(metric_sum[window]) / rate(metric_count[window])`."""

    window: Window = 300.0


class QuantileAlert(AlertSpec, frozen=True, kw_only=True, tag="quantile"):
    """A quantile of a histogram: `histogram_quantile(quantile, rate(metric_bucket[window]))`."""

    quantile: Annotated[float, Meta(ge=0, le=1)] = 0.99
    window: Window = 300.0


class Method(enum.StrEnum):
    """What an anomaly detector takes for usual."""

    MAD = "mad"
    """The median of the newest values, and their median distance from it: a few wild values move neither."""
    EWMA = "ewma"
    """Exponentially weighted averages of the value and of its distance from that: follows what drifts, and needs no memory."""


class AnomalyAlert(AlertSpec, frozen=True, kw_only=True, tag="anomaly"):
    """How far a value is from what is usual for its series, in deviations; `threshold` 4 is a good beginning."""

    threshold: float = 4.0
    method: Method = Method.MAD
    samples: Annotated[int, Meta(ge=5, le=10_000)] = 60
    """Values that are usual: that many of the newest (mad), or the weight 2 / (samples + 1) of a new one (ewma)."""
    warmup: Annotated[int, Meta(ge=3, le=10_000)] = 20
    """Values of a series before anything is said of it."""
    min_deviation: Annotated[float, Meta(ge=0)] = 0.0
    """The smallest distance, in the metric's own unit, that counts as one deviation; keeps a series that hardly moves quiet."""
    rate: bool = False
    """Look at how fast the metric grows, and not at its value: for counters."""


AlertRule = ThresholdAlert | RateAlert | AverageAlert | QuantileAlert | AnomalyAlert


class WebhookFormat(enum.StrEnum):
    """Who is spoken to."""

    WEBHOOK = "webhook"
    """Whoever understands Alertmanager's webhook_config, version 4."""
    ALERTMANAGER = "alertmanager"
    """An Alertmanager, at its /api/v2/alerts; it groups, silences and repeats."""


class Webhook(StrictStruct, frozen=True, kw_only=True):
    """One place that is told of alerts."""

    url: Address
    format: WebhookFormat = WebhookFormat.WEBHOOK
    authorization: Secret | None = None
    """The whole value of the header, such as "Bearer ${env:TOKEN}"."""
    tls: TlsClient = field(default_factory=TlsClient)
    send_resolved: bool = True
    """Whether it also hears of the end of an alert (Alertmanager's default for webhooks)."""
    repeat_interval: PositiveDuration | None = None
    """When it hears again of an alert that still fires. None: 1m for an Alertmanager (Prometheus's resend delay), 4h for
    others (Alertmanager's repeat_interval)."""
    timeout: PositiveDuration = 10.0
    retry_for: Duration = 300.0
    """How long a message is tried again, 1s, 2s, 4s up to 30s apart, before it is dropped and counted."""
    queue: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """Alerts that wait; further ones push out the oldest, and that is counted (Prometheus's queue holds 10,000)."""


class AlertingSettings(StrictStruct, frozen=True, kw_only=True):
    """What holds for all rules."""

    interval: PositiveDuration = 15.0
    """From one look to the next; that of the collectors."""
    series_limit: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    """Series that one rule remembers; of further ones it says nothing, and counts them."""
    external_url: Address | None = None
    """Where people find the agent's page; part of what webhooks get."""
    triage_bundles: Annotated[int, Meta(ge=0, le=1000)] = 10
    """Bundles that are kept; the oldest go first."""
    triage_interval: Duration = 60.0
    """The least time between two bundles: an alert that flaps must not fill the disk or take the processor."""
    webhooks: dict[Name, Webhook] = field(default_factory=dict)
