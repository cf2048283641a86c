"""The agent itself."""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta, field

from watchkeeper.config.schema.common import Address, Duration, PositiveDuration, StrictStruct


class ReadyWhen(enum.StrEnum):
    """What /readyz asks for beyond the agent itself."""

    AGENT = "agent"
    CHECKS = "checks"


class LogLevel(enum.StrEnum):
    """The least important line that is still written."""

    TRACE = "trace"
    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    FATAL = "fatal"


class QueueSettings(StrictStruct, frozen=True, kw_only=True):
    """The work queue: how many keys are worked on at once, and when one that failed is tried again.

    A key waits min(base * 2^n, cap) after its failure number n, or for the next token of a bucket that all failing keys
    share, whichever is longer. All but `workers` may change while the agent runs.
    """

    base: PositiveDuration = 0.005
    """The first delay (client-go)."""
    cap: PositiveDuration = 10.0
    """The longest one. client-go has 1000 s."""
    rate: Annotated[float, Meta(ge=0.01, le=100_000)] = 10.0
    """Retries per second, of all keys together (client-go)."""
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] = 100
    """Retries that the rate does not slow down (client-go)."""
    workers: Annotated[int, Meta(ge=1, le=64)] = 4
    """Keys that are worked on at once. A change needs a restart of the agent."""
    limit: PositiveDuration = 60.0
    """What one call of a reconciler may take; it is cancelled then, and tried again as after a failure."""


class AgentSettings(StrictStruct, frozen=True, kw_only=True):
    """The agent itself."""

    listen: Address = "127.0.0.1:9470"
    """HOST:PORT of the endpoints, or unix:PATH; port 0 takes a free one. A change needs a restart of the agent."""
    log_level: LogLevel = LogLevel.INFO
    reload_interval: PositiveDuration = 1.0
    """How often the configuration file is looked at for a change."""
    watch_files: bool = False
    """Whether the system is asked to tell of changes instead; needs the extra `watch`, and about 3 MB of memory."""
    drain_timeout: PositiveDuration = 30.0
    """From SIGTERM to the end of everything; what is left then is killed."""
    request_timeout: Duration = 5.0
    """The part of it that requests in flight get once the services have stopped."""
    ready_when: ReadyWhen = ReadyWhen.AGENT
    """agent: /readyz speaks for the agent alone. checks: it also fails while a readiness check fails or
    a critical service does not run."""
    shutdown_delay: Duration = 0.0
    """Between the fall of /readyz and the stop of anything: so long load balancers may still send requests. Part of
    drain_timeout."""
    check_threads: Annotated[int, Meta(ge=1, le=1024)] = 64
    """Threads for what checks ask the system and may never hear of again: files, mounts, names, the list of processes."""
    queue: QueueSettings = field(default_factory=QueueSettings)
