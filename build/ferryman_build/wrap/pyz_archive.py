"""The .pyz as it ships: shiv's packages, and in place of shiv's bootstrap the check, the cache and the start of ours.

The bytes depend on the packages, the needs and the version of zlib; not on when, where or by whom it is written.
What runs before the check has passed is stored, not deflated: a Python without zlib has to be able to say what it lacks.
"""

from __future__ import annotations

import hashlib
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from importlib import resources
from pathlib import Path

from ferryman_build.tree import TreeFile
from ferryman_build.wrap.launch import SBOM
from ferryman_build.wrap.pyz_needs import PACKAGES, PyzNeeds, needs_text

Describe = Callable[[Sequence[TreeFile]], bytes]
"""From members to the SBOM."""

# Member → file in collect/inside/, in the order in which a start reads them.
STARTERS = {
    "__main__.py": "pyz_main.py",
    "_ferryman/check.py": "pyz_check.py",
    "_ferryman/run.py": "pyz_run.py",
    "_ferryman/places.py": "pyz_places.py",
    "_ferryman/cache.py": "pyz_cache.py",
    "_ferryman/command.py": "pyz_command.py",
}
READ_BY_ANY_PYTHON = ("__main__.py", "_ferryman/__init__.py", "_ferryman/needs.py", "_ferryman/check.py")
_ENVIRONMENT = "environment.json"  # what `shiv-info` prints
_LEVEL = 6
_UNIX = 3


def starters(needs: PyzNeeds) -> Iterator[tuple[str, bytes]]:
    """(member, content) of everything that is ours."""
    inside = resources.files("ferryman_build").joinpath("collect", "inside")
    for member, name in STARTERS.items():
        yield member, inside.joinpath(name).read_bytes().replace(b"\r\n", b"\n")
    yield "_ferryman/__init__.py", b""
    yield "_ferryman/needs.py", needs_text(needs).encode("ascii")


def finish(
    gathered: Path, needs: PyzNeeds, python: str, epoch: int, output: Path, describe: Describe | None = None
) -> bytes:
    """Write ``output`` from shiv's archive ``gathered``; returns the SBOM in it.

    Args:
        python: X.Y, for the first line (``#!``).
        epoch: the date of every member, in seconds since 1970; before 1980 is 1980, as the format has it.
        describe: makes the SBOM from all other members; without it there is none.
    """
    date = max(time.gmtime(epoch)[:6], (1980, 1, 1, 0, 0, 0))
    with output.open("wb") as file:
        file.write(f"#!/usr/bin/env python{python}\n".encode())
        with zipfile.ZipFile(file, "w") as written, zipfile.ZipFile(gathered) as source:
            members = []
            for member, mode, content in _members(source, needs):
                _add(written, member, content, mode, date)
                members.append(TreeFile(member, len(content), mode, hashlib.sha256(content).hexdigest()))
            sbom = describe(members) if describe else b""
            if sbom:
                _add(written, SBOM, sbom, 0o644, date)
    output.chmod(0o755)
    return sbom


def _members(source: zipfile.ZipFile, needs: PyzNeeds) -> Iterator[tuple[str, int, bytes]]:
    """(name, permission bits, content): what is ours, then what shiv has gathered, by name."""
    for member, content in starters(needs):
        yield member, 0o644, content
    kept = (info for info in source.infolist() if info.filename.startswith((PACKAGES, _ENVIRONMENT)))
    for info in sorted(kept, key=lambda info: info.filename):
        yield info.filename, info.external_attr >> 16 & 0o777 or 0o644, source.read(info)


def _add(archive: zipfile.ZipFile, member: str, content: bytes, mode: int, date: tuple[int, ...]) -> None:
    year, month, day, hour, minute, second = date
    info = zipfile.ZipInfo(member, (year, month, day, hour, minute, second))
    info.create_system = _UNIX
    info.external_attr = (0o100000 | mode) << 16
    info.compress_type = zipfile.ZIP_STORED if member in READ_BY_ANY_PYTHON else zipfile.ZIP_DEFLATED
    archive.writestr(info, content, compresslevel=_LEVEL)
