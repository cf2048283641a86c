"""Wheels and native files of a few bytes, for tests of what reads, compares and finishes wheels."""

from __future__ import annotations

import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

from support.elf_factory import make_library

AMD64, ARM64 = "amd64", "arm64"
_ELF = {AMD64: 62, ARM64: 183}
_PE = {AMD64: 0x8664, ARM64: 0xAA64}
_MACHO = {AMD64: 0x01000007, ARM64: 0x0100000C}


def elf(arch: str = AMD64, *, needed: tuple[str, ...] = ("libc.so.6",), glibc: str = "2.17") -> bytes:
    """A shared library for glibc; other ``needed`` make it one of something else, and glibc "" one without versions."""
    versions = ((f"GLIBC_{glibc}", 0),) if glibc else ()
    return make_library(needed=needed, versions=versions, machine=_ELF[arch])


def musl(arch: str = AMD64, *, machine: str = "x86_64") -> bytes:
    """As zig links it: the stub is needed, and the real name is the library's own."""
    name = f"libc.musl-{machine}.so.1"
    return make_library(needed=("libc.so",), soname=name, symbol="PyInit_x", machine=_ELF[arch])


def pe(arch: str = AMD64) -> bytes:
    """A Windows library without imports."""
    optional = struct.pack("<H", 0x20B).ljust(112, b"\0") + bytes(16 * 8)
    coff = struct.pack("<HHIIIHH", _PE[arch], 0, 0, 0, 0, len(optional), 0x2022)
    return b"MZ".ljust(60, b"\0") + struct.pack("<I", 64) + b"PE\0\0" + coff + optional


def macho(arch: str = ARM64) -> bytes:
    """A macOS library without load commands."""
    return struct.pack("<8I", 0xFEEDFACF, _MACHO[arch], 0, 6, 0, 0, 0, 0)


def metadata(name: str = "plover", version: str = "1.2.0", more: str = "") -> bytes:
    """METADATA with a description."""
    return f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\n{more}\nA bird.\n".encode()


def wheel(
    folder: Path, tags: str, members: Mapping[str, bytes], *, inside: str = "", stem: str = "plover-1.2.0"
) -> Path:
    """``folder``/STEM-TAGS.whl; ``inside`` are the tags that its WHEEL file says when they are others."""
    python, abi, platform = (inside or tags).split("-")
    lines = [f"Tag: {python}-{abi}-{one}" for one in platform.split(".")]
    about = "\n".join(["Wheel-Version: 1.0", "Generator: a test", "Root-Is-Purelib: false", *lines, ""])
    info = f"{stem}.dist-info"
    files = {
        f"{info}/METADATA": metadata(),
        **members,
        f"{info}/WHEEL": about.encode(),
        f"{info}/RECORD": b"as it was\n",
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{stem}-{tags}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path
