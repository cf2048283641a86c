"""How Consul and etcd are reached: by a source of configuration, a registration and a discovery in the same way."""

from __future__ import annotations

from msgspec import field

from watchkeeper.config.schema.common import PositiveDuration, Secret, StrictStruct, Text, TlsClient, Words


class ConsulServer(StrictStruct, frozen=True, kw_only=True):
    """A Consul agent, usually the one on this machine."""

    url: Text = "http://127.0.0.1:8500"
    """http or https, without a path (Consul's own default port)."""
    token: Secret | None = None
    """The ACL token, sent as X-Consul-Token."""
    datacenter: Text | None = None
    """None: the Consul agent's own."""
    namespace: Text | None = None
    """Of Consul Enterprise; None: the token's."""
    partition: Text | None = None
    """Of Consul Enterprise; None: the Consul agent's."""
    timeout: PositiveDuration = 5.0
    """For an answer that Consul does not hold back on purpose."""
    tls: TlsClient = field(default_factory=TlsClient)
    """For https."""


class EtcdServer(StrictStruct, frozen=True, kw_only=True):
    """An etcd cluster, spoken to through its JSON gateway (etcd 3.4 or newer)."""

    urls: Words = ("http://127.0.0.1:2379",)
    """The client addresses of its members; one that does not answer is followed by the next."""
    user: Text | None = None
    """For clusters with authentication; needs password."""
    password: Secret | None = None
    """The user's."""
    timeout: PositiveDuration = 5.0
    """For one answer of one member."""
    tls: TlsClient = field(default_factory=TlsClient)
    """For https."""
