"""Rules of services."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding, environment_rule
from watchkeeper.config.schema.services import ServiceDefinition


def _service(path: Path, service: ServiceDefinition) -> Iterator[Finding]:
    if service.backoff.maximum < service.backoff.initial:
        yield (*path, "backoff", "maximum"), "the maximum is shorter than the initial delay"
    yield from environment_rule((*path, "environment"), service.environment)


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {ServiceDefinition: _service}
