"""Strip ELF files of any architecture, without the binutils of that architecture.

The rule: no allocated byte moves. The file is kept up to the last byte that a program header or an allocated section
covers; symbol tables, debug information and the like behind it are left out; a new section header table follows.
Sources: the ELF chapters of the System V ABI (section and program headers) and `elf(5)`.

A kept section keeps its index, because the dynamic symbol table (st_shndx) is allocated and names sections by index:
a dropped section in front of a kept one leaves an empty header behind. So sh_link and sh_info need no renumbering,
except that a link to a dropped section becomes 0.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence

import msgspec

_ET_EXEC, _ET_DYN = 2, 3
_SHT_NULL, _SHT_SYMTAB, _SHT_STRTAB, _SHT_RELA, _SHT_NOTE, _SHT_NOBITS, _SHT_REL = 0, 2, 3, 4, 7, 8, 9
_SHT_SYMTAB_SHNDX = 18
_SHT_ATTRIBUTES = 0x70000003  # .ARM.attributes, .riscv.attributes
_SHF_ALLOC, _SHF_INFO_LINK = 0x2, 0x40
_SHN_LORESERVE, _PN_XNUM = 0xFF00, 0xFFFF
_PAGE = 4096

_DROPPED_TYPES = frozenset({_SHT_SYMTAB, _SHT_STRTAB, _SHT_RELA, _SHT_NOTE, _SHT_REL, _SHT_SYMTAB_SHNDX})
# Sections of these names are for debuggers and archaeologists. A section of any other name that is not mapped may be
# somebody's payload (PyInstaller's "pydata", AppImage's ".sha256_sig"): such a file is left as it is.
_DROPPED_NAMES = re.compile(
    r"\.z?debug_.*|\.comment|\.gnu_debug(link|altlink|data)|\.gdb_index|\.stab.*|\.line|\.debug"
    r"|\.gnu\.build\.attributes.*|\.GCC\.command\.line|\.annobin\..*|\.llvm\..*|\.note.*|\.gnu\.warning\..*"
)


class _Odd(Exception):  # noqa: N818 - never leaves this module; it means "leave the file alone"
    """The file is not of the plain shape that this module understands."""


class _Layout(msgspec.Struct, frozen=True):
    """The three record formats of one ELF class and byte order; fields are in the same order in both classes."""

    header: struct.Struct
    section: struct.Struct
    segment: struct.Struct
    wide: bool

    @classmethod
    def of(cls, ident: bytes) -> _Layout:
        order = {1: "<", 2: ">"}.get(ident[5])
        if order is None or ident[4] not in (1, 2) or ident[6] != 1:
            raise _Odd
        wide = ident[4] == 2
        word = "Q" if wide else "I"
        return cls(
            struct.Struct(f"{order}16sHHI{word * 3}I6H"),
            struct.Struct(f"{order}II{word * 4}II{word * 2}"),
            struct.Struct(f"{order}IIQQQQQQ" if wide else f"{order}8I"),
            wide,
        )


class _Header(msgspec.Struct, frozen=True):
    """The fields of Elf_Ehdr, in order."""

    ident: bytes
    type: int
    machine: int
    version: int
    entry: int
    phoff: int
    shoff: int
    flags: int
    ehsize: int
    phentsize: int
    phnum: int
    shentsize: int
    shnum: int
    shstrndx: int


class _Section(msgspec.Struct, frozen=True):
    """The fields of Elf_Shdr, in order, and the section's name."""

    name: int
    type: int
    flags: int
    addr: int
    offset: int
    size: int
    link: int
    info: int
    align: int
    entsize: int
    text: str = ""

    @property
    def end(self) -> int:
        """Offset behind the last byte in the file."""
        return self.offset + (0 if self.type in (_SHT_NOBITS, _SHT_NULL) else self.size)

    @property
    def allocated(self) -> bool:
        return bool(self.flags & _SHF_ALLOC)

    @property
    def droppable(self) -> bool:
        named = self.type in _DROPPED_TYPES or _DROPPED_NAMES.fullmatch(self.text) is not None
        return not self.allocated and (named or self.type == _SHT_NULL)


_EMPTY = _Section(0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


def strip_elf(data: bytes) -> bytes:
    """``data`` without what the loader never maps; every allocated byte keeps its offset.

    The input itself comes back when it is not an ELF executable or shared library, when it carries data that belongs
    to no section (an appended archive) or a section of unknown purpose, when nothing would be won, and when anything
    about it is not as the ABI says. Works for ELF32 and ELF64 in both byte orders; stripping twice changes nothing.
    """
    if data[:4] != b"\x7fELF" or len(data) < 52:
        return data
    try:
        stripped = _strip(data)
    except (_Odd, struct.error, OverflowError, UnicodeDecodeError):
        return data
    return stripped if len(stripped) < len(data) else data


def _strip(data: bytes) -> bytes:
    layout = _Layout.of(data[:16])
    header = _Header(*layout.header.unpack_from(data))
    _check_header(header, layout)
    segments = _segments(data, header, layout)
    sections = _sections(data, header, layout)
    keep = _kept_end(header, layout, segments, sections)
    _check_rest(data, keep, header, layout, sections)
    return _write(data, keep, header, layout, _surviving(sections))


def _check_header(header: _Header, layout: _Layout) -> None:
    plain = (
        header.type in (_ET_EXEC, _ET_DYN)
        and header.ehsize == layout.header.size
        and header.shentsize == layout.section.size
        and 0 < header.phnum < _PN_XNUM
        and header.phentsize == layout.segment.size
        and 0 < header.shstrndx < header.shnum < _SHN_LORESERVE
    )
    if not plain:
        raise _Odd


def _segments(data: bytes, header: _Header, layout: _Layout) -> list[tuple[int, int]]:
    """(offset, end) of every program header that has bytes in the file."""
    offset_at, size_at = (2, 5) if layout.wide else (1, 4)
    found = []
    for number in range(header.phnum):
        fields = layout.segment.unpack_from(data, header.phoff + number * header.phentsize)
        if fields[size_at]:
            found.append((fields[offset_at], fields[offset_at] + fields[size_at]))
    if not found or max(end for _, end in found) > len(data):
        raise _Odd  # a separate debug file has the segments of its program, but not their bytes
    return found


def _sections(data: bytes, header: _Header, layout: _Layout) -> list[_Section]:
    raw = [
        _Section(*layout.section.unpack_from(data, header.shoff + number * header.shentsize))
        for number in range(header.shnum)
    ]
    names = raw[header.shstrndx]
    if max(section.end for section in raw) > len(data):
        raise _Odd
    table = data[names.offset : names.end]
    return [msgspec.structs.replace(section, text=_text(table, section.name)) for section in raw]


def _text(table: bytes, start: int) -> str:
    end = table.find(b"\0", start)
    if end < 0:
        raise _Odd
    return table[start:end].decode("ascii")


def _kept_end(
    header: _Header, layout: _Layout, segments: Iterable[tuple[int, int]], sections: Iterable[_Section]
) -> int:
    ends = [layout.header.size, header.phoff + header.phnum * header.phentsize]
    ends += [end for _, end in segments]
    ends += [section.end for section in sections if section.allocated]
    return max(ends)


def _check_rest(
    data: bytes, keep: int, header: _Header, layout: _Layout, sections: Sequence[_Section]
) -> None:
    """Behind ``keep`` there may be only droppable sections, attributes, the header table and zeros between them."""
    if any(not (s.allocated or s.droppable or s.type == _SHT_ATTRIBUTES) for s in sections):
        raise _Odd
    table = (header.shoff, header.shoff + header.shnum * layout.section.size)
    position = keep
    for start, end in sorted([table, *((s.offset, s.end) for s in sections if s.end > s.offset)]):
        if start > position and data[position:start].strip(b"\0"):
            raise _Odd
        position = max(position, end)
    if len(data) != position:
        raise _Odd


def _surviving(sections: Sequence[_Section]) -> list[_Section]:
    kept = [_EMPTY if section.droppable else section for section in sections]
    while kept[-1] is _EMPTY and len(kept) > 1:
        kept.pop()
    alive = {number for number, section in enumerate(kept) if section is not _EMPTY}
    return [_relink(section, alive) for section in kept]


def _relink(section: _Section, alive: set[int]) -> _Section:
    # sh_info is a section's index only where the ABI says so; elsewhere it is a count or a symbol's index.
    indexed = section.type in (_SHT_REL, _SHT_RELA) or bool(section.flags & _SHF_INFO_LINK)
    link = section.link if section.link in alive else 0
    info = section.info if not indexed or section.info in alive else 0
    return msgspec.structs.replace(section, link=link, info=info)


def _write(data: bytes, keep: int, header: _Header, layout: _Layout, sections: Sequence[_Section]) -> bytes:
    out = bytearray(data[:keep])
    names = bytearray(b"\0")
    headers = [_EMPTY]
    for section in sections[1:]:
        placed = _placed(section, data, out, keep)
        headers.append(msgspec.structs.replace(placed, name=len(names)) if section.text else placed)
        if section.text:
            names += section.text.encode("ascii") + b"\0"
    own_name = len(names)
    names += b".shstrtab\0"
    headers.append(_Section(own_name, _SHT_STRTAB, 0, 0, len(out), len(names), 0, 0, 1, 0))
    out += names
    out += bytes(-len(out) % (8 if layout.wide else 4))
    final = msgspec.structs.replace(header, shoff=len(out), shnum=len(headers), shstrndx=len(headers) - 1)
    for section in headers:
        out += layout.section.pack(*msgspec.structs.astuple(section)[:10])
    out[: layout.header.size] = layout.header.pack(*msgspec.structs.astuple(final))
    return bytes(out)


def _placed(section: _Section, data: bytes, out: bytearray, keep: int) -> _Section:
    """Attributes that no segment covers lie behind the kept bytes: they move up, everything else stays."""
    if section.allocated or section.end <= keep:
        return section
    if section.align > _PAGE:
        raise _Odd
    out += bytes(-len(out) % max(1, section.align))
    offset = len(out)
    out += data[section.offset : section.end]
    return msgspec.structs.replace(section, offset=offset)
