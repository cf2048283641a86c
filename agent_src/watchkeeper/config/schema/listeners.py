"""Where the endpoints are, who may ask there, and how it is encrypted."""

from __future__ import annotations

from watchkeeper.config.schema.common import Address, StrictStruct


class Listener(StrictStruct, frozen=True, kw_only=True):
    """One socket that answers; agent.listen is one as well, without any of this."""

    address: Address
    """HOST:PORT, [IPv6]:PORT, or unix:PATH."""
