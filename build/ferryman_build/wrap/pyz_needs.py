"""What a .pyz asks of the Python and the machine that it is started with; the archive carries it as ``_ferryman/needs.py``."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import msgspec

from ferryman_build.targets import Os, Target
from ferryman_build.wheeltags import short_python

PACKAGES = "site-packages/"
_NATIVE = re.compile(r"\.(so(\.[0-9.]+)?|pyd|dylib)$")
# What the floor of each system is called in :class:`~ferryman_build.artifacts.Needs`; musl's version is not to be had
# from a running Python without starting the loader as a program.
_FLOORS: Mapping[Os, str] = {Os.LINUX: "glibc", Os.DARWIN: "macos", Os.WINDOWS: "windows"}
_BITS_32 = ("386", "armv7")


class PyzProgram(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the program before its archive is looked at. ``entry`` is ``module:function``."""

    name: str
    version: str
    python: str
    target: Target | None
    entry: str
    days: int
    interpreter: bool
    free_threaded: bool
    sbom_option: str = ""


class PyzNeeds(msgspec.Struct, frozen=True, kw_only=True):
    """The archive's demands, in words that every Python reads: texts, whole numbers, lists.

    Attributes:
        python: X and Y of the CPython that wheels and markers were chosen for.
        native: 1 when there is code of a machine inside; without it machine, C library and floor do not matter.
        floor: the lowest glibc, macOS or Windows that has every symbol used, measured; {} when nothing was.
        content: SHA-256 of everything that is unpacked; its first half names the tree in the cache.
        size: bytes of all files when unpacked.
        days: trees that nobody used for so long are pruned; 0: never.
        sbom: the argument that prints the SBOM; "": none does.
    """

    name: str
    version: str
    target: str
    python: tuple[int, int]
    native: int
    free: int
    system: str
    machines: tuple[str, ...]
    bits: int
    libc: str
    floor: dict[str, str]
    entry: str
    content: str
    size: int
    days: int
    interpreter: int
    sbom: str = ""


def needs_of(archive: Path, program: PyzProgram) -> PyzNeeds:
    """The needs of ``program`` with the packages that are in ``archive``."""
    names, content, size = _content(archive)
    native = any(_NATIVE.search(name) for name in names)
    target = program.target
    major, minor = short_python(program.python).split(".")
    return PyzNeeds(
        name=program.name, version=program.version, target=target.id if target else "",
        python=(int(major), int(minor)), native=int(native), free=int(program.free_threaded),
        system=target.os.value if target else "", machines=target.machine if target else (),
        bits=32 if target and target.arch in _BITS_32 else 64, libc=target.libc or "" if target else "",
        floor=_floor(archive, target) if native and target else {}, entry=program.entry, content=content, size=size,
        days=program.days, interpreter=int(program.interpreter), sbom=program.sbom_option,
    )  # fmt: skip


def _floor(archive: Path, target: Target) -> dict[str, str]:
    """Measured, since a wheel may need more or less than its target promises."""
    from ferryman_build.inspect import survey_pyz

    name = _FLOORS[target.os]
    found = survey_pyz(archive, "", ()).needs.floor
    return {name: found[name]} if name in found else {}


def _content(archive: Path) -> tuple[list[str], str, int]:
    """(names, SHA-256 over paths, modes and contents, bytes) of what is unpacked."""
    sums, size = hashlib.sha256(), 0
    with zipfile.ZipFile(archive) as opened:
        infos = sorted(
            (info for info in opened.infolist() if info.filename.startswith(PACKAGES)),
            key=lambda info: info.filename,
        )
        for info in infos:
            content = opened.read(info)
            head = f"{info.filename}\0{info.external_attr >> 16 & 0o777:o}\0{len(content)}\0"
            sums.update(head.encode() + content)
            size += len(content)
    return [info.filename for info in infos], sums.hexdigest(), size


def needs_text(needs: PyzNeeds) -> str:
    """``_ferryman/needs.py``: JSON that is Python as well, of any age (no true, false or null in it).

    :func:`read_needs` gets it back.
    """
    return f"NEEDS = {json.dumps(msgspec.to_builtins(needs), indent=2)}\n"


def read_needs(archive: Path) -> PyzNeeds:
    """The needs that ``archive`` carries.

    Raises:
        KeyError: it carries none: it is not a .pyz of ours.
        ValueError: they are not readable (msgspec's errors are of this class).
    """
    with zipfile.ZipFile(archive) as opened:
        text = opened.read("_ferryman/needs.py")
    return msgspec.json.decode(text.removeprefix(b"NEEDS = "), type=PyzNeeds)
