"""Faults that are put in on purpose. Off by default."""

from __future__ import annotations

from watchkeeper.config.schema.common import StrictStruct


class FaultSettings(StrictStruct, frozen=True, kw_only=True):
    """What may be broken, how much of it, and for how long."""

    enabled: bool = False
