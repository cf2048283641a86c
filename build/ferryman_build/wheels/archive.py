"""A wheel as a list of members, read and written so that equal content gives equal bytes.

Source: PyPA's "Binary distribution format": name, WHEEL, RECORD; the .dist-info folder comes last in the file.
"""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import time
import zipfile
from collections.abc import Iterable
from pathlib import Path

import msgspec
from packaging.tags import Tag
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from ferryman_build.errors import BuildStepError

_EXECUTABLE = 0o111


class Member(msgspec.Struct, frozen=True):
    """A file of a wheel. ``executable`` is all that is kept of its mode."""

    name: str
    data: bytes
    executable: bool = False


class Wheel(msgspec.Struct, frozen=True, kw_only=True):
    """A wheel in memory: ``stem`` is NAME-VERSION, ``members`` has all files but RECORD."""

    stem: str
    python: str
    abi: str
    platform: str
    members: tuple[Member, ...]

    @property
    def filename(self) -> str:
        """As the standard spells it; a build number is not carried over."""
        return f"{self.stem}-{self.python}-{self.abi}-{self.platform}.whl"

    @property
    def info(self) -> str:
        """The folder with the wheel's own data."""
        return f"{self.stem}.dist-info"

    @property
    def tags(self) -> frozenset[Tag]:
        """All tags that the name stands for."""
        return frozenset(
            Tag(python, abi, platform)
            for python in self.python.split(".")
            for abi in self.abi.split(".")
            for platform in self.platform.split(".")
        )

    def find(self, name: str) -> bytes:
        """The content of a member, b"" when there is none."""
        return next((member.data for member in self.members if member.name == name), b"")


def read_wheel_file(path: Path) -> Wheel:
    """The wheel at ``path``.

    Raises:
        BuildStepError: it is no wheel.
    """
    try:
        parse_wheel_filename(path.name)
        with zipfile.ZipFile(path) as archive:
            members = tuple(_member(archive, info) for info in archive.infolist() if not info.is_dir())
    except (
        InvalidWheelFilename,
        zipfile.BadZipFile,
        OSError,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise BuildStepError(
            f"{path.name} is not a wheel that can be read: {error}.", advice="Build or download it again."
        ) from error
    parts = path.stem.split("-")
    wheel = Wheel(
        stem="-".join(parts[:2]), python=parts[-3], abi=parts[-2], platform=parts[-1], members=members
    )
    return msgspec.structs.replace(
        wheel, members=tuple(m for m in members if m.name != f"{wheel.info}/RECORD")
    )


def _member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Member:
    return Member(info.filename, archive.read(info), bool(info.external_attr >> 16 & _EXECUTABLE))


def wheel_tags(wheel: Wheel) -> frozenset[Tag]:
    """The tags in WHEEL, which installers compare with nothing, and which therefore may be wrong."""
    lines = wheel.find(f"{wheel.info}/WHEEL").decode("utf-8", "replace").splitlines()
    values = [line.partition(":")[2].strip() for line in lines if line.lower().startswith("tag:")]
    return frozenset(Tag(*value.split("-")) for value in values if value.count("-") == 2)


def tagged(wheel: Wheel) -> Wheel:
    """The same with the tags of its name in WHEEL."""
    name = f"{wheel.info}/WHEEL"
    lines = [
        line for line in wheel.find(name).decode("utf-8").splitlines() if line and not line.startswith("Tag:")
    ]
    text = "\n".join([*lines, *(f"Tag: {tag}" for tag in sorted(map(str, wheel.tags)))]) + "\n"
    members = tuple(Member(name, text.encode()) if m.name == name else m for m in wheel.members)
    return msgspec.structs.replace(wheel, members=members)


def write_wheel_file(wheel: Wheel, into: Path, epoch: int) -> Path:
    """Write ``into``/FILENAME with a RECORD; modes are 0644 and 0755, dates are ``epoch`` (seconds since 1970)."""
    info = f"{wheel.info}/"
    ordered = sorted(wheel.members, key=lambda member: (member.name.startswith(info), member.name))
    record = Member(f"{info}RECORD", _record(ordered, f"{info}RECORD"))
    path = into / wheel.filename
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for member in (*ordered, record):
            archive.writestr(_zip_info(member, epoch), member.data, compresslevel=9)
    return path


def _zip_info(member: Member, epoch: int) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(member.name, time.gmtime(epoch)[:6])
    made.compress_type = zipfile.ZIP_DEFLATED
    made.create_system = 3  # Unix, on every host: only then the mode counts
    made.external_attr = (0o100755 if member.executable else 0o100644) << 16
    return made


def _record(members: Iterable[Member], own: str) -> bytes:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for member in members:
        digest = base64.urlsafe_b64encode(hashlib.sha256(member.data).digest()).rstrip(b"=").decode()
        writer.writerow((member.name, f"sha256={digest}", len(member.data)))
    writer.writerow((own, "", ""))
    return text.getvalue().encode()
