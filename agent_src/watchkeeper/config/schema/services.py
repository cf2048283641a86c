"""Services: what is kept running, and how."""

from __future__ import annotations

import enum
from typing import Annotated, Any

from msgspec import Meta, field

from watchkeeper.config.schema.checks import AnyCheck
from watchkeeper.config.schema.common import Duration, Name, PositiveDuration, StrictStruct, Words


class Policy(enum.StrEnum):
    """When a service that has ended by itself is started again."""

    NO = "no"
    ALWAYS = "always"
    ON_FAILURE = "on-failure"


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


def service_spec(definition: ServiceDefinition) -> ServiceSpec:
    """The part of a definition whose change restarts the service."""
    fields: dict[str, Any] = {name: getattr(definition, name) for name in ServiceSpec.__struct_fields__}
    return ServiceSpec(**fields)
