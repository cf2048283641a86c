"""Configuration in Consul's KV store: one key, or the keys under a prefix."""

from __future__ import annotations

import msgspec

from watchkeeper.config.schema.sources import ConsulSource
from watchkeeper.config.sources import Fetched, SourceError
from watchkeeper.config.sources.keyed import documents
from watchkeeper.outbound.client import Client
from watchkeeper.registry.answers import RegistryError, decode
from watchkeeper.registry.consul import NOT_FOUND, BlockingQuery, ConsulClient, Reply, key_path


class Pair(msgspec.Struct, frozen=True):
    """One key of the answer; its value arrives decoded."""

    key: str = msgspec.field(name="Key")
    value: bytes | None = msgspec.field(name="Value", default=None)


class ConsulKeys:
    """A FragmentSource."""

    def __init__(self, spec: ConsulSource, http: Client) -> None:
        self._spec = spec
        self._query = BlockingQuery(
            ConsulClient(spec.server, http),
            key_path(spec.key or spec.prefix or ""),
            params=(("recurse", "true"),) if spec.prefix is not None else (),
            wait=spec.wait,
            churn=spec.churn_interval,
        )

    async def fetch(self) -> Fetched:
        try:
            return self._fetched(await self._query.fetch())
        except RegistryError as error:
            raise SourceError(str(error)) from None

    async def watch(self) -> Fetched:
        try:
            return self._fetched(await self._query.next())
        except RegistryError as error:
            raise SourceError(str(error)) from None

    async def close(self) -> None:
        pass  # the connections are the agent's

    def _fetched(self, reply: Reply) -> Fetched:
        pairs: list[Pair] = []
        if reply.status != NOT_FOUND:
            pairs = decode(reply.body, list[Pair], "Consul's answer about keys")
        return Fetched(
            documents("consul", self._spec, ((pair.key, pair.value or b"") for pair in pairs)),
            str(reply.index),
        )
