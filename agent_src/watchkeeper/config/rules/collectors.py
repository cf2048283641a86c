"""Rules of collectors and metrics."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding
from watchkeeper.config.schema.collectors import (
    DiskCollector,
    FilesystemCollector,
    NetworkCollector,
    TemperatureCollector,
)


def _filters(path: Path, spec: Any) -> Iterator[Finding]:
    """Every filter is a regular expression."""
    for name in type(spec).__struct_fields__:
        pattern = getattr(spec, name)
        if name.endswith(("_include", "_exclude")) and pattern is not None:
            try:
                re.compile(pattern)
            except re.error as error:
                yield (*path, name), f"{pattern!r} is no regular expression: {error}"


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {
    FilesystemCollector: _filters,
    DiskCollector: _filters,
    NetworkCollector: _filters,
    TemperatureCollector: _filters,
}
