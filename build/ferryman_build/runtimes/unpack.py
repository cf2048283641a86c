"""Unpacking a runtime's archive without believing it: nothing is written outside of the folder, whatever it says.

Every member's name is looked at first; links are made last and only where they lead to a place inside, so that no later
member can be written through one. Devices, sockets and set-uid bits are not made. What is compressed is read to its very end,
where its checksum is, also behind the last member.
"""

from __future__ import annotations

import contextlib
import errno
import gzip
import lzma
import posixpath
import shutil
import stat
import sys
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from enum import Enum, auto
from pathlib import Path, PurePosixPath
from typing import IO, Any, Self

import msgspec

from ferryman_build.errors import ResolutionError
from ferryman_build.runtimes.fetch import explained_space
from ferryman_build.runtimes.places import resolve_inside

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

_ZSTD = b"\x28\xb5\x2f\xfd"
_DAMAGES = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    lzma.LZMAError,
    zlib.error,
    zstd.ZstdError,
    EOFError,
)
_NO_NAMES = (errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ)


class _Kind(Enum):
    FILE = auto()
    FOLDER = auto()
    LINK = auto()
    SAME = auto()  # a hard link to an earlier member


class _Member(msgspec.Struct, frozen=True, kw_only=True):
    """``target``: what a link says, or the name of the member that a SAME is."""

    name: str
    kind: _Kind
    executable: bool = False
    target: str = ""
    open: Callable[[], IO[bytes]] | None = None


def unpack(source: Path, into: Path) -> Path:
    """Unpack a .tar.gz, .tar.zst, .tar.xz, .tar or .zip into the new folder ``into``; a folder is answered as it is.

    Returns:
        The folder with the content: ``into``, or ``source`` where that is a folder.

    Raises:
        ResolutionError: it is no archive, it is damaged, or a member would be written outside; ``into`` is gone then.
        SpaceError: no space left.
    """
    if source.is_dir():
        return source
    try:
        with explained_space(into):
            into.mkdir(parents=True)
            with _members(source) as members:
                _write(members, into, source)
    except BaseException:
        shutil.rmtree(into, ignore_errors=True)
        raise
    return into


@contextlib.contextmanager
def _members(source: Path) -> Iterator[Iterable[_Member]]:
    """The members of an archive, whatever its form; its own errors become a sentence."""
    try:
        with contextlib.ExitStack() as stack:
            if zipfile.is_zipfile(source):
                yield _of_zip(stack.enter_context(zipfile.ZipFile(source)))
            else:
                yield _of_tar(*_open_tar(source, stack))
    except _DAMAGES as error:
        raise _damaged(source, error) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(source, error) from error  # as bz2 says it, and gzip of a bad head


def _damaged(source: Path, error: Exception) -> ResolutionError:
    return ResolutionError(
        f"{source} is damaged or no archive of a runtime: {error}.",
        advice="A runtime is a .tar.gz, .tar.zst, .tar.xz or .zip, or a folder; remove the file to have it fetched again.",
    )


class _Header(tarfile.TarInfo):
    """One that is nonsense, or cut off, is an error wherever it stands: tarfile takes it for the end of the archive."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        try:
            return super().frombuf(buf, encoding, errors)
        except tarfile.HeaderError as error:
            if type(error).__name__ in ("InvalidHeaderError", "TruncatedHeaderError"):
                raise tarfile.ReadError(str(error)) from error
            raise


def _open_tar(source: Path, stack: contextlib.ExitStack) -> tuple[tarfile.TarFile, Any]:
    """An archive, and what its bytes are read from."""
    with source.open("rb") as file:
        head = file.read(4)
    if head == _ZSTD:
        stream = stack.enter_context(zstd.open(source, "rb"))
        archive = tarfile.open(fileobj=stream, mode="r|", tarinfo=_Header)  # noqa: SIM115 - the stack closes it
        return stack.enter_context(archive), stream
    archive = stack.enter_context(tarfile.open(source, mode="r", tarinfo=_Header))  # noqa: SIM115 - the same
    return archive, archive.fileobj


def _of_tar(archive: tarfile.TarFile, stream: Any) -> Iterator[_Member]:
    yield from _members_of_tar(archive)
    while stream.read(1 << 20):
        pass


def _members_of_tar(archive: tarfile.TarFile) -> Iterator[_Member]:
    for member in archive:
        name, runs = member.name, bool(member.mode & 0o100)
        if member.isreg():
            yield _Member(name=name, kind=_Kind.FILE, executable=runs, open=_tar_opener(archive, member))
        elif member.isdir():
            yield _Member(name=name, kind=_Kind.FOLDER)
        elif member.issym():
            yield _Member(name=name, kind=_Kind.LINK, target=member.linkname)
        elif member.islnk():
            yield _Member(name=name, kind=_Kind.SAME, executable=runs, target=member.linkname)


def _tar_opener(archive: tarfile.TarFile, member: tarfile.TarInfo) -> Callable[[], IO[bytes]]:
    def opened() -> IO[bytes]:
        file = archive.extractfile(member)
        assert file is not None
        return file

    return opened


def _of_zip(archive: zipfile.ZipFile) -> Iterator[_Member]:
    for info in archive.infolist():
        mode = info.external_attr >> 16
        if info.is_dir():
            yield _Member(name=info.filename, kind=_Kind.FOLDER)
        elif stat.S_ISLNK(mode):
            yield _Member(
                name=info.filename, kind=_Kind.LINK, target=archive.read(info).decode("utf-8", "replace")
            )
        else:
            yield _Member(name=info.filename, kind=_Kind.FILE, executable=bool(mode & 0o100), open=_zip_opener(archive, info))  # fmt: skip


def _zip_opener(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Callable[[], IO[bytes]]:
    return lambda: archive.open(info)


def _write(members: Iterable[_Member], into: Path, source: Path) -> None:
    links: dict[str, str] = {}
    written: set[str] = set()
    for member in members:
        name = _inside(member.name, source)
        if not name:
            continue
        if member.kind is _Kind.LINK:
            links[name] = member.target
            continue
        written.update((name, *(parent.as_posix() for parent in PurePosixPath(name).parents)))
        with _fitting(source, name):
            _write_member(member, into / name, into, source)
    for name, target in sorted(links.items()):
        if name in written or any(parent.as_posix() in links for parent in PurePosixPath(name).parents):
            raise _refused(source, name, "is there twice, or lies below a link")
        with _fitting(source, name):
            _make_link(name, target, into, source)
    inside = into.resolve()
    for name, target in links.items():
        if resolve_inside(into, name) is None:
            raise _refused(source, name, f"is a link to {target}, which leads back to it")
        if (
            not (into / name).resolve().is_relative_to(inside)
        ):  # a harmless way may lead out through another link
            raise _refused(source, name, f"is a link to {target}, which is outside of its folder")


@contextlib.contextmanager
def _fitting(source: Path, name: str) -> Iterator[None]:
    """What a disk says of a member that cannot be there becomes a sentence."""
    try:
        yield
    except (FileExistsError, NotADirectoryError, IsADirectoryError) as error:
        raise _refused(source, name, "needs a folder where another is a file") from error
    except OSError as error:
        if error.errno not in _NO_NAMES:
            raise
        raise _refused(source, name, f"has a name that cannot be written here ({error.strerror})") from error


def _write_member(member: _Member, path: Path, into: Path, source: Path) -> None:
    if member.kind is _Kind.FOLDER:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    _write_file(member, path, into, source)


def _write_file(member: _Member, path: Path, into: Path, source: Path) -> None:
    if member.open is None:
        same = into / _inside(member.target, source)
        if not same.is_file():
            raise _refused(source, member.name, f"is a link to {member.target}, which is no file before it")
        shutil.copyfile(same, path)
    else:
        with member.open() as content, path.open("wb") as file:
            shutil.copyfileobj(content, file, 1 << 20)
    path.chmod(0o755 if member.executable else 0o644)


def _inside(name: str, source: Path) -> str:
    """``name`` without its dots.

    Raises:
        ResolutionError: it is absolute, leads upwards, or is a name of Windows that could.
    """
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if (
        name.startswith("/")
        or ".." in parts
        or "\\" in name
        or "\0" in name
        or any(":" in part for part in parts[:1])
    ):
        raise _refused(source, name, "would be written outside of its folder")
    return "/".join(parts)


def _make_link(name: str, target: str, into: Path, source: Path) -> None:
    way = posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
    if (
        target.startswith("/")
        or way == ".."
        or way.startswith("../")
        or any(sign in target for sign in "\\:\0")
    ):
        raise _refused(source, name, f"is a link to {target}, which is outside of its folder")
    path = into / name
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink() or path.exists():
        return  # terminfo has names that differ only in their case, which not every disk can tell apart
    try:
        path.symlink_to(target)
    except OSError:  # Windows gives links to few
        if (into / way).is_file():
            shutil.copyfile(into / way, path)


def _refused(source: Path, name: str, why: str) -> ResolutionError:
    return ResolutionError(
        f"{source} is refused: its member {name!r} {why}.",
        advice="No archive of a runtime has such a member; find out who made it.",
    )
