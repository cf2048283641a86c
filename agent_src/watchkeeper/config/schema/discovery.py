"""Where the instances of services of others are found, for requests that are balanced over them."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from watchkeeper.config.schema.common import DURATION, Address, PositiveDuration, StrictStruct, Text
from watchkeeper.config.schema.registrations import Port, Weight
from watchkeeper.config.schema.registries import ConsulServer, EtcdServer

Wait = Annotated[float, Meta(ge=1, le=600, extra=DURATION)]


class Discovery(StrictStruct, frozen=True, kw_only=True, tag_field="type"):
    """What all kinds have in common. While a registry is down, what it said last goes on holding."""

    retry_initial: PositiveDuration = 0.5
    """From a failure to the next question; doubled each time."""
    retry_maximum: PositiveDuration = 30.0
    """At most."""


class StaticInstance(StrictStruct, frozen=True, kw_only=True):
    """One place that offers the service."""

    host: Text
    """A name or an address."""
    port: Port
    """Where it listens there."""
    weight: Weight = 1
    """Its share beside the others'; 0: it takes part only when nobody else is there."""


class StaticDiscovery(Discovery, frozen=True, kw_only=True, tag="static"):
    """Instances that are written down here."""

    instances: tuple[StaticInstance, ...]
    """All of them; they never change by themselves."""


class ConsulDiscovery(Discovery, frozen=True, kw_only=True, tag="consul"):
    """What Consul's health endpoint lists, with a blocking query."""

    service: Text
    """As Consul calls it."""
    server: ConsulServer = field(default_factory=ConsulServer)
    """The Consul agent that is asked."""
    tags: tuple[Text, ...] = ()
    """An instance must have all of them."""
    passing: bool = True
    """Only instances all of whose checks pass."""
    wait: Wait = 300.0
    """How long Consul holds an answer back while nothing changes; it adds up to a sixteenth (Consul: 5 min, at most 10)."""
    churn_interval: PositiveDuration = 15.0
    """Of changes that come faster than this, two in a row are taken at once and the others at this distance (Consul)."""


class EtcdDiscovery(Discovery, frozen=True, kw_only=True, tag="etcd"):
    """The keys under a prefix, each with a JSON object that has at least "address" and "port"."""

    prefix: Text
    """Usually /services/NAME/, as registrations of the type etcd write them."""
    server: EtcdServer = field(default_factory=EtcdServer)
    """The cluster that is asked."""
    wait: Wait = 300.0
    """After so long without a word the keys are read again, whatever the watch says."""
    churn_interval: PositiveDuration = 15.0
    """Of changes that come faster than this, two in a row are taken at once and the others at this distance."""


class DnsDiscovery(Discovery, frozen=True, kw_only=True, tag="dns"):
    """SRV records; those of the lowest priority count."""

    name: Text
    """Such as _http._tcp.example.com."""
    server: Address | None = None
    """HOST:PORT of a DNS server; None: the first of /etc/resolv.conf."""
    interval: PositiveDuration = 30.0
    """From one question to the next."""
    timeout: PositiveDuration = 2.0
    """For one answer."""


AnyDiscovery = StaticDiscovery | ConsulDiscovery | EtcdDiscovery | DnsDiscovery
