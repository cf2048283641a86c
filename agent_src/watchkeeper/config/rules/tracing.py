"""Rules of traces."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding
from watchkeeper.config.schema.tracing import SamplerName, TracingSettings

WITH_RATIO = (None, SamplerName.RATIO, SamplerName.PARENT_RATIO)


def _tracing(path: Path, settings: TracingSettings) -> Iterator[Finding]:
    if settings.endpoint is not None:
        try:
            url = urlsplit(settings.endpoint)
            good = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0
        except ValueError:
            good = False
        if not good:
            yield (*path, "endpoint"), f"{settings.endpoint!r} is not http://HOST:PORT or https://HOST:PORT"
    if settings.ratio is not None and settings.sampler not in WITH_RATIO:
        yield (*path, "ratio"), f"has no meaning with the sampler {settings.sampler}"
    if (settings.max_batch or 0) > (settings.max_queue or 1_000_000):
        yield (*path, "max_batch"), "is more than max_queue: such a batch never comes together"
    if settings.sdk and not _installed():
        yield (
            (*path, "sdk"),
            "OpenTelemetry's SDK is not installed here; install watchkeeper[otel], or leave it out",
        )


def _installed() -> bool:
    """Whether the extra is there; nothing of it is imported but the empty package above."""
    try:
        return all(
            importlib.util.find_spec(f"opentelemetry.{name}") is not None for name in ("sdk", "exporter")
        )
    except ModuleNotFoundError:
        return False


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {TracingSettings: _tracing}
