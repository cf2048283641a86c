"""Requests that the agent makes itself: limits, breakers, balancing."""

from __future__ import annotations

from watchkeeper.config.schema.common import PositiveDuration, StrictStruct


class OutboundSettings(StrictStruct, frozen=True, kw_only=True):
    """Defaults of every request that the agent makes."""

    connect_timeout: PositiveDuration = 2.0
    """To a connection, its TLS handshake included."""
    read_timeout: PositiveDuration = 5.0
    """From one piece of an answer to the next."""
    total_timeout: PositiveDuration = 5.0
    """For everything."""
