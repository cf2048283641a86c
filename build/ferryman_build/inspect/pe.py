"""PE: machine, imports, subsystem, protections and minimum Windows version, read with nothing but struct.

Source: Microsoft's "PE Format", sections COFF File Header, Optional Header, Import Directory Table and Delay-Load.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import BinaryIO

from ferryman_build.inspect.native import NOT_READABLE, Format, Native, Reason, Trait

_MACHINES = {0x8664: "amd64", 0xAA64: "arm64", 0x14C: "386", 0x1C4: "armv7"}
_PE32, _PE32_PLUS = 0x10B, 0x20B
_IMPORTS, _DELAYED = 1, 13  # numbers of the data directories
_EXECUTABLE_IMAGE = 0x2
_MOST_IMPORTS = 4096
_GUI = 2
_DYNAMIC_BASE, _NX_COMPATIBLE = 0x40, 0x100


def is_pe(file: BinaryIO) -> bool:
    """Whether the DOS header points at a PE signature; a text that begins with MZ does not."""
    head = _at(file, 0, 64)
    return len(head) == 64 and _at(file, struct.unpack_from("<I", head, 60)[0], 4) == b"PE\0\0"


def read_pe(name: str, file: BinaryIO) -> Native:
    """Describe a PE file; ``floor`` has the Windows version (NT's number) below which the loader refuses it.

    Raises:
        ValueError: the headers are damaged.
    """
    try:
        return _read(name, file)
    except (struct.error, UnicodeDecodeError, OverflowError) as error:
        raise ValueError(f"{NOT_READABLE}PE: {error}") from error


def _read(name: str, file: BinaryIO) -> Native:
    start = struct.unpack("<I", _at(file, 60, 4))[0] + 4
    machine, sections, _, _, _, size, flags = struct.unpack("<HHIIIHH", _at(file, start, 20))
    optional = _at(file, start + 20, size)
    magic = struct.unpack_from("<H", optional)[0] if size >= 2 else 0
    architectures = (_MACHINES.get(machine, f"machine {machine:#x}"),)
    if magic not in (_PE32, _PE32_PLUS) or not flags & _EXECUTABLE_IMAGE:
        return Native(name=name, format=Format.PE, architectures=architectures, loadable=False)
    major, minor = struct.unpack_from("<HH", optional, 48)  # subsystem version
    image = _Image(file, _at(file, start + 20 + size, 40 * sections), optional, wide=magic == _PE32_PLUS)
    return Native(
        name=name,
        format=Format.PE,
        architectures=architectures,
        needed=tuple(dict.fromkeys(image.imports())),
        traits=_traits(optional),
        floor={"windows": Reason(f"{major}.{minor}", name, "subsystem version")},
    )


def _traits(optional: bytes) -> dict[Trait, str]:
    subsystem, flags = struct.unpack_from("<HH", optional, 68)
    found: dict[Trait, str] = {}
    if subsystem == _GUI:
        found[Trait.GUI] = f"subsystem {subsystem}"
    if not flags & _DYNAMIC_BASE:
        found[Trait.NO_ASLR] = "DYNAMIC_BASE is not set"
    if not flags & _NX_COMPATIBLE:
        found[Trait.NO_NX] = "NX_COMPAT is not set"
    return found


class _Image:
    """The few parts of a PE image that say what it loads."""

    def __init__(self, file: BinaryIO, table: bytes, optional: bytes, *, wide: bool) -> None:
        self._file = file
        self._sections = [
            struct.unpack_from("<IIII", table, offset + 8) for offset in range(0, len(table) - 39, 40)
        ]  # virtual size, virtual address, raw size, raw offset
        directories = 112 if wide else 96
        count = struct.unpack_from("<I", optional, directories - 4)[0]
        fits = min(count, (len(optional) - directories) // 8)
        self._directories = [struct.unpack_from("<II", optional, directories + 8 * n) for n in range(fits)]

    def imports(self) -> Iterator[str]:
        """Names of the DLLs, those that are loaded at the first call included."""
        yield from self._names(_IMPORTS, record=20, name_at=12)
        yield from self._names(_DELAYED, record=32, name_at=4)

    def _names(self, directory: int, *, record: int, name_at: int) -> Iterator[str]:
        if directory >= len(self._directories) or not self._directories[directory][0]:
            return
        start = self._offset(self._directories[directory][0])
        for number in range(_MOST_IMPORTS):
            entry = _at(self._file, start + number * record, record)
            address = struct.unpack_from("<I", entry, name_at)[0]
            if not address:
                return
            yield _at(self._file, self._offset(address), 256).split(b"\0", 1)[0].decode("ascii")

    def _offset(self, address: int) -> int:
        for virtual_size, virtual, raw_size, raw in self._sections:
            if virtual <= address < virtual + max(virtual_size, raw_size):
                return int(address - virtual + raw)
        raise struct.error(f"address {address:#x} is in no section")


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)
