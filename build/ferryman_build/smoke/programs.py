"""From an artifact to the words that start it, as a person would who has just received it."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from ferryman_build.artifacts import Kind
from ferryman_build.checkout import NO_SPACE

# A blank and letters outside of ASCII: folders of real people have them.
AWKWARD = "a gift für 你"


class Unusable(Exception):  # noqa: N818 - a finding about the artifact, turned into a failed check
    """The artifact cannot be put in place; the text says why."""


class Placer(Protocol):
    """Puts an artifact of one kind into a folder."""

    def __call__(self, path: Path, folder: Path, executable: str, python: Path) -> list[Path]:
        """The first words of every command; raises Unusable."""
        ...


def _place_archive(path: Path, folder: Path, executable: str, python: Path) -> list[Path]:
    del python
    try:
        if path.suffix == ".zip":
            _unzip(path, folder)
        else:
            with tarfile.open(path) as archive:
                # As an attribute, because the argument is unknown to Python 3.11.3 and older.
                archive.extraction_filter = getattr(tarfile, "data_filter", None)
                archive.extractall(folder)  # noqa: S202 - filtered where Python can; an archive of our own
    except (OSError, tarfile.TarError, zipfile.BadZipFile, EOFError) as error:
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise  # the disk's fault and not the artifact's
        raise Unusable(f"cannot be unpacked: {error}") from error
    # The top folder may have the program's own name.
    found = [path for path in (*folder.glob(executable), *folder.glob(f"*/{executable}")) if path.is_file()]
    if not found:
        raise Unusable(f"has no {executable} at its top")
    return [found[0]]


def _unzip(path: Path, folder: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            mode = info.external_attr >> 16 & 0o777  # zipfile itself does not restore it
            target = Path(archive.extract(info, folder))
            if mode and not info.is_dir():
                target.chmod(mode)


def _place_executable(path: Path, folder: Path, executable: str, python: Path) -> list[Path]:
    del python
    target = folder / executable
    shutil.copy(path, target)
    target.chmod(0o755)
    return [target]


def _place_pyz(path: Path, folder: Path, executable: str, python: Path) -> list[Path]:
    del executable
    return [python, Path(shutil.copy(path, folder / path.name))]


PLACERS: Mapping[Kind, Placer] = {
    Kind.ARCHIVE: _place_archive,
    Kind.EXECUTABLE: _place_executable,
    Kind.PYZ: _place_pyz,
}
