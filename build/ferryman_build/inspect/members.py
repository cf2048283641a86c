"""Files of a folder, a .tar.gz or a .zip, one after the other, in the same words."""

from __future__ import annotations

import io
import os
import stat
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, BinaryIO

import msgspec

from ferryman_build.inspect.measure import worth_reading


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """One file: ``name`` relative to its container, with slashes; ``link`` is where a symbolic link really leads.

    ``link`` is relative to the container too, begins with ".." when it leads out of it, and is "" for plain files.
    ``mode`` has the permission bits, 0 where the container keeps none; ``sha256`` is that of the content, if known.
    """

    name: str
    open: Callable[[], AbstractContextManager[BinaryIO]]
    link: str = ""
    mode: int = 0
    sha256: str = ""


def _no_content() -> AbstractContextManager[BinaryIO]:
    return io.BytesIO()


def members(path: Path) -> Iterator[Member]:
    """Every file of the folder or archive ``path``, sorted by name; a plain file is its own only member.

    Raises:
        OSError, tarfile.TarError, zipfile.BadZipFile: it cannot be read.
    """
    if path.is_dir():
        yield from _of_folder(path)
    elif tarfile.is_tarfile(path):
        yield from _of_tar(path)
    elif zipfile.is_zipfile(path):
        yield from _of_zip(path)
    else:
        yield Member(name=path.name, open=lambda: path.open("rb"))


def _of_folder(root: Path) -> Iterator[Member]:
    top = os.path.realpath(root)
    for folder, subfolders, files in os.walk(top):
        subfolders.sort()
        links = [name for name in subfolders if os.path.islink(os.path.join(folder, name))]  # noqa: PTH114, PTH118
        for name in sorted([*files, *links]):
            path = os.path.join(folder, name)  # noqa: PTH118 - pathlib doubles the time of this loop
            relative = os.path.relpath(path, top).replace(os.sep, "/")
            if os.path.islink(path):  # noqa: PTH114
                leads = os.path.relpath(os.path.realpath(path), top).replace(os.sep, "/")
                yield Member(name=relative, link=leads, open=_no_content)
            elif os.path.isfile(path):  # noqa: PTH113 - a socket or a pipe must not be opened
                yield Member(name=relative, open=_opener(path), mode=_mode(path))


def _mode(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode) if os.name == "posix" else 0  # noqa: PTH116 - see above


def _opener(path: str) -> Callable[[], AbstractContextManager[BinaryIO]]:
    return lambda: open(path, "rb")


def _of_tar(path: Path) -> Iterator[Member]:
    with tarfile.open(path) as archive:
        for info in archive:  # in the file's order: going back would unpack from the start again
            if info.issym():
                leads = os.path.normpath(os.path.join(os.path.dirname(info.name), info.linkname))  # noqa: PTH118, PTH120
                yield Member(name=info.name, link=leads, open=_no_content)
            elif info.isfile():
                content = archive.extractfile(info)
                assert content is not None
                data = _worth(content)
                yield Member(name=info.name, open=lambda data=data: io.BytesIO(data), mode=info.mode & 0o7777)  # type: ignore[misc]


def _of_zip(path: Path) -> Iterator[Member]:
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.is_dir():
                continue
            with archive.open(info) as content:
                data = _worth(content)
            mode = info.external_attr >> 16 & 0o7777
            yield Member(name=info.filename, open=lambda data=data: io.BytesIO(data), mode=mode)  # type: ignore[misc]


def _worth(content: IO[bytes]) -> bytes:
    """All of it, or its first bytes where those say that nothing is to be measured."""
    head = content.read(4)
    return head + content.read() if worth_reading(head) else head
