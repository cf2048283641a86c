"""Checks: what is looked at, how often, and how many outcomes in a row count."""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta, field

from watchkeeper.config.schema.common import DURATION, Address, Duration, StrictStruct, Words


class Role(enum.StrEnum):
    """What a check decides; the words and their meaning are the kubelet's."""

    STARTUP = "startup"
    LIVENESS = "liveness"
    READINESS = "readiness"


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
