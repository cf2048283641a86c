"""Which libraries a file in machine code is or has in it, and which versions, read from its bytes.

resources/components.toml has a row per library. A file's name tells whether it is the library's own; texts in its bytes tell
what was linked into it. A number is taken only where the row's rules leave no other reading (see the head of that file).
"""

from __future__ import annotations

import functools
import re
import struct
import tomllib
from collections.abc import Collection, Iterable, Mapping
from fnmatch import fnmatchcase
from importlib import resources

import msgspec

_PE_VERSION = struct.pack(
    "<II", 0xFEEF04BD, 0x00010000
)  # VS_FIXEDFILEINFO: its signature, the version of its form


class Library(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of components.toml; see its head for the fields."""

    files: tuple[str, ...] = ()
    find: str = ""
    version: str = ""
    plain: str = ""
    resource: bool = False
    licence: str
    earlier: dict[str, str] = {}
    cpe: str = ""

    def licence_of(self, version: str) -> str:
        """The licence of that version; "" for an unknown one where it is not the same for all."""
        if self.earlier and not version:
            return ""
        return next(
            (licence for begin, licence in self.earlier.items() if version.startswith(begin)), self.licence
        )


class Found(msgspec.Struct, frozen=True, kw_only=True):
    """A library in a file. ``own``: the file is the library; otherwise it was linked in.

    ``versions`` are those that were said in words of the library's own, ``says`` is such a text; without one, ``numbers``
    are bare ones of the right form.
    """

    library: str
    own: bool = False
    versions: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    says: str = ""


class Read(msgspec.Struct, frozen=True, kw_only=True):
    """A library in a file, with its version; "" where the bytes do not say, or say several."""

    library: str
    own: bool
    version: str = ""
    says: str = ""


@functools.cache
def libraries() -> Mapping[str, Library]:
    """Name → row, in the file's order."""
    return msgspec.convert(tomllib.loads(table_text()), dict[str, Library])


def table_text() -> str:
    """resources/components.toml."""
    return resources.files("ferryman_build").joinpath("resources/components.toml").read_text(encoding="utf-8")


def own_library(name: str) -> str:
    """The library that a file of this name is; "" for any other."""
    lower = name.lower()
    return next(
        (key for key, row in libraries().items() if any(fnmatchcase(lower, glob) for glob in row.files)), ""
    )


def scan(name: str, content: bytes) -> tuple[Found, ...]:
    """The libraries in the native file ``content``, whose name is ``name``; its own first."""
    own = own_library(name)
    found = (_found(key, row, content, own=key == own) for key, row in libraries().items())
    return tuple(sorted((one for one in found if one), key=lambda one: (not one.own, one.library)))


def _found(key: str, row: Library, content: bytes, *, own: bool) -> Found | None:
    matches = _spoken(row, content)
    if not (own or matches or (row.find and row.find.encode("latin-1") in content)):
        return None
    numbers = _numbers(row.plain, content) if row.plain and not matches else ()
    if own and row.resource:
        numbers = (*numbers, *file_version(content))
    return Found(
        library=key, own=own, versions=tuple(sorted({_text(match[1]) for match in matches})), numbers=numbers,
        says=min((_printable(match[0]) for match in matches), default=""),
    )  # fmt: skip


_WORDS = re.compile(r"[A-Za-z0-9 _/]*")


def _spoken(row: Library, content: bytes) -> list[re.Match[bytes]]:
    """Where ``content`` says a version in words of the library's own."""
    begin = _WORDS.match(row.version)
    if not row.version or (begin and begin[0].encode() not in content):  # much quicker than the pattern
        return []
    return list(_pattern(row.version).finditer(content))


@functools.cache
def _pattern(text: str) -> re.Pattern[bytes]:
    return re.compile(text.encode("ascii"))


def _numbers(plain: str, content: bytes) -> tuple[str, ...]:
    # What stands before a text is whatever the compiler put there, if it is no part of a longer text.
    found = _pattern(rf"(?<![\w .:/+-])({plain})\x00").finditer(content)
    return tuple(sorted({_text(match[1]) for match in found}))


def _text(value: bytes) -> str:
    return value.decode("ascii")


def _printable(value: bytes) -> str:
    return "".join(chr(byte) for byte in value if 32 <= byte < 127).strip()


def file_version(content: bytes) -> tuple[str, ...]:
    """The file version of a Windows library's version resource (VS_FIXEDFILEINFO): none or one."""
    at = content.find(_PE_VERSION)
    if at < 0 or len(content) < at + 16:
        return ()
    high, low = struct.unpack_from("<II", content, at + 8)
    parts = (high >> 16, high & 0xFFFF, low >> 16, low & 0xFFFF)
    return (".".join(map(str, parts)),) if any(parts) else ()


def read_versions(found: Iterable[Found], taken: Collection[str] = ()) -> tuple[Read, ...]:
    """What :func:`scan` found in one file, each with the version that is left.

    Args:
        found: of one file.
        taken: numbers that something else in the file has: the interpreter's own version.
    """
    listed = tuple(found)
    spoken = {version for one in listed for version in one.versions} | set(taken)
    return tuple(_read(one, spoken) for one in listed)


def _read(one: Found, spoken: Collection[str]) -> Read:
    if one.versions:
        version = one.versions[0] if len(one.versions) == 1 else ""
        return Read(library=one.library, own=one.own, version=version, says=one.says if version else "")
    left = [number for number in one.numbers if number not in spoken]
    version = left[0] if len(left) == 1 else ""
    return Read(library=one.library, own=one.own, version=version, says=version)
