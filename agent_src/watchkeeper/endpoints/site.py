"""What the endpoints are given of the agent. They read it; only control.py asks for something."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field

from watchkeeper.context import Context
from watchkeeper.endpoints import web
from watchkeeper.endpoints.peers import Peer
from watchkeeper.outputs.tail import Tail
from watchkeeper.status import AgentStatus


def _nothing() -> None:
    """For an agent that cannot reload."""


@dataclass
class Site:
    """The agent, as its endpoints see it."""

    context: Context
    status: Callable[[], AgentStatus]
    not_ready_because: Callable[[], list[str]]
    reload: Callable[[], None] = _nothing
    """Look at the configuration now, as SIGHUP does."""
    set_level: Callable[[str], None] = field(default=lambda _level: None)
    """Write log lines from this level on."""
    tail: Tail | None = None
    """The newest lines of the log."""
    followers: int = 0
    """Clients that follow the log now."""
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the agent ends: answers without an end of their own end then."""


@dataclass(frozen=True)
class Call:
    """One request that is allowed: who asks, and the parts of the path behind the route's own."""

    site: Site
    request: web.BaseRequest
    peer: Peer
    rest: tuple[str, ...] = ()
    body: bytes = b""

    def flag(self, name: str) -> bool:
        """Whether the query has a name: ?verbose, ?verbose=1, but not ?verbose=0."""
        value = self.request.query.get(name)
        return value is not None and value.lower() not in ("0", "false", "no")
