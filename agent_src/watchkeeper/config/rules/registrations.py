"""Rules of registrations."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding, address_rule
from watchkeeper.config.rules.registries import url_rule
from watchkeeper.config.schema.registrations import (
    ConsulRegistration,
    EtcdRegistration,
    FileRegistration,
    HttpProbe,
    NotReady,
    Registration,
    TcpProbe,
)

LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def _common(path: Path, registration: Registration) -> Iterator[Finding]:
    for name in ("name", "id", "address"):
        if "/" in (getattr(registration, name) or ""):
            yield (*path, name), "a slash cannot be part of it: it becomes part of a URL or a key"


def _consul(path: Path, registration: ConsulRegistration) -> Iterator[Finding]:
    yield from _common(path, registration)
    if 0 < registration.ttl < 1:
        yield (*path, "ttl"), "shorter than 1s; 0 is no TTL check"
    silent = registration.ttl == 0 and registration.probe is None
    if silent and registration.when_not_ready is NotReady.CRITICAL:
        message = "without a TTL check and a probe nothing can turn critical; give one, or write deregister"
        yield (*path, "when_not_ready"), message


def _etcd(path: Path, registration: EtcdRegistration) -> Iterator[Finding]:
    yield from _common(path, registration)


def _file(path: Path, registration: FileRegistration) -> Iterator[Finding]:
    yield from _common(path, registration)
    if not registration.path.endswith(".json"):
        yield (
            (*path, "path"),
            "Prometheus reads targets only from files whose names end in .json, .yml or .yaml",
        )
    for name in registration.meta:
        if not LABEL.fullmatch(name):
            yield (
                (*path, "meta", name),
                "becomes a label: letters, digits and underscores, not beginning with a digit",
            )


def _http(path: Path, probe: HttpProbe) -> Iterator[Finding]:
    yield from url_rule((*path, "url"), probe.url, with_path=True)


def _tcp(path: Path, probe: TcpProbe) -> Iterator[Finding]:
    if probe.address is not None:
        yield from address_rule((*path, "address"), probe.address, lowest_port=1)


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {
    ConsulRegistration: _consul,
    EtcdRegistration: _etcd,
    FileRegistration: _file,
    HttpProbe: _http,
    TcpProbe: _tcp,
}
