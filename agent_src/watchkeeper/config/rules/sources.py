"""Rules of sources."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding
from watchkeeper.config.schema.sources import ConsulSource, EtcdSource, KeyedSource

SUFFIXES = (".yaml", ".yml", ".toml", ".json")


def _keyed(path: Path, source: KeyedSource) -> Iterator[Finding]:
    if (source.key is None) == (source.prefix is None):
        yield path, "either key or prefix is wanted, and not both"
    elif source.key is not None and source.format is None and not source.key.lower().endswith(SUFFIXES):
        yield (*path, "key"), f"its end does not say the format ({', '.join(SUFFIXES)}); give format"


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {ConsulSource: _keyed, EtcdSource: _keyed}
