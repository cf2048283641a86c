"""musl's C library under its own name in a linked ELF file.

zig links against a stub that calls itself libc.so. musl's loader takes that for itself, but musllinux wheels (PEP 656)
name libc.musl-ARCH.so.1, which tools know and which no glibc system has. The linker was asked for a SONAME of that
word, so that it stands among the file's strings; here the entry that needs libc.so is given that string, and the
SONAME, which an extension does not have, is taken out. The file keeps its size and all its offsets.

Source: System V ABI, chapter 5, "Dynamic Section": entries of two words, ended by DT_NULL.
"""

from __future__ import annotations

import io
import struct
from typing import Any

from elftools.elf.elffile import ELFFile

_NEEDED, _SONAME = 1, 14
_STUB = "libc.so"


def name_musl(data: bytes, library: str) -> bytes:
    """``data`` with ``library`` needed in place of zig's stub.

    Raises:
        ValueError: the file has no SONAME of that word, or does not need the stub.
    """
    section: Any = ELFFile(io.BytesIO(data)).get_section_by_name(".dynamic")
    if section is None:
        raise ValueError("there is no dynamic section")
    order = "<" if section.elffile.little_endian else ">"
    layout = struct.Struct(order + ("qQ" if section.elffile.elfclass == 64 else "iI"))
    start, end = section["sh_offset"], section["sh_offset"] + section["sh_size"]
    entries = [layout.unpack_from(data, at) for at in range(start, end, layout.size)]
    names = {tag.entry.d_tag: tag for tag in section.iter_tags()}
    if "DT_SONAME" not in names or names["DT_SONAME"].soname != library:
        raise ValueError(f"the file is not called {library}")
    kept = _renamed(entries, _stub(section), names["DT_SONAME"].entry.d_val)
    table = b"".join(layout.pack(*entry) for entry in kept)
    return data[:start] + table.ljust(end - start, b"\0") + data[end:]


def _stub(section: Any) -> int:
    """Where the stub's name stands among the strings."""
    for tag in section.iter_tags("DT_NEEDED"):
        if tag.needed == _STUB:
            return int(tag.entry.d_val)
    raise ValueError(f"the file does not need {_STUB}")


def _renamed(entries: list[tuple[int, int]], stub: int, library: int) -> list[tuple[int, int]]:
    kept = [entry for entry in entries if entry[0] != _SONAME]
    return [(_NEEDED, library) if entry == (_NEEDED, stub) else entry for entry in kept]
