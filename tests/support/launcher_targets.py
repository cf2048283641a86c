"""The launcher for every row of targets.toml, compiled and linked with the real zig, and what its bytes must say.

A check is a function whose docstring states the claim. Every row is run through all checks of its format; the default
suite does one row per format, and `nox -s e2e -- launcher` the others (docs/adr/0009-launcher-toolchain.md).
"""

from __future__ import annotations

import atexit
import functools
import hashlib
import io
import os
import shutil
import struct
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from elftools.elf.elffile import ELFFile

from ferryman_build.cmd import Runner
from ferryman_build.errors import PackageIndexError, ResolutionError
from ferryman_build.inspect.elf import read_elf
from ferryman_build.inspect.macho import read_macho
from ferryman_build.inspect.native import Native, version_key
from ferryman_build.inspect.pe import read_pe
from ferryman_build.interpreter import Headers, find_headers, find_interpreter
from ferryman_build.targets import Os, Target, all_targets, parse_target
from ferryman_build.toolchain import (
    SOURCES,
    Toolchain,
    compile_launcher,
    link_launcher,
    open_toolchain,
    prepare,
    read_recipe,
    zig_lock,
)

ROOT = Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache" / "launcher-targets"
DEFAULT = ("linux-amd64", "windows-amd64", "darwin-arm64")
OTHERS = tuple(target.id for target in all_targets() if target.id not in DEFAULT)
PAYLOAD = b"FERRYMAN" + bytes(range(256)) * 23 + b"the end"
PYTHON = "3.11"

# Without a payload, in bytes. Issue 3 promises the first two; Mach-O pads each of its parts to 16 kB.
LIMITS = {Os.LINUX: 150_000, Os.WINDOWS: 250_000, Os.DARWIN: 250_000}
LOADERS = {
    "linux-amd64": "/lib64/ld-linux-x86-64.so.2",
    "linux-arm64": "/lib/ld-linux-aarch64.so.1",
    "linux-amd64-musl": "/lib/ld-musl-x86_64.so.1",
    "linux-arm64-musl": "/lib/ld-musl-aarch64.so.1",
    "linux-armv7": "/lib/ld-linux-armhf.so.3",
    "linux-riscv64": "/lib/ld-linux-riscv64-lp64d.so.1",
    "linux-s390x": "/lib/ld64.so.1",
    "linux-ppc64le": "/lib64/ld64.so.2",
}
LIBRARIES = {"libc.so.6", "libdl.so.2", "libpthread.so.0"}
# zig links its own guard there, a constant that strings cannot contain, in place of glibc's random one.
CONSTANT_GUARD = {"linux-armv7"}
DLLS = {"kernel32.dll", "advapi32.dll", "shell32.dll", "ucrtbase.dll"}


@dataclass(frozen=True, kw_only=True)
class Made:
    """The two programs of a target: without and with a payload, and the objects that they were linked from."""

    target: Target
    plain: Path
    full: Path
    objects: tuple[Path, ...]
    folder: Path


Check = Callable[[Made], None]


# --- making -----------------------------------------------------------------------------------------------------------


@functools.cache
def tools() -> tuple[Toolchain, Headers, Runner]:
    """The real toolchain, fetched once per lock into .cache/; skips where it cannot be fetched."""
    runner = Runner()
    interpreter = find_interpreter("", runner, CACHE / "interpreter")
    key = hashlib.sha256(f"{zig_lock()}{read_recipe().zstd.sha256}".encode()).hexdigest()[:16]
    folder = CACHE / key
    if not folder.is_dir():
        CACHE.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=CACHE))
        try:
            prepare(draft, interpreter, runner)
            draft.rename(folder)
        except (ResolutionError, PackageIndexError) as error:
            pytest.skip(f"the launcher's toolchain cannot be fetched: {error}")
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    headers = find_headers(interpreter, runner, CACHE / "interpreter")
    return open_toolchain(folder, CACHE / "zig"), headers, runner


@functools.cache
def make(target_id: str) -> Made:
    """Both programs of a target, made once per session."""
    folder = Path(tempfile.mkdtemp(prefix=f"ferryman-{target_id}-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make_in(folder, parse_target(target_id))


def make_in(folder: Path, target: Target, sources: Path = SOURCES, zstd: Path | None = None) -> Made:
    """Both programs of a target in ``folder``, from the given copies of the sources."""
    toolchain, headers, runner = tools()
    if zstd is not None:
        toolchain = Toolchain(zig=toolchain.zig, zstd=zstd, cache=toolchain.cache)
    objects = compile_launcher(
        toolchain, target, python=PYTHON, headers=headers, into=folder, runner=runner, sources=sources
    )
    payload = folder / "payload of a program"
    payload.write_bytes(PAYLOAD)
    plain, full = folder / f"plain{target.suffix}", folder / f"full{target.suffix}"
    link_launcher(toolchain, target, objects=objects, output=plain, runner=runner)
    link_launcher(toolchain, target, objects=objects, output=full, runner=runner, payload=payload)
    return Made(target=target, plain=plain, full=full, objects=objects, folder=folder)


def rows(targets: Iterable[str]) -> list[Any]:
    """(target, check) for pytest.mark.parametrize."""
    return [
        pytest.param(name, check, id=f"{name}-{check.__name__}")
        for name in targets
        for check in (*EVERY, *BY_SYSTEM[parse_target(name).os])
    ]


def described(path: Path, target: Target) -> Native:
    """What Ferryman's own reader says."""
    reader = {Os.LINUX: read_elf, Os.WINDOWS: read_pe, Os.DARWIN: read_macho}[target.os]
    with path.open("rb") as file:
        return reader(path.name, file)


# --- every format -----------------------------------------------------------------------------------------------------


def architecture(made: Made) -> None:
    """The program is for the target's machine, and a loader takes it."""
    for path in (made.plain, made.full):
        native = described(path, made.target)
        assert (native.architectures, native.loadable) == ((made.target.arch,), True)


def size(made: Made) -> None:
    """It is small, and a payload adds itself and at most some padding."""
    plain, full = made.plain.stat().st_size, made.full.stat().st_size

    assert plain < LIMITS[made.target.os]
    padding = 0x8000 if made.target.os is Os.DARWIN else 0x1000
    assert len(PAYLOAD) <= full - plain <= len(PAYLOAD) + padding


def no_place(made: Made) -> None:
    """Nothing of the machine that it was made on is in it."""
    data = made.full.read_bytes()

    for place in (ROOT, CACHE, made.folder, Path.home(), tools()[0].zig.parent):
        assert os.fsencode(place) not in data
        assert str(place).encode("utf-16-le") not in data


def repeatable(made: Made) -> None:
    """The same sources in other folders give the same bytes, with and without a payload."""
    with tempfile.TemporaryDirectory(prefix="ferryman other é ") as name:
        other = Path(name)
        shutil.copytree(SOURCES, other / "c files")
        shutil.copytree(tools()[0].zstd, other / "decoder")
        again = make_in(other / "made", made.target, other / "c files", other / "decoder")

        assert [path.name for path in again.objects] == [path.name for path in made.objects]
        assert again.plain.read_bytes() == made.plain.read_bytes()
        assert again.full.read_bytes() == made.full.read_bytes()


def another_payload(made: Made) -> None:
    """Linking again with a payload that changed under the same name gives a program with the new one."""
    toolchain, _, runner = tools()
    payload, output = made.folder / "changing", made.folder / "changed"
    for content in (b"FERRYMAN one", b"FERRYMAN two"):
        payload.write_bytes(content)
        link_launcher(
            toolchain, made.target, objects=made.objects, output=output, runner=runner, payload=payload
        )
        assert output.read_bytes().count(content) == 1


def stack_protector(made: Made) -> None:
    """Functions with arrays on the stack are compiled with a guard, our own and the decoder's."""
    guarded = {path.name for path in made.objects if b"__stack_chk_fail" in path.read_bytes()}

    assert {"main.o", "unpack.o", "zstd-zstd_decompress_block.o"} <= guarded


EVERY: tuple[Check, ...] = (architecture, size, no_place, stack_protector, repeatable, another_payload)


# --- ELF --------------------------------------------------------------------------------------------------------------


def _elf(path: Path) -> Any:
    return ELFFile(io.BytesIO(path.read_bytes()))


def _tags(elf: Any) -> dict[str, list[Any]]:
    found: dict[str, list[Any]] = {}
    for tag in elf.get_section_by_name(".dynamic").iter_tags():
        found.setdefault(tag.entry.d_tag, []).append(tag.entry.d_val)
    return found


def elf_position_independent(made: Made) -> None:
    """It is a PIE, which the loader puts at an address of chance."""
    elf = _elf(made.plain)

    assert elf["e_type"] == "ET_DYN"
    assert _tags(elf)["DT_FLAGS_1"][0] & 0x08000000  # DF_1_PIE


def elf_relocations_are_read_only(made: Made) -> None:
    """RELRO with immediate binding: no table of function pointers stays writable. No text relocations."""
    elf = _elf(made.plain)
    tags = _tags(elf)

    assert any(segment["p_type"] == "PT_GNU_RELRO" for segment in elf.iter_segments())
    assert tags["DT_FLAGS"][0] & 0x8  # DF_BIND_NOW
    assert tags["DT_FLAGS_1"][0] & 0x1  # DF_1_NOW
    assert "DT_TEXTREL" not in tags
    assert not tags["DT_FLAGS"][0] & 0x4


def elf_nothing_is_writable_and_executable(made: Made) -> None:
    """Neither the stack nor any segment."""
    segments = list(_elf(made.full).iter_segments())

    assert [segment["p_flags"] for segment in segments if segment["p_type"] == "PT_GNU_STACK"] == [0x6]
    assert all(segment["p_flags"] & 3 != 3 for segment in segments if segment["p_type"] == "PT_LOAD")


def elf_loader(made: Made) -> None:
    """It asks for the loader that the target's systems have, and for no folder to search."""
    native = described(made.plain, made.target)

    assert (native.interpreter, native.search) == (LOADERS[made.target.id], ())


def elf_floor(made: Made) -> None:
    """No symbol is newer than the C library that the target's row promises."""
    floor = described(made.plain, made.target).floor

    if "glibc" in made.target.floor:
        assert version_key(floor["glibc"].version) <= version_key(made.target.floor["glibc"])
    else:
        assert floor == {}


def elf_libraries(made: Made) -> None:
    """It needs the C library and its parts: no compiler's runtime, no libpython."""
    needed = set(described(made.plain, made.target).needed)

    if "glibc" in made.target.floor:
        loader = LOADERS[made.target.id].rpartition("/")[2]
        assert {"libc.so.6"} <= needed <= LIBRARIES | {loader}
    else:
        assert needed == {"libc.so"}  # musl's loader takes this name for itself


def elf_checked_functions(made: Made) -> None:
    """The stack protector takes its secret from the C library, and glibc's checked functions are used where they are."""
    symbols = {symbol.name for symbol in _elf(made.plain).get_section_by_name(".dynsym").iter_symbols()}

    assert ("__stack_chk_fail" in symbols) == (made.target.id not in CONSTANT_GUARD)
    if "glibc" in made.target.floor:
        assert any(name.endswith("_chk") for name in symbols)


def elf_stripped(made: Made) -> None:
    """No symbol table, no debug information, no build id that would tell two links apart."""
    names = {section.name for section in _elf(made.full).iter_sections()}

    assert not names & {".symtab", ".note.gnu.build-id"}
    assert not [name for name in names if name.startswith(".debug")]


def elf_payload(made: Made) -> None:
    """The payload is a section that no loader maps; without a payload there is none."""
    elf = _elf(made.full)
    section = elf.get_section_by_name(".ferryman")

    assert section.data() == PAYLOAD
    assert not section["sh_flags"] & 0x2  # SHF_ALLOC
    start, end = section["sh_offset"], section["sh_offset"] + section["sh_size"]
    for segment in elf.iter_segments():
        assert segment["p_offset"] + segment["p_filesz"] <= start or segment["p_offset"] >= end
    assert _elf(made.plain).get_section_by_name(".ferryman") is None


ELF: tuple[Check, ...] = (
    elf_position_independent,
    elf_relocations_are_read_only,
    elf_nothing_is_writable_and_executable,
    elf_loader,
    elf_floor,
    elf_libraries,
    elf_checked_functions,
    elf_stripped,
    elf_payload,
)


# --- PE ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Pe:
    """The few fields of a PE file's headers that matter here."""

    flags: int
    subsystem: int
    characteristics: int
    sections: dict[str, tuple[int, int, int, int]]
    """name → size in memory, size in the file, offset in the file, flags"""


def read_headers(data: bytes) -> Pe:
    """From Microsoft's "PE Format"."""
    start = struct.unpack_from("<I", data, 60)[0] + 4
    count, size, flags = struct.unpack_from("<2xH12xHH", data, start)
    subsystem, characteristics = struct.unpack_from("<HH", data, start + 20 + 68)
    sections = {}
    for number in range(count):
        name, virtual, _, raw, offset, access = struct.unpack_from(
            "<8s4I12xI", data, start + 20 + size + 40 * number
        )
        sections[name.rstrip(b"\0").decode()] = (virtual, raw, offset, access)
    return Pe(flags=flags, subsystem=subsystem, characteristics=characteristics, sections=sections)


def pe_console(made: Made) -> None:
    """A console program for the oldest Windows of the row, or an older one."""
    native = described(made.plain, made.target)

    assert read_headers(made.plain.read_bytes()).subsystem == 3
    assert version_key(native.floor["windows"].version) <= version_key(made.target.floor["windows"])


def pe_hardened(made: Made) -> None:
    """An address of chance out of 64 bits, and data that is never executed."""
    found = read_headers(made.plain.read_bytes())

    wanted = {"high entropy": 0x20, "dynamic base": 0x40, "nx compatible": 0x100}
    assert [name for name, bit in wanted.items() if not found.characteristics & bit] == []
    assert not found.flags & 0x1  # relocations stripped: it could not be moved
    assert ".reloc" in found.sections


def pe_nothing_is_writable_and_executable(made: Made) -> None:
    """No section is both."""
    sections = read_headers(made.full.read_bytes()).sections

    assert [name for name, (*_, access) in sections.items() if access & 0xA0000000 == 0xA0000000] == []


def pe_libraries(made: Made) -> None:
    """Every DLL is a part of Windows 10."""
    needed = {name.lower() for name in described(made.plain, made.target).needed}

    assert needed
    assert [name for name in needed if name not in DLLS and not name.startswith("api-ms-win-crt-")] == []


def pe_payload(made: Made) -> None:
    """The payload is a section that is only read; without a payload there is none."""
    data = made.full.read_bytes()
    virtual, raw, offset, access = read_headers(data).sections[".fman"]

    assert data[offset : offset + virtual] == PAYLOAD
    assert raw >= virtual == len(PAYLOAD)
    assert access & 0xE0000000 == 0x40000000  # read, neither write nor execute
    assert ".fman" not in read_headers(made.plain.read_bytes()).sections


def pe_stripped(made: Made) -> None:
    """No symbol table behind the sections, no debug information in them."""
    data = made.full.read_bytes()
    start = struct.unpack_from("<I", data, 60)[0] + 4
    table, symbols = struct.unpack_from("<II", data, start + 8)

    assert (table, symbols) == (0, 0)
    assert not [name for name in read_headers(data).sections if name.startswith((".debug", "/"))]


PE: tuple[Check, ...] = (
    pe_console,
    pe_hardened,
    pe_nothing_is_writable_and_executable,
    pe_libraries,
    pe_payload,
    pe_stripped,
)


# --- Mach-O -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MachO:
    """Header flags, segments in their order, sections by name, and where the signature is."""

    flags: int
    segments: dict[str, tuple[int, int, int, int]]
    """name → offset, size in the file, highest and first protection"""
    sections: dict[str, tuple[int, int]]
    """segment,section → offset, size"""
    signature: tuple[int, int] | None


def read_commands(data: bytes) -> MachO:
    """From Apple's <mach-o/loader.h>."""
    count, _, flags = struct.unpack_from("<III", data, 16)
    segments, sections, signature, position = {}, {}, None, 32
    for _ in range(count):
        command, length = struct.unpack_from("<II", data, position)
        if command == 0x19:  # LC_SEGMENT_64
            name, offset, size, highest, first, inside = struct.unpack_from(
                "<16s16xQQiiI", data, position + 8
            )
            segments[_text(name)] = (offset, size, highest, first)
            for number in range(inside):
                section, segment, held, at = struct.unpack_from(
                    "<16s16s8xQI", data, position + 72 + 80 * number
                )
                sections[f"{_text(segment)},{_text(section)}"] = (at, held)
        elif command == 0x1D:  # LC_CODE_SIGNATURE
            signature = struct.unpack_from("<II", data, position + 8)
        position += length
    return MachO(flags=flags, segments=segments, sections=sections, signature=signature)


def _text(name: bytes) -> str:
    return name.rstrip(b"\0").decode()


@dataclass(frozen=True, kw_only=True)
class Signature:
    """A code directory (xnu's osfmk/kern/cs_blobs.h): what was signed, and the pages that do not match."""

    flags: int
    limit: int
    wrong: tuple[int, ...]


def read_signature(data: bytes, offset: int) -> Signature:
    """Hash every page again and compare it with the signature's list."""
    magic, _, count = struct.unpack_from(">III", data, offset)
    assert magic == 0xFADE0CC0
    index = [struct.unpack_from(">II", data, offset + 12 + 8 * number) for number in range(count)]
    start = offset + next(at for slot, at in index if slot == 0)
    magic, _, _, flags, hashes, _, _, slots, limit = struct.unpack_from(">9I", data, start)
    width, kind, _, shift = struct.unpack_from(">4B", data, start + 36)
    assert (magic, width, kind) == (0xFADE0C02, 32, 2)  # SHA-256
    page = 1 << shift
    assert slots == -(-limit // page)
    wrong = [
        number
        for number in range(slots)
        if hashlib.sha256(data[number * page : min(limit, (number + 1) * page)]).digest()
        != data[start + hashes + 32 * number : start + hashes + 32 * number + 32]
    ]
    return Signature(flags=flags, limit=limit, wrong=tuple(wrong))


def macho_minimum(made: Made) -> None:
    """It starts on the macOS of the row."""
    for path in (made.plain, made.full):
        assert described(path, made.target).floor["macos"].version == made.target.floor["macos"]


def macho_libraries(made: Made) -> None:
    """It needs libSystem alone."""
    assert described(made.plain, made.target).needed == ("/usr/lib/libSystem.B.dylib",)


def macho_hardened(made: Made) -> None:
    """Position independent, the stack guard is the system's, and no segment is both writable and executable."""
    data = made.full.read_bytes()
    found = read_commands(data)

    assert found.flags & 0x200000  # MH_PIE
    assert b"___stack_chk_guard" in data
    assert [name for name, (*_, first) in found.segments.items() if first & 6 == 6] == []


def macho_payload(made: Made) -> None:
    """The payload is a section of a segment of its own, before the part that signatures live in."""
    data = made.full.read_bytes()
    found = read_commands(data)
    offset, size = found.sections["__FERRYMAN,__payload"]

    assert data[offset : offset + size] == PAYLOAD
    assert list(found.segments)[-1] == "__LINKEDIT"
    assert "__FERRYMAN" not in read_commands(made.plain.read_bytes()).segments


def macho_signature(made: Made) -> None:
    """On arm64, where macOS runs nothing unsigned, the ad-hoc signature covers all pages, those of the payload too."""
    for path in (made.plain, made.full):
        data = path.read_bytes()
        found = read_commands(data).signature
        if made.target.arch != "arm64":
            assert found is None  # zig signs for arm64 alone; x86_64 needs none until it is notarised
            continue
        assert found is not None
        signature = read_signature(data, found[0])
        assert signature.flags & 0x2  # ad hoc
        assert (signature.wrong, signature.limit) == ((), found[0])
        if path == made.full:  # the reading above notices one changed byte
            at = data.index(PAYLOAD)
            changed = data[:at] + b"f" + data[at + 1 :]
            assert len(read_signature(changed, found[0]).wrong) == 1


MACHO: tuple[Check, ...] = (
    macho_minimum,
    macho_libraries,
    macho_hardened,
    macho_payload,
    macho_signature,
)
BY_SYSTEM = {Os.LINUX: ELF, Os.WINDOWS: PE, Os.DARWIN: MACHO}
