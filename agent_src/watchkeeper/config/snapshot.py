"""One immutable state of what is wanted, and which keys differ between two of them."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import Any, NamedTuple, cast

from watchkeeper.config.model import AgentSettings, AnyCheck, AnyService, Config, Role, service_spec
from watchkeeper.config.schema.collectors import effective


class Kind(enum.StrEnum):
    """What a key names; each kind has its reconciler. Changed keys are looked at in this order."""

    SOURCE = "source"
    OUTPUT = "output"
    TRACING = "tracing"
    LISTENER = "listener"
    FAULTS = "faults"
    SERVICE = "service"
    CHECK = "check"
    COLLECTOR = "collector"
    REGISTRATION = "registration"
    DISCOVERY = "discovery"
    ALERT = "alert"
    JOB = "job"
    SERVICE_CHECK = "servicecheck"


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


Resources = Mapping[Kind, Mapping[str, Any]]
NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Snapshot:
    """What is wanted. Readers take one reference and see one state, whatever is loaded meanwhile."""

    generation: int = 0
    digest: str = ""
    config: Config = field(default_factory=Config)
    resources: Resources = field(default_factory=lambda: MappingProxyType({}))

    @property
    def settings(self) -> AgentSettings:
        return self.config.agent

    @property
    def services(self) -> Mapping[str, AnyService]:
        return self.of(Kind.SERVICE)

    @property
    def checks(self) -> Mapping[str, BoundCheck]:
        return self.of(Kind.CHECK)

    def of(self, kind: Kind) -> Mapping[str, Any]:
        """What is wanted of one kind, by name."""
        return self.resources.get(kind, NOTHING)

    def checks_of(self, service: str, role: Role | None = None) -> dict[str, AnyCheck]:
        """The checks of one service, by their full names."""
        own = self._checks_by_service.get(service, {})
        return {name: spec for name, spec in own.items() if role in (None, spec.role)}

    @cached_property
    def _checks_by_service(self) -> Mapping[str, Mapping[str, AnyCheck]]:
        """Every look at a service's check asks for its siblings: one pass over all checks has to do for all of them."""
        found: dict[str, dict[str, AnyCheck]] = {}
        for name, bound in self.checks.items():
            if bound.service is not None:
                found.setdefault(bound.service, {})[name] = bound.spec
        return found

    def keys(self) -> set[Key]:
        """Every key that something is wanted for."""
        return {Key(kind, name) for kind, wanted in self.resources.items() for name in wanted}


def _services(config: Config) -> dict[str, AnyService]:
    return {name: service_spec(definition) for name, definition in config.services.items()}


def _checks(config: Config) -> dict[str, BoundCheck]:
    checks = {name: BoundCheck(spec, None) for name, spec in config.checks.items()}
    for service, definition in config.services.items():
        checks |= {f"{service}/{name}": BoundCheck(spec, service) for name, spec in definition.checks.items()}
    return checks


SECTIONS: dict[Kind, Callable[[Config], Mapping[str, Any]]] = {
    Kind.SOURCE: lambda config: config.sources,
    Kind.OUTPUT: lambda config: config.outputs,
    Kind.TRACING: lambda config: {"tracing": config.tracing} if config.tracing.enabled else {},
    Kind.LISTENER: lambda config: config.listeners,
    Kind.FAULTS: lambda config: {"faults": config.faults} if config.faults.enabled else {},
    Kind.SERVICE: _services,
    Kind.CHECK: _checks,
    Kind.COLLECTOR: lambda config: effective(config.collectors),
    Kind.REGISTRATION: lambda config: config.registrations,
    Kind.DISCOVERY: lambda config: config.discovery,
    Kind.ALERT: lambda config: {name: rule for name, rule in config.alerts.items() if rule.enabled},
    Kind.JOB: lambda config: config.jobs,
}
"""From the sections of a configuration to what reconcilers want to know, by name. Equal values are no change."""


def make_snapshot(config: Config, generation: int, digest: str) -> Snapshot:
    """The configuration in the form that reconcilers read."""
    resources = {kind: MappingProxyType(dict(section(config))) for kind, section in SECTIONS.items()}
    return Snapshot(generation, digest, config, cast("Resources", MappingProxyType(resources)))


def changed_keys(old: Snapshot, new: Snapshot) -> list[Key]:
    """The keys that were added, removed or defined anew; services before checks, so that these find them."""
    return [Key(kind, name) for kind in Kind for name in _differing(old.of(kind), new.of(kind))]


def _differing(old: Mapping[str, object], new: Mapping[str, object]) -> list[str]:
    return sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
