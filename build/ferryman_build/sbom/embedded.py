"""The SBOM that a program carries, without starting it: of a tree, an archive, a .pyz, either kind of one file."""

from __future__ import annotations

import io
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import IO

import msgspec

from ferryman_build.collect.pyinstaller import CONTENTS
from ferryman_build.errors import InspectError, UsageError
from ferryman_build.inspect.onefile import payload_members
from ferryman_build.wrap.launch import SBOM

LONGEST = 64_000_000
"""Bytes of a document; that of a large tree has a few millions. What is packed smaller may be a bomb."""

_IN_TREE = f"{CONTENTS}/{SBOM}"
_DAMAGED = (OSError, tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, struct.error, KeyError)

# PyInstaller's archive behind its bootloader: the note at its end, and a row of its list (network byte order).
_NOTE = struct.Struct("!8sIIII64s")
_NOTE_MAGIC = b"MEI\014\013\012\013\016"
_ROW = struct.Struct("!IIIIBc")


def embedded_sbom(path: Path) -> bytes:
    """The document in ``path``; a document itself is its own.

    Raises:
        UsageError: there is nothing at ``path``.
        InspectError: it has none in it, or cannot be read.
    """
    if not path.exists():
        raise UsageError(f"There is no {str(path)!r}.", advice="Name an existing file or folder.")
    try:
        found = next((content for read in _READERS if (content := read(path)) is not None), None)
    except _DAMAGED as error:
        raise InspectError(
            f"{str(path)!r} cannot be read: {error}.", advice="See that it is whole and that you may read it."
        ) from error
    if found is None:
        raise InspectError(
            f"{str(path)!r} has no SBOM in it.",
            advice="Name an artifact of `ferryman build`, the folder of an unpacked one, or a .cdx.json; artifacts of "
            "earlier versions have none.",
        )
    return _checked(path, found)


class _Head(msgspec.Struct):
    bomFormat: str = ""  # noqa: N815 - the format's own spelling


def _checked(path: Path, content: bytes) -> bytes:
    try:
        form = msgspec.json.decode(content, type=_Head).bomFormat
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        form = ""
    if form != "CycloneDX":
        raise InspectError(
            f"What {str(path)!r} has for an SBOM is no CycloneDX document.", advice="Build it again."
        )
    return content


def _of_folder(path: Path) -> bytes | None:
    if not path.is_dir():
        return None
    places = [path / _IN_TREE, path / SBOM, *sorted(path.glob(f"*/{_IN_TREE}"))]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        return None
    with found.open("rb") as file:
        return _all(file)


def _all(file: IO[bytes]) -> bytes:
    """All of an open document.

    Raises:
        InspectError: it has more bytes than any document.
    """
    if len(content := file.read(LONGEST + 1)) > LONGEST:
        raise _too_long()
    return content


def _too_long() -> InspectError:
    return InspectError(
        f"The SBOM has more than {LONGEST} bytes, which are too many.", advice="Do not use that file."
    )


def _of_document(path: Path) -> bytes | None:
    if not path.is_file():
        return None
    with path.open("rb") as file:
        if not file.read(64).lstrip().startswith(b"{"):
            return None
        file.seek(0)
        return _all(file)


def _of_tar(path: Path) -> bytes | None:
    if not path.is_file() or not tarfile.is_tarfile(path):
        return None
    with tarfile.open(path) as archive:
        for member in archive:
            if _in_tree(member.name) and (content := archive.extractfile(member)) is not None:
                return _all(content)
    return None


def _of_zip(path: Path) -> bytes | None:
    """An archive with a tree, or a .pyz."""
    if not path.is_file() or not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        name = next((name for name in archive.namelist() if name == SBOM or _in_tree(name)), None)
        if name is None:
            return None
        with archive.open(name) as content:
            return _all(content)


def _in_tree(name: str) -> bool:
    """Whether it is the document of a tree at the top of an archive, or one folder below."""
    parts = PurePosixPath(name).parts
    inner = PurePosixPath(_IN_TREE).parts
    return parts[-len(inner) :] == inner and len(parts) <= len(inner) + 1


def _of_payload(path: Path) -> bytes | None:
    for member in (payload_members(path) or ()) if path.is_file() else ():
        if member.name == _IN_TREE:
            with member.open() as content:
                return _all(content)
    return None


def _of_bootloader(path: Path) -> bytes | None:
    content = path.read_bytes() if path.is_file() else b""
    at = content.rfind(_NOTE_MAGIC)
    if at < 0 or at + _NOTE.size > len(content):
        return None
    _, size, first, length, _, _ = _NOTE.unpack_from(content, at)
    start = at + _NOTE.size - size
    place, end = start + first, start + first + length
    while 0 <= place < end:
        row, offset, packed, _, is_packed, _ = _ROW.unpack_from(content, place)
        name = content[place + _ROW.size : place + row].rstrip(b"\0").decode("utf-8", "replace")
        if name.replace("\\", "/") == SBOM:
            data = content[start + offset : start + offset + packed]
            return _unpacked(data) if is_packed else _all(io.BytesIO(data))
        place += max(row, _ROW.size)
    return None


def _unpacked(data: bytes) -> bytes:
    packed = zlib.decompressobj()
    found = packed.decompress(data, LONGEST)
    if packed.unconsumed_tail:
        raise _too_long()
    if not packed.eof:
        raise zlib.error("the stream ends early")
    return found


_READERS: tuple[Callable[[Path], bytes | None], ...] = (
    _of_folder, _of_document, _of_tar, _of_zip, _of_payload, _of_bootloader,
)  # fmt: skip
