"""Which services are announced to whom."""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta, field

from watchkeeper.config.schema.common import DURATION, Duration, PositiveDuration, StrictStruct, Text
from watchkeeper.config.schema.registries import ConsulServer, EtcdServer

__all__ = [
    "AnyRegistration",
    "ConsulRegistration",
    "EtcdRegistration",
    "FileRegistration",
    "HttpProbe",
    "NotReady",
    "Port",
    "Registration",
    "TcpProbe",
    "Weight",
]

Port = Annotated[int, Meta(ge=1, le=65_535)]
Weight = Annotated[int, Meta(ge=0, le=65_535)]


class NotReady(enum.StrEnum):
    """What becomes of a registration while its service is not ready."""

    CRITICAL = "critical"
    DEREGISTER = "deregister"


class Registration(StrictStruct, frozen=True, kw_only=True, tag_field="type"):
    """What all registrations have in common. A registration follows the readiness of its service, as /status has it."""

    service: Text
    """The service of this agent that is announced."""
    address: Text
    """Where others reach it: a name or an address without a port."""
    port: Port
    """Where it listens there."""
    name: Text | None = None
    """What the registry calls the service; None: as here."""
    id: Text | None = None
    """What the registry calls this instance of it; None: NAME-ADDRESS-PORT."""
    tags: tuple[Text, ...] = ()
    """Words that others can choose by."""
    meta: dict[str, str] = field(default_factory=dict)
    """Whatever else others should know."""
    weight: Weight = 1
    """Its share beside other instances."""
    retry_initial: PositiveDuration = 0.5
    """From a failure to the next attempt (etcd's client); doubled each time."""
    retry_maximum: PositiveDuration = 10.0
    """At most; and never longer than from one renewal to the next."""
    withdraw_timeout: PositiveDuration = 3.0
    """What withdrawing may take when the agent ends; after that it is left to the registry's own time limits."""

    @property
    def announced_name(self) -> str:
        """What the registry calls the service."""
        return self.name or self.service

    @property
    def instance_id(self) -> str:
        """What the registry calls this instance."""
        return self.id or f"{self.announced_name}-{self.address}-{self.port}"

    @property
    def stays(self) -> bool:
        """Whether it stays in the registry while its service is not ready."""
        return getattr(self, "when_not_ready", NotReady.DEREGISTER) is NotReady.CRITICAL


class HttpProbe(StrictStruct, frozen=True, kw_only=True, tag="http", tag_field="type"):
    """Consul asks the service itself; any 2xx is good, 429 a warning."""

    url: Text
    """As Consul reaches it."""
    interval: PositiveDuration = 10.0
    """From one look of Consul's to the next."""
    timeout: PositiveDuration = 10.0
    """Consul's own default."""


class TcpProbe(StrictStruct, frozen=True, kw_only=True, tag="tcp", tag_field="type"):
    """Consul opens a connection to the service."""

    address: Text | None = None
    """HOST:PORT as Consul reaches it; None: the announced one."""
    interval: PositiveDuration = 10.0
    """From one look of Consul's to the next."""
    timeout: PositiveDuration = 10.0
    """Consul's own default."""


class ConsulRegistration(Registration, frozen=True, kw_only=True, tag="consul"):
    """With a Consul agent, which carries it into the catalogue."""

    server: ConsulServer = field(default_factory=ConsulServer)
    """The Consul agent of this machine."""
    ttl: Duration = 15.0
    """A check that turns critical when this agent does not say every third of it that the service is ready; 0: none."""
    probe: HttpProbe | TcpProbe | None = None
    """A check that Consul makes itself."""
    when_not_ready: NotReady = NotReady.CRITICAL
    """critical: the TTL check says so. deregister: it is taken out, and comes back when the service is ready."""
    deregister_critical_after: Annotated[float, Meta(ge=60, le=31_536_000, extra=DURATION)] | None = None
    """When Consul itself takes out a service whose check has been critical for so long; a minute at least (Consul)."""
    look_interval: PositiveDuration = 10.0
    """How often it is made sure that Consul still knows a service without a TTL check."""


class EtcdRegistration(Registration, frozen=True, kw_only=True, tag="etcd"):
    """As the key PREFIX/NAME/ID with a lease: it goes by itself when this agent is gone."""

    server: EtcdServer = field(default_factory=EtcdServer)
    """The cluster."""
    prefix: Text = "/services"
    """What the key begins with."""
    ttl: Annotated[float, Meta(ge=2, le=86_400, extra=DURATION)] = 15.0
    """The lease, in whole seconds; it is kept alive every third of that (etcd's own client)."""
    when_not_ready: NotReady = NotReady.DEREGISTER
    """critical: the key stays and says "ready": false."""


class FileRegistration(Registration, frozen=True, kw_only=True, tag="file"):
    """As a file of targets that Prometheus reads (file_sd); whoever reads JSON can use it."""

    path: Text
    """Ends in .json; the folder is there already. The file is made when the service is ready and removed when not."""
    look_interval: PositiveDuration = 10.0
    """How often it is made sure that the file is as it should be."""


AnyRegistration = ConsulRegistration | EtcdRegistration | FileRegistration
