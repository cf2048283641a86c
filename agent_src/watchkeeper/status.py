"""What /status says: structs, so that the server writes and the command line reads the same thing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from msgspec import Struct


class ServiceStatus(Struct, kw_only=True):
    """One service. Times are RFC 3339 in UTC, durations are seconds."""

    name: str
    state: str
    why: str
    since: str
    ready: bool
    pid: int | None
    instance: int
    restarts: int
    failures_in_a_row: int
    last_exit: str | None
    last_error: str | None
    next_try_in: float | None
    adopted: bool = False
    """Whether its process ran before this agent."""
    degraded: bool = False
    """Whether it has failed so often that it is tried seldom."""


class CheckStatus(Struct, kw_only=True):
    """One check."""

    name: str
    service: str | None
    role: str
    state: str
    why: str
    since: str
    on_hold: bool
    run: int
    last_run: str | None
    last_error: str | None
    next_try_in: float | None
    outcome: str = ""
    """The last look's word: ok, warning, bad_status, unreachable, failed or error; empty before the first."""


class ObjectStatus(Struct, kw_only=True):
    """Anything else that is configured: an output, a collector, a registration."""

    kind: str
    name: str
    state: str
    why: str
    since: str
    last_error: str | None
    details: dict[str, Any]


class ConfigStatus(Struct, kw_only=True):
    """Which configuration is in force, and what was wrong with a newer one."""

    file: str
    generation: int
    digest: str
    loaded_at: str | None
    from_last_good: bool
    last_reload_error: str | None
    problems: list[str]
    needs_restart: list[str]
    refused_at: str | None = None
    """When one was refused last, be it in order again since."""


class AgentStatus(Struct, kw_only=True):
    """The agent and everything it looks after."""

    version: str
    pid: int
    state: str
    ready: bool
    not_ready_because: list[str]
    started_at: str
    listen: str
    config: ConfigStatus
    services: list[ServiceStatus]
    checks: list[CheckStatus]
    objects: list[ObjectStatus] = []


def rfc3339(seconds: float) -> str:
    """A time since the epoch, in UTC with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
