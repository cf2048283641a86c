"""What every native file format tells alike, whatever it is called there."""

from __future__ import annotations

from enum import StrEnum
from typing import BinaryIO, Protocol

import msgspec

MOST_HOLDERS = 5
NOT_READABLE, NOT_MEASURED = "not readable as ", "instructions not measured: "
"""How notes begin that say that a file is damaged, or that its instructions could not be read."""
NO_DECODER = (
    f"{NOT_MEASURED}x86-64 code is decoded by iced-x86, which has wheels for x86-64 machines alone and is not"
    " installed here"
)
"""The note of a file with x86-64 code, whole as it may be, on a machine without that library."""


class Format(StrEnum):
    """Containers of machine code that Ferryman can read."""

    ELF = "elf"
    PE = "pe"
    MACHO = "macho"


class Trait(StrEnum):
    """What a file's headers say that is no version: most of it is a reason to refuse the file."""

    TEXT_RELOCATIONS = "text relocations"
    EXECUTABLE_STACK = "executable stack"
    NO_ASLR = "no address randomisation"
    NO_NX = "data may be executed"
    GUI = "Windows GUI subsystem"
    UNSIGNED = "unsigned"
    AD_HOC = "signed ad hoc"
    SIGNED = "signed"
    BROKEN_SIGNATURE = "signature does not fit the content"


class Reason(msgspec.Struct, frozen=True):
    """Why a floor is where it is: ``file`` uses ``symbol`` of version ``label`` (both may be empty)."""

    version: str
    file: str = ""
    label: str = ""
    symbol: str = ""


class Cpu(msgspec.Struct, frozen=True, kw_only=True):
    """What the instructions of a file need beyond the first level of its architecture.

    ``features`` has where each was seen first: ``version`` is the level that has it ("" for none), ``label`` the
    instruction, ``symbol`` the function. ``early`` are those in functions that the loader or the interpreter calls
    before anything can be asked. ``required`` is the level that a note in the file makes the loader insist on.
    ``chosen`` says how the file learns what the processor has; empty: it does not ask. ``whole`` is true when its
    vector code is in the newer encoding throughout, so that nothing can have been chosen. ``holders`` has at most
    :data:`MOST_HOLDERS` functions with each feature, those with names first; an address stands for one without. ``unheard``
    are functions that ask for others to know: nothing in the file calls them.
    """

    features: dict[str, Reason] = {}
    early: dict[str, Reason] = {}
    required: str = ""
    chosen: tuple[str, ...] = ()
    whole: bool = False
    holders: dict[str, tuple[str, ...]] = {}
    unheard: tuple[str, ...] = ()


class Native(msgspec.Struct, frozen=True, kw_only=True):
    """One native file, as its own headers describe it.

    ``architectures`` are Go's names (a macOS file may hold several), or the format's own number where Ferryman has no
    target. ``loadable`` is false for object files and everything else that no loader takes. ``floor`` has one reason
    per system library. ``search`` are the folders written into the file for its libraries, ``provides`` its own name
    among libraries. ``libc`` is glibc, musl or "". ``versions`` are the highest symbol versions by their prefix
    (GLIBCXX, CXXABI, GCC). ``traits`` maps each trait to where it was seen. ``cpu`` has one entry per architecture that
    was measured. ``notes`` say what could not be measured.
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
    libc: str = ""
    versions: dict[str, Reason] = {}
    traits: dict[Trait, str] = {}
    cpu: dict[str, Cpu] = {}
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
