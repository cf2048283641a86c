"""ELF: needed libraries, symbol versions, search paths and what else the loader does, from headers and dynamic section.

Sources: System V ABI chapter 5, the LSB's description of symbol versioning (.gnu.version_r), and glibc's rule that a
program starts only where every version that it names is defined (elf/dl-version.c).
"""

from __future__ import annotations

import itertools
import posixpath
import struct
from collections.abc import Iterator
from typing import Any, BinaryIO

import msgspec
from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from ferryman_build.inspect.native import NOT_READABLE, Format, Native, Reason, Trait, higher

# (e_machine, bits, little endian) → Go's name of the architecture
ARCHITECTURES = {
    ("EM_X86_64", 64, True): "amd64",
    ("EM_AARCH64", 64, True): "arm64",
    ("EM_ARM", 32, True): "armv7",
    ("EM_386", 32, True): "386",
    ("EM_RISCV", 64, True): "riscv64",
    ("EM_S390", 64, False): "s390x",
    ("EM_PPC64", 64, True): "ppc64le",
}

# Versions that are no number: glibc defines them so that a file that uses a new loader feature is refused by an older
# loader with a message instead of crashing in it.
_ABI_VERSIONS = {"GLIBC_ABI_DT_RELR": "2.36", "GLIBC_ABI_GNU_TLS": "2.42", "GLIBC_ABI_GNU2_TLS": "2.42"}
_VER_FLG_WEAK = 2
_MOST_VERSION_BYTES = 1 << 20
_DF_TEXTREL = 4
_PF_X, _PF_W = 1, 2
# Where a file that does not say whether its stack may be executed gets one that may be (glibc's stackinfo.h).
_STACK_EXECUTABLE_BY_DEFAULT = frozenset({"amd64", "386", "armv7", "s390x", "riscv64"})


def read_elf(name: str, file: BinaryIO) -> Native:
    """Describe an ELF file.

    Raises:
        ValueError: the file begins like ELF and is not.
    """
    try:
        return _read(name, ELFFile(file))
    except (ELFError, ConstructError, struct.error, UnicodeDecodeError, LookupError, OverflowError,
            AttributeError, TypeError, AssertionError) as error:  # fmt: skip
        # pyelftools meets a damaged file with whatever its parser stumbles over.
        raise ValueError(f"{NOT_READABLE}ELF: {str(error) or type(error).__name__}") from error


def _read(name: str, elf: Any) -> Native:
    native = Native(
        name=name,
        format=Format.ELF,
        architectures=(architecture(elf),),
        loadable=elf["e_type"] in ("ET_EXEC", "ET_DYN"),
    )
    if not native.loadable:
        return native
    entries = _dynamic_entries(elf)
    sonames = entries.get("DT_SONAME", ())
    # Each of the two may hold several folders; the loader ignores DT_RPATH when there is a DT_RUNPATH (ld.so(8)).
    paths = entries.get("DT_RUNPATH") or entries.get("DT_RPATH") or ()
    floor, notes = _floor(name, elf, dynamic=bool(entries))
    needed, interpreter = entries.get("DT_NEEDED", ()), _interpreter(elf)
    return msgspec.structs.replace(
        native,
        needed=needed,
        provides=sonames[0] if sonames else "",
        search=tuple(folder for path in paths for folder in path.split(":")),
        interpreter=interpreter,
        libc=_libc((*needed, interpreter), glibc="glibc" in floor),
        versions=_other_versions(name, elf),
        traits=_traits(elf, entries),
        floor=floor,
        notes=notes,
    )


def architecture(elf: Any) -> str:
    """Go's name for the file's machine, or the ABI's words for it."""
    key = (elf["e_machine"], elf.elfclass, elf.little_endian)
    order = "little" if elf.little_endian else "big"
    return ARCHITECTURES.get(key) or f"{key[0]}, {key[1]} bits, {order} endian"


def _dynamic_entries(elf: Any) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for segment in elf.iter_segments("PT_DYNAMIC"):
        for tag in segment.iter_tags():
            kind = tag.entry.d_tag
            if kind == "DT_NEEDED":
                found[kind] = (*found.get(kind, ()), tag.needed)
            elif kind == "DT_SONAME":
                found[kind] = (tag.soname,)
            elif kind == "DT_RPATH":
                found[kind] = (tag.rpath,)
            elif kind == "DT_RUNPATH":
                found[kind] = (tag.runpath,)
            elif kind == "DT_TEXTREL" or (kind == "DT_FLAGS" and tag.entry.d_val & _DF_TEXTREL):
                found["DT_TEXTREL"] = ()
        found.setdefault("PT_DYNAMIC", ())
    return found


def _interpreter(elf: Any) -> str:
    for segment in elf.iter_segments("PT_INTERP"):
        return str(segment.get_interp_name())
    return ""


def _libc(names: tuple[str, ...], *, glibc: bool) -> str:
    found = [posixpath.basename(name) for name in names]
    if any(name == "libc.so" or name.startswith(("libc.musl-", "ld-musl-")) for name in found):
        return "musl"
    return (
        "glibc" if glibc or any(name == "libc.so.6" or name.startswith("ld-linux") for name in found) else ""
    )


def _traits(elf: Any, entries: dict[str, tuple[str, ...]]) -> dict[Trait, str]:
    found: dict[Trait, str] = {}
    if "DT_TEXTREL" in entries:
        found[Trait.TEXT_RELOCATIONS] = _text_relocation(elf)
    stacks = [segment["p_flags"] for segment in elf.iter_segments("PT_GNU_STACK")]
    if any(flags & _PF_X for flags in stacks):
        found[Trait.EXECUTABLE_STACK] = "PT_GNU_STACK asks for it"
    elif not stacks and architecture(elf) in _STACK_EXECUTABLE_BY_DEFAULT:
        found[Trait.EXECUTABLE_STACK] = "no PT_GNU_STACK"
    return found


def _text_relocation(elf: Any) -> str:
    """The first relocation that the loader writes into a segment that is not writable."""
    fixed = [
        (segment["p_vaddr"], segment["p_vaddr"] + segment["p_filesz"])
        for segment in elf.iter_segments("PT_LOAD")
        if not segment["p_flags"] & _PF_W
    ]
    for kind in ("SHT_REL", "SHT_RELA"):
        for section in elf.iter_sections(kind):
            symbols = elf.get_section(section["sh_link"])
            for relocation in section.iter_relocations():
                at, number = relocation["r_offset"], relocation["r_info_sym"]
                if any(low <= at < high for low, high in fixed):
                    name = symbols.get_symbol(number).name if number else ""
                    return name or f"the relocation at {at:#x}"
    return "DT_TEXTREL"


def _other_versions(name: str, elf: Any) -> dict[str, Reason]:
    """The highest version that is asked of the compiler's libraries, by prefix; weak ones do not count."""
    found: dict[str, Reason] = {}
    for library, version in _wanted_versions(elf):
        prefix, _, number = version.name.partition("_")
        if prefix in ("GLIBCXX", "CXXABI", "GCC") and number[:1].isdigit():
            found[prefix] = higher(found.get(prefix), Reason(number, name, version.name, library.name))
    return found


def _wanted_versions(elf: Any) -> Iterator[tuple[Any, Any]]:
    """(library, version) of every version that the loader insists on; a missing weak one is only a warning."""
    for section in elf.iter_sections("SHT_GNU_verneed"):
        # A record has 16 bytes. More of them than fit are a damaged file that leads in circles.
        left = min(section["sh_size"], _MOST_VERSION_BYTES) // 16
        for library, versions in itertools.islice(section.iter_versions(), left):
            for version in itertools.islice(versions, left):
                left -= 1
                if not version.entry.vna_flags & _VER_FLG_WEAK:
                    yield library, version


def _floor(name: str, elf: Any, *, dynamic: bool) -> tuple[dict[str, Reason], tuple[str, ...]]:
    if dynamic and not elf.num_sections():
        return {}, ("symbol versions not measured: the file has no section headers",)
    best: Reason | None = None
    notes: list[str] = []
    index = -1
    for label, number in _glibc_versions(elf):
        if label == "GLIBC_PRIVATE":
            notes.append("uses private symbols of glibc (GLIBC_PRIVATE), which change without notice")
            continue
        version = _ABI_VERSIONS.get(label, label.removeprefix("GLIBC_"))
        chosen = higher(best, Reason(version, name, label))
        if chosen is not best:
            best, index = chosen, number
    if best is None:
        return {}, tuple(notes)
    symbol = _symbol(elf, index)
    return {"glibc": Reason(best.version, name, best.label, symbol)}, tuple(notes)


def _glibc_versions(elf: Any) -> list[tuple[str, int]]:
    """(label, index in .gnu.version) of every glibc version that the loader insists on."""
    return [
        (version.name, version.entry.vna_other)
        for _, version in _wanted_versions(elf)
        if version.name.startswith("GLIBC_")
    ]


def _symbol(elf: Any, version: int) -> str:
    """The first dynamic symbol that carries the version with this index, "" when none does."""
    order = "<" if elf.little_endian else ">"
    for section in elf.iter_sections("SHT_GNU_versym"):
        data = section.data()
        numbers = struct.unpack(f"{order}{len(data) // 2}H", data)
        symbols = elf.get_section(section["sh_link"])
        for index, number in enumerate(numbers):
            if number & 0x7FFF == version:
                return str(symbols.get_symbol(index).name)
    return ""
