"""describe: what `ferryman inspect` prints of wheels, bytecode and executables of Ferryman's, and its JSON."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import msgspec
import pytest

from ferryman_build.cache import Blobs
from ferryman_build.errors import InspectError
from ferryman_build.inspect import Description, describe, render, to_json
from ferryman_build.inspect.onefile import payload_members
from ferryman_build.wrap.payload import PayloadFile, PayloadInfo, write_payload
from support.elf_factory import ALLOC, PROGBITS, STRTAB, make_elf, make_library
from support.x86_decoder import READS_X86

NEEDY = make_library(needed=("libc.so.6",), versions=(("GLIBC_2.31", 0),))


@pytest.fixture
def payload(tmp_path: Path) -> bytes:
    """A payload with a library, a text, and a link."""
    for name, content in (("lib.so", NEEDY), ("note.txt", b"hello")):
        (tmp_path / name).write_bytes(content)
    files = [
        PayloadFile("_internal/lib.so", 0o755, tmp_path / "lib.so", "", "a"),
        PayloadFile("_internal/note.txt", 0o644, tmp_path / "note.txt", "", "a"),
        PayloadFile("_internal/link", 0o777, None, "lib.so", "a"),
    ]
    output = tmp_path / "payload"
    write_payload(files, PayloadInfo(name="agent", version="1"), output, Blobs(tmp_path / "blobs"))
    return output.read_bytes()


def elf_with(payload: bytes) -> bytes:
    return make_elf((
        (".dynstr", STRTAB, ALLOC, b"\0", "", 0), (".text", PROGBITS, ALLOC | 4, b"\xc3", "", 0),
        (".ferryman", PROGBITS, 0, payload, "", 0),
    ))  # fmt: skip


def pe_with(payload: bytes) -> bytes:
    """A PE32+ head with one section, .fman; nothing else in it is read here."""
    head = b"MZ".ljust(60, b"\0") + struct.pack("<I", 64) + b"PE\0\0"
    coff = struct.pack("<HHIIIHH", 0x8664, 1, 0, 0, 0, 112 + 128, 0x22)
    optional = bytearray(112 + 128)
    optional[:2], optional[108:112] = b"\x0b\x02", struct.pack("<I", 16)
    section = b".fman\0\0\0" + struct.pack("<IIII", len(payload), 0x1000, len(payload), 1024) + bytes(16)
    return (head + coff + bytes(optional) + section).ljust(1024, b"\0") + payload


def macho_with(payload: bytes) -> bytes:
    section = struct.pack("<16s16sQQIIIIIIII", b"__payload", b"__FERRYMAN", 0, len(payload), 1024, *([0] * 7))
    segment = struct.pack("<16sQQQQIIII", b"__FERRYMAN", 0, 0, 0, 0, 1, 1, 1, 0)
    body = struct.pack("<II", 0x19, 72 + 80) + segment + section
    head = b"\xcf\xfa\xed\xfe" + struct.pack("<IIIIIII", 0x0100000C, 0, 2, 1, len(body), 0, 0)
    return (head + body).ljust(1024, b"\0") + payload


@pytest.mark.parametrize(("made", "arch"), [(elf_with, "amd64"), (pe_with, "amd64"), (macho_with, "arm64")])
def test_an_executable_of_ours(made: object, arch: str, payload: bytes, tmp_path: Path) -> None:
    """What is packed into it is measured with it, in every format."""
    path = tmp_path / "agent"
    path.write_bytes(made(payload))  # type: ignore[operator]
    description = describe(path)
    assert description.form.endswith(f"{arch} executable with 2 files packed into it")
    assert "_internal/lib.so" in {native.name for native in description.natives}
    assert description.needs.floor["glibc"] == "2.31"
    assert "needs glibc 2.31: GLIBC_2.31 (puts) in _internal/lib.so" in render(description)


@pytest.mark.parametrize("made", [elf_with, pe_with, macho_with])
def test_a_damaged_payload_is_said(made: object, payload: bytes, tmp_path: Path) -> None:
    """A program whose packed files are damaged is no program without packed files."""
    path = tmp_path / "agent"
    damaged = bytearray(payload)
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(made(bytes(damaged)))  # type: ignore[operator]
    with pytest.raises(InspectError, match="damaged"):
        describe(path)


def test_what_is_none_of_ours(tmp_path: Path) -> None:
    """Other programs, other files and a section of that name with something else in it have no payload."""
    path = tmp_path / "x"
    for content in (make_library(), b"hello", elf_with(b"something else")):
        path.write_bytes(content)
        assert payload_members(path) is None


def test_wheel_and_bytecode(tmp_path: Path) -> None:
    """Both are named for what they are; paths in bytecode are told."""
    wheel = tmp_path / "x-1-py3-none-any.whl"
    code = b"\xa7\r\r\n" + bytes(12) + b"\xda\x0a/a/b/cc.py"
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("x/_x.so", NEEDY)
        archive.writestr("x/m.pyc", code)
    described = describe(wheel)
    assert described.form == "wheel"
    assert described.sources == {"x/m.pyc": "/a/b/cc.py"}
    assert "bytecode names its source: /a/b/cc.py in x/m.pyc" in render(described)
    module = tmp_path / "m.pyc"
    module.write_bytes(code)
    assert describe(module).form == "Python bytecode"


@READS_X86
def test_one_file_tells_everything(tmp_path: Path) -> None:
    """A single library: C library, floor, level, what it needs, and what is wrong with it."""
    path = tmp_path / "lib.so"
    path.write_bytes(NEEDY)
    text = render(describe(path))
    for part in (
        "lib.so: ELF amd64",
        "lib.so (amd64, glibc, glibc 2.31, x86-64-v1)",
        "executable stack (no PT_GNU_STACK)",
    ):
        assert part in text


def test_json(payload: bytes, tmp_path: Path) -> None:
    """It is the description, whole, with kebab-case names."""
    path = tmp_path / "agent"
    path.write_bytes(elf_with(payload))
    description = describe(path)
    text = to_json(description)
    assert text.endswith("}\n")
    assert msgspec.json.decode(text, type=Description) == description
