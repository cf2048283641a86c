"""Rules over the agent's own series."""

from __future__ import annotations

from watchkeeper.config.schema.common import Duration, StrictStruct


class AlertRule(StrictStruct, frozen=True, kw_only=True):
    """One rule; `for` is how long it must hold before it fires."""

    hold: Duration = 0.0
