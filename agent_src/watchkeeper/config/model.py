"""The whole configuration, and the names that the rest of the agent knows the schema by.

Durations are seconds, written as a number or as "500ms", "5s", "2m". A default stands beside its field; where it copies
another system, the field says which. The structs are frozen: a running agent reads one immutable snapshot, and two
definitions are compared with ==.
"""

from __future__ import annotations

from msgspec import field

from watchkeeper.config.schema.agent import AgentSettings, LogLevel, ReadyWhen
from watchkeeper.config.schema.alerts import AlertingSettings, AlertRule
from watchkeeper.config.schema.checks import AnyCheck, CheckSpec, ExecCheck, HttpCheck, Role, TcpCheck
from watchkeeper.config.schema.collectors import Collectors, MetricsSettings
from watchkeeper.config.schema.common import DURATION, Address, Name, StrictStruct, split_address
from watchkeeper.config.schema.discovery import AnyDiscovery
from watchkeeper.config.schema.faults import FaultSettings
from watchkeeper.config.schema.jobs import JobSpec
from watchkeeper.config.schema.listeners import Listener
from watchkeeper.config.schema.outbound import OutboundSettings
from watchkeeper.config.schema.outputs import AnyOutput
from watchkeeper.config.schema.registrations import AnyRegistration
from watchkeeper.config.schema.services import (
    AnyService,
    Backoff,
    Policy,
    ProcessService,
    Service,
    same_program,
    service_spec,
)
from watchkeeper.config.schema.sources import AnySource
from watchkeeper.config.schema.tracing import TracingSettings

__all__ = [
    "DURATION",
    "Address",
    "AgentSettings",
    "AnyCheck",
    "AnyService",
    "Backoff",
    "CheckSpec",
    "Config",
    "ExecCheck",
    "HttpCheck",
    "LogLevel",
    "Name",
    "Policy",
    "ProcessService",
    "ReadyWhen",
    "Role",
    "Service",
    "StrictStruct",
    "TcpCheck",
    "same_program",
    "service_spec",
    "split_address",
]


class Config(StrictStruct, frozen=True, kw_only=True):
    """The whole file."""

    agent: AgentSettings = field(default_factory=AgentSettings)
    services: dict[Name, AnyService] = field(default_factory=dict)
    checks: dict[Name, AnyCheck] = field(default_factory=dict)
    """Checks that stand alone; they belong to no service, so their role is readiness."""
    collectors: Collectors = field(default_factory=Collectors)
    metrics: MetricsSettings = field(default_factory=MetricsSettings)
    listeners: dict[Name, Listener] = field(default_factory=dict)
    outputs: dict[Name, AnyOutput] = field(default_factory=dict)
    sources: dict[Name, AnySource] = field(default_factory=dict)
    registrations: dict[Name, AnyRegistration] = field(default_factory=dict)
    discovery: dict[Name, AnyDiscovery] = field(default_factory=dict)
    outbound: OutboundSettings = field(default_factory=OutboundSettings)
    tracing: TracingSettings = field(default_factory=TracingSettings)
    alerts: dict[Name, AlertRule] = field(default_factory=dict)
    alerting: AlertingSettings = field(default_factory=AlertingSettings)
    faults: FaultSettings = field(default_factory=FaultSettings)
    jobs: dict[Name, JobSpec] = field(default_factory=dict)

    @property
    def check_count(self) -> int:
        """How many checks there are, inside services and alone."""
        return len(self.checks) + sum(len(service.checks) for service in self.services.values())
