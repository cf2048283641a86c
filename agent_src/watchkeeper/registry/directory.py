"""All that discovery has found, by the name of its section: what requests are balanced over reads here."""

from __future__ import annotations

from collections.abc import Callable

from watchkeeper.registry.instances import Instance, Instances


class Directory:
    """One per agent. Reading never waits; what a name stands for may change at any moment."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[Instance, ...]] = {}
        self._listeners: list[Callable[[str], None]] = []

    def of(self, name: str) -> Instances:
        """The instances of `discovery.NAME`, now and later; none while there is no such section or nothing is known."""
        return _View(self._known, name)

    def set(self, name: str, instances: tuple[Instance, ...]) -> bool:
        """What was found last; whether it differs from before."""
        if self._known.get(name) == instances:
            return False
        self._known[name] = instances
        for listener in self._listeners:
            listener(name)
        return True

    def remove(self, name: str) -> None:
        """The section is gone."""
        if self._known.pop(name, None) is not None:
            for listener in self._listeners:
                listener(name)

    def subscribe(self, listener: Callable[[str], None]) -> None:
        """Hear of every name whose instances have changed, within the call that changed them."""
        self._listeners.append(listener)


class _View:
    """One name."""

    def __init__(self, known: dict[str, tuple[Instance, ...]], name: str) -> None:
        self._known, self._name = known, name

    def current(self) -> tuple[Instance, ...]:
        return self._known.get(self._name, ())
