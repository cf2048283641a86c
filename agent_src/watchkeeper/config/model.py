"""The schema of the configuration: one documented struct per kind.

Durations are seconds, written as a number or as "500ms", "5s", "2m". A default stands beside its field; where it copies
another system, the field says which. The structs are frozen: a running agent reads one immutable snapshot, and two
definitions are compared with ==.
"""

from __future__ import annotations

import enum
from typing import Annotated, Any

from msgspec import Meta, Struct, field

DURATION = {"unit": "seconds"}
Duration = Annotated[float, Meta(ge=0, le=31_536_000, extra=DURATION)]
PositiveDuration = Annotated[float, Meta(ge=0.001, le=31_536_000, extra=DURATION)]
Name = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
Address = Annotated[str, Meta(min_length=1, max_length=300)]
Words = Annotated[tuple[Annotated[str, Meta(min_length=1)], ...], Meta(min_length=1)]


class Role(enum.StrEnum):
    """What a check decides; the words and their meaning are the kubelet's."""

    STARTUP = "startup"
    LIVENESS = "liveness"
    READINESS = "readiness"


class Policy(enum.StrEnum):
    """When a service that has ended by itself is started again."""

    NO = "no"
    ALWAYS = "always"
    ON_FAILURE = "on-failure"


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


class StrictStruct(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What every struct of the schema has in common."""


class CheckSpec(StrictStruct, frozen=True, kw_only=True, tag_field="type"):
    """What all checks have in common. Numbers and meaning are the kubelet's (kubernetes pkg/kubelet/prober/worker.go)."""

    role: Role = Role.READINESS
    """startup gates the service's other checks; a liveness failure restarts the service; readiness only reports."""
    initial_delay: Duration = 0.0
    """From the start of the service to the first check."""
    period: Annotated[float, Meta(ge=0.05, le=86_400, extra=DURATION)] = 10.0
    """From the start of one check to the start of the next; a slot that is missed is left out."""
    timeout: Annotated[float, Meta(ge=0.01, le=3_600, extra=DURATION)] = 1.0
    """The check's own deadline; past it the check has failed."""
    success_threshold: Annotated[int, Meta(ge=1, le=1000)] = 1
    """Successes in a row before the verdict turns to success; liveness and startup take only 1."""
    failure_threshold: Annotated[int, Meta(ge=1, le=1000)] = 3
    """Failures in a row before the verdict turns to failure."""
    splay: Duration = 0.0
    """A random extra delay before the first check, from 0 to this, so that many checks do not start together."""


class HttpCheck(CheckSpec, frozen=True, kw_only=True, tag="http"):
    """A request, and a look at the status of its answer."""

    url: Address
    """http or https; a redirect to the same host is followed, as the kubelet does."""
    method: Annotated[str, Meta(pattern=r"^[A-Z]{1,20}$")] = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    status: tuple[Annotated[int, Meta(ge=100, le=599)], ...] = ()
    """The statuses that are a success; empty: 200 <= status < 400 (kubernetes pkg/probe/http/http.go)."""
    tls_verify: bool = True
    """Whether the certificate of an https server must be valid."""


class TcpCheck(CheckSpec, frozen=True, kw_only=True, tag="tcp"):
    """A connection that is opened and closed again."""

    address: Address
    """HOST:PORT, or [IPv6]:PORT."""


class ExecCheck(CheckSpec, frozen=True, kw_only=True, tag="exec"):
    """A command; exit status 0 is a success."""

    command: Words
    """The program and its arguments; no shell is involved."""
    environment: dict[str, str] = field(default_factory=dict)
    """Added to the agent's own environment."""
    working_directory: str | None = None
    output_limit: Annotated[int, Meta(ge=0, le=1_048_576)] = 10_240
    """Bytes of output that are kept for the message; the rest is read and dropped (10 KiB, as the kubelet)."""


AnyCheck = HttpCheck | TcpCheck | ExecCheck


class Backoff(StrictStruct, frozen=True, kw_only=True):
    """How long to wait before a service is started again: initial * factor^n, at most maximum."""

    initial: PositiveDuration = 1.0
    maximum: PositiveDuration = 60.0
    factor: Annotated[float, Meta(ge=1.0, le=10.0)] = 2.0
    jitter: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.1
    """The part of the delay that is random: 0.1 makes 1 s anything from 0.9 s to 1.1 s."""
    reset_after: PositiveDuration = 600.0
    """A run of this length forgets earlier failures (10 min, as the kubelet's crash loop)."""


class ServiceSpec(StrictStruct, frozen=True, kw_only=True):
    """A program that is started and kept alive, in its own process group."""

    command: Words
    """The program and its arguments; no shell is involved."""
    environment: dict[str, str] = field(default_factory=dict)
    """Added to the agent's own environment."""
    working_directory: str | None = None
    policy: Policy = Policy.ALWAYS
    """on-failure: an exit status other than 0, or a signal."""
    stop_grace: Duration = 10.0
    """From TERM to KILL; both go to the whole process group."""
    backoff: Backoff = field(default_factory=Backoff)
    line_limit: Annotated[int, Meta(ge=80, le=1_048_576)] = 16_384
    """Bytes of one line of output that are kept; the rest of the line is dropped and the log line says so."""


class ServiceDefinition(ServiceSpec, frozen=True, kw_only=True):
    """A service as it is written, with its checks inside. A change of a check does not restart the service."""

    checks: dict[Name, AnyCheck] = field(default_factory=dict)


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


class Config(StrictStruct, frozen=True, kw_only=True):
    """The whole file."""

    agent: AgentSettings = field(default_factory=AgentSettings)
    services: dict[Name, ServiceDefinition] = field(default_factory=dict)
    checks: dict[Name, AnyCheck] = field(default_factory=dict)
    """Checks that stand alone; they belong to no service, so their role is readiness."""

    @property
    def check_count(self) -> int:
        """How many checks there are, inside services and alone."""
        return len(self.checks) + sum(len(service.checks) for service in self.services.values())


def split_address(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or [IPv6]:PORT.

    Raises:
        ValueError: it is not one, or the port is not 0..65535.
    """
    host, separator, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not separator or not host or (":" in host and not bracketed):
        raise ValueError(f"{text!r} is not HOST:PORT")
    if not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise ValueError(f"the port in {text!r} is not a number from 0 to 65535")
    return (host[1:-1] if bracketed else host), int(port)


def service_spec(definition: ServiceDefinition) -> ServiceSpec:
    """The part of a definition whose change restarts the service."""
    fields: dict[str, Any] = {name: getattr(definition, name) for name in ServiceSpec.__struct_fields__}
    return ServiceSpec(**fields)
