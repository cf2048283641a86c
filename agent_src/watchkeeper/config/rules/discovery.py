"""Rules of discovery."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding, address_rule
from watchkeeper.config.schema.discovery import DnsDiscovery

NAME_LIMIT = 253
LABEL = re.compile(r"[\x21-\x7e]{1,63}")


def _dns(path: Path, discovery: DnsDiscovery) -> Iterator[Finding]:
    labels = discovery.name.removesuffix(".").split(".")
    if len(discovery.name) > NAME_LIMIT or not all(LABEL.fullmatch(label) for label in labels):
        yield (
            (*path, "name"),
            "is no name that DNS can be asked for: labels of 1 to 63 ASCII characters, 253 in all",
        )
    if discovery.server is not None:
        yield from address_rule((*path, "server"), discovery.server, lowest_port=1)


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {DnsDiscovery: _dns}
