"""How a listener is encrypted."""

from __future__ import annotations

import ssl

from watchkeeper.endpoints.peers import Identity


class ServerContexts:
    """The contexts of one listener."""

    current: ssl.SSLContext

    def identity(self, _found: ssl.SSLObject | None) -> Identity | None:
        """Who the other end is."""
        return None
