"""What `ferryman config` prints: every value that holds, and who set it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from ferryman_build.provenance import Effective, Source, leaves
from ferryman_build.words import as_toml

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ferryman_build.toml_positions import KeyPath


def render_config(result: Effective, *, as_json: bool = False) -> str:
    """For people: TOML with each value's source as a comment. For programs: JSON with ``value`` and ``source``."""
    values = msgspec.to_builtins(result.settings)
    rows = [(leaf, _at(values, path), result.sources[leaf]) for leaf, path in leaves(values).items()]
    if as_json:
        return _as_json(result, rows)
    lines = [(f"{leaf} = {as_toml(value)}", source) for leaf, value, source in rows]
    width = min(max(len(text) for text, _ in lines), 60)
    project = result.project
    heading = f"# {project.name}: {project.entry_point} as {project.executable}"
    heading += f", for {result.target}" if result.target else ""
    return "\n".join([heading, *(f"{text:<{width}}  # {source}" for text, source in lines), ""])


def _as_json(result: Effective, rows: Iterable[tuple[str, object, Source]]) -> str:
    settings = {
        leaf: {"value": value, "source": source.origin.value, "where": source.where}
        for leaf, value, source in rows
    }
    answer = {
        "project": result.project.name,
        "root": str(result.project.root),
        "target": result.target.id if result.target else None,
        "entry-point": result.project.entry_point,
        "executable": result.project.executable,
        "settings": settings,
        "warnings": result.warnings,
    }
    return msgspec.json.format(msgspec.json.encode(answer), indent=2).decode() + "\n"


def _at(table: Any, path: KeyPath) -> object:
    for part in path:
        table = table[part]
    return table
