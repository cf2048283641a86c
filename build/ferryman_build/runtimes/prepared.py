"""Runtimes that are ready for use: fetched, unpacked once per hash, and read once per target.

home/runtimes/archives/…            what was fetched (:mod:`ferryman_build.runtimes.fetch`)
home/runtimes/unpacked/<sha256>/    the content of an archive, with a stamp over what was unpacked; else it is unpacked anew
home/runtimes/read/<key>.json       what was read of it
"""

from __future__ import annotations

import contextlib
import errno
import functools
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from importlib import resources
from pathlib import Path

import msgspec

from ferryman_build.cache import digest, file_digest, tree_digest
from ferryman_build.runtimes.distribution import Distribution, read_distribution
from ferryman_build.runtimes.fetch import (
    Line,
    Stopped,
    archives,
    explained_space,
    fetch,
    fetched,
    sweep_drafts,
)
from ferryman_build.runtimes.index import Runtime
from ferryman_build.runtimes.unpack import unpack
from ferryman_build.targets import Target

_READERS = ("runtimes/distribution.py", "runtimes/libraries.py", "runtimes/places.py", "inspect/*.py")
_STAMP = ".ferryman-unpacked"
_THERE = (errno.EEXIST, errno.ENOTEMPTY)


def prepare(
    runtime: Runtime,
    target: Target,
    home: Path,
    *,
    python: str = "",
    line: Line | None = None,
    say: Callable[[str], None] | None = None,
    stopped: Stopped | None = None,
) -> Distribution:
    """The runtime on this disk, fetched and unpacked if need be.

    Args:
        runtime: a row, or what :func:`ferryman_build.runtimes.index.named_runtime` answers.
        target: what it is to be for.
        home: :func:`ferryman_build.homes.home`.
        python: X.Y that it has to be; the row's own version has to be right in any case.
        line: how patient to be with a server.
        say: told before something is downloaded.
        stopped: ends a download.

    Raises:
        InterruptedBuildError: ``stopped`` says so.
        ConfigError, ResolutionError, PackageIndexError, SpaceError: it cannot be had or unpacked.
        BlockedError: it is for another machine or version, or has no shared libpython.
    """
    archive = fetch(runtime, archives(home), line, say, stopped)
    return _read(archive, runtime, target, home, python)


def prepared(runtime: Runtime, target: Target, home: Path, *, python: str = "") -> Distribution | None:
    """The same without any network: None where :func:`prepare` would have to download.

    Raises:
        ResolutionError, SpaceError, BlockedError: as :func:`prepare`.
    """
    if fetched(runtime, archives(home)) is None:
        return None
    return prepare(runtime, target, home, python=python)


def runtime_key(runtime: Runtime) -> str:
    """What the content of a tree made from it depends on; for a folder, every file in it.

    Raises:
        ConfigError: a path with nothing there.
    """
    if runtime.sha256:
        return runtime.sha256
    place = fetch(runtime, Path())  # only a local one has no hash
    return tree_digest(place) if place.is_dir() else file_digest(place)


def _read(archive: Path, runtime: Runtime, target: Target, home: Path, python: str) -> Distribution:
    """What is known of it, from what was kept; a folder is read anew, for it may have changed."""
    wanted = runtime.python or python
    if archive.is_dir():
        return read_distribution(archive, target, wanted)
    sha256 = runtime.sha256 or file_digest(archive)
    root = _unpacked(archive, sha256, home)
    kept = (
        home
        / "runtimes"
        / "read"
        / f"{digest([sha256, msgspec.to_builtins(target), wanted, _recipe()])[:32]}.json"
    )
    with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
        return msgspec.structs.replace(_decode(kept.read_bytes()), root=root)
    found = read_distribution(root, target, wanted)
    _keep(kept, found)
    return found


@functools.cache
def _recipe() -> str:
    """Changes with the code that reads."""
    package = Path(str(resources.files("ferryman_build")))
    files = (path for name in _READERS for path in sorted(package.glob(name)))
    return digest([file_digest(path) for path in files])


def _unpacked(archive: Path, sha256: str, home: Path) -> Path:
    """The folder with the content; what does not fit its stamp (any more) is put aside and made again."""
    root = home / "runtimes" / "unpacked" / sha256[:32]
    if _is_whole(root):
        return root
    with explained_space(root.parent):
        root.parent.mkdir(parents=True, exist_ok=True)
        sweep_drafts(root.parent)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=root.parent))
    try:
        content = unpack(archive, draft / "content")
        with explained_space(root.parent):
            (content / _STAMP).write_text(_listing(content), encoding="ascii")
            with contextlib.suppress(FileNotFoundError):
                root.rename(draft / "before")
            _put(content, root)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return root


def _put(content: Path, root: Path) -> None:
    try:
        content.rename(root)
    except OSError as error:
        if error.errno not in _THERE:
            raise
        # Another process was quicker, and has just written the same.


def _is_whole(root: Path) -> bool:
    try:
        return (root / _STAMP).read_text(encoding="ascii") == _listing(root)
    except (OSError, UnicodeDecodeError):
        return False


def _listing(root: Path) -> str:
    """One hash over names, types, modes, sizes, dates and the targets of links.

    Not over bytecode: a CPython for Windows that Wine runs may write some.
    """
    total = hashlib.sha256()
    for line in sorted(_lines(os.fspath(root), "")):
        total.update(line)
    return total.hexdigest()


def _lines(folder: str, name: str) -> Iterator[bytes]:
    with os.scandir(folder) as entries:
        for entry in entries:
            path = f"{name}/{entry.name}"
            if entry.name == "__pycache__" or path == f"/{_STAMP}":
                continue
            if entry.is_dir(follow_symlinks=False):
                yield os.fsencode(f"{path}\0")
                yield from _lines(entry.path, path)
                continue
            info = entry.stat(follow_symlinks=False)
            link = os.readlink(entry.path) if stat.S_ISLNK(info.st_mode) else ""  # noqa: PTH115 - scandir gives text
            yield os.fsencode(f"{path}\0{info.st_mode:o}\0{info.st_size}\0{info.st_mtime_ns}\0{link}\n")


def _keep(place: Path, found: Distribution) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_suffix(f".{os.getpid()}.draft")
    draft.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, root=Path()), enc_hook=str))
    draft.replace(place)


def _decode(content: bytes) -> Distribution:
    return msgspec.json.decode(content, type=Distribution, dec_hook=lambda kind, value: kind(value))
