"""The machine code of a PE file: executable sections, functions by their unwind entries, exports and imports.

Source: Microsoft's "PE Format" and "x64 exception handling" (RUNTIME_FUNCTION), "ARM64 exception handling" (.pdata).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import msgspec

from ferryman_build.inspect.code import Code, Symbol, between

_EXECUTE = 0x20000000
_EXPORTS, _EXCEPTIONS, _ENTRY_AT = 0, 3, 16
# On Arm a program has no instruction to ask with; on x86-64 it has, and this import is in everything that MSVC links.
_ASKING = b"IsProcessorFeaturePresent\0"


class _Section(msgspec.Struct, frozen=True):
    address: int
    size: int
    raw_size: int
    raw: int
    flags: int


def pe_code(data: bytes, arch: str) -> Code:
    """What is executable in the PE32+ file ``data``; addresses are relative to the image.

    Raises:
        struct.error, ValueError, IndexError: the file is damaged.
    """
    start = struct.unpack_from("<I", data, 60)[0] + 4
    count, size = struct.unpack_from("<H", data, start + 2)[0], struct.unpack_from("<H", data, start + 16)[0]
    optional = start + 20
    rows = [struct.unpack_from("<8xIIII12xI", data, optional + size + 40 * n) for n in range(count)]
    image = _Image(
        data, [_Section(at, virtual, length, raw, flags) for virtual, at, length, raw, flags in rows]
    )
    directories = struct.unpack_from("<I", data, optional + 108)[0]
    table = [struct.unpack_from("<II", data, optional + 112 + 8 * n) for n in range(min(directories, 16))]
    sections = tuple(image.executable())
    exports = list(image.exports(*table[_EXPORTS])) if table and table[_EXPORTS][0] else []
    unwind = image.at(*table[_EXCEPTIONS]) if len(table) > _EXCEPTIONS else b""
    entry = struct.unpack_from("<I", data, optional + _ENTRY_AT)[0]
    modules = [symbol.address for symbol in exports if symbol.name.startswith("PyInit_")]
    return Code(
        sections=sections,
        functions=tuple(_functions(unwind, arch, sections)),
        symbols=tuple(sorted(exports)),
        entries=tuple(address for address in (entry, *modules) if address),
        asks=("imports IsProcessorFeaturePresent",) if arch == "arm64" and _ASKING in data else (),
        mixed=True,  # MSVC puts the tables of a switch behind the code, inside the function's range
    )


def _functions(
    unwind: bytes, arch: str, sections: tuple[tuple[int, bytes], ...]
) -> Iterator[tuple[int, int]]:
    if arch == "amd64":
        for first, last, _ in struct.iter_unpack("<III", unwind[: len(unwind) // 12 * 12]):
            if first < last:
                yield first, last
    else:
        starts = [first for first, _ in struct.iter_unpack("<II", unwind[: len(unwind) // 8 * 8]) if first]
        yield from between(starts, sections)


class _Image:
    def __init__(self, data: bytes, sections: list[_Section]) -> None:
        self._data = data
        self._sections = sections

    def executable(self) -> Iterator[tuple[int, bytes]]:
        for section in self._sections:
            if section.flags & _EXECUTE:
                size = min(section.size, section.raw_size) or section.raw_size
                yield section.address, self._data[section.raw : section.raw + size]

    def at(self, address: int, size: int) -> bytes:
        """``size`` bytes at ``address``; nothing when it is in no section."""
        for section in self._sections:
            if section.address <= address < section.address + max(section.size, section.raw_size):
                start = address - section.address + section.raw
                return self._data[start : start + size]
        return b""

    def exports(self, address: int, size: int) -> Iterator[Symbol]:
        head = self.at(address, 40)
        functions, names, addresses, name_table, ordinals = struct.unpack_from("<20xIIIII", head)
        listed = struct.unpack(f"<{functions}I", self.at(addresses, 4 * functions))
        texts = struct.unpack(f"<{names}I", self.at(name_table, 4 * names))
        numbers = struct.unpack(f"<{names}H", self.at(ordinals, 2 * names))
        for text, number in zip(texts, numbers, strict=True):
            found = listed[number]
            if not address <= found < address + size:  # a forwarder is a name and no code
                yield Symbol(found, 0, self.at(text, 512).split(b"\0", 1)[0].decode("utf-8", "replace"))
