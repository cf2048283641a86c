"""Registration in etcd: a key with a lease.

Rules:
    L1  The lease is kept alive every third of its TTL, as etcd has granted it (etcd client/v3/lease.go).
    L2  A keepalive that comes back without a TTL means that the lease is gone: a new one, and the key is put anew.
    L3  A key that is gone, or that goes with another lease, is put anew as well.
    L4  Withdrawing is revoking the lease: the key goes in the same moment.
"""

from __future__ import annotations

import math

import msgspec

from watchkeeper.config.schema.registrations import EtcdRegistration
from watchkeeper.outbound.client import Client
from watchkeeper.registry.answers import ForgottenError, RegistryError
from watchkeeper.registry.etcd import EtcdClient

RENEWALS = 3
NOT_FOUND = 404


class EtcdRegistrar:
    """A Registrar."""

    def __init__(self, spec: EtcdRegistration, http: Client) -> None:
        self._spec = spec
        self._client = EtcdClient(spec.server, http)
        self._key = f"{spec.prefix.rstrip('/')}/{spec.announced_name}/{spec.instance_id}".encode()
        self._lease = 0
        self.period = spec.ttl / RENEWALS
        self.place: tuple[object, ...] = ("etcd", spec.server.urls, self._key)

    async def announce(self, ready: bool, why: str) -> None:
        if not self._lease:
            lease = await self._client.grant(math.ceil(self._spec.ttl))
            self._lease, self.period = lease.id, lease.ttl / RENEWALS  # L1
        try:
            await self._client.put(self._key, value(self._spec, ready), self._lease)
        except RegistryError as error:
            if (
                error.status == NOT_FOUND
            ):  # the lease has gone in between: the next attempt begins with a new one
                self._lease = 0
            raise

    async def renew(self, ready: bool, why: str) -> None:
        lease = self._lease
        if not lease or not await self._client.keepalive(lease):  # L2
            self._lease = 0
            raise ForgottenError("the lease has run out or was revoked")
        found, _revision = await self._client.key(self._key)
        if not found or found[0].lease != lease:  # L3
            raise ForgottenError("the key was deleted" if not found else "somebody else has written the key")
        if found[0].value != value(self._spec, ready):
            await self._client.put(self._key, value(self._spec, ready), lease)

    async def withdraw(self) -> None:
        if self._lease:
            await self._client.revoke(self._lease)  # L4
            self._lease = 0


def value(spec: EtcdRegistration, ready: bool) -> bytes:
    """What others read under the key."""
    content = {
        "id": spec.instance_id,
        "name": spec.announced_name,
        "address": spec.address,
        "port": spec.port,
        "weight": spec.weight,
        "tags": spec.tags,
        "meta": spec.meta,
        "ready": ready,
    }
    return msgspec.json.encode(content, order="deterministic")
