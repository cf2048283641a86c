"""From keys and values to documents: what Consul's and etcd's sources have in common."""

from __future__ import annotations

from collections.abc import Iterable

from watchkeeper.config.schema.sources import KeyedSource
from watchkeeper.config.sources import Fragment, SourceError

SUFFIXES = {".yaml": ".yaml", ".yml": ".yaml", ".toml": ".toml", ".json": ".json"}


def documents(store: str, spec: KeyedSource, pairs: Iterable[tuple[str, bytes]]) -> tuple[Fragment, ...]:
    """The documents among keys and values, in the order of their keys.

    Args:
        store: "consul" or "etcd", for the names of the documents.
        spec: which keys are documents, and of what format.
        pairs: what the store has under the key or the prefix.

    Raises:
        SourceError: there is none, and that is not allowed.
    """
    found = []
    for key, value in sorted(pairs):
        suffix = _suffix(spec, key)
        if suffix is not None:
            found.append(Fragment(f"{store}:{key}", value, suffix))
    if not found and not spec.allow_empty:
        place = f"the key {spec.key}" if spec.key is not None else f"no document under {spec.prefix}"
        raise SourceError(f"{store} has {'not ' if spec.key is not None else ''}{place}")
    return tuple(found)


def _suffix(spec: KeyedSource, key: str) -> str | None:
    """The format of a key's document; None: it is none. A key that ends in a slash is a folder."""
    if spec.format is not None:
        return None if key.endswith("/") else f".{spec.format.value}"
    dot = key.rfind(".")
    return SUFFIXES.get(key[dot:].lower()) if dot >= 0 else None
