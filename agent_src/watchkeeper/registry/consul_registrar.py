"""Registration with a Consul agent (Consul's "Service - Agent HTTP API" and "Check - Agent HTTP API").

Rules:
    C1  Registering replaces the service of the same ID with all its checks.
    C2  A TTL check begins with the service's readiness, and hears of it at every renewal, which resets its clock.
    C3  Consul's agent answers 404 about a check or a service that it does not know, as after a restart without its data
        folder; Consul before 1.11 answered 500 and said so in words.
    C4  Without a TTL check a renewal asks whether the service is still there.
    C5  Deregistering a service takes its checks with it.
"""

from __future__ import annotations

from typing import Any

import msgspec

from watchkeeper.config.schema.registrations import ConsulRegistration, HttpProbe, TcpProbe
from watchkeeper.outbound.client import Answer, Client
from watchkeeper.registry.answers import ForgottenError, RegistryError, one_line
from watchkeeper.registry.consul import FINE, NOT_FOUND, ConsulClient, part

RENEWALS = 3
"""Renewals per TTL: two may be lost (etcd's rule, taken for Consul as well)."""
SERVER_ERROR = 500
UNKNOWN = (b"does not have associated TTL", b"Unknown check", b"Unknown service")
OUTPUT_LIMIT = 1000
"""Characters of the reason that Consul shows; it keeps 4 KiB."""


class ConsulRegistrar:
    """A Registrar."""

    def __init__(self, spec: ConsulRegistration, http: Client) -> None:
        self._spec = spec
        self._client = ConsulClient(spec.server, http)
        self.period = spec.ttl / RENEWALS if spec.ttl else spec.look_interval
        self.place: tuple[object, ...] = (
            "consul",
            spec.server.url,
            spec.server.namespace,
            spec.server.partition,
            spec.instance_id,
        )
        self._check = f"{spec.instance_id}:ready"

    async def announce(self, ready: bool, why: str) -> None:
        body = msgspec.json.encode(definition(self._spec, self._check, ready))
        params = (("replace-existing-checks", "true"),)
        await self._client.ask("PUT", "agent/service/register", params=params, body=body)  # C1

    async def renew(self, ready: bool, why: str) -> None:
        if not self._spec.ttl:
            path = f"agent/service/{part(self._spec.instance_id)}"
            answer = await self._client.ask("GET", path, fine=(FINE, NOT_FOUND))  # C4
        else:
            path = f"agent/check/update/{part(self._check)}"
            body = msgspec.json.encode({"Status": _status(ready), "Output": one_line(why, OUTPUT_LIMIT)})
            answer = await self._client.ask(
                "PUT", path, body=body, fine=(FINE, NOT_FOUND, SERVER_ERROR)
            )  # C2
        _known(self._spec.instance_id, answer)

    async def withdraw(self) -> None:
        path = f"agent/service/deregister/{part(self._spec.instance_id)}"
        await self._client.ask("PUT", path, fine=(FINE, NOT_FOUND))  # C5


def definition(spec: ConsulRegistration, check: str, ready: bool) -> dict[str, Any]:
    """The body of a registration."""
    return {
        "ID": spec.instance_id,
        "Name": spec.announced_name,
        "Tags": spec.tags,
        "Address": spec.address,
        "Port": spec.port,
        "Meta": spec.meta,
        "EnableTagOverride": False,
        "Weights": {"Passing": spec.weight, "Warning": 1},
        "Checks": _checks(spec, check, ready),
    }


def _checks(spec: ConsulRegistration, check: str, ready: bool) -> list[dict[str, Any]]:
    checks: list[dict[str, Any]] = []
    if spec.ttl:
        ttl = {"TTL": duration(spec.ttl), "Status": _status(ready), "Notes": "As watchkeeper sees it."}
        checks.append({"CheckID": check, "Name": "ready", **ttl})
    if spec.probe is not None:
        checks.append({"CheckID": f"{spec.instance_id}:probe", "Name": "probe", **_probe(spec, spec.probe)})
    if spec.deregister_critical_after is not None:
        after = {"DeregisterCriticalServiceAfter": duration(spec.deregister_critical_after)}
        checks = [each | after for each in checks]
    return checks


def _probe(spec: ConsulRegistration, probe: HttpProbe | TcpProbe) -> dict[str, str]:
    times = {"Interval": duration(probe.interval), "Timeout": duration(probe.timeout)}
    if isinstance(probe, HttpProbe):
        return {"HTTP": probe.url, **times}
    host = f"[{spec.address}]" if ":" in spec.address else spec.address
    return {"TCP": probe.address or f"{host}:{spec.port}", **times}


def _known(instance: str, answer: Answer) -> None:
    """C3."""
    if answer.status == FINE:
        return
    if answer.status == NOT_FOUND or any(words in answer.body for words in UNKNOWN):
        raise ForgottenError(f"Consul does not know {instance} any more", status=answer.status)
    said = answer.body[:1000].decode("utf-8", "replace")
    raise RegistryError(f"Consul: HTTP {answer.status}: {said}", status=answer.status)


def _status(ready: bool) -> str:
    return "passing" if ready else "critical"


def duration(seconds: float) -> str:
    """As Go reads it."""
    return f"{round(seconds * 1000)}ms"
