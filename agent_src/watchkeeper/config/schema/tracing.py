"""Traces."""

from __future__ import annotations

from watchkeeper.config.schema.common import StrictStruct


class TracingSettings(StrictStruct, frozen=True, kw_only=True):
    """Off unless it is switched on; then the OTEL_* variables say the rest."""

    enabled: bool = False
