"""Configuration in etcd: one key, or the keys under a prefix."""

from __future__ import annotations

from watchkeeper.config.schema.sources import EtcdSource
from watchkeeper.config.sources import Fetched, SourceError
from watchkeeper.config.sources.keyed import documents
from watchkeeper.outbound.client import Client
from watchkeeper.registry.answers import RegistryError
from watchkeeper.registry.etcd import EtcdClient, EtcdRange
from watchkeeper.registry.etcd_messages import KeyValue


class EtcdKeys:
    """A FragmentSource."""

    def __init__(self, spec: EtcdSource, http: Client) -> None:
        self._spec = spec
        self._range = EtcdRange(
            EtcdClient(spec.server, http),
            (spec.key or spec.prefix or "").encode(),
            prefix=spec.prefix is not None,
            wait=spec.wait,
            churn=spec.churn_interval,
        )

    async def fetch(self) -> Fetched:
        try:
            return self._fetched(await self._range.fetch())
        except RegistryError as error:
            raise SourceError(str(error)) from None

    async def watch(self) -> Fetched:
        try:
            return self._fetched(await self._range.next())
        except RegistryError as error:
            raise SourceError(str(error)) from None

    async def close(self) -> None:
        pass  # the connections are the agent's

    def _fetched(self, found: tuple[KeyValue, ...]) -> Fetched:
        pairs = ((each.key.decode("utf-8", "backslashreplace"), each.value) for each in found)
        return Fetched(documents("etcd", self._spec, pairs), str(self._range.revision))
