"""What an executable of Ferryman's has packed into it, without starting it."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.construct import ConstructError
from elftools.elf.elffile import ELFFile

from ferryman_build.errors import InspectError
from ferryman_build.inspect.formats import sniff
from ferryman_build.inspect.macho import slices
from ferryman_build.inspect.macho_code import commands
from ferryman_build.inspect.members import Member
from ferryman_build.inspect.native import Format
from ferryman_build.wrap.payload import MAGIC, read_payload

# The section's name in each format, as resources/toolchain.toml has it.
_ELF, _PE, _MACHO = ".ferryman", b".fman", (b"__payload", b"__FERRYMAN")


def payload_members(path: Path) -> list[Member] | None:
    """The files that the executable ``path`` unpacks, named as in the tree; None when it is none of ours.

    Raises:
        InspectError: it has a payload, and that is damaged.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        kind = sniff(file)
    if kind is None:
        return None
    try:
        section = next(iter(_sections(kind, path.read_bytes())), b"")
    except (ELFError, ConstructError, struct.error, LookupError, ValueError) as error:
        raise InspectError(
            f"{str(path)!r} is damaged: {error}.", advice="Build it again, or download it again."
        ) from error
    if not section.startswith(MAGIC):
        return None
    files = read_payload(section).unpack()
    return [_member(file.path, file.mode, content) for file, content in files if not file.link]


def _member(path: str, mode: int, content: bytes) -> Member:
    return Member(name=path, mode=mode & 0o7777, open=lambda: io.BytesIO(content))


def _sections(kind: Format, content: bytes) -> Iterator[bytes]:
    if kind is Format.ELF:
        section = ELFFile(io.BytesIO(content)).get_section_by_name(_ELF)
        if section is not None:
            yield section.data()
    elif kind is Format.PE:
        yield from _pe_sections(content)
    else:
        for _, part in slices(content):
            yield from _macho_sections(part)


def _pe_sections(content: bytes) -> Iterator[bytes]:
    start = struct.unpack_from("<I", content, 60)[0] + 4
    count, optional = struct.unpack_from("<2xH12xH", content, start)
    for number in range(count):
        name, size, raw_size, raw = struct.unpack_from(
            "<8sI4xII", content, start + 20 + optional + 40 * number
        )
        if name.rstrip(b"\0") == _PE:
            yield content[raw : raw + min(size, raw_size)]


def _macho_sections(part: bytes) -> Iterator[bytes]:
    for command, body in commands(part):
        if command == 0x19:  # LC_SEGMENT_64
            for number in range(struct.unpack_from("<I", body, 64)[0]):
                name, segment, size, offset = struct.unpack_from("<16s16s8xQI", body, 72 + 80 * number)
                if (name.rstrip(b"\0"), segment.rstrip(b"\0")) == _MACHO:
                    yield part[offset : offset + size]
