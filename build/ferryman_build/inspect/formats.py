"""From a file's first bytes to the reader that understands it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import BinaryIO

from ferryman_build.inspect.elf import read_elf
from ferryman_build.inspect.macho import is_macho, read_macho
from ferryman_build.inspect.native import Format, Native, NativeReader
from ferryman_build.inspect.pe import is_pe, read_pe

READERS: Mapping[Format, NativeReader] = {
    Format.ELF: read_elf,
    Format.PE: read_pe,
    Format.MACHO: read_macho,
}

MAGICS = (b"\x7fELF", b"MZ", b"\xca\xfe\xba\xbe", b"\xfe\xed\xfa", b"\xce\xfa\xed\xfe", b"\xcf\xfa\xed\xfe")
"""Enough of a file to say whether it is worth reading: every native format shows in its first bytes."""


def sniff(file: BinaryIO) -> Format | None:
    """The native format of ``file`` (open, seekable), None for everything else."""
    file.seek(0)
    head = file.read(8)
    if head[:4] == b"\x7fELF":
        return Format.ELF
    if head[:2] == b"MZ" and is_pe(file):
        return Format.PE
    return Format.MACHO if is_macho(head) else None


def read_native(name: str, file: BinaryIO) -> Native | None:
    """Describe ``file``, None when it is not native code.

    A file that is damaged is described as not loadable, with a note: whether that matters is for the caller.
    """
    kind = sniff(file)
    if kind is None:
        return None
    try:
        return READERS[kind](name, file)
    except ValueError as error:
        return Native(name=name, format=kind, architectures=(), loadable=False, notes=(str(error),))
