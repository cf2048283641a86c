"""Which services are announced to whom."""

from __future__ import annotations

from watchkeeper.config.schema.common import PositiveDuration, StrictStruct, Text


class Registration(StrictStruct, frozen=True, kw_only=True, tag_field="type"):
    """What all registrations have in common."""

    service: Text
    """The service that is announced."""


class ConsulRegistration(Registration, frozen=True, kw_only=True, tag="consul"):
    """In a Consul agent's catalogue."""

    url: Text = "http://127.0.0.1:8500"
    """The Consul agent."""


class EtcdRegistration(Registration, frozen=True, kw_only=True, tag="etcd"):
    """As a key with a lease in etcd."""

    url: Text = "http://127.0.0.1:2379"
    """etcd's client address."""
    ttl: PositiveDuration = 15.0
    """The lease; it is kept alive every third of that."""


AnyRegistration = ConsulRegistration | EtcdRegistration
