"""Writing a test runtime's archive: the same bytes for the same files, and nothing that only its machine could unpack."""

from __future__ import annotations

import io
import os
import posixpath
import stat
import sys
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

LEVEL = 6


def write_archive(members: Mapping[str, Path | bytes], output: Path) -> None:
    """A .tar.zst with each member's file (links stay links) or content, sorted, without dates and owners."""
    with zstd.open(output, "wb", level=LEVEL) as packed, tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # fmt: skip
        for name in sorted(members):
            _add(archive, name, members[name])


def _add(archive: tarfile.TarFile, name: str, source: Path | bytes) -> None:
    info = tarfile.TarInfo(name)
    info.mode = 0o644
    if isinstance(source, Path) and source.is_symlink():
        info.type, info.linkname = tarfile.SYMTYPE, str(source.readlink())
        archive.addfile(info)
        return
    content = source if isinstance(source, bytes) else source.read_bytes()
    if isinstance(source, Path) and source.stat().st_mode & stat.S_IXUSR:
        info.mode = 0o755
    info.size = len(content)
    archive.addfile(info, io.BytesIO(content))


def files(folder: Path, prefix: str, *, without: tuple[str, ...] = ()) -> Iterator[tuple[str, Path]]:
    """(name below ``prefix``, file) of everything in ``folder`` but bytecode and folders called as in ``without``.

    A link that leads nowhere, or out of ``folder``, is passed over.
    """
    for place, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name not in ("__pycache__", *without)]
        for name in names:
            path = Path(place, name)
            below = path.relative_to(folder).as_posix()
            if path.is_symlink() and not _stays(below, str(path.readlink())):
                continue
            if path.is_symlink() or path.is_file():
                yield f"{prefix}{below}", path


def _stays(below: str, target: str) -> bool:
    way = posixpath.normpath(posixpath.join(posixpath.dirname(below), target))
    return not target.startswith("/") and way.split("/", 1)[0] != ".."
