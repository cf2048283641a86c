"""Rules of outbound requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from watchkeeper.config.document import Path
from watchkeeper.config.model import Config
from watchkeeper.config.rules.common import Finding
from watchkeeper.config.schema.outbound import Destination, OutboundSettings, Policy, RetrySettings

HOST = re.compile(r"(\*\.)?([A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?")
METHOD = re.compile(r"[A-Z]{1,20}")
OTHER = "other"


def _settings(path: Path, settings: OutboundSettings) -> Iterator[Finding]:
    owners: dict[str, str] = {}
    for name, destination in settings.destinations.items():
        if name == OTHER:
            yield (
                (*path, "destinations", name),
                "is what metrics call every host that is no destination; take another",
            )
        for number, host in enumerate(destination.hosts):
            owner = owners.setdefault(host.lower(), name)
            if owner != name:
                at = (*path, "destinations", name, "hosts", number)
                yield at, f"{host} belongs to {owner} already; a host has one destination"


def _destination(path: Path, destination: Destination) -> Iterator[Finding]:
    for number, host in enumerate(destination.hosts):
        port = host.rpartition(":")[2] if not host.endswith("]") and ":" in host else "1"
        if not HOST.fullmatch(host) or not 1 <= int(port) <= 65_535:
            yield (*path, "hosts", number), f"{host!r} is not HOST, HOST:PORT or *.SUFFIX, without http://"
    balance = destination.balance
    if balance is not None and balance.hash_header is not None and balance.policy is not Policy.HASH:
        yield (*path, "balance", "hash_header"), "has a meaning only with the policy hash"


def _retry(path: Path, retry: RetrySettings) -> Iterator[Finding]:
    if retry.max_delay < retry.first_delay:
        yield (*path, "max_delay"), "is shorter than first_delay"
    for number, method in enumerate(retry.methods):
        if not METHOD.fullmatch(method):
            yield (*path, "methods", number), "a method is written in capital letters"


def _across(_path: Path, config: Config) -> Iterator[Finding]:
    """What a destination is balanced over has to be there."""
    for name, destination in config.outbound.destinations.items():
        balance = destination.balance
        if balance is not None and balance.discovery not in config.discovery:
            at = ("outbound", "destinations", name, "balance", "discovery")
            yield at, f"there is no discovery {balance.discovery}; define it under discovery:"


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {
    OutboundSettings: _settings,
    Destination: _destination,
    RetrySettings: _retry,
    Config: _across,
}
