"""The agent itself."""

from __future__ import annotations

import enum

from watchkeeper.config.schema.common import Address, Duration, PositiveDuration, StrictStruct


class ReadyWhen(enum.StrEnum):
    """What /readyz asks for beyond the agent itself."""

    AGENT = "agent"
    CHECKS = "checks"


class LogLevel(enum.StrEnum):
    """The least important line that is still written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


class AgentSettings(StrictStruct, frozen=True, kw_only=True):
    """The agent itself."""

    listen: Address = "127.0.0.1:9470"
    """HOST:PORT of the endpoints; port 0 takes a free one. A change needs a restart of the agent."""
    log_level: LogLevel = LogLevel.INFO
    reload_interval: PositiveDuration = 1.0
    """How often the configuration file is looked at for a change."""
    drain_timeout: PositiveDuration = 30.0
    """From SIGTERM to the end of everything; what is left then is killed."""
    request_timeout: Duration = 5.0
    """The part of it that requests in flight get once the services have stopped."""
    ready_when: ReadyWhen = ReadyWhen.AGENT
    """agent: /readyz speaks for the agent alone. checks: it also fails while a readiness check fails."""
