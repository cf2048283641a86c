"""strip_elf: what the loader maps survives byte for byte, everything else goes, and doubt means "leave it alone"."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from hypothesis import given, settings
from hypothesis import strategies as st

from ferryman_build.inspect.elf_strip import strip_elf
from support.elf_factory import ALLOC, ATTRIBUTES, PROGBITS, RELA, ROWS, make_elf


def allocated(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Offset and bytes of each allocated section, read by another implementation than the one under test."""
    elf = ELFFile(io.BytesIO(data))
    kept = [s for s in elf.iter_sections() if s["sh_flags"] & ALLOC and s["sh_type"] != "SHT_NOBITS"]
    return {s.name: (s["sh_offset"], s.data()) for s in kept}


def mapped(data: bytes) -> list[tuple[dict[str, int], bytes]]:
    """Program headers and their bytes; the ELF header itself is mapped too and is the one thing that may differ."""
    elf = ELFFile(io.BytesIO(data))
    skip = elf.header["e_ehsize"]
    return [(dict(s.header), data[max(skip, s["p_offset"]) : s["p_offset"] + s["p_filesz"]])
            for s in elf.iter_segments()]  # fmt: skip


@pytest.mark.parametrize("bits", [32, 64])
@pytest.mark.parametrize("order", ["<", ">"])
def test_every_class_and_byte_order(bits: int, order: str) -> None:
    """ELF32 and ELF64, little and big endian: only the allocated sections remain, unmoved, with right links."""
    data = make_elf(bits=bits, order=order)
    out = strip_elf(data)
    assert len(out) < len(data) - 700
    assert allocated(out) == allocated(data)
    assert mapped(out) == mapped(data)
    elf = ELFFile(io.BytesIO(out))
    assert [s.name for s in elf.iter_sections()] == [
        "", ".dynstr", ".dynsym", ".text", ".rela.plt", ".shstrtab",
    ]  # fmt: skip
    assert elf.get_section(2)["sh_link"] == 1
    assert elf.get_section(2)["sh_info"] == 1
    assert (elf.get_section(4)["sh_link"], elf.get_section(4)["sh_info"]) == (2, 3)


def test_index_of_a_section_never_changes() -> None:
    """Dynamic symbols name sections by index: a dropped one in the middle leaves an empty header behind."""
    rows = (*ROWS[:2], (".comment", PROGBITS, 0, b"c" * 100, "", 0), ROWS[2], *ROWS[4:5], *ROWS[6:])
    out = ELFFile(io.BytesIO(strip_elf(make_elf(rows))))
    assert out.get_section_index(".text") == 4
    assert out.get_section(3)["sh_type"] == "SHT_NULL"


def test_link_to_a_dropped_section_becomes_zero() -> None:
    """A static executable's .rela.plt may point at .symtab, which is gone afterwards."""
    rows = (ROWS[2], (".rela.plt", RELA, ALLOC, bytes(24), ".symtab", 0), *ROWS[4:])
    out = ELFFile(io.BytesIO(strip_elf(make_elf(rows, kind=2))))
    assert out.get_section_by_name(".rela.plt")["sh_link"] == 0


def test_attributes_move_up() -> None:
    """.ARM.attributes is not mapped, but linkers read it: it is carried along behind the mapped bytes."""
    rows = (*ROWS[:3], ROWS[4], (".ARM.attributes", ATTRIBUTES, 0, b"A\x2a\0\0\0aeabi", "", 0), *ROWS[6:])
    data = make_elf(rows, bits=32, machine=40)
    out = strip_elf(data)
    assert ELFFile(io.BytesIO(out)).get_section_by_name(".ARM.attributes").data() == b"A\x2a\0\0\0aeabi"
    assert len(out) < len(data) - 500
    assert strip_elf(out) == out


def _with(data: bytes, at: int, patch: bytes) -> bytes:
    return data[:at] + patch + data[at + len(patch) :]


GOOD = make_elf()
ODD = {
    "not ELF": b"#!/bin/sh\n" * 30,
    "empty": b"",
    "shorter than a header": GOOD[:40],
    "an object file (ET_REL)": make_elf(kind=1),
    "a core dump": make_elf(kind=4),
    "an appended archive": make_elf(tail=b"PK\3\4" + bytes(100)),
    "even one appended byte": make_elf(tail=b"\0"),
    "a payload section (PyInstaller's pydata)": make_elf(
        (*ROWS[:4], ("pydata", PROGBITS, 0, b"MEI" * 90, "", 0), *ROWS[4:])
    ),
    "cut off in the section headers": GOOD[:-10],
    "cut off in the sections": GOOD[:300],
    "no section headers": _with(GOOD, 60, b"\0\0"),
    "names in no section": _with(GOOD, 62, b"\xff\xff"),
    "sections of an unknown size": _with(GOOD, 58, b"\x41\0"),
    "byte order 3": _with(GOOD, 5, b"\3"),
    "a segment beyond the end (a .debug file)": _with(GOOD, 64 + 32, struct.pack("<Q", 1 << 20)),
    "no bytes in any segment": _with(GOOD, 64 + 32, bytes(8)),
}


@pytest.mark.parametrize("what", ODD)
def test_doubt_changes_nothing(what: str) -> None:
    """Whatever is not plainly understood comes back as it was."""
    assert strip_elf(ODD[what]) is ODD[what]


def test_bytes_hidden_between_sections_are_not_ours() -> None:
    """Data that no header knows, in front of the section headers, is kept by keeping the whole file."""
    at = struct.unpack_from("<Q", GOOD, 40)[0]
    hidden = GOOD[:at] + b"payload!" + GOOD[at:]
    hidden = _with(hidden, 40, struct.pack("<Q", at + 8))
    assert strip_elf(hidden) is hidden
    assert strip_elf(hidden.replace(b"payload!", bytes(8))) != hidden  # zeros are padding


@settings(max_examples=200, deadline=None)
@given(st.integers(0, len(GOOD) - 1), st.integers(0, 255))
def test_damage_never_raises(at: int, value: int) -> None:
    """One wrong byte anywhere: no exception, never longer, and stripping stays idempotent."""
    once = strip_elf(_with(GOOD, at, bytes([value])))
    assert len(once) <= len(GOOD)
    assert strip_elf(once) == once


CONTENT = st.binary(max_size=90)
ALLOCATED = st.lists(CONTENT, min_size=1, max_size=5)
OTHERS = st.lists(
    st.tuples(st.sampled_from([".debug_str", ".comment", ".gnu_debuglink"]), CONTENT), max_size=4
)


@settings(max_examples=100, deadline=None)
@given(ALLOCATED, OTHERS, st.sampled_from([32, 64]), st.sampled_from("<>"))
def test_allocated_bytes_are_identical(
    kept: list[bytes], dropped: list[tuple[str, bytes]], bits: int, order: str
) -> None:
    """For any mixture of sections: the mapped bytes and their offsets stay, and twice is once."""
    rows = (
        *((f".a{number}", PROGBITS, ALLOC, content, "", 0) for number, content in enumerate(kept)),
        *((name, PROGBITS, 0, content, "", 0) for name, content in dropped),
    )
    data = make_elf(tuple(rows), bits=bits, order=order)
    out = strip_elf(data)
    assert allocated(out) == allocated(data)
    assert mapped(out) == mapped(data)
    assert len(out) <= len(data)
    assert strip_elf(out) == out


# --- real libraries of this machine ---


def _library_with_python() -> Path:
    return Path(sysconfig.get_config_var("LIBDIR") or "/", sysconfig.get_config_var("INSTSONAME") or "-")


def real_libraries() -> list[Path]:
    """libpython, every extension module of the standard library, and the libraries that they pull in."""
    if sys.platform != "linux":
        return []
    import _ctypes
    import _ssl

    with open("/proc/self/maps", encoding="utf-8") as maps:
        loaded = {Path(line.split()[-1]) for line in maps if ".so" in line and "(deleted)" not in line}
    modules = [Path(module.__file__) for module in (_ssl, _ctypes) if getattr(module, "__file__", None)]
    found = {*loaded, *modules, _library_with_python(), Path(sys.executable).resolve()}
    return sorted(path for path in found if path.is_file())


def _readelf_complaints(path: Path) -> list[str]:
    done = subprocess.run(["readelf", "-aW", str(path)], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).splitlines()
    return [line for line in lines if line.lower().startswith(("readelf:", "warning:", "error:"))]


def _need_binutils() -> None:
    if not (shutil.which("strip") and shutil.which("readelf")):
        pytest.skip(
            "NOT TESTED: binutils (strip, readelf) is missing, so nothing was compared with GNU strip"
        )


@pytest.mark.skipif(sys.platform != "linux", reason="ELF libraries of the host are a Linux matter")
@pytest.mark.parametrize("path", real_libraries(), ids=lambda path: path.name)
def test_like_gnu_strip(path: Path, tmp_path: Path) -> None:
    """Real libraries: no complaint by readelf that the original does not cause, as small as `strip -s`."""
    _need_binutils()
    data = path.read_bytes()
    out = strip_elf(data)
    ours, gnu = tmp_path / "ours", tmp_path / "gnu"
    ours.write_bytes(out)
    subprocess.run(["strip", "-s", "-o", str(gnu), str(path)], check=True)
    assert len(out) <= gnu.stat().st_size * 1.01
    assert len(out) >= gnu.stat().st_size * 0.8  # smaller by much would mean that something needed is gone
    assert set(_readelf_complaints(ours)) <= set(_readelf_complaints(path))
    assert allocated(out) == allocated(data)
    assert mapped(out) == mapped(data)
    assert strip_elf(out) == out


@pytest.mark.skipif(sys.platform != "linux", reason="ELF libraries of the host are a Linux matter")
def test_stripped_libraries_load(tmp_path: Path) -> None:
    """An interpreter whose libpython, _ssl, libssl and _ctypes are stripped starts and computes."""
    stripped = 0
    for path in real_libraries():
        if path.name.startswith(("ld-", "libc.so", "libc-")) or ".so" not in path.name:
            continue
        data = path.read_bytes()
        out = strip_elf(data)
        stripped += out != data
        (tmp_path / path.name).write_bytes(out)
    assert stripped
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import _ssl, _ctypes, ctypes, hashlib, ssl\n"
        "assert ssl.create_default_context() and ctypes.CDLL(None).getpid() > 0\n"
        "print(open('/proc/self/maps').read())"
    )
    command = [sys.executable, "-I", "-c", code, str(tmp_path)]
    env = {"LD_LIBRARY_PATH": str(tmp_path), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout  # it was really the copies that were loaded
