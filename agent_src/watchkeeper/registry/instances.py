"""Who offers a service at this moment: what discovery finds, and what an outbound request is balanced over."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, order=True)
class Instance:
    """One place that offers a service; the order is the one in which lists are shown and compared."""

    host: str
    """A name or an address; an IPv6 address has no brackets."""
    port: int
    weight: int = 1
    """Its share beside the others'; 0: it takes part only when nobody else is there."""
    id: str = ""
    """The registry's own name for it; stays when host or port change."""
    tags: tuple[str, ...] = ()


class Instances(Protocol):
    """The instances of one service, as far as they are known."""

    def current(self) -> tuple[Instance, ...]:
        """Those that are believed to work now; empty: none is known. Never waits, and never raises."""


@dataclass(frozen=True)
class Static:
    """Instances that somebody has written down."""

    instances: tuple[Instance, ...] = ()

    def current(self) -> tuple[Instance, ...]:
        return self.instances
