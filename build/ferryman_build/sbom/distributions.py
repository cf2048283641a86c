"""Installed distributions: what their metadata says, and which files of site-packages are theirs.

Source of the forms: PyPA's specifications "Core metadata", "Recording installed projects" (RECORD) and "Binary distribution
format" (WHEEL).
"""

from __future__ import annotations

import csv
import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping
from email.message import Message
from email.parser import HeaderParser
from email.utils import parseaddr
from pathlib import Path

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.tags import Tag, parse_tag
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from ferryman_build.sbom.licences import Licence, licences_of


class Distribution(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of a distribution.

    ``name`` is in the normal form, ``requires`` are its requirements as it writes them, ``supplier`` whoever its metadata
    names as author or maintainer, ``tags`` the platform tags of the wheel that it was installed from. ``wheel`` and
    ``sha256`` are that wheel's, where they are known.
    """

    name: str
    version: str
    licences: tuple[Licence, ...] = ()
    supplier: str = ""
    requires: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    wheel: str = ""
    sha256: str = ""


class Installed(msgspec.Struct, frozen=True, kw_only=True):
    """The distributions of a site-packages folder by name; the owner of each file, by its path below the folder."""

    distributions: Mapping[str, Distribution]
    owners: Mapping[str, str]


NOTHING = Installed(distributions={}, owners={})


def read_installed(site: Path) -> Installed:
    """What is installed in the folder ``site``."""
    distributions: dict[str, Distribution] = {}
    owners: dict[str, str] = {}
    for folder in sorted(site.glob("*.dist-info")):
        if (folder / "METADATA").is_file():
            found = read_distribution(folder)
            distributions[found.name] = found
            owners.update(dict.fromkeys(_files(site, folder), found.name))
    return Installed(distributions=distributions, owners=owners)


def _files(site: Path, folder: Path) -> Iterator[str]:
    """What RECORD lists; and the metadata itself, whatever RECORD says."""
    for path in folder.rglob("*"):
        yield path.relative_to(site).as_posix()
    record = folder / "RECORD"
    if record.is_file():
        with record.open(encoding="utf-8", newline="") as file:
            yield from (posixpath.normpath(row[0].replace("\\", "/")) for row in csv.reader(file) if row)


def read_distribution(folder: Path) -> Distribution:
    """What a .dist-info folder says."""
    metadata = _message(folder / "METADATA")
    return Distribution(
        name=canonicalize_name(metadata["Name"]), version=metadata["Version"], licences=licences_of(metadata),
        supplier=_supplier(metadata), requires=tuple(metadata.get_all("Requires-Dist") or ()),
        tags=tuple(_message(folder / "WHEEL").get_all("Tag") or ()),
    )  # fmt: skip


def _message(path: Path) -> Message:
    text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
    return HeaderParser().parsestr(text)


def _supplier(metadata: Message) -> str:
    """Author or maintainer, without the address that some write behind the name."""
    for field in ("Author", "Maintainer", "Author-email", "Maintainer-email"):
        text = " ".join(metadata.get(field, "").split())
        name = parseaddr(text)[0] if "<" in text or field.endswith("email") else text
        if name and name.upper() != "UNKNOWN":
            return name
    return ""


# --- wheels ----------------------------------------------------------------------------------------------------------


def with_wheel(distribution: Distribution, wheels: Mapping[str, str]) -> Distribution:
    """``distribution`` with the one of ``wheels`` (file name → SHA-256) that it was installed from.

    Installers do not write down which file they took. Its tags are known; where they do not decide, the wheel is unknown.
    """
    tags = {tag for text in distribution.tags for tag in _tags(text)}
    fitting = [name for name in wheels if tags and _wheel_tags(name) == tags]
    if len(wheels) == 1:
        fitting = list(wheels)
    if len(fitting) != 1:
        return distribution
    return msgspec.structs.replace(distribution, wheel=fitting[0], sha256=wheels[fitting[0]])


def _tags(text: str) -> Collection[Tag]:
    try:
        return parse_tag(text)
    except ValueError:
        return ()


def _wheel_tags(filename: str) -> Collection[Tag]:
    try:
        return set(parse_wheel_filename(filename)[3])
    except InvalidWheelFilename:
        return ()


# --- requirements ----------------------------------------------------------------------------------------------------


def requirement_graph(
    root: Distribution, others: Mapping[str, Distribution], environment: Mapping[str, str]
) -> dict[str, tuple[str, ...]]:
    """Name → names of what it requires and is there, for ``root`` and all of ``others``.

    Args:
        root: the application, without extras.
        others: every other distribution by name.
        environment: what markers are evaluated with, PEP 508.
    """
    extras: dict[str, set[str]] = {name: set() for name in (root.name, *others)}
    known = {**others, root.name: root}
    waiting = list(known)
    found: dict[str, set[str]] = {name: set() for name in known}
    while waiting:
        name = waiting.pop()
        for wanted in _required(known[name].requires, environment, extras[name]):
            other = canonicalize_name(wanted.name)
            if other not in known:
                continue
            found[name] |= {other} - {name}  # an extra may ask for other extras of the same distribution
            if not wanted.extras <= extras[other]:
                extras[other] |= wanted.extras
                waiting.append(other)
    return {name: tuple(sorted(needed)) for name, needed in found.items()}


def _required(
    lines: Iterable[str], environment: Mapping[str, str], extras: Collection[str]
) -> Iterator[Requirement]:
    for line in lines:
        try:
            wanted = Requirement(line)
        except InvalidRequirement:
            continue  # what the standard does not know nobody can install
        if _holds(wanted, environment, extras):
            yield wanted


def _holds(wanted: Requirement, environment: Mapping[str, str], extras: Collection[str]) -> bool:
    if wanted.marker is None:
        return True
    return any(wanted.marker.evaluate({**environment, "extra": extra}) for extra in ("", *sorted(extras)))
