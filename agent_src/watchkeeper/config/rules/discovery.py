"""Rules of discovery."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding, address_rule
from watchkeeper.config.schema.discovery import DnsDiscovery


def _dns(path: Path, discovery: DnsDiscovery) -> Iterator[Finding]:
    if discovery.server is not None:
        yield from address_rule((*path, "server"), discovery.server, lowest_port=1)


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {DnsDiscovery: _dns}
