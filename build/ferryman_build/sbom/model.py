"""The inventory of a program: what every format of documents is written from."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from ferryman_build.sbom.licences import Licence


class Sort(StrEnum):
    """What a component is to the program; CycloneDX's words."""

    APPLICATION = "application"
    LIBRARY = "library"
    PLATFORM = "platform"


class Basis(StrEnum):
    """What a version is known from; CycloneDX's words for techniques."""

    BYTES = "binary-analysis"
    PACKAGE = "hash-comparison"
    METADATA = "manifest-analysis"
    SOURCES = "source-code-analysis"


class File(msgspec.Struct, frozen=True, order=True):
    """A file as it ships: POSIX path, SHA-256; "" for the document itself, which cannot have its own."""

    path: str
    sha256: str = ""


class Component(msgspec.Struct, frozen=True, kw_only=True):
    """One component.

    Args:
        ref: its name in the document.
        version: "" where nobody knows it.
        sha256: of the wheel or archive that it was installed from.
        files: its own files.
        linked_into: paths of other components' files that have it in them.
        basis, says: what the version is known from, and the words there.
        properties: further (name, value) pairs; a name may occur several times.
    """

    ref: str
    sort: Sort
    name: str
    version: str = ""
    supplier: str = ""
    licences: tuple[Licence, ...] = ()
    purl: str = ""
    cpe: str = ""
    sha256: str = ""
    files: tuple[File, ...] = ()
    linked_into: tuple[str, ...] = ()
    basis: Basis = Basis.METADATA
    says: str = ""
    properties: tuple[tuple[str, str], ...] = ()


class Inventory(msgspec.Struct, frozen=True, kw_only=True):
    """A whole program. ``needs`` maps each component's ref to those that it needs; ``epoch`` in seconds since 1970."""

    application: Component
    components: tuple[Component, ...]
    needs: dict[str, tuple[str, ...]]
    epoch: int
    tools: tuple[tuple[str, str], ...] = ()
    properties: tuple[tuple[str, str], ...] = ()
