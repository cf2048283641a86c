"""Small ELF files of any class, byte order and machine, for tests of what reads and strips them."""

from __future__ import annotations

import struct

PROGBITS, SYMTAB, STRTAB, RELA, DYNAMIC, DYNSYM = 1, 2, 3, 4, 6, 11
VERSYM, VERNEED = 0x6FFFFFFF, 0x6FFFFFFE
ATTRIBUTES = 0x70000003
ALLOC, INFO_LINK = 2, 0x40
_NEEDED, _SONAME, _RPATH, _RUNPATH = 1, 14, 15, 29
_ENTRY_SIZES = {
    32: {SYMTAB: 16, DYNSYM: 16, RELA: 12, DYNAMIC: 8},
    64: {SYMTAB: 24, DYNSYM: 24, RELA: 24, DYNAMIC: 16},
}

Row = tuple[str, int, int, bytes, str, int]  # name, type, flags, content, name of the linked section, info

ROWS: tuple[Row, ...] = (
    (".dynstr", STRTAB, ALLOC, b"\0puts\0", "", 0),
    (".dynsym", DYNSYM, ALLOC, bytes(48), ".dynstr", 1),
    (".text", PROGBITS, ALLOC | 4, b"\x90" * 37, "", 0),
    (".rela.plt", RELA, ALLOC | INFO_LINK, bytes(24), ".dynsym", 3),
    (".debug_info", PROGBITS, 0, b"D" * 500, "", 0),
    (".comment", PROGBITS, 0x30, b"GCC: (Debian)\0", "", 0),
    (".symtab", SYMTAB, 0, b"S" * 240, ".strtab", 4),
    (".strtab", STRTAB, 0, b"\0main\0", "", 0),
)


def make_elf(
    rows: tuple[Row, ...] = ROWS, *, bits: int = 64, order: str = "<", kind: int = 3, machine: int = 62,
    tail: bytes = b"",
) -> bytes:  # fmt: skip
    """An ELF file with one PT_LOAD over every allocated section, which must come first in ``rows``.

    A section .dynamic gets its PT_DYNAMIC.
    """
    word = "Q" if bits == 64 else "I"
    ehdr = struct.Struct(f"{order}16sHHI{word * 3}I6H")
    shdr = struct.Struct(f"{order}II{word * 4}II{word * 2}")
    phdr_size, shown = (56 if bits == 64 else 32), 1 + any(row[0] == ".dynamic" for row in rows)
    index = {name: number for number, (name, *_) in enumerate(rows, 1)}
    table = b"\0" + b"".join(row[0].encode() + b"\0" for row in rows) + b".shstrtab\0"
    body = bytearray(ehdr.size + phdr_size * shown)
    headers, segments, mapped = [bytes(shdr.size)], [], len(body)
    for name, type_, flags, content, link, info in (*rows, (".shstrtab", STRTAB, 0, table, "", 0)):
        body += bytes(-len(body) % 8)
        at = table.index(b"\0" + name.encode() + b"\0") + 1
        entry = _ENTRY_SIZES[bits].get(type_, 0)
        fields = (at, type_, flags, 0, len(body), len(content), index.get(link, 0), info, 8, entry)
        headers.append(shdr.pack(*fields))
        if name == ".dynamic":
            segments.append(_segment(2, len(body), len(content), bits, order))
        body += content
        mapped = len(body) if flags & ALLOC else mapped
    body += bytes(-len(body) % 8)
    sections_at, count = len(body), len(headers)
    body += b"".join(headers)
    ident = b"\x7fELF" + bytes([2 if bits == 64 else 1, 1 if order == "<" else 2, 1]) + bytes(9)
    places = (ehdr.size, sections_at, 0, ehdr.size, phdr_size, shown, shdr.size, count, count - 1)
    body[: ehdr.size] = ehdr.pack(ident, kind, machine, 1, 0, *places)
    program = b"".join([_segment(1, 0, mapped, bits, order), *segments])
    body[ehdr.size : ehdr.size + len(program)] = program
    return bytes(body) + tail


def _segment(kind: int, offset: int, size: int, bits: int, order: str) -> bytes:
    if bits == 64:
        return struct.pack(f"{order}IIQQQQQQ", kind, 5, offset, offset, offset, size, size, 4096)
    return struct.pack(f"{order}8I", kind, offset, offset, offset, size, size, 5, 4096)


def make_library(
    *, needed: tuple[str, ...] = (), soname: str = "", runpath: str = "", rpath: str = "",
    versions: tuple[tuple[str, int], ...] = (), symbol: str = "puts", bits: int = 64, order: str = "<",
    machine: int = 62, kind: int = 3,
) -> bytes:  # fmt: skip
    """A shared library with these dynamic entries.

    ``versions`` are (label, flags) of libc.so.6; ``symbol`` carries the first of them.
    """
    strings = bytearray(b"\0")

    def text(value: str) -> int:
        strings.extend(value.encode() + b"\0")
        return len(strings) - len(value.encode()) - 1

    pairs = [(_NEEDED, text(name)) for name in needed]
    for tag, value in ((_SONAME, soname), (_RPATH, rpath), (_RUNPATH, runpath)):
        pairs += [(tag, text(value))] if value else []
    dynamic = b"".join(
        struct.pack(order + ("qQ" if bits == 64 else "iI"), *pair) for pair in [*pairs, (0, 0)]
    )
    name = text(symbol)
    symbols = bytes(24) + struct.pack(f"{order}IBBHQQ", name, 0x12, 0, 0, 0, 0)
    if bits == 32:
        symbols = bytes(16) + struct.pack(f"{order}IIIBBH", name, 0, 0, 0x12, 0, 0)
    need = struct.pack(f"{order}HHIII", 1, len(versions), text("libc.so.6"), 16, 0)
    for number, (label, flags) in enumerate(versions, 2):
        following = 16 if number < len(versions) + 1 else 0
        need += struct.pack(f"{order}IHHII", 0, flags, number, text(label), following)
    rows: list[Row] = [
        (".dynsym", DYNSYM, ALLOC, symbols, ".dynstr", 1),
        (".dynamic", DYNAMIC, ALLOC, dynamic, ".dynstr", 0),
    ]
    if versions:
        rows.append((".gnu.version", VERSYM, ALLOC, struct.pack(f"{order}2H", 0, 2), ".dynsym", 0))
        rows.append((".gnu.version_r", VERNEED, ALLOC, need, ".dynstr", 1))
    rows.append((".dynstr", STRTAB, ALLOC, bytes(strings), "", 0))
    return make_elf(tuple(rows), bits=bits, order=order, machine=machine, kind=kind)
