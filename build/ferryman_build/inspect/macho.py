"""Mach-O: architectures, minimum macOS and libraries, read from the load commands with struct.

Source: Apple's <mach-o/loader.h> and <mach-o/fat.h>. Signatures, entitlements and the ``@rpath`` search are not
measured yet; every file says so in its notes.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from ferryman_build.inspect.native import Format, Native, Reason, higher

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
_ID_DYLIB, _RPATH, _VERSION_MIN, _BUILD_VERSION = 0xD, 0x8000001C, 0x24, 0x32
_MOST_ARCHITECTURES = 20  # a Java class file has the same magic; there the number is a version of at least 45
NOTE = "signature and @rpath search not measured"


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
        parts = [_part(name, file, offset) for offset in _offsets(file)]
    except (struct.error, UnicodeDecodeError, OverflowError, KeyError) as error:
        raise ValueError(f"not readable as Mach-O: {error}") from error
    return _join(name, parts)


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
        notes=(NOTE,),
    )


def _offsets(file: BinaryIO) -> list[int]:
    file.seek(0)
    if file.read(4) != _FAT:
        return [0]
    count = struct.unpack(">I", file.read(4))[0]
    return [struct.unpack(">5I", file.read(20))[2] for _ in range(count)]


def _part(name: str, file: BinaryIO, start: int) -> Native:
    file.seek(start)
    magic = file.read(4)
    order = _THIN[magic]
    wide = magic in (b"\xfe\xed\xfa\xcf", b"\xcf\xfa\xed\xfe")
    cpu, _, kind, count, size, _ = struct.unpack(f"{order}6I", file.read(24))
    file.seek(start + (32 if wide else 28))
    needed, search, provides, floor = _commands(name, file.read(size), count, order)
    return Native(
        name=name,
        format=Format.MACHO,
        architectures=(_CPU.get(cpu, f"cpu type {cpu:#x}"),),
        loadable=kind in (_EXECUTE, _DYLIB, _BUNDLE),
        needed=tuple(needed),
        search=tuple(search),
        provides=provides,
        floor=floor,
    )


def _commands(
    name: str, data: bytes, count: int, order: str
) -> tuple[list[str], list[str], str, dict[str, Reason]]:
    needed: list[str] = []
    search: list[str] = []
    provides, floor, position = "", {}, 0
    for _ in range(count):
        command, size = struct.unpack_from(f"{order}2I", data, position)
        body = data[position : position + size]
        if command in _LIBRARY_COMMANDS:
            needed.append(_string(body, order))
        elif command == _ID_DYLIB:
            provides = _string(body, order)
        elif command == _RPATH:
            search.append(_string(body, order))
        elif command in (_VERSION_MIN, _BUILD_VERSION):
            packed = struct.unpack_from(f"{order}I", body, 8 if command == _VERSION_MIN else 12)[0]
            floor["macos"] = Reason(f"{packed >> 16}.{packed >> 8 & 0xFF}", name, "minimum macOS")
        position += max(size, 8)
    return needed, search, provides, floor


def _string(body: bytes, order: str) -> str:
    start = struct.unpack_from(f"{order}I", body, 8)[0]
    return body[start:].split(b"\0", 1)[0].decode("utf-8")
