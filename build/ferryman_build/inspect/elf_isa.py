"""The x86-64 level that a note in an ELF file makes the loader insist on.

Source: the x86-64 psABI, "Program Property" (GNU_PROPERTY_X86_ISA_1_NEEDED); glibc refuses the file with
"CPU ISA level is lower than required".
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

_GNU_PROPERTY = 5
_ISA_NEEDED = 0xC0008002


def required_level(elf: Any) -> str:
    """``x86-64-v3`` and the like; "" when nothing is required."""
    section = elf.get_section_by_name(".note.gnu.property")
    if section is None:
        return ""
    bits = max((value for kind, value in _properties(section.data()) if kind == _ISA_NEEDED), default=0)
    return f"x86-64-v{bits.bit_length()}" if bits else ""


def _properties(notes: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while at + 12 <= len(notes):
        name, size, kind = struct.unpack_from("<III", notes, at)
        start = at + 12 + (name + 3 & ~3)
        if kind == _GNU_PROPERTY:
            yield from _values(notes[start : start + size])
        at = start + (size + 7 & ~7)


def _values(properties: bytes) -> Iterator[tuple[int, int]]:
    at = 0
    while at + 8 <= len(properties):
        kind, size = struct.unpack_from("<II", properties, at)
        if size == 4:
            yield kind, struct.unpack_from("<I", properties, at + 8)[0]
        at += 8 + (size + 7 & ~7)
