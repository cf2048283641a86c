"""Which package of a Linux distribution a file of a machine came with: of this machine, or of a root filesystem on it.

Asked are dpkg's own files (var/lib/dpkg: `status`, and `info/*.md5sums`). An answer is given only for a file that has the very
content of the package's: its MD5 is compared. So a library that somebody replaced by hand is nobody's.
"""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import msgspec

_DPKG = Path("var/lib/dpkg")
_REPACKED = re.compile(
    r"[.+~](?:dfsg|ds|repack)[.+~0-9]*$"
)  # sources that a distribution has taken something out of
_SOURCE = re.compile(r"(\S+)(?: \((\S+)\))?")


class Package(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A package as dpkg knows it. ``source`` is what it was built from; ``distro`` is ID-VERSION_ID of os-release."""

    name: str
    version: str
    architecture: str
    source: str
    source_version: str
    distro: str

    @property
    def upstream(self) -> str:
        """The version of the software, without epoch and without the distribution's own part: `1:1.3.3+ds-1` is 1.3.3."""
        version = self.source_version.rpartition(":")[2]
        return _REPACKED.sub("", version.rpartition("-")[0] or version)


def owning_packages(files: Iterable[Path]) -> dict[Path, Package]:
    """File → package, of those absolute paths that a package brought as they are."""
    by_root: dict[Path, dict[str, Path]] = defaultdict(dict)
    for file in files:
        root = _root(file)
        if root is not None and file.is_file():
            by_root[root][_place(root, file)] = file
    return {file: package for root, wanted in by_root.items() for file, package in _owned(root, wanted)}


def _root(file: Path) -> Path | None:
    """The root filesystem that the file lies in: the nearest folder above with a dpkg of its own."""
    return next((folder for folder in file.parents if (folder / _DPKG / "status").is_file()), None)


def _place(root: Path, file: Path) -> str:
    """As dpkg writes it, links followed; /lib and /usr/lib are one folder in most systems."""
    real = file.resolve()
    inside = real if real.is_relative_to(root.resolve()) else file
    return inside.relative_to(root.resolve() if inside is real else root).as_posix().removeprefix("usr/")


def _owned(root: Path, wanted: Mapping[str, Path]) -> Iterator[tuple[Path, Package]]:
    names = tuple({f"/{place.rpartition('/')[2]}\n".encode() for place in wanted})
    known: Mapping[str, Package] | None = None
    for sums in sorted((root / _DPKG / "info").glob("*.md5sums")):
        content = sums.read_bytes()
        if not any(name in content for name in names):
            continue
        for line in content.decode("utf-8", "replace").splitlines():
            digest, _, path = line.partition("  ")
            file = wanted.get(path.removeprefix("usr/"))
            if file is not None and _md5(file) == digest:
                known = _known(root) if known is None else known
                if package := known.get(sums.stem):
                    yield file, package


def _md5(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()


def _known(root: Path) -> Mapping[str, Package]:
    """Name, and name:architecture, → package."""
    distro = _distro(root)
    found: dict[str, Package] = {}
    for block in (root / _DPKG / "status").read_text(encoding="utf-8", errors="replace").split("\n\n"):
        fields = dict(
            line.split(": ", 1) for line in block.splitlines() if ": " in line and not line.startswith(" ")
        )
        if "Package" in fields and "Version" in fields:
            package = _package(fields, distro)
            found[package.name] = found[f"{package.name}:{package.architecture}"] = package
    return found


def _package(fields: Mapping[str, str], distro: str) -> Package:
    source = _SOURCE.fullmatch(fields.get("Source", fields["Package"]).strip())
    return Package(
        name=fields["Package"], version=fields["Version"], architecture=fields.get("Architecture", ""),
        source=source[1] if source else fields["Package"],
        source_version=(source[2] if source else "") or fields["Version"], distro=distro,
    )  # fmt: skip


def _distro(root: Path) -> str:
    """debian-12; "debian" where the release is not said."""
    for name in ("etc/os-release", "usr/lib/os-release"):
        path = root / name
        if path.is_file():
            lines = (line.partition("=") for line in path.read_text(encoding="utf-8").splitlines())
            fields = {key: value.strip().strip("\"'") for key, _, value in lines}
            return "-".join(filter(None, (fields.get("ID", "debian"), fields.get("VERSION_ID", ""))))
    return "debian"
