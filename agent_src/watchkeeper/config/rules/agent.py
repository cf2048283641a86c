"""Rules of the agent's own settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding, address_rule
from watchkeeper.config.schema.agent import AgentSettings


def _agent(path: Path, settings: AgentSettings) -> Iterator[Finding]:
    yield from address_rule((*path, "listen"), settings.listen, lowest_port=0)


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {AgentSettings: _agent}
