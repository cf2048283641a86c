"""What configurations are read from: documents, each with a name for messages and a suffix that says its format."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Fragment:
    """One document."""

    name: str
    """Where it comes from, as messages say it: a path, or `consul:watchkeeper/web.yaml`."""
    content: bytes
    suffix: str
    """.yaml, .yml, .toml or .json"""


@dataclass(frozen=True)
class Fetched:
    """Everything that a source has at one moment; equal fragments are no change, whatever the version says."""

    fragments: tuple[Fragment, ...]
    version: str
    """The source's own: an ETag, an index, a revision; for /status."""


@dataclass(frozen=True)
class Layer:
    """What one source has delivered, and what it was allowed to deliver."""

    source: str
    fragments: tuple[Fragment, ...]
    sections: tuple[str, ...] = ()
    """Empty: all that a source can."""
    references: bool = True
    """Whether secrets of this machine may be named."""


def digest(fragments: Iterable[Fragment], layers: Iterable[Layer] = ()) -> str:
    """What tells two states apart, in hexadecimal; of a single document it is the SHA-256 of its content."""
    parts = list(fragments)
    for layer in layers:
        parts.append(Fragment(layer.source, repr((layer.sections, layer.references)).encode(), ""))
        parts += layer.fragments
    if len(parts) == 1:
        return hashlib.sha256(parts[0].content).hexdigest()
    whole = hashlib.sha256()
    for part in parts:
        for piece in (part.name.encode("utf-8", "surrogateescape"), part.suffix.encode(), part.content):
            whole.update(len(piece).to_bytes(8, "big") + piece)
    return whole.hexdigest()
