"""What an agent knows again after another one with its state directory was killed."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from soak.agent import Agent
from soak.cast import Manner


@dataclass(frozen=True)
class Before:
    """What the one before knew; empty when it could not say."""

    services: dict[str, dict[str, Any]]


def remember(agent: Agent) -> Before:
    found: dict[str, dict[str, Any]] = {}
    with contextlib.suppress(OSError, ValueError):
        found = {each["name"]: each for each in agent.status()["services"]}
    return Before(found)


def restored(agent: Agent, before: Before, wanted: Mapping[str, Manner]) -> Iterator[str]:
    """Sentences about what was not restored."""
    try:
        after = {each["name"]: each for each in agent.status()["services"]}
    except (OSError, ValueError) as error:
        yield f"the agent that was started after a kill has no status: {error}"
        return
    for name, was in before.services.items():
        now = after.get(name)
        if now is None or name not in wanted:
            continue
        if now["instance"] < was["instance"]:
            yield f"service {name} was in its instance {was['instance']} before the kill, and is in {now['instance']} after it"
        adopted = wanted[name].spec.get("on_agent_death") == "adopt"
        calm = was["state"] == "running" and was["failures_in_a_row"] == 0
        if adopted and calm and now["instance"] == was["instance"] and now["pid"] != was["pid"]:
            yield f"service {name} ran as {was['pid']} before the kill; {now['pid']} was started beside it"
        if (
            was["state"] == "stopped"
            and wanted[name].spec.get("policy") == "unless-stopped"
            and now["state"] == "running"
        ):
            yield f"service {name} was stopped by an operator, and runs after the kill"
