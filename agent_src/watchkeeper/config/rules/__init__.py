"""What the types alone cannot say: rules between fields, and the form of addresses. One module per section.

The rules of a struct are applied as soon as the struct itself could be made, so that a wrong type elsewhere in the file
hides none of their findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from watchkeeper.config.document import Path
from watchkeeper.config.rules import (
    agent,
    alerts,
    checks,
    collectors,
    discovery,
    faults,
    jobs,
    listeners,
    outbound,
    outputs,
    registrations,
    registries,
    services,
    sources,
    tracing,
)
from watchkeeper.config.rules.common import Finding

__all__ = ["RULES", "Finding", "no_rules"]


def no_rules(_path: Path, _value: object) -> Iterator[Finding]:
    """For a struct whose types say everything."""
    return iter(())


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {
    **agent.RULES,
    **alerts.RULES,
    **checks.RULES,
    **collectors.RULES,
    **discovery.RULES,
    **faults.RULES,
    **jobs.RULES,
    **listeners.RULES,
    **outbound.RULES,
    **outputs.RULES,
    **registrations.RULES,
    **registries.RULES,
    **services.RULES,
    **sources.RULES,
    **tracing.RULES,
}
