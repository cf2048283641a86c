"""Rules of alerts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from watchkeeper.config.document import Path
from watchkeeper.config.model import Config
from watchkeeper.config.rules.common import Finding
from watchkeeper.config.schema.alerts import (
    AlertSpec,
    AnomalyAlert,
    AverageAlert,
    QuantileAlert,
    RateAlert,
    ThresholdAlert,
    Webhook,
)

OWN_LABELS = ("alertname", "alertstate", "severity")
SUFFIXES = ("_bucket", "_sum", "_count")


def _alert(path: Path, spec: AlertSpec) -> Iterator[Finding]:
    for name in spec.labels:
        if name in OWN_LABELS or name.startswith("__"):
            yield (
                (*path, "labels", name),
                f"the label {name} is the alert's own; a rule has `severity` for it",
            )
    for name, text in spec.annotations.items():
        if text.count("{{") != text.count("}}"):
            yield (*path, "annotations", name), "a {{ has no }}"
    if "le" in (spec.by or ()):
        yield (*path, "by"), "le is what a quantile is made of; it cannot be kept"


def _histogram(path: Path, spec: AverageAlert | QuantileAlert) -> Iterator[Finding]:
    yield from _alert(path, spec)
    for suffix in SUFFIXES:
        if spec.metric.endswith(suffix):
            message = f"give the name without {suffix}: the rule looks at all parts of the histogram"
            yield (*path, "metric"), message


def _anomaly(path: Path, spec: AnomalyAlert) -> Iterator[Finding]:
    yield from _alert(path, spec)
    if spec.warmup > spec.samples:
        yield (*path, "warmup"), f"{spec.warmup} values never come together: samples is {spec.samples}"


def _webhook(path: Path, webhook: Webhook) -> Iterator[Finding]:
    try:
        url = urlsplit(webhook.url)
        known = url.scheme in ("http", "https", "http+unix") and bool(url.netloc) and url.port != 0
    except ValueError as error:
        yield (*path, "url"), f"this is no URL: {error}"
        return
    if not known:
        yield (*path, "url"), "expected http://HOST/..., https://HOST/... or http+unix://PATH/..."


def _webhooks(_path: Path, config: Config) -> Iterator[Finding]:
    """An alert tells only webhooks that there are."""
    known = config.alerting.webhooks
    for name, spec in config.alerts.items():
        for webhook in spec.webhooks or ():
            if webhook not in known:
                message = f"there is no webhook {webhook!r} in alerting.webhooks"
                yield ("alerts", name, "webhooks"), message


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {
    ThresholdAlert: _alert,
    RateAlert: _alert,
    AverageAlert: _histogram,
    QuantileAlert: _histogram,
    AnomalyAlert: _anomaly,
    Webhook: _webhook,
    Config: _webhooks,
}
