"""The machine code of one architecture of a Mach-O file: sections of instructions, function starts, symbols.

Source: Apple's <mach-o/loader.h> and <mach-o/nlist.h>.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from ferryman_build.inspect.code import Code, Symbol, between

_SEGMENT_64, _SYMTAB, _FUNCTION_STARTS, _MAIN = 0x19, 0x2, 0x26, 0x80000028
_INSTRUCTIONS = 0x80000000  # S_ATTR_PURE_INSTRUCTIONS
_STAB, _TYPE, _IN_SECTION = 0xE0, 0x0E, 0x0E
_ASKING = {"_sysctlbyname", "___cpu_model", "___cpu_indicator_init", "___aarch64_cpu_features"}


def commands(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(number, whole command) of each load command of a 64-bit little-endian image.

    Raises:
        struct.error: the list is damaged.
    """
    count, at = struct.unpack_from("<I", data, 16)[0], 32
    for _ in range(count):
        command, size = struct.unpack_from("<II", data, at)
        yield command, data[at : at + size]
        at += max(size, 8)


def macho_code(data: bytes) -> Code:
    """What is executable in the 64-bit image ``data``.

    Raises:
        struct.error, ValueError, IndexError: it is damaged.
    """
    sections: list[tuple[int, bytes]] = []
    starts: list[int] = []
    symbols: list[Symbol] = []
    asks: set[str] = set()
    base, main, first = 0, 0, b""
    for command, body in commands(data):
        if command == _SEGMENT_64:
            name, address = body[8:24].rstrip(b"\0"), struct.unpack_from("<Q", body, 24)[0]
            base = address if name == b"__TEXT" else base
            sections += _instructions(data, body)
        elif command == _FUNCTION_STARTS:
            offset, size = struct.unpack_from("<II", body, 8)
            first = data[offset : offset + size]
        elif command == _SYMTAB:
            symbols, asks = _symbols(data, body)
        elif command == _MAIN:
            main = struct.unpack_from("<Q", body, 8)[0]
    starts = list(_starts(first, base))
    modules = [symbol.address for symbol in symbols if symbol.name.startswith("_PyInit_")]
    return Code(
        sections=tuple(sections),
        functions=between(starts or [symbol.address for symbol in symbols], tuple(sections)),
        symbols=tuple(symbols),
        entries=(*([base + main] if main else []), *modules),
        asks=tuple(sorted(asks)),
    )


def _instructions(data: bytes, segment: bytes) -> Iterator[tuple[int, bytes]]:
    for number in range(struct.unpack_from("<I", segment, 64)[0]):
        address, size, offset, flags = struct.unpack_from("<32xQQI12xI", segment, 72 + 80 * number)
        if flags & _INSTRUCTIONS:
            yield address, data[offset : offset + size]


def _starts(packed: bytes, address: int) -> Iterator[int]:
    value = shift = 0
    for byte in packed:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            if not value:
                return
            address += value
            yield address
            value = shift = 0


def _symbols(data: bytes, command: bytes) -> tuple[list[Symbol], set[str]]:
    """Functions by address, without a size, and the names by which the file asks what the processor has."""
    offset, count, text, length = struct.unpack_from("<IIII", command, 8)
    strings = data[text : text + length]
    found, asks = [], set()
    for at, kind, _, _, value in struct.iter_unpack("<IBBHQ", data[offset : offset + 16 * count]):
        name = strings[at : strings.find(b"\0", at)].decode("utf-8", "replace")
        if not kind & _STAB and kind & _TYPE == _IN_SECTION:
            found.append(Symbol(value, 0, name))
        elif name in _ASKING:
            asks.add(f"imports {name.removeprefix('_')}")
    return sorted(found), asks
