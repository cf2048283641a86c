"""What a bench says: rows with a promise and whether it was kept, printed as they come, and kept as JSON."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "out" / "bench"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measured value. Without a limit nothing is promised, and nothing can be broken."""

    name: str
    value: float
    seen: str
    limit: float | None = None
    held: bool = True


def row(name: str, value: float, limit: float | None, seen: str, *, also: bool = True) -> Row:
    """``also``: what has to be true beside the limit."""
    held = also and (limit is None or value <= limit)
    return Row(name=name, value=round(value, 3), seen=seen, limit=limit, held=held)


def show(rows: Iterable[Row]) -> list[Row]:
    """Print each as soon as it is measured, and answer all of them."""
    kept = []
    for one in rows:
        kept.append(one)
        limit = "" if one.limit is None else f"<= {one.limit:g}"
        mark = "" if one.limit is None and one.held else "held" if one.held else "NOT HELD"
        print(f"{one.name:<52} {one.value:>9g} {limit:<10} {mark:<9} {one.seen}", flush=True)
    return kept


def keep(name: str, rows: Iterable[Row], seconds: float, more: Mapping[str, object] | None = None) -> int:
    """Write ``out/bench/NAME.json``; the exit code of the bench: 1 when a promise is not kept."""
    kept = list(rows)
    figures = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "seconds": round(seconds),
        "rows": [asdict(one) for one in kept],
        **(more or {}),
    }
    KEPT.mkdir(parents=True, exist_ok=True)
    path = KEPT / f"{name}.json"
    path.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    sys.stdout.write(f"kept in {path.relative_to(ROOT)}\n")
    return 0 if all(one.held for one in kept) else 1
