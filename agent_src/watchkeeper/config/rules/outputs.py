"""Rules of outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding

RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {}
