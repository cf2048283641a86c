"""Archives of a tree, byte for byte the same for the same tree: sorted members, one date, plain modes, no owner."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from ferryman_build.tree import Tree, TreeFile


def write_archive(tree: Tree, form: str, top: str, epoch: int, level: int, path: Path) -> None:
    """Write ``tree`` below the folder ``top`` as ``form`` ("tar.gz" or "zip").

    Args:
        epoch: date of every member, in seconds since 1970; at least 1980 for a zip.
        level: 1 to 9.
    """
    _FORMS[form](tree, top, epoch, level, path)


def _tar_gz(tree: Tree, top: str, epoch: int, level: int, path: Path) -> None:
    # The gzip header holds neither name nor date of the archive itself.
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", fileobj=raw, mode="wb", compresslevel=level, mtime=0) as packed,
        # Written in large blocks: GzipFile handles each of tarfile's 512-byte writes on its own otherwise.
        io.BufferedWriter(packed, 1 << 20) as buffered,
        tarfile.open(fileobj=buffered, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for file in tree.files:
            _add_to_tar(tar, tree, file, top, epoch)


def _add_to_tar(tar: tarfile.TarFile, tree: Tree, file: TreeFile, top: str, epoch: int) -> None:
    member = tarfile.TarInfo(f"{top}/{file.path}")
    member.mtime, member.mode, member.size = epoch, file.mode, file.size
    if file.link:
        member.type, member.linkname = tarfile.SYMTYPE, file.link
        tar.addfile(member)
        return
    with (tree.root / file.path).open("rb") as content:
        tar.addfile(member, content)


def _zip(tree: Tree, top: str, epoch: int, level: int, path: Path) -> None:
    date = datetime.fromtimestamp(epoch, UTC).timetuple()[:6]
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for file in tree.files:
            member = zipfile.ZipInfo(f"{top}/{file.path}", date)
            member.compress_type = zipfile.ZIP_DEFLATED
            member.create_system = 3  # Unix, whoever builds: the mode bits below are read only then
            kind = 0o120000 if file.link else 0o100000
            member.external_attr = (kind | file.mode) << 16
            archive.writestr(member, file.link or (tree.root / file.path).read_bytes(), compresslevel=level)


_FORMS: dict[str, Callable[[Tree, str, int, int, Path], None]] = {"tar.gz": _tar_gz, "zip": _zip}
