"""The machine code of an ELF file: executable sections, functions by their unwind entries, how it asks the processor.

Sources: the System V ABI (sections, symbols, relocations), the LSB's ".eh_frame" and DWARF's pointer encodings, and the
numbers of IRELATIVE relocations from the psABIs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ferryman_build.inspect.code import Code, Symbol

_EXECUTABLE = 4  # SHF_EXECINSTR
_PF_X = 1
_SHT_RELR = 19
_FUNC, _IFUNC, _UNDEFINED = 2, 10, 0
_IRELATIVE = {"EM_X86_64": 37, "EM_AARCH64": 1032}
_RELATIVE = {"EM_X86_64": 8, "EM_AARCH64": 1027}
_ABSOLUTE = {"EM_X86_64": 1, "EM_AARCH64": 257}
# Imports by which a file asks the C library, the compiler's runtime or the kernel what the processor has. On x86-64
# getauxval says nothing of use; there a program executes CPUID.
_ASKING: Mapping[str, frozenset[str]] = {
    "EM_X86_64": frozenset({
        "__cpu_model", "__cpu_indicator_init", "__cpu_features2", "__x86_get_cpuid_feature_leaf",
        "__x86_get_cpu_features", "_dl_x86_get_cpu_features", "_rtld_global_ro",
    }),
    "EM_AARCH64": frozenset({
        "getauxval", "__getauxval", "elf_aux_info", "__aarch64_cpu_features", "__init_cpu_features_resolver",
        "__init_cpu_features", "_rtld_global_ro",
    }),
    "EM_ARM": frozenset({"getauxval", "__getauxval", "_rtld_global_ro"}),
}  # fmt: skip


def elf_code(elf: Any) -> Code:
    """What is executable in ``elf`` (pyelftools' ELFFile, 64 bits, little endian)."""
    listed = list(elf.iter_sections())
    symbols = list(_symbols(elf, listed))
    machine = elf["e_machine"]
    relocations = list(_relocations(listed))
    return Code(
        sections=tuple(_executable(elf, listed)),
        functions=tuple(_functions(listed)) or _sized(symbols),
        symbols=tuple(
            sorted({symbol for symbol, kind, _ in symbols if kind in (_FUNC, _IFUNC) and symbol.address})
        ),
        entries=tuple(_entries(elf, listed, symbols, relocations)),
        asks=tuple(sorted(_asks(symbols, relocations, machine))),
        references=_references(elf, listed, symbols, relocations),
    )


def imports_that_ask(elf: Any) -> tuple[str, ...]:
    """How a file of any class learns what the processor has, as far as its imports tell it."""
    asking = _ASKING.get(elf["e_machine"], frozenset())
    table = elf.get_section_by_name(".dynsym")
    names = [symbol.name for symbol in table.iter_symbols()] if table is not None else []
    return tuple(f"imports {name}" for name in sorted(asking.intersection(names)))


def _executable(elf: Any, sections: Iterable[Any]) -> Iterator[tuple[int, bytes]]:
    found = False
    for section in sections:
        if section["sh_flags"] & _EXECUTABLE and section["sh_type"] == "SHT_PROGBITS":
            found = True
            yield section["sh_addr"], section.data()
    if not found:
        for segment in elf.iter_segments("PT_LOAD"):
            if segment["p_flags"] & _PF_X:
                yield segment["p_vaddr"], segment.data()


def _symbols(elf: Any, sections: Iterable[Any]) -> Iterator[tuple[Symbol, int, int]]:
    """(symbol, its type, its section) of both tables, the dynamic one first; undefined ones have address 0."""
    tables = [section for section in sections if section["sh_type"] in ("SHT_DYNSYM", "SHT_SYMTAB")]
    for section in sorted(tables, key=lambda table: str(table["sh_type"])):
        if section["sh_link"]:
            strings = elf.get_section(section["sh_link"]).data()
            for name, info, _, shndx, value, size in struct.iter_unpack(
                "<IBBHQQ", _whole(section.data(), 24)
            ):
                end = strings.find(b"\0", name)
                yield Symbol(value, size, strings[name:end].decode("utf-8", "replace")), info & 15, shndx


def _whole(data: bytes, size: int) -> bytes:
    return data[: len(data) // size * size]


def _sized(symbols: Iterable[tuple[Symbol, int, int]]) -> tuple[tuple[int, int], ...]:
    return tuple(
        (symbol.address, symbol.address + symbol.size)
        for symbol, kind, _ in symbols
        if kind == _FUNC and symbol.size and symbol.address
    )


def _relocations(sections: Iterable[Any]) -> Iterator[tuple[int, int, int]]:
    for section in sections:
        if section["sh_type"] == "SHT_RELA":
            yield from struct.iter_unpack("<QQq", _whole(section.data(), 24))


def _asks(
    symbols: Sequence[tuple[Symbol, int, int]], relocations: Iterable[tuple[int, int, int]], machine: str
) -> set[str]:
    asking = _ASKING.get(machine, frozenset())
    found = {
        f"imports {symbol.name}"
        for symbol, _, section in symbols
        if section == _UNDEFINED and symbol.name in asking
    }
    resolvers = any(kind == _IFUNC for _, kind, _ in symbols)
    if resolvers or any(info & 0xFFFFFFFF == _IRELATIVE.get(machine) for _, info, _ in relocations):
        found.add("has functions that a resolver picks (IFUNC)")
    return found


def _references(
    elf: Any,
    sections: Iterable[Any],
    symbols: Sequence[tuple[Symbol, int, int]],
    relocations: Sequence[tuple[int, int, int]],
) -> frozenset[int] | None:
    """What the loader writes into the file's data; None where addresses stand in the data or the code themselves."""
    if elf["e_type"] != "ET_DYN" or any(
        section["sh_type"] in (_SHT_RELR, "SHT_RELR") for section in sections
    ):
        return None
    named = (
        symbols[info >> 32][0].address if 0 < info >> 32 < len(symbols) else 0 for _, info, _ in relocations
    )
    return frozenset(
        address + addend
        for address, (_, _, addend) in zip(named, relocations, strict=True)
        if address + addend
    )


def _entries(
    elf: Any,
    sections: Iterable[Any],
    symbols: Sequence[tuple[Symbol, int, int]],
    relocations: Iterable[tuple[int, int, int]],
) -> Iterator[int]:
    """What runs at load: the entry point, constructors, and the functions by which Python opens a module."""
    if elf["e_entry"]:
        yield elf["e_entry"]
    for symbol, kind, section in symbols:
        if kind == _FUNC and section != _UNDEFINED and symbol.name.startswith("PyInit_"):
            yield symbol.address
    machine = elf["e_machine"]
    arrays = [
        section for section in sections if section["sh_type"] in ("SHT_INIT_ARRAY", "SHT_PREINIT_ARRAY")
    ]
    ranges = [(section["sh_addr"], section["sh_addr"] + section["sh_size"]) for section in arrays]
    for offset, info, addend in relocations:
        if any(low <= offset < high for low, high in ranges):
            kind, number = info & 0xFFFFFFFF, info >> 32
            if kind == _RELATIVE.get(machine):
                yield addend
            elif kind == _ABSOLUTE.get(machine) and number < len(symbols):  # the dynamic symbols come first
                yield symbols[number][0].address + addend
    for section in arrays:
        yield from (value for (value,) in struct.iter_unpack("<Q", _whole(section.data(), 8)) if value)


# --- functions from .eh_frame -----------------------------------------------------------------------------------------

_POINTER_FORMATS: Mapping[int, struct.Struct] = {
    0x0: struct.Struct("<Q"), 0x2: struct.Struct("<H"), 0x3: struct.Struct("<I"), 0x4: struct.Struct("<Q"),
    0xA: struct.Struct("<h"), 0xB: struct.Struct("<i"), 0xC: struct.Struct("<q"),
}  # fmt: skip
_PC_RELATIVE = 0x10


def _functions(sections: Iterable[Any]) -> Iterator[tuple[int, int]]:
    for section in sections:
        if section.name == ".eh_frame" and section["sh_type"] != "SHT_NOBITS":
            yield from eh_functions(section.data(), section["sh_addr"])


def eh_functions(data: bytes, address: int) -> Iterator[tuple[int, int]]:
    """(start, end) of every function in the .eh_frame section ``data`` that is mapped at ``address``."""
    encodings: dict[int, int] = {}
    at = 0
    while at + 8 <= len(data):
        length, identity = struct.unpack_from("<II", data, at)
        if length == 0xFFFFFFFF:  # the 64-bit form, which no compiler writes here
            return
        end = at + 4 + length
        if length and end <= len(data):
            if identity == 0:
                encodings[at] = _pointer_encoding(data, at + 8, end)
            else:
                yield from _range(data, address, at + 8, encodings.get(at + 4 - identity, 0xFF))
        at = end


def _range(data: bytes, address: int, at: int, encoding: int) -> Iterator[tuple[int, int]]:
    pointer = _POINTER_FORMATS.get(encoding & 0xF)
    relative = encoding & 0x70
    if pointer is None or relative not in (0, _PC_RELATIVE) or at + 2 * pointer.size > len(data):
        return
    (start,) = pointer.unpack_from(data, at)
    (size,) = pointer.unpack_from(data, at + pointer.size)
    if relative:
        start = start + address + at & 0xFFFFFFFFFFFFFFFF
    if size > 0 and start:
        yield start, start + size


def _pointer_encoding(data: bytes, at: int, end: int) -> int:
    """How the FDEs of the CIE at ``at`` (behind its identity) write addresses."""
    text = data[at + 1 : data.index(b"\0", at + 1, end)]
    if not text.startswith(b"z"):
        return 0
    at += len(text) + 2
    for _ in range(3):  # code alignment, data alignment, return register
        at = _skip_leb(data, at)
    at = _skip_leb(data, at)  # length of the augmentation
    for letter in text[1:]:
        if letter == ord("R"):
            return data[at]
        at += {ord("L"): 1, ord("P"): 1 + _POINTER_FORMATS.get(data[at] & 0xF, _POINTER_FORMATS[0]).size}.get(
            letter, 0
        )
    return 0


def _skip_leb(data: bytes, at: int) -> int:
    while data[at] & 0x80:
        at += 1
    return at + 1
