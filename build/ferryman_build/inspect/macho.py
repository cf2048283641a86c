"""Mach-O: architectures, minimum macOS, libraries and signature, read from the load commands with struct.

Source: Apple's <mach-o/loader.h> and <mach-o/fat.h>. Entitlements are not measured, and of a library that is searched
through ``@rpath`` only whether the tree has a file of that name.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

import msgspec

from ferryman_build.inspect.macho_signature import signature
from ferryman_build.inspect.native import NOT_READABLE, Format, Native, Reason, Trait, higher

_THIN = {
    b"\xfe\xed\xfa\xce": ">",
    b"\xfe\xed\xfa\xcf": ">",
    b"\xce\xfa\xed\xfe": "<",
    b"\xcf\xfa\xed\xfe": "<",
}
_FAT = b"\xca\xfe\xba\xbe"
_CPU = {0x01000007: "amd64", 0x0100000C: "arm64", 7: "386"}
_EXECUTE, _DYLIB, _BUNDLE = 2, 6, 8
_LIBRARY_COMMANDS = {
    0xC,
    0x80000018,
    0x8000001F,
    0x80000023,
    0x20,
}  # LOAD, WEAK, REEXPORT, UPWARD, LAZY _DYLIB
_ID_DYLIB, _RPATH, _VERSION_MIN, _BUILD_VERSION, _SIGNATURE = 0xD, 0x8000001C, 0x24, 0x32, 0x1D
_MACOS, _CATALYST = 1, 6
_MOST_ARCHITECTURES = 20  # a Java class file has the same magic; there the number is a version of at least 45


def is_macho(head: bytes) -> bool:
    """Whether these first 8 bytes open a Mach-O file, thin or fat."""
    if head[:4] == _FAT:
        return 0 < int.from_bytes(head[4:8], "big") <= _MOST_ARCHITECTURES
    return head[:4] in _THIN


def read_macho(name: str, file: BinaryIO) -> Native:
    """Describe a Mach-O file; a fat file's floor is the highest among its parts.

    Raises:
        ValueError: the headers are damaged.
    """
    try:
        file.seek(0)
        parts = [_part(name, *part) for part in slices(file.read())]
        return _join(name, parts)
    except (struct.error, UnicodeDecodeError, OverflowError, LookupError) as error:
        raise ValueError(f"{NOT_READABLE}Mach-O: {error}") from error


def _join(name: str, parts: list[Native]) -> Native:
    floor: dict[str, Reason] = {}
    for part in parts:
        for system, reason in part.floor.items():
            floor[system] = higher(floor.get(system), reason)
    return Native(
        name=name,
        format=Format.MACHO,
        architectures=tuple(arch for part in parts for arch in part.architectures),
        loadable=any(part.loadable for part in parts),
        needed=tuple(dict.fromkeys(library for part in parts for library in part.needed)),
        provides=parts[0].provides,
        search=tuple(dict.fromkeys(folder for part in parts for folder in part.search)),
        floor=floor,
        traits=_join_traits(parts),
        notes=tuple(dict.fromkeys(note for part in parts for note in part.notes)),
    )


def _join_traits(parts: list[Native]) -> dict[Trait, str]:
    """Trait → the architectures that have it."""
    found: dict[Trait, str] = {}
    for part in parts:
        for trait in part.traits:
            found[trait] = " + ".join(filter(None, (found.get(trait, ""), *part.architectures)))
    return found


def slices(content: bytes) -> list[tuple[str, bytes]]:
    """(architecture, image) of each part of a thin or fat file.

    Raises:
        struct.error: the file is too short for what its head says.
    """
    if content[:4] != _FAT:
        places = [(0, len(content))]
    else:
        count = struct.unpack_from(">I", content, 4)[0]
        places = [struct.unpack_from(">8xII", content, 8 + 20 * number) for number in range(count)]
    parts = [content[offset : offset + size] for offset, size in places]
    return [(_architecture(part), part) for part in parts]


def _architecture(part: bytes) -> str:
    number = struct.unpack_from(f"{_THIN.get(part[:4], '<')}I", part, 4)[0]
    return _CPU.get(number, f"cpu type {number:#x}")


def _part(name: str, architecture: str, content: bytes) -> Native:
    magic = content[:4]
    order = _THIN[magic]
    wide = magic in (b"\xfe\xed\xfa\xcf", b"\xcf\xfa\xed\xfe")
    kind, count, size = struct.unpack_from(f"{order}3I", content, 12)
    start = 32 if wide else 28
    found = _commands(name, content[start : start + size], count, order)
    return Native(
        name=name,
        format=Format.MACHO,
        architectures=(architecture,),
        loadable=kind in (_EXECUTE, _DYLIB, _BUNDLE),
        needed=tuple(found.needed),
        search=tuple(found.search),
        provides=found.provides,
        floor=found.floor,
        traits={signature(content, *found.signature): architecture},
        notes=tuple(found.notes),
    )


class _Commands(msgspec.Struct):
    """What the load commands say."""

    needed: list[str] = []
    search: list[str] = []
    provides: str = ""
    floor: dict[str, Reason] = {}
    signature: tuple[int, int] = (0, 0)
    notes: list[str] = []


def _commands(name: str, data: bytes, count: int, order: str) -> _Commands:
    found, position = _Commands(), 0
    for _ in range(count):
        command, size = struct.unpack_from(f"{order}2I", data, position)
        body = data[position : position + size]
        if command in _LIBRARY_COMMANDS:
            found.needed.append(_string(body, order))
        elif command == _ID_DYLIB:
            found.provides = _string(body, order)
        elif command == _RPATH:
            found.search.append(_string(body, order))
        elif command == _SIGNATURE:
            found.signature = struct.unpack_from(f"{order}2I", body, 8)
        elif command in (_VERSION_MIN, _BUILD_VERSION):
            _take_version(name, command, body, order, found)
        position += max(size, 8)
    return found


def _take_version(name: str, command: int, body: bytes, order: str, found: _Commands) -> None:
    platform, packed = _MACOS, struct.unpack_from(f"{order}I", body, 8)[0]
    if command == _BUILD_VERSION:
        platform, packed = struct.unpack_from(f"{order}II", body, 8)
    if platform not in (_MACOS, _CATALYST):
        found.notes.append(f"built for Apple's platform {platform}, which is not macOS")
    found.floor["macos"] = Reason(f"{packed >> 16}.{packed >> 8 & 0xFF}", name, "minimum macOS")


def _string(body: bytes, order: str) -> str:
    start = struct.unpack_from(f"{order}I", body, 8)[0]
    return body[start:].split(b"\0", 1)[0].decode("utf-8")
