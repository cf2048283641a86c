"""The parts of a native file by name, so that a difference can be named: headers, sections, date stamps.

Sources: the ELF specification (gABI), Microsoft's "PE Format", Apple's <mach-o/loader.h>. Only 64-bit and 32-bit ELF, PE,
and thin Mach-O are taken apart; anything else is one part.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator

import msgspec

_NOBITS = 8
_MACHO = {b"\xcf\xfa\xed\xfe": ("<", 32), b"\xce\xfa\xed\xfe": ("<", 28)}
_SEGMENT, _SEGMENT_64 = 0x1, 0x19


class Region(msgspec.Struct, frozen=True):
    """Bytes ``start`` to ``end`` of a file, and what they are."""

    name: str
    start: int
    end: int


def regions(data: bytes) -> list[Region]:
    """Parts of ``data``, in the file's order; [] when it is no native file or its headers are damaged."""
    for matches, read in _READERS:
        if matches(data):
            try:
                found = [region for region in read(data) if 0 <= region.start < region.end <= len(data)]
            except (struct.error, UnicodeDecodeError, IndexError):
                return []
            return sorted(found, key=lambda region: (region.start, region.end))
    return []


# --- ELF --------------------------------------------------------------------------------------------------------------


def _elf(data: bytes) -> Iterator[Region]:
    wide, order = data[4] == 2, "<" if data[5] == 1 else ">"
    head = 64 if wide else 52
    yield Region("ELF header", 0, head)
    fields = struct.unpack_from(f"{order}{'QQQ' if wide else 'III'}I6H", data, 24)
    _, programs, sections, _, _, program_size, program_count, size, count, names = fields
    yield Region("program headers", programs, programs + program_size * program_count)
    yield Region("section headers", sections, sections + size * count)
    rows = [_elf_section(data, sections + number * size, order, wide=wide) for number in range(count)]
    for name, kind, start, length in rows:
        if kind not in (0, _NOBITS):
            yield Region(f"section {_string(data, rows[names][2] + name)}", start, start + length)


def _elf_section(data: bytes, at: int, order: str, *, wide: bool) -> tuple[int, int, int, int]:
    """(name, type, offset, size) of the section header at ``at``."""
    if wide:
        name, kind, _, _, start, length = struct.unpack_from(f"{order}IIQQQQ", data, at)
    else:
        name, kind, _, _, start, length = struct.unpack_from(f"{order}6I", data, at)
    return name, kind, start, length


# --- PE ---------------------------------------------------------------------------------------------------------------


def is_pe(data: bytes) -> bool:
    """Whether the DOS header points at a PE signature."""
    if data[:2] != b"MZ" or len(data) < 64:
        return False
    at = struct.unpack_from("<I", data, 60)[0]
    return bool(data[at : at + 4] == b"PE\0\0")


def _pe(data: bytes) -> Iterator[Region]:
    start = struct.unpack_from("<I", data, 60)[0] + 4
    _, count, _, _, _, optional, _ = struct.unpack_from("<HHIIIHH", data, start)
    table = start + 20 + optional
    yield Region("DOS header", 0, start)
    yield Region("PE date stamp", start + 4, start + 8)
    yield Region("PE checksum", start + 20 + 64, start + 20 + 68)
    yield Region("PE headers", start, table)
    yield Region("section headers", table, table + 40 * count)
    for number in range(count):
        at = table + 40 * number
        name = data[at : at + 8].rstrip(b"\0").decode("latin-1")
        size, raw = struct.unpack_from("<II", data, at + 16)
        yield Region(f"section {name}", raw, raw + size)


# --- Mach-O -----------------------------------------------------------------------------------------------------------


def _macho(data: bytes) -> Iterator[Region]:
    order, head = _MACHO[data[:4]]
    count, size = struct.unpack_from(f"{order}2I", data, 16)
    yield Region("Mach-O header", 0, head)
    yield Region("load commands", head, head + size)
    at = head
    for _ in range(count):
        command, length = struct.unpack_from(f"{order}2I", data, at)
        if command in (_SEGMENT, _SEGMENT_64):
            yield from _macho_segment(data, at, order, wide=command == _SEGMENT_64)
        at += max(length, 8)


def _macho_segment(data: bytes, at: int, order: str, *, wide: bool) -> Iterator[Region]:
    segment = _name(data, at + 8)
    start, size = struct.unpack_from(f"{order}{'QQ' if wide else 'II'}", data, at + 24 + (16 if wide else 8))
    if segment == "__LINKEDIT":  # symbols and signature; it has no sections
        yield Region("segment __LINKEDIT", start, start + size)
    count = struct.unpack_from(f"{order}I", data, at + (64 if wide else 48))[0]
    for number in range(count):
        row = at + (72 if wide else 56) + number * (80 if wide else 68)
        length, offset = struct.unpack_from(
            f"{order}{'QI' if wide else 'II'}", data, row + (40 if wide else 36)
        )
        yield Region(f"section {segment},{_name(data, row)}", offset, offset + length)


def _name(data: bytes, at: int) -> str:
    return data[at : at + 16].rstrip(b"\0").decode("ascii")


def _string(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode("utf-8") if b"\0" in data[at:] else ""


_READERS: tuple[tuple[Callable[[bytes], bool], Callable[[bytes], Iterator[Region]]], ...] = (
    (lambda data: data[:4] == b"\x7fELF" and len(data) >= 52, _elf),
    (is_pe, _pe),
    (lambda data: data[:4] in _MACHO, _macho),
)
