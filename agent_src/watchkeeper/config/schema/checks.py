"""Checks: what is looked at, how often, and how many outcomes count."""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta, field

from watchkeeper.config.schema.common import (
    DURATION,
    SIZE,
    Address,
    Duration,
    PositiveDuration,
    Secret,
    Size,
    StrictStruct,
    Text,
    TlsClient,
    Words,
)

LONGEST_WINDOW = 64
"""Cycles, as in monit."""

Percent = Annotated[float, Meta(ge=0, le=100)]
Days = Annotated[float, Meta(ge=0, le=36_500)]
BodySize = Annotated[int, Meta(ge=1, le=16 * 1024 * 1024, extra=SIZE)]


class Role(enum.StrEnum):
    """What a check decides; the words and their meaning are the kubelet's."""

    STARTUP = "startup"
    LIVENESS = "liveness"
    READINESS = "readiness"


class Action(enum.StrEnum):
    """What follows from a check, beyond /status and the metrics."""

    RESTART = "restart"
    """A failed verdict replaces the service's process."""
    LOG = "log"
    """Every look is a line in the log: ok with level info, everything else as a warning. Nothing is restarted."""
    NONE = "none"
    """Only a change of the verdict is a line in the log. Nothing is restarted."""


class CheckSpec(StrictStruct, frozen=True, kw_only=True, tag_field="type"):
    """What all checks have in common. Numbers and meaning are the kubelet's (kubernetes pkg/kubelet/prober/worker.go)."""

    role: Role = Role.READINESS
    """startup gates the service's other checks; a liveness failure restarts the service; readiness only reports."""
    action: Action | None = None
    """None: restart for startup and liveness, none for readiness."""
    initial_delay: Duration = 0.0
    """From the start of the service to the first check."""
    period: Annotated[float, Meta(ge=0.05, le=86_400, extra=DURATION)] = 10.0
    """From the start of one check to the start of the next; a slot that is missed is left out."""
    timeout: Annotated[float, Meta(ge=0.01, le=3_600, extra=DURATION)] = 1.0
    """The check's own deadline; past it the check has failed."""
    success_threshold: Annotated[int, Meta(ge=1, le=1000)] = 1
    """Successes in a row before the verdict turns to success; liveness and startup take only 1."""
    failure_threshold: Annotated[int, Meta(ge=1, le=1000)] = 3
    """Failures before the verdict turns to failure: in a row, or among the last failure_window outcomes."""
    failure_window: Annotated[int, Meta(ge=0, le=LONGEST_WINDOW)] = 0
    """Outcomes among which failure_threshold failures are needed (monit's `X times within Y cycles`); 0: in a row."""
    splay: Duration | None = None
    """A random extra delay before the first check, from 0 to this, so that many checks do not start together. None: from 0
    to the period when the agent itself has just started, as the kubelet does, and none later."""
    jitter: Annotated[float, Meta(ge=0, le=1)] = 0.0
    """A random delay of each check, from 0 to this part of the period; the slots themselves stay where they are."""

    @property
    def effect(self) -> Action:
        """The action in force."""
        if self.action is not None:
            return self.action
        return Action.NONE if self.role is Role.READINESS else Action.RESTART


class Redirects(enum.StrEnum):
    """Which redirects are followed, ten at most; any other is the answer."""

    NONE = "none"
    SAME_HOST = "same-host"
    ALL = "all"


class BasicAuth(StrictStruct, frozen=True, kw_only=True):
    """A user and a password (RFC 7617); both are sent as UTF-8."""

    username: Text
    password: Secret


class JsonRule(StrictStruct, frozen=True, kw_only=True):
    """Something that JSON has to say; docs/agent/checks.md has the paths. Without any test the value has to be there."""

    path: Text
    """Such as `status`, `checks.db.up`, `nodes[0].name`, `nodes[*].state`."""
    equals: str | float | bool | None = None
    """The value; text, a number, true or false."""
    matches: Text | None = None
    """A regular expression that is found in the value, which is written as JSON unless it is text."""
    minimum: float | None = None
    maximum: float | None = None


class HttpCheck(CheckSpec, frozen=True, kw_only=True, tag="http"):
    """A request, and a look at its answer."""

    url: Address
    """http or https."""
    method: Annotated[str, Meta(pattern=r"^[A-Z]{1,20}$")] = "GET"
    headers: dict[str, str] = field(default_factory=dict)
    """Sent; they replace the agent's own Host, User-Agent and Accept."""
    basic_auth: BasicAuth | None = None
    bearer_token: Secret | None = None
    unix_socket: Text | None = None
    """A socket to connect to instead of the URL's host and port (unix:PATH in other programs)."""
    redirects: Redirects = Redirects.SAME_HOST
    """same-host is what the kubelet does; credentials are never sent to another host or port, or from https to http."""
    status: tuple[
        Annotated[int, Meta(ge=100, le=599)] | Annotated[str, Meta(pattern=r"^[1-5]\d\d-[1-5]\d\d$")], ...
    ] = ()
    """Statuses and ranges ("200-299") that are a success; empty: 200 to 399 (kubernetes pkg/probe/http/http.go)."""
    expect_headers: dict[str, str] = field(default_factory=dict)
    """Headers that the answer must have, each with a regular expression that is found in its value; empty: any value."""
    expect_body: Text | None = None
    """A regular expression that is found in the body."""
    reject_body: Text | None = None
    """A regular expression that is not found in the body."""
    expect_json: tuple[JsonRule, ...] = ()
    """What the body, as JSON, has to say."""
    body_limit: BodySize = 1024 * 1024
    """Bytes of the body that are read for the rules above (1 MB, as monit). Without such rules 10 KiB are (the kubelet)."""
    max_seconds: PositiveDuration | None = None
    """Until the whole answer is there; a slower one is a warning, and still a success."""
    certificate_days: Days | None = None
    """An https server's certificate must be valid for so many more days."""
    certificate_warn_days: Days | None = None
    """With fewer days than this the check warns."""
    tls: TlsClient = field(default_factory=TlsClient)


class TcpCheck(CheckSpec, frozen=True, kw_only=True, tag="tcp"):
    """A connection is opened; something may be said and heard over it."""

    address: Address
    """HOST:PORT, [IPv6]:PORT, or unix:PATH."""
    send: Text | None = None
    """Written once the connection is there; in YAML's double quotes \\r and \\n are line ends."""
    expect: Text | None = None
    """A regular expression that is found in what comes back."""
    read_limit: Annotated[int, Meta(ge=1, le=1_048_576, extra=SIZE)] = 65_536
    """Bytes that are read for it."""


class ExitCodes(enum.StrEnum):
    """What the exit status of a command means."""

    ZERO = "zero"
    """0 passes, all else has failed (the kubelet)."""
    CONSUL = "consul"
    """0 passes, 1 warns, all else has failed."""
    NAGIOS = "nagios"
    """0 passes, 1 warns, 2 has failed, 3 and more: not known, which changes no verdict."""


class ExecCheck(CheckSpec, frozen=True, kw_only=True, tag="exec"):
    """A command, in a process group of its own; at the deadline all of the group is killed."""

    command: Words
    """The program and its arguments; no shell is involved."""
    environment: dict[str, str] = field(default_factory=dict)
    """Added to the agent's own environment."""
    secrets: dict[str, Secret] = field(default_factory=dict)
    """More of the environment; never shown."""
    working_directory: str | None = None
    user: Text | None = None
    """Whom it runs as, by name or number; that needs an agent that runs as root. Not on Windows."""
    exit_codes: ExitCodes = ExitCodes.ZERO
    output_limit: Annotated[int, Meta(ge=0, le=1_048_576, extra=SIZE)] = 10_240
    """Bytes of output that are kept for the message; the rest is read and dropped (10 KiB, as the kubelet)."""


class ProcessCheck(CheckSpec, frozen=True, kw_only=True, tag="process"):
    """Processes of this machine: how many there are, and what they use."""

    name: Text | None = None
    """The program's name as the kernel has it (15 bytes on Linux)."""
    pidfile: Text | None = None
    """A file whose first line is the pid."""
    cmdline: Text | None = None
    """A regular expression that is found in the arguments, joined by spaces."""
    minimum: Annotated[int, Meta(ge=0, le=1_000_000)] = 1
    """Processes that there must be; zombies do not count."""
    maximum: Annotated[int, Meta(ge=0, le=1_000_000)] | None = None
    max_rss: Size | None = None
    """Resident bytes of all of them together."""
    max_cpu: Annotated[float, Meta(ge=0, le=1_000_000)] | None = None
    """Percent of one processor, all of them together, since the look before."""


class FileCheck(CheckSpec, frozen=True, kw_only=True, tag="file"):
    """A file or directory."""

    path: Text
    exists: bool = True
    """false: it must not be there, and nothing else is looked at."""
    max_age: PositiveDuration | None = None
    """Since it was last modified."""
    min_age: PositiveDuration | None = None
    min_size: Size | None = None
    max_size: Size | None = None
    max_growth: Size | None = None
    """Bytes between two looks. A file that has become smaller has been rotated, and has not grown."""
    sha256: Annotated[str, Meta(min_length=64, max_length=64, pattern=r"^[0-9a-fA-F]+$")] | None = None
    md5: Annotated[str, Meta(min_length=32, max_length=32, pattern=r"^[0-9a-fA-F]+$")] | None = None
    """For lists of checksums that have nothing else; against no attacker."""
    mode: Annotated[str, Meta(pattern=r"^[0-7]{3,4}$")] | None = None
    """In octal and as text, such as "0644"."""
    owner: Text | None = None
    """By name or number."""
    group: Text | None = None


class DiskCheck(CheckSpec, frozen=True, kw_only=True, tag="disk"):
    """Room on a file system. A mount that hangs costs this check its deadline, and nothing else."""

    path: Text
    """Any path on it."""
    max_used_percent: Percent | None = None
    """Of what ordinary users may have, as df(1) counts it."""
    warn_used_percent: Percent | None = None
    min_free: Size | None = None
    """Bytes that ordinary users may still write."""
    warn_free: Size | None = None
    max_used: Size | None = None
    max_inodes_percent: Percent | None = None
    warn_inodes_percent: Percent | None = None


class MemoryCheck(CheckSpec, frozen=True, kw_only=True, tag="memory"):
    """Memory of the machine."""

    max_used_percent: Percent | None = None
    """Of all memory; what the kernel can give back at once is not used."""
    warn_used_percent: Percent | None = None
    min_available: Size | None = None
    warn_available: Size | None = None
    max_swap_percent: Percent | None = None


class CertificateCheck(CheckSpec, frozen=True, kw_only=True, tag="certificate"):
    """A certificate in a file, or the one that a server shows."""

    file: Text | None = None
    """PEM; every certificate in it is looked at, and the first is the one that is meant."""
    address: Address | None = None
    """HOST:PORT of a TLS server, whose chain and name are verified."""
    hostname: Text | None = None
    """A name that the certificate must be good for; for a server its host unless `tls.server_name` says otherwise."""
    min_days: Days = 7.0
    """Days that each certificate must still be valid."""
    warn_days: Days = 30.0
    """With fewer days than this the check warns."""
    tls: TlsClient = field(default_factory=TlsClient)


class DnsRecord(enum.StrEnum):
    """Types of DNS records."""

    A = "A"
    AAAA = "AAAA"
    CNAME = "CNAME"
    TXT = "TXT"
    SRV = "SRV"
    MX = "MX"


class DnsCheck(CheckSpec, frozen=True, kw_only=True, tag="dns"):
    """A name, and what is answered for it."""

    name: Annotated[str, Meta(min_length=1, max_length=254)]
    record: DnsRecord = DnsRecord.A
    server: Address | None = None
    """ADDRESS:PORT that is asked. None: A and AAAA are asked of the system, as every program does; other records of the
    first server in /etc/resolv.conf."""
    expect: tuple[Text, ...] = ()
    """Answers that must be among those that come: "192.0.2.1", "10 mail.example.com", "0 5 443 a.example.com"."""
    exact: bool = False
    """Whether there may be no others."""
    tcp: bool = False
    """Ask over TCP at once; else TCP follows an answer that was cut."""


class IcmpCheck(CheckSpec, frozen=True, kw_only=True, tag="icmp"):
    """An echo request ("ping"). It needs a system that lets the agent send it; docs/agent/checks.md says how."""

    host: Address
    """A name or an address, IPv4 or IPv6."""
    count: Annotated[int, Meta(ge=1, le=100)] = 1
    """Requests, 100 ms apart."""
    max_loss_percent: Percent = 0.0
    max_seconds: PositiveDuration | None = None
    """For the slowest answer."""


class GrpcCheck(CheckSpec, frozen=True, kw_only=True, tag="grpc"):
    """grpc.health.v1.Health/Check says SERVING."""

    address: Address
    """HOST:PORT, [IPv6]:PORT, or unix:PATH."""
    service: str = ""
    """Which service is asked about; empty: the server as a whole."""
    use_tls: bool = False
    tls: TlsClient = field(default_factory=TlsClient)


AnyCheck = (
    HttpCheck
    | TcpCheck
    | ExecCheck
    | ProcessCheck
    | FileCheck
    | DiskCheck
    | MemoryCheck
    | CertificateCheck
    | DnsCheck
    | IcmpCheck
    | GrpcCheck
)
