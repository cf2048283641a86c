"""Services: what is kept running, and how. Each driver has a struct of its own; without `driver` it is a process."""

from __future__ import annotations

import enum
from typing import Annotated, ClassVar, TypeVar

import msgspec
from msgspec import Meta, field

from watchkeeper.config.schema.checks import AnyCheck
from watchkeeper.config.schema.common import (
    DURATION,
    SIZE,
    Duration,
    Name,
    PositiveDuration,
    Secret,
    StrictStruct,
    Text,
    Words,
)


class Policy(enum.StrEnum):
    """When a service that has ended by itself is started again."""

    NO = "no"
    ALWAYS = "always"
    ON_FAILURE = "on-failure"
    UNLESS_STOPPED = "unless-stopped"
    EXIT_AGENT = "exit-agent"


class StopBy(enum.StrEnum):
    """What asks a process to end; on Windows all but kill are CTRL_BREAK."""

    TERM = "term"
    INT = "int"
    QUIT = "quit"
    HUP = "hup"
    USR1 = "usr1"
    USR2 = "usr2"
    WINCH = "winch"
    ABRT = "abrt"
    KILL = "kill"


class OnAgentDeath(enum.StrEnum):
    """What becomes of a process whose agent was killed."""

    END = "end"
    ADOPT = "adopt"


class OnAgentStop(enum.StrEnum):
    """What becomes of a service when its agent stops in order."""

    STOP = "stop"
    LEAVE = "leave"


class Inherit(enum.StrEnum):
    """What of the agent's environment a process gets."""

    ALL = "all"
    NONE = "none"


class LogTo(enum.StrEnum):
    """Where the output of a process goes."""

    AGENT = "agent"
    FILE = "file"
    BOTH = "both"
    NOTHING = "nothing"


class Backoff(StrictStruct, frozen=True, kw_only=True):
    """How long to wait before a service is started again: initial * factor^n, at most maximum."""

    initial: PositiveDuration = 1.0
    maximum: PositiveDuration = 60.0
    factor: Annotated[float, Meta(ge=1.0, le=10.0)] = 2.0
    jitter: Annotated[float, Meta(ge=0.0, le=1.0)] = 0.1
    """The part of the delay that is random: 0.1 makes 1 s anything from 0.9 s to 1.1 s."""
    reset_after: PositiveDuration = 600.0
    """A run of this length forgets earlier failures (10 min, as the kubelet's crash loop)."""


class Flap(StrictStruct, frozen=True, kw_only=True):
    """When a service that keeps failing is called degraded, and how slowly it is tried from then on."""

    failures: Annotated[int, Meta(ge=0, le=1000)] = 10
    """Within `window`; 0: never. 10 in 30 min are what Home Assistant's supervisor gives up after."""
    window: PositiveDuration = 1800.0
    retry: PositiveDuration = 300.0
    """Between two starts while it is degraded (5 min, the kubelet's longest). It is never given up."""
    stable: PositiveDuration = 60.0
    """A run of this length ends it."""


class Limits(StrictStruct, frozen=True, kw_only=True):
    """Resource limits, both soft and hard; None: the agent's own."""

    nofile: Annotated[int, Meta(ge=3, le=1 << 30)] | None = None
    """Open files."""
    nproc: Annotated[int, Meta(ge=1, le=1 << 22)] | None = None
    """Processes and threads of the service's user, all together; root is not held by it."""
    core: Annotated[int, Meta(ge=0, le=1 << 50, extra=SIZE)] | None = None
    """Bytes of a core file; 0: none is written."""
    address_space: Annotated[int, Meta(ge=1 << 20, le=1 << 50, extra=SIZE)] | None = None
    """Bytes of one process's address space."""


class ServiceLog(StrictStruct, frozen=True, kw_only=True):
    """What becomes of the lines that a process writes. It is always read: a slow disk or log never stops the process."""

    to: LogTo = LogTo.AGENT
    file: Text | None = None
    """Its own file, with the lines as they came."""
    max_size: Annotated[int, Meta(ge=4096, le=1 << 40, extra=SIZE)] = 10 * 1024 * 1024
    """Bytes after which the file becomes FILE.1, FILE.1 becomes FILE.2, and so on."""
    keep: Annotated[int, Meta(ge=0, le=1000)] = 5
    """Earlier files."""
    rate: Annotated[int, Meta(ge=1, le=1_000_000)] = 2000
    """Lines a second that go to the agent's log; what is more is counted, and a line says how many were left out."""


class Service(StrictStruct, frozen=True, kw_only=True, tag_field="driver"):
    """What all services have in common, whoever runs them."""

    policy: Policy = Policy.ALWAYS
    """on-failure: an exit status other than 0, or a signal. unless-stopped: as always, but an operator's stop outlives the
    agent. exit-agent: the agent ends in order, with the service's exit status."""
    stop_grace: Duration = 10.0
    """From the request to end to KILL; both go to everything the service consists of."""
    backoff: Backoff = field(default_factory=Backoff)
    flap: Flap = field(default_factory=Flap)
    after: tuple[Name, ...] = ()
    """Services that are started before this one and stopped after it: it waits until they are ready, or have come to rest."""
    requires: tuple[Name, ...] = ()
    """As `after`; and it is only started while they are ready, and stopped before they are stopped on purpose."""
    critical: bool = False
    """Whether /readyz speaks for it as well, with `agent.ready_when: checks`."""
    start_timeout: Duration = 0.0
    """From its start until its startup checks have passed; past it, it is stopped as if one had failed. 0: no limit."""
    condition: Words | None = None
    """A command that is run before each start; the service is started when that ends with 0."""
    condition_period: PositiveDuration = 60.0
    """After which it is asked again; it has this long to answer, but at most 30 s."""
    checks: dict[Name, AnyCheck] = field(default_factory=dict)
    """A change of a check does not restart the service."""

    WITHOUT_RESTART: ClassVar[frozenset[str]] = frozenset(
        {"after", "requires", "critical", "flap", "condition", "condition_period", "start_timeout", "checks"}
    )
    """What may change while it runs."""


class ProcessService(Service, frozen=True, kw_only=True, tag="process"):
    """A program that is started and kept alive, in its own process group."""

    DEFAULT_TAG: ClassVar[bool] = True
    """A service without `driver` is this one."""

    command: Words
    """The program and its arguments; no shell is involved."""
    environment: dict[str, str] = field(default_factory=dict)
    inherit: Inherit = Inherit.ALL
    """What it is added to: the agent's own environment, or nothing but PATH."""
    environment_files: tuple[Text, ...] = ()
    """Files of NAME=VALUE lines, read at each start; `environment` wins over them. A leading `-` lets one be missing."""
    secrets: dict[str, Secret] = field(default_factory=dict)
    """More of the environment; never shown."""
    working_directory: str | None = None
    user: Text | None = None
    """A name or a number; needs an agent that runs as root."""
    group: Text | None = None
    """None: the user's own."""
    supplementary_groups: tuple[Text, ...] | None = None
    """None: those that the user is a member of."""
    umask: Annotated[str, Meta(pattern=r"^0?[0-7]{3}$")] | None = None
    """Octal, in quotes: "027"."""
    nice: Annotated[int, Meta(ge=-20, le=19)] | None = None
    oom_score_adj: Annotated[int, Meta(ge=-1000, le=1000)] | None = None
    """Linux: how early the kernel ends it when memory is short."""
    limits: Limits = field(default_factory=Limits)
    stop: StopBy = StopBy.TERM
    """The signal to its group that asks it to end; kill does not ask."""
    stop_command: Words | None = None
    """Run in its place, with MAINPID in its environment; what is left after stop_grace is killed."""
    on_agent_death: OnAgentDeath = OnAgentDeath.END
    """end: it is ended as well. adopt: it goes on, and the next agent with this state directory takes it over."""
    on_agent_stop: OnAgentStop = OnAgentStop.STOP
    """leave: it goes on, and the next agent takes it over; needs `on_agent_death: adopt`."""
    follow_orphans: bool = False
    """Linux: what leaves the process group and loses its parent is found all the same, and ended with the service."""
    pid_file: Text | None = None
    """The command puts itself in the background and ends with 0; the process whose number is in this file is the service.
    `start_timeout`, or 30 s, for the file to appear."""
    log: ServiceLog = field(default_factory=ServiceLog)
    line_limit: Annotated[int, Meta(ge=80, le=1_048_576)] = 16_384
    """Bytes of one line of output that are kept; the rest of the line is dropped and the log line says so."""


class ObservedService(Service, frozen=True, kw_only=True):
    """What somebody else runs: the agent looks, and asks that one to start and to stop it."""

    period: Annotated[float, Meta(ge=0.1, le=3600, extra=DURATION)] = 2.0
    """Between two looks."""
    on_agent_stop: OnAgentStop = OnAgentStop.LEAVE


class UnitService(ObservedService, frozen=True, kw_only=True, tag="systemd"):
    """A unit of systemd, through systemctl."""

    unit: Annotated[str, Meta(pattern=r"^[A-Za-z0-9:_.\\@-]{1,255}$")]
    """Its full name: nginx.service."""
    systemctl: Words = ("systemctl",)
    """The program, with options such as --user."""


class WindowsService(ObservedService, frozen=True, kw_only=True, tag="windows"):
    """A service of Windows, through its service control manager."""

    service: Annotated[str, Meta(min_length=1, max_length=256, pattern=r"^[^/\\]+$")]
    """Its key name, not the one that is displayed."""


class ContainerService(ObservedService, frozen=True, kw_only=True, tag="container"):
    """A container of Docker or Podman, made and kept through the engine's socket. No image is ever pulled."""

    image: Text
    """Must be there already."""
    socket: Text = "/var/run/docker.sock"
    """A Unix socket."""
    container: Annotated[str, Meta(pattern=r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$")] | None = None
    """Its name; None: watchkeeper-SERVICE."""
    command: tuple[Text, ...] = ()
    """Instead of the image's own."""
    environment: dict[str, str] = field(default_factory=dict)
    secrets: dict[str, Secret] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    """Beside those that say whose it is."""
    volumes: tuple[Text, ...] = ()
    """HOST_PATH:CONTAINER_PATH[:ro]."""
    network: Text | None = None
    """The engine's name of it; None: the engine's default."""
    user: Text | None = None
    working_directory: str | None = None
    stop: StopBy = StopBy.TERM
    host_options: dict[str, str | int | bool] = field(default_factory=dict)
    """More of the engine's HostConfig, as it is: {Memory: 67108864}."""
    on_agent_stop: OnAgentStop = OnAgentStop.STOP


AnyService = ProcessService | UnitService | WindowsService | ContainerService
S = TypeVar("S", bound=Service)


def service_spec(definition: S) -> S:
    """A definition without its checks: they have keys of their own."""
    return msgspec.structs.replace(definition, checks={})


def same_program(one: Service | None, other: Service | None) -> bool:
    """Whether what runs by one definition is also what the other one wants."""
    if one == other:
        return True
    if one is None or other is None or type(one) is not type(other):
        return False
    return all(
        getattr(one, name) == getattr(other, name)
        for name in one.__struct_fields__
        if name not in one.WITHOUT_RESTART
    )
