"""One immutable state of what is wanted, and which keys differ between two of them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NamedTuple

from watchkeeper.config.model import AgentSettings, AnyCheck, Config, Role, ServiceSpec, service_spec


class Kind(enum.StrEnum):
    """What a key names; each kind has its reconciler."""

    SERVICE = "service"
    CHECK = "check"


class Key(NamedTuple):
    """What is reconciled. A service's check is named service/check; a name itself has no slash."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}/{self.name}"


@dataclass(frozen=True)
class BoundCheck:
    """A check and the service it belongs to; None: it stands alone."""

    spec: AnyCheck
    service: str | None


@dataclass(frozen=True)
class Snapshot:
    """What is wanted. Readers take one reference and see one state, whatever is loaded meanwhile."""

    generation: int = 0
    digest: str = ""
    settings: AgentSettings = field(default_factory=AgentSettings)
    services: Mapping[str, ServiceSpec] = field(default_factory=lambda: MappingProxyType({}))
    checks: Mapping[str, BoundCheck] = field(default_factory=lambda: MappingProxyType({}))

    def checks_of(self, service: str, role: Role | None = None) -> dict[str, AnyCheck]:
        """The checks of one service, by their full names."""
        return {
            name: bound.spec
            for name, bound in self.checks.items()
            if bound.service == service and role in (None, bound.spec.role)
        }

    def keys(self) -> set[Key]:
        """Every key that something is wanted for."""
        services = {Key(Kind.SERVICE, name) for name in self.services}
        return services | {Key(Kind.CHECK, name) for name in self.checks}


def make_snapshot(config: Config, generation: int, digest: str) -> Snapshot:
    """The configuration in the form that reconcilers read."""
    checks = {name: BoundCheck(spec, None) for name, spec in config.checks.items()}
    for service, definition in config.services.items():
        checks |= {f"{service}/{name}": BoundCheck(spec, service) for name, spec in definition.checks.items()}
    services = {name: service_spec(definition) for name, definition in config.services.items()}
    return Snapshot(generation, digest, config.agent, MappingProxyType(services), MappingProxyType(checks))


def changed_keys(old: Snapshot, new: Snapshot) -> list[Key]:
    """The keys that were added, removed or defined anew; services first, so that their checks find them."""
    changed = [Key(Kind.SERVICE, name) for name in _differing(old.services, new.services)]
    return changed + [Key(Kind.CHECK, name) for name in _differing(old.checks, new.checks)]


def _differing(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
