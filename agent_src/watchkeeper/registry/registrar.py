"""What can be done with a registration, whatever the registry; one module per kind does it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from watchkeeper.config.schema.registrations import (
    AnyRegistration,
    ConsulRegistration,
    EtcdRegistration,
    FileRegistration,
)
from watchkeeper.outbound.client import Client


class Registrar(Protocol):
    """One registration in one registry. Every call may be repeated; all raise RegistryError when they fail."""

    period: float
    """Seconds from one renewal to the next."""
    place: tuple[object, ...]
    """Which entry of which registry it is: another definition with the same place takes its place."""

    async def announce(self, ready: bool, why: str) -> None:
        """Make the entry, or make it anew."""

    async def renew(self, ready: bool, why: str) -> None:
        """Keep the entry alive, and say whether the service is ready.

        Raises:
            ForgottenError: the registry does not have it, or has another one in its place.
        """

    async def withdraw(self) -> None:
        """Take the entry out; that it is not there is fine."""


def _consul(spec: ConsulRegistration, http: Client) -> Registrar:
    from watchkeeper.registry.consul_registrar import ConsulRegistrar

    return ConsulRegistrar(spec, http)


def _etcd(spec: EtcdRegistration, http: Client) -> Registrar:
    from watchkeeper.registry.etcd_registrar import EtcdRegistrar

    return EtcdRegistrar(spec, http)


def _file(spec: FileRegistration, _http: Client) -> Registrar:
    from watchkeeper.registry.file_registrar import FileRegistrar

    return FileRegistrar(spec)


REGISTRARS: dict[type, Callable[[Any, Client], Registrar]] = {
    ConsulRegistration: _consul,
    EtcdRegistration: _etcd,
    FileRegistration: _file,
}


def registrar(spec: AnyRegistration, http: Client) -> Registrar:
    """What carries out this registration."""
    return REGISTRARS[type(spec)](spec, http)
