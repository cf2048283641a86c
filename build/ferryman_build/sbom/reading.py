"""The bytes of a program's files, each content read once: what is found is kept by digest."""

from __future__ import annotations

import functools
import io
from importlib import metadata
from pathlib import Path

import msgspec

from ferryman_build.cache import Blobs, digest, file_digest
from ferryman_build.inspect.formats import MAGICS, read_native
from ferryman_build.sbom import natives
from ferryman_build.sbom.program import Native


def read_once(name: str, file: Path, sha256: str, blobs: Blobs) -> Native | None:
    """What the bytes of ``file`` say, which ships as ``name``; None when it is not machine code."""
    with file.open("rb") as opened:
        if not opened.read(4).startswith(MAGICS):
            return None
    key = digest({"sbom": sha256, "own": natives.own_library(name), "recipe": _recipe()})
    known = blobs.find(key)
    if known is not None:
        try:
            return msgspec.json.decode(known.read_bytes(), type=Native | None)
        except (msgspec.DecodeError, FileNotFoundError):
            pass  # damaged, or swept away this moment: read again
    found = read(name, file.read_bytes())
    blobs.put(key, msgspec.json.encode(found))
    return found


def read(name: str, content: bytes) -> Native | None:
    """The same of a ``content``."""
    native = read_native(name, io.BytesIO(content))
    return None if native is None else Native(found=natives.scan(name, content), needed=native.needed)


@functools.cache
def _recipe() -> str:
    """Changes with what is looked for, and with how."""
    return digest([natives.table_text(), file_digest(Path(natives.__file__)), metadata.version("pyelftools")])
