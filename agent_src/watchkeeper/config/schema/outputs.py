"""Where log lines go, beside standard error."""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta, field

from watchkeeper.config.schema.agent import LogLevel
from watchkeeper.config.schema.common import (
    Duration,
    PositiveDuration,
    Secret,
    Size,
    StrictStruct,
    Text,
    TlsClient,
)


class Output(StrictStruct, frozen=True, kw_only=True, tag_field="type"):
    """What all outputs have in common. One that is slow or gone holds up neither the agent nor another output."""

    level: LogLevel = LogLevel.TRACE
    """The least important line that goes there; agent.log_level says which are written at all."""
    capacity: Annotated[int, Meta(ge=1, le=10_000_000)] = 10_000
    """Lines that wait in memory; the oldest are dropped, and counted (Telegraf's metric_buffer_limit)."""
    batch: Annotated[int, Meta(ge=1, le=100_000)] = 1024
    """Lines that are written at once, at most."""
    flush_interval: Annotated[float, Meta(ge=0.001, le=3600, extra={"unit": "seconds"})] = 0.1
    """The longest that a line waits for others to be written with it; an error waits for none."""


class FileOutput(Output, frozen=True, kw_only=True, tag="file"):
    """A file, rotated."""

    path: Text
    """Where it is; missing folders are made."""
    max_size: Size = 64 * 1024 * 1024
    """Bytes after which FILE becomes FILE.1; 0: never."""
    max_age: Duration = 0.0
    """How old a file becomes before that, by its first line where it was there before; 0: any age."""
    keep: Annotated[int, Meta(ge=0, le=1000)] = 5
    """How many older files stay."""
    mode: Annotated[str, Meta(pattern=r"^0?[0-7]{3}$")] = "0640"
    """The permissions of a new file, in octal."""


class StdoutOutput(Output, frozen=True, kw_only=True, tag="stdout"):
    """Standard output."""


class Facility(enum.StrEnum):
    """What syslog calls the kind of program (RFC 5424 section 6.2.1)."""

    USER = "user"
    DAEMON = "daemon"
    AUTH = "auth"
    CRON = "cron"
    LOCAL0 = "local0"
    LOCAL1 = "local1"
    LOCAL2 = "local2"
    LOCAL3 = "local3"
    LOCAL4 = "local4"
    LOCAL5 = "local5"
    LOCAL6 = "local6"
    LOCAL7 = "local7"


class Transport(enum.StrEnum):
    """How syslog is reached."""

    UNIX = "unix"
    UDP = "udp"
    TCP = "tcp"
    TLS = "tls"


class SyslogOutput(Output, frozen=True, kw_only=True, tag="syslog"):
    """The local syslog daemon, or a server."""

    transport: Transport = Transport.UNIX
    address: Text = "/dev/log"
    """unix: the socket's path; else HOST:PORT (514 for udp and tcp, 6514 for tls by custom)."""
    facility: Facility = Facility.DAEMON
    app_name: Text = "watchkeeper"
    timeout: PositiveDuration = 5.0
    """To connect, and for each write."""
    datagram_limit: Annotated[int, Meta(ge=480, le=65_507)] = 8192
    """Bytes of a message over unix and udp; the rest is cut off (RFC 5426 section 3.2: 2048 should be taken by all)."""
    tls: TlsClient = field(default_factory=TlsClient)


class PostedOutput(Output, frozen=True, kw_only=True):
    """What outputs over HTTP have in common."""

    url: Text
    """http or https."""
    headers: dict[str, Secret] = field(default_factory=dict)
    """Sent with every request; never shown."""
    timeout: PositiveDuration = 5.0
    """To connect, and for each part of an answer."""
    spool: Size = 0
    """Bytes in the state directory for what cannot be sent now; the oldest batches go first. 0: memory only."""
    tls: TlsClient = field(default_factory=TlsClient)


class OtlpOutput(PostedOutput, frozen=True, kw_only=True, tag="otlp"):
    """An OpenTelemetry collector, over HTTP in JSON."""

    url: Text = "http://127.0.0.1:4318"
    """/v1/logs is added where it is missing."""
    resource: dict[str, str] = field(default_factory=dict)
    """Attributes beside service.name, service.version and host.name, which may be given here as well."""


class LokiOutput(PostedOutput, frozen=True, kw_only=True, tag="loki"):
    """Loki's push API."""

    labels: dict[str, str] = field(default_factory=dict)
    """Labels of every stream, beside service and level."""
    tenant: str | None = None
    """X-Scope-OrgID."""


AnyOutput = FileOutput | StdoutOutput | SyslogOutput | OtlpOutput | LokiOutput
