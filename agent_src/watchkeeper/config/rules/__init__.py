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


Rule = Callable[[Path, Any], Iterator[Finding]]


def _one_after_the_other(rules: list[Rule]) -> Rule:
    """The findings of several modules about one struct, such as the whole configuration."""

    def all_of_them(path: Path, value: Any) -> Iterator[Finding]:
        for rule in rules:
            yield from rule(path, value)

    return rules[0] if len(rules) == 1 else all_of_them


def _joined(*modules: dict[type, Rule]) -> dict[type, Rule]:
    found: dict[type, list[Rule]] = {}
    for module in modules:
        for struct, rule in module.items():
            found.setdefault(struct, []).append(rule)
    return {struct: _one_after_the_other(rules) for struct, rules in found.items()}


RULES: dict[type, Rule] = _joined(
    agent.RULES,
    alerts.RULES,
    checks.RULES,
    collectors.RULES,
    discovery.RULES,
    faults.RULES,
    jobs.RULES,
    listeners.RULES,
    outbound.RULES,
    outputs.RULES,
    registrations.RULES,
    registries.RULES,
    services.RULES,
    sources.RULES,
    tracing.RULES,
)
