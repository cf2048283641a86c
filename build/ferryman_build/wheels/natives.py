"""The native files of a wheel, and whether they are what a platform tag says."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from elftools.elf.elffile import ELFFile

from ferryman_build.inspect.formats import read_native
from ferryman_build.inspect.native import Format, Native
from ferryman_build.targets import Libc
from ferryman_build.wheels.archive import Member, Wheel

# Prefix of a platform tag → format of its native files and C library; the first that fits decides.
_SYSTEMS: Mapping[str, tuple[Format, Libc | None]] = {
    "win": (Format.PE, None),
    "macosx_": (Format.MACHO, None),
    "musllinux_": (Format.ELF, Libc.MUSL),
    "manylinux": (Format.ELF, Libc.GNU),
    "linux_": (Format.ELF, None),
}
# End of a platform tag → architectures in Go's words. The longer end is asked first.
_MACHINES: Mapping[str, frozenset[str]] = {
    "x86_64": frozenset({"amd64"}), "amd64": frozenset({"amd64"}), "aarch64": frozenset({"arm64"}),
    "arm64": frozenset({"arm64"}), "universal2": frozenset({"amd64", "arm64"}), "i686": frozenset({"386"}),
    "win32": frozenset({"386"}), "armv7l": frozenset({"armv7"}), "riscv64": frozenset({"riscv64"}),
    "s390x": frozenset({"s390x"}), "ppc64le": frozenset({"ppc64le"}),
}  # fmt: skip
_GLIBC = "libc.so.6"
_CPYTHON = ("Py", "_Py")
_VER_NDX_GLOBAL = 1  # this and 0: no version


class Claim(msgspec.Struct, frozen=True):
    """What a platform tag says of the native files; ``libc`` None where the tag leaves it open."""

    format: Format
    libc: Libc | None
    architectures: frozenset[str]


def claim(platform: str) -> Claim | None:
    """Of one platform tag; None for ``any`` and for what Ferryman does not know."""
    system = next((found for prefix, found in _SYSTEMS.items() if platform.startswith(prefix)), None)
    machine = next((found for end, found in _MACHINES.items() if platform.endswith(end)), None)
    return Claim(*system, machine) if system and machine else None


def natives(wheel: Wheel) -> Iterator[tuple[Member, Native]]:
    """Every native file, described by its own headers."""
    for member in wheel.members:
        native = read_native(member.name, io.BytesIO(member.data))
        if native is not None:
            yield member, native


def contradiction(native: Native, wanted: Claim) -> str:
    """What a file is instead of what the tag claims; "" when it is that."""
    if not native.loadable:
        return f"no library, but an object or a damaged file ({', '.join(native.notes) or native.format})"
    if native.format is not wanted.format or not wanted.architectures <= set(native.architectures):
        return f"{native.format.upper()} for {', '.join(native.architectures)}"
    libc = _libc(native)
    if wanted.libc and libc and libc is not wanted.libc:
        return f"linked with the C library of {libc}"
    return ""


def unresolved(data: bytes) -> tuple[str, ...]:
    """Names that an ELF file for glibc leaves open, and that no library promised when it was linked: they have no version.

    CPython's are open on purpose. musl has no versions, so nothing can be said there.
    """
    elf = ELFFile(io.BytesIO(data))
    versions: Any = elf.get_section_by_name(".gnu.version")
    symbols: Any = elf.get_section_by_name(".dynsym")
    if versions is None or symbols is None:
        return ()
    words = versions.data()
    order = "<" if elf.little_endian else ">"
    numbers = struct.unpack(f"{order}{len(words) // 2}H", words)
    return tuple(
        symbol.name for symbol, number in zip(symbols.iter_symbols(), numbers, strict=False)
        if number & 0x7FFF <= _VER_NDX_GLOBAL
        and symbol["st_shndx"] == "SHN_UNDEF" and symbol["st_info"]["bind"] == "STB_GLOBAL"
        and not symbol.name.startswith(_CPYTHON)
    )  # fmt: skip


def _libc(native: Native) -> Libc | None:
    if native.format is not Format.ELF:
        return None
    if _GLIBC in native.needed or "glibc" in native.floor:
        return Libc.GNU
    return Libc.MUSL if any(name.startswith("libc.musl-") for name in native.needed) else None
