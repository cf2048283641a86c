"""Rules of services, each for itself and among each other."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from watchkeeper.config.document import Path
from watchkeeper.config.model import Config
from watchkeeper.config.rules.common import Finding, environment_rule
from watchkeeper.config.schema.services import (
    ContainerService,
    LogTo,
    OnAgentDeath,
    OnAgentStop,
    ProcessService,
    Service,
    UnitService,
    WindowsService,
)

Links = Mapping[str, Sequence[tuple[str, Path]]]
"""For each service those it is linked to, and where that is written."""


def _service(path: Path, service: Service) -> Iterator[Finding]:
    if service.backoff.maximum < service.backoff.initial:
        yield (*path, "backoff", "maximum"), "the maximum is shorter than the initial delay"


def _process(path: Path, service: ProcessService) -> Iterator[Finding]:
    yield from _service(path, service)
    yield from environment_rule((*path, "environment"), service.environment)
    yield from environment_rule((*path, "secrets"), service.secrets)
    for name in sorted(service.environment.keys() & service.secrets.keys()):
        yield (*path, "secrets", name), "this variable is in `environment` as well"
    if service.on_agent_stop is OnAgentStop.LEAVE and service.on_agent_death is OnAgentDeath.END:
        message = "a process that is left has to be taken over later: write `on_agent_death: adopt` as well"
        yield (*path, "on_agent_stop"), message
    if service.log.to in (LogTo.FILE, LogTo.BOTH) and service.log.file is None:
        yield (*path, "log", "to"), "the file is not named: `file` is missing"
    if service.log.to in (LogTo.AGENT, LogTo.NOTHING) and service.log.file is not None:
        yield (*path, "log", "file"), "nothing is written to it: `to` is neither file nor both"
    if service.user is None and (service.group is not None or service.supplementary_groups is not None):
        at = "group" if service.group is not None else "supplementary_groups"
        yield (*path, at), "groups are given together with `user`"


def _container(path: Path, service: ContainerService) -> Iterator[Finding]:
    yield from _service(path, service)
    yield from environment_rule((*path, "environment"), service.environment)
    yield from environment_rule((*path, "secrets"), service.secrets)
    for index, volume in enumerate(service.volumes):
        if volume.count(":") not in (1, 2) or not all(volume.split(":")):
            yield (*path, "volumes", index), f"{volume!r} is not HOST_PATH:CONTAINER_PATH[:ro]"


def _among(_path: Path, config: Config) -> Iterator[Finding]:
    """Every name is one, and nobody waits for himself, by whatever detour."""
    links = {
        name: [
            (other, ("services", name, word, index))
            for word in ("requires", "after")
            for index, other in enumerate(getattr(service, word))
        ]
        for name, service in config.services.items()
    }
    for name, others in links.items():
        for other, at in others:
            if other not in links:
                yield at, f"there is no service {other!r}{_nearest(other, links.keys() - {name})}"
    yield from cycles(links)


def cycles(links: Links) -> Iterator[Finding]:
    """One finding for each circle, at the link that closes it, with the way around it."""
    done: set[str] = set()
    for start in links:
        way: list[str] = []
        waiting: list[tuple[str, int, Path]] = [(start, 0, ())]
        while waiting:
            name, depth, at = waiting.pop()
            while len(way) > depth:
                done.add(way.pop())
            if name in way:
                yield at, f"circle: {' -> '.join([*way[way.index(name) :], name])}"
            elif name not in done and name in links:
                way.append(name)
                waiting += [(other, depth + 1, where) for other, where in reversed(links[name])]
        done.update(way)


def _nearest(word: str, choices: set[str]) -> str:
    found = difflib.get_close_matches(word, sorted(choices), n=1, cutoff=0.6)
    return f'; did you mean "{found[0]}"?' if found else ""


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {
    ProcessService: _process,
    UnitService: _service,
    WindowsService: _service,
    ContainerService: _container,
    Config: _among,
}
