"""How instances are found, by kind: read all of them, then wait until that may have changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import msgspec

from watchkeeper.config.schema.discovery import (
    AnyDiscovery,
    ConsulDiscovery,
    DnsDiscovery,
    EtcdDiscovery,
    StaticDiscovery,
)
from watchkeeper.outbound.client import Client
from watchkeeper.registry.answers import RegistryError, decode
from watchkeeper.registry.consul import NOT_FOUND, BlockingQuery, ConsulClient, Reply, part
from watchkeeper.registry.etcd import EtcdClient, EtcdRange
from watchkeeper.registry.etcd_messages import KeyValue
from watchkeeper.registry.instances import Instance

PASSING = "passing"
PORTS = range(1, 65_536)


class Finder(Protocol):
    """One thing to find."""

    async def fetch(self) -> tuple[Instance, ...]:
        """All instances, in order.

        Raises:
            RegistryError: they cannot be had.
        """

    async def next(self) -> tuple[Instance, ...]:
        """All instances, once they may have changed; may wait for minutes.

        Raises:
            RegistryError: they cannot be had; the caller waits and fetches.
        """


class _Node(msgspec.Struct, frozen=True):
    address: str = msgspec.field(name="Address", default="")


class _Weights(msgspec.Struct, frozen=True):
    passing: int = msgspec.field(name="Passing", default=1)
    warning: int = msgspec.field(name="Warning", default=1)


class _Service(msgspec.Struct, frozen=True):
    id: str = msgspec.field(name="ID", default="")
    address: str = msgspec.field(name="Address", default="")
    port: int = msgspec.field(name="Port", default=0)
    tags: tuple[str, ...] | None = msgspec.field(name="Tags", default=None)
    weights: _Weights | None = msgspec.field(name="Weights", default=None)


class _Check(msgspec.Struct, frozen=True):
    status: str = msgspec.field(name="Status", default="")


class Entry(msgspec.Struct, frozen=True):
    """One entry of /v1/health/service/NAME."""

    node: _Node = msgspec.field(name="Node")
    service: _Service = msgspec.field(name="Service")
    checks: tuple[_Check, ...] | None = msgspec.field(name="Checks", default=None)

    def instance(self) -> Instance | None:
        """None: nothing that can be connected to. Without an address of its own a service is at its node's."""
        service = self.service
        host = service.address or self.node.address
        if not host or service.port not in PORTS:
            return None
        weights = service.weights or _Weights()
        passing = all(check.status == PASSING for check in self.checks or ())
        weight = weights.passing if passing else weights.warning
        return Instance(host, service.port, max(0, weight), service.id, service.tags or ())


class ConsulFinder:
    """Consul's health endpoint."""

    def __init__(self, spec: ConsulDiscovery, http: Client) -> None:
        params = [("tag", tag) for tag in spec.tags] + ([("passing", "true")] if spec.passing else [])
        self._query = BlockingQuery(
            ConsulClient(spec.server, http),
            f"health/service/{part(spec.service)}",
            params=params,
            wait=spec.wait,
            churn=spec.churn_interval,
        )

    async def fetch(self) -> tuple[Instance, ...]:
        return self._found(await self._query.fetch())

    async def next(self) -> tuple[Instance, ...]:
        return self._found(await self._query.next())

    @staticmethod
    def _found(reply: Reply) -> tuple[Instance, ...]:
        if reply.status == NOT_FOUND:
            raise RegistryError("Consul does not know its health endpoint; is this Consul?", status=NOT_FOUND)
        entries = decode(reply.body, list[Entry], "Consul's answer about health")
        return _ordered(entry.instance() for entry in entries)


class Announcement(msgspec.Struct, frozen=True):
    """What stands under a key in etcd: as etcd_registrar.py writes it, or anybody else."""

    address: str
    port: int
    weight: int = 1
    id: str = ""
    tags: tuple[str, ...] = ()
    ready: bool = True


class EtcdFinder:
    """The keys under a prefix. A key whose value is nothing that is known is left out: it may be somebody else's."""

    def __init__(self, spec: EtcdDiscovery, http: Client) -> None:
        self._range = EtcdRange(
            EtcdClient(spec.server, http),
            spec.prefix.encode(),
            prefix=True,
            wait=spec.wait,
            churn=spec.churn_interval,
        )

    async def fetch(self) -> tuple[Instance, ...]:
        return _ordered(map(_announced, await self._range.fetch()))

    async def next(self) -> tuple[Instance, ...]:
        return _ordered(map(_announced, await self._range.next()))


def _announced(pair: KeyValue) -> Instance | None:
    try:
        found = decode(pair.value, Announcement, "a value in etcd")
    except RegistryError:
        return None
    if not found.ready or not found.address or found.port not in PORTS:
        return None
    name = found.id or pair.key.decode("utf-8", "backslashreplace")
    return Instance(found.address, found.port, max(0, found.weight), name, found.tags)


class StaticFinder:
    """What is written down; it never changes by itself."""

    def __init__(self, spec: StaticDiscovery, _http: Client) -> None:
        self._found = _ordered(Instance(each.host, each.port, each.weight) for each in spec.instances)

    async def fetch(self) -> tuple[Instance, ...]:
        return self._found

    async def next(self) -> tuple[Instance, ...]:
        import asyncio

        await asyncio.Event().wait()
        return self._found


def _dns(spec: DnsDiscovery, _http: Client) -> Finder:
    from watchkeeper.registry.srv import DnsFinder

    return DnsFinder(spec)


def _ordered(found: Iterator[Instance | None]) -> tuple[Instance, ...]:
    """Each once, in an order that does not depend on the registry's."""
    return tuple(sorted({each for each in found if each is not None}))


FINDERS: dict[type, Callable[[Any, Client], Finder]] = {
    StaticDiscovery: StaticFinder,
    ConsulDiscovery: ConsulFinder,
    EtcdDiscovery: EtcdFinder,
    DnsDiscovery: _dns,
}


def finder(spec: AnyDiscovery, http: Client) -> Finder:
    """What finds it."""
    return FINDERS[type(spec)](spec, http)
