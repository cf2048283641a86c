"""What is measured on this machine, and how many series it may become."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from watchkeeper.config.schema.common import PositiveDuration, StrictStruct


class CollectorSpec(StrictStruct, frozen=True, kw_only=True):
    """One collector; those that are on by default need no section."""

    enabled: bool = True
    interval: PositiveDuration = 15.0
    """From one collection to the next (Datadog's min_collection_interval)."""
    timeout: PositiveDuration = 5.0
    """Past it the collection has failed, and the others go on (node_exporter's mount-timeout)."""


class MetricsSettings(StrictStruct, frozen=True, kw_only=True):
    """What the registry allows."""

    series_limit: Annotated[int, Meta(ge=1, le=1_000_000)] = 1000
    """Series of one metric; further ones are added up in one whose labels are all `overflow`."""
