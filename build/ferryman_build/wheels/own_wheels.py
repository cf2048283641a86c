"""Wheels of the project that were built elsewhere: which one fits a target, and whether it is what it says.

Two wheels of the same sources differ in their native files alone. So the wheel that was built here, of whatever platform,
vouches for everything else: modules, data, metadata. That the native files come from the same C sources can be seen by
nobody; that they are native files of the platform that the name says can.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename
from packaging.version import InvalidVersion, Version

from ferryman_build.errors import BuildStepError
from ferryman_build.inspect.formats import sniff
from ferryman_build.targets import Target
from ferryman_build.wheels.archive import Member, Wheel, read_wheel_file, wheel_tags
from ferryman_build.wheels.natives import claim, contradiction, natives
from ferryman_build.wheeltags import short_python, tag_ranks

# Files of .dist-info that say how a wheel was made and not what it holds; auditwheel lists in sboms/ what it brought.
_ABOUT_THE_WHEEL = ("RECORD", "WHEEL", "RECORD.jws", "RECORD.p7s", "sboms")
# Lines of METADATA that go with the backend's version.
_ABOUT_THE_BACKEND = frozenset({"metadata-version", "dynamic", "generator"})
_SHOWN = 5


def choose_own_wheel(folder: Path, name: str, version: str, target: Target, python: str) -> Path | None:
    """The wheel in ``folder`` that an installer would take on ``target``; None when none fits.

    Only names are looked at. ``python`` is X.Y or X.Y.Z.
    """
    ranks = tag_ranks(target, short_python(python))
    found = []
    for path in sorted(folder.glob("*.whl")):
        try:
            distribution, release, build, tags = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue
        if distribution == canonicalize_name(name) and release == _version(version):
            rank = min((ranks[tag] for tag in tags if tag in ranks), default=None)
            if rank is not None:
                found.append((rank, -build[0] if build else 0, path))
    return min(found)[-1] if found else None


def _version(text: str) -> Version | None:
    try:
        return Version(text)
    except InvalidVersion:
        return None


def refuse_other_sources(wheel: Path, host_app: Path) -> None:
    """Compare a prebuilt wheel with the one that was built here, unpacked at ``host_app``.

    Raises:
        BuildStepError: the wheel's name says another platform than its native files or its WHEEL file do, or a file
            that is not native differs, is missing, or is too many. The details name up to five files.
    """
    read = read_wheel_file(wheel)
    refuse_other_name(wheel.name, read)
    ours, theirs = _files_of(host_app), _files_in(read)
    wrong = [
        f"{name}: {_difference(ours.get(name), theirs.get(name))}"
        for name in sorted({*ours, *theirs})
        if not _same_text(name, ours.get(name), theirs.get(name))
    ]
    if wrong:
        raise BuildStepError(
            f"{wheel.name} was built from other sources than those that are here: {wrong[0]}.",
            advice="Build the wheels again from this commit, or check out the commit that they were built from.",
            details=wrong[1:_SHOWN],
        )


def refuse_other_name(filename: str, wheel: Wheel) -> None:
    """Stop when a wheel was renamed.

    Raises:
        BuildStepError: its WHEEL file or its native files are of another platform than its name.
    """
    inside = wheel_tags(wheel)
    if inside != wheel.tags:
        said = ", ".join(sorted(map(str, inside))) or "no tag at all"
        raise BuildStepError(
            f"{filename} was renamed: its WHEEL file says {said}.",
            advice="Take the wheel under the name that its build gave it, or build it again.",
        )
    claims = [(platform, claim(platform)) for platform in wheel.platform.split(".")]
    for member, native in natives(wheel):
        for platform, wanted in claims:
            other = contradiction(native, wanted) if wanted else f"native code ({native.format})"
            if other:
                raise BuildStepError(
                    f"{filename} is no wheel for {platform}: {member.name} is {other}.",
                    advice="Build it again for that platform, or remove it from the folder of wheels.",
                )


def _files_of(app: Path) -> dict[str, bytes]:
    """What is unpacked at ``app``, without native files and what is about the wheel itself."""
    members = (
        Member(path.relative_to(app).as_posix(), path.read_bytes())
        for path in app.rglob("*")
        if path.is_file()
    )
    return _comparable(members)


def _files_in(wheel: Wheel) -> dict[str, bytes]:
    """The same of a wheel, as it is unpacked: purelib and platlib join the root, and other data stays outside."""
    return _comparable(member for member in map(_unpacked, wheel.members) if member is not None)


def _unpacked(member: Member) -> Member | None:
    parts = PurePosixPath(member.name).parts
    if not parts[0].endswith(".data"):
        return member
    if len(parts) < 3 or parts[1] not in ("purelib", "platlib"):
        return None
    return Member("/".join(parts[2:]), member.data)


def _comparable(members: Iterable[Member]) -> dict[str, bytes]:
    return {
        member.name: member.data for member in members
        if not _about_the_wheel(member.name) and sniff(io.BytesIO(member.data)) is None
    }  # fmt: skip


def _about_the_wheel(name: str) -> bool:
    parts = PurePosixPath(name).parts
    if parts[0].endswith(".dist-info"):
        return len(parts) > 1 and parts[1] in _ABOUT_THE_WHEEL
    # What delvewheel and auditwheel put beside a package: libraries, and a list of their names.
    return parts[0].endswith(".libs")


def _same_text(name: str, ours: bytes | None, theirs: bytes | None) -> bool:
    if ours is None or theirs is None:
        return False
    if name.endswith(".dist-info/METADATA"):
        return _metadata(ours) == _metadata(theirs)
    # A checkout on Windows may have other line ends.
    return ours == theirs or (b"\0" not in ours and _lines(ours) == _lines(theirs))


def _lines(data: bytes) -> bytes:
    return data.replace(b"\r\n", b"\n")


def _metadata(data: bytes) -> tuple[list[tuple[str, str]], str]:
    message = HeaderParser().parsestr(_lines(data).decode("utf-8", "replace"))
    fields = [(key.lower(), str(value)) for key, value in message.items()]
    return sorted(field for field in fields if field[0] not in _ABOUT_THE_BACKEND), str(
        message.get_payload()
    ).strip()


def _difference(ours: bytes | None, theirs: bytes | None) -> str:
    if ours is None:
        return "is not in the wheel that was built here"
    return "is missing in it" if theirs is None else "differs"
