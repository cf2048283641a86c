"""What an operator has asked for, until the reconciler has done it. An order is state that a key reads, like any other.

`stop` holds until `start` or `restart`, over reloads; a definition that is removed takes its order with it.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from watchkeeper.config.snapshot import Key


class Order(enum.StrEnum):
    """What can be asked for."""

    START = "start"
    STOP = "stop"
    RESTART = "restart"


@dataclass
class Orders:
    """The last order for each key."""

    def __post_init__(self) -> None:
        self._orders: dict[Key, Order] = {}

    def give(self, key: Key, order: Order) -> None:
        self._orders[key] = order

    def of(self, key: Key) -> Order | None:
        return self._orders.get(key)

    def done(self, key: Key, order: Order) -> None:
        """The order is carried out, unless another has come meanwhile."""
        if self._orders.get(key) is order:
            del self._orders[key]
