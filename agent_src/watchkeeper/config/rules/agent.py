"""Rules of the agent's own settings."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding, address_rule
from watchkeeper.config.schema.agent import AgentSettings, QueueSettings


def _agent(path: Path, settings: AgentSettings) -> Iterator[Finding]:
    if not settings.listen.startswith("unix:/"):
        yield from address_rule((*path, "listen"), settings.listen, lowest_port=0)
    if settings.shutdown_delay >= settings.drain_timeout:
        yield (*path, "shutdown_delay"), "it is part of drain_timeout and has to be shorter"


def _queue(path: Path, settings: QueueSettings) -> Iterator[Finding]:
    if settings.cap < settings.base:
        yield (*path, "cap"), "the longest delay cannot be shorter than base, the first one"


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {AgentSettings: _agent, QueueSettings: _queue}
