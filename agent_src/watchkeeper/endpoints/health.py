"""What /health says: one line per component, and the worst of them. Pure.

Rules:
    H1  `failing`: the agent is not ready. A component by itself makes the agent `degraded` and no worse: an orchestrator that
        acts on /health must not replace a machine because one of its checks fails.
    H2  What waits, is off or has not been looked at yet is `unknown`, and makes nothing worse.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from watchkeeper.status import AgentStatus

ORDER = ("ok", "unknown", "degraded", "failing")
GOOD = frozenset(
    {
        "running",
        "success",
        "ok",
        "finished",
        "up",
        "listening",
        "registered",
        "active",
        "inactive",
        "collecting",
    }
    | {"writing", "resolved", "closed", "watching", "found", "idle", "sending"}
)
BAD = frozenset(
    {
        "failed",
        "failing",
        "failure",
        "backoff",
        "error",
        "down",
        "degraded",
        "lost",
        "firing",
        "unusable",
        "critical",
    }
    | {"retrying", "open"}
)


def components(status: AgentStatus) -> list[dict[str, Any]]:
    """Name, status, since, why and last error of the agent, its configuration, and every key."""
    agent = "ok" if status.ready else "failing"
    config = "degraded" if status.config.last_reload_error or status.config.from_last_good else "ok"
    found = [
        _component("agent", agent, status.started_at, "; ".join(status.not_ready_because), None),
        _component("configuration", config, status.config.loaded_at, "", status.config.last_reload_error),
    ]
    for kind, each in _keys(status):
        found.append(
            _component(f"{kind}/{each.name}", state_of(each.state), each.since, each.why, each.last_error)
        )
    return found


def _keys(status: AgentStatus) -> Iterable[tuple[str, Any]]:
    yield from (("service", each) for each in status.services)
    yield from (("check", each) for each in status.checks)
    yield from ((each.kind, each) for each in status.objects)


def state_of(state: str) -> str:
    """The state of a key as one of ORDER (H2)."""
    return "ok" if state in GOOD else "degraded" if state in BAD else "unknown"


def worst(found: list[dict[str, Any]]) -> str:
    """The worst status that is not `unknown` (H1)."""
    known = [each["status"] for each in found if each["status"] != "unknown"]
    return max(known, key=ORDER.index, default="ok")


def _component(name: str, status: str, since: str | None, why: str, error: str | None) -> dict[str, Any]:
    return {"name": name, "status": status, "since": since, "why": why, "last_error": error}
