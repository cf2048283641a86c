"""What every native file format tells alike, whatever it is called there."""

from __future__ import annotations

from enum import StrEnum
from typing import BinaryIO, Protocol

import msgspec


class Format(StrEnum):
    """Containers of machine code that Ferryman can read."""

    ELF = "elf"
    PE = "pe"
    MACHO = "macho"


class Reason(msgspec.Struct, frozen=True):
    """Why a floor is where it is: ``file`` uses ``symbol`` of version ``label`` (both may be empty)."""

    version: str
    file: str = ""
    label: str = ""
    symbol: str = ""


class Native(msgspec.Struct, frozen=True, kw_only=True):
    """One native file, as its own headers describe it.

    ``architectures`` are Go's names (a macOS file may hold several), or the format's own number where Ferryman has no
    target. ``loadable`` is false for object files and everything else that no loader takes. ``floor`` has one reason
    per system library. ``search`` are the folders written into the file for its libraries, ``provides`` its own name
    among libraries. ``notes`` say what could not be measured.
    """

    name: str
    format: Format
    architectures: tuple[str, ...]
    loadable: bool = True
    floor: dict[str, Reason] = {}
    needed: tuple[str, ...] = ()
    interpreter: str = ""
    provides: str = ""
    search: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


class NativeReader(Protocol):
    """Reads one file of one format; a file that breaks its format's rules raises ValueError."""

    def __call__(self, name: str, file: BinaryIO) -> Native:
        """Describe ``file`` (open, seekable), which messages call ``name``."""
        ...


def version_key(version: str) -> tuple[int, ...]:
    """``2.17`` as a value that sorts as versions do; ``10`` equals ``10.0``; what is no number counts as 0."""
    parts = [int(part) if part.isdigit() else 0 for part in version.split(".")]
    while parts and not parts[-1]:
        parts.pop()
    return tuple(parts)


def higher(one: Reason | None, other: Reason) -> Reason:
    """The reason with the higher version; the first one when they are equal."""
    return other if one is None or version_key(other.version) > version_key(one.version) else one
