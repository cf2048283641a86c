"""Which instance of a service is asked next.

Rules:
    W1  Instances that are not usable (their breaker is open) are passed over; with none left the answer is None.
    W2  Weight 0 takes part only when nobody with a weight is usable.
    W3  Round robin goes through the instances in their order. When the list changes it goes on behind the last one.
    W4  Weighted is nginx's smooth way: everybody gains his weight, the richest one is chosen and pays the sum. Over any
        stretch of sum(weights) choices each comes up exactly as often as its weight says, and as evenly as possible.
    W5  Hash puts `virtual_nodes` points per unit of weight on a ring, and takes the first usable instance clockwise from
        the key. When an instance comes, only keys that it takes over move; when one goes, only its own keys do. A ring that
        would have more than MOST_POINTS has half as many points per unit, or a fourth and so on; others' keys move when the sum
        of the weights passes such a step.

An instance is known by its id, or else by host and port. Points on the ring depend on nothing but that name, so that every
agent sees the same ring.
"""

from __future__ import annotations

import bisect
import hashlib
import math
from collections.abc import Callable, Sequence
from typing import Protocol

from watchkeeper.config.schema.outbound import Balancing, Policy
from watchkeeper.registry.instances import Instance

Usable = Callable[[Instance], bool]
MOST_POINTS = 1 << 16
"""What a ring has at most, and a point for each instance in any case: weights of others must not cost memory without limit."""


def name_of(instance: Instance) -> str:
    """What an instance is known by."""
    return instance.id or f"{instance.host}:{instance.port}"


def taking_part(instances: Sequence[Instance], usable: Usable) -> list[Instance]:
    """Those to choose from (W1, W2)."""
    able = [instance for instance in instances if usable(instance)]
    return [instance for instance in able if instance.weight > 0] or able


class Balancer(Protocol):
    """One destination's way."""

    def pick(self, instances: Sequence[Instance], key: str, usable: Usable) -> Instance | None:
        """The next one; None: nobody is usable."""


class RoundRobin:
    """W3."""

    def __init__(self) -> None:
        self._last: tuple[str, int, str] | None = None

    def pick(self, instances: Sequence[Instance], key: str, usable: Usable) -> Instance | None:
        able = sorted(taking_part(instances, usable), key=_place)
        if not able:
            return None
        chosen = next((each for each in able if self._last is None or _place(each) > self._last), able[0])
        self._last = _place(chosen)
        return chosen


def _place(instance: Instance) -> tuple[str, int, str]:
    return instance.host, instance.port, instance.id


class Weighted:
    """W4."""

    def __init__(self) -> None:
        self._wealth: dict[str, float] = {}

    def pick(self, instances: Sequence[Instance], key: str, usable: Usable) -> Instance | None:
        able = taking_part(instances, usable)
        if not able:
            return None
        names = {name_of(instance) for instance in instances}
        self._wealth = {name: wealth for name, wealth in self._wealth.items() if name in names}
        for instance in able:
            name = name_of(instance)
            self._wealth[name] = self._wealth.get(name, 0) + max(1, instance.weight)
        chosen = max(able, key=lambda each: self._wealth[name_of(each)])
        self._wealth[name_of(chosen)] -= sum(max(1, each.weight) for each in able)
        return chosen


class HashRing:
    """W5. The ring is made anew only when the instances or their weights have changed."""

    def __init__(self, virtual_nodes: int = 100) -> None:
        self._virtual_nodes = virtual_nodes
        self._made_of: tuple[Instance, ...] = ()
        self._points: list[int] = []
        self._owners: list[Instance] = []
        self._owning: set[int] = set()

    def pick(self, instances: Sequence[Instance], key: str, usable: Usable) -> Instance | None:
        if tuple(instances) != self._made_of:
            self._make(tuple(instances))
        able = {id(instance) for instance in taking_part(self._made_of, usable)}
        if not able:
            return None
        if able.isdisjoint(self._owning):
            return max(
                (each for each in self._made_of if id(each) in able),
                key=lambda each: _point(f"{name_of(each)}#{key}"),
            )  # all that is left has weight 0, and no points
        begin = bisect.bisect_left(self._points, _point(key))
        count = len(self._points)
        return next(
            owner for step in range(count) if id(owner := self._owners[(begin + step) % count]) in able
        )

    def _make(self, instances: tuple[Instance, ...]) -> None:
        total, scale = sum(instance.weight for instance in instances), float(self._virtual_nodes)
        # Halved, so that what comes or goes moves nobody else's points but at a few sums (W5).
        while scale * total > MOST_POINTS:
            scale /= 2
        ring = sorted(
            (_point(f"{name_of(instance)}#{number}"), name_of(instance), instance)
            for instance in instances
            for number in range(math.ceil(scale * instance.weight))
        )
        self._made_of = instances
        self._points = [point for point, _, _ in ring]
        self._owners = [owner for _, _, owner in ring]
        self._owning = {id(owner) for owner in self._owners}


def _point(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())


def balancer(settings: Balancing) -> Balancer:
    """The one that the settings ask for."""
    if settings.policy is Policy.HASH:
        return HashRing(settings.virtual_nodes)
    return Weighted() if settings.policy is Policy.WEIGHTED else RoundRobin()
