"""Runtimes that are ready for use: fetched, unpacked once per hash, and read once per target.

home/runtimes/archives/…            what was fetched (:mod:`ferryman_build.runtimes.fetch`)
home/runtimes/unpacked/<sha256>/    the content of an archive; whole, or not there
home/runtimes/read/<key>.json       what was read of it
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path

import msgspec

from ferryman_build.cache import digest, file_digest, tree_digest
from ferryman_build.runtimes.distribution import Distribution, read_distribution
from ferryman_build.runtimes.fetch import Line, archives, explained_space, fetch, fetched, sweep_drafts
from ferryman_build.runtimes.index import Runtime
from ferryman_build.runtimes.unpack import unpack
from ferryman_build.targets import Target

_READERS = (
    "runtimes/distribution.py",
    "runtimes/libraries.py",
    "inspect/elf.py",
    "inspect/pe.py",
    "inspect/macho.py",
)


def prepare(
    runtime: Runtime,
    target: Target,
    home: Path,
    *,
    python: str = "",
    line: Line | None = None,
    say: Callable[[str], None] | None = None,
) -> Distribution:
    """The runtime on this disk, fetched and unpacked if need be.

    Args:
        runtime: a row, or what :func:`ferryman_build.runtimes.index.named_runtime` answers.
        target: what it is to be for.
        home: :func:`ferryman_build.homes.home`.
        python: X.Y that it has to be; the row's own version has to be right in any case.
        line: how patient to be with a server.
        say: told before something is downloaded.

    Raises:
        ConfigError, ResolutionError, PackageIndexError, SpaceError: it cannot be had or unpacked.
        BlockedError: it is for another machine or version, or has no shared libpython.
    """
    archive = fetch(runtime, archives(home), line, say)
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
    return digest([file_digest(package / name) for name in _READERS])


def _unpacked(archive: Path, sha256: str, home: Path) -> Path:
    root = home / "runtimes" / "unpacked" / sha256[:32]
    if root.is_dir():
        return root
    with explained_space(root.parent):
        root.parent.mkdir(parents=True, exist_ok=True)
        sweep_drafts(root.parent)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=root.parent))
    try:
        unpack(archive, draft / "content")
        with contextlib.suppress(FileExistsError, OSError):  # another process was quicker
            (draft / "content").rename(root)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return root


def _keep(place: Path, found: Distribution) -> None:
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_suffix(f".{os.getpid()}.draft")
    draft.write_bytes(msgspec.json.encode(msgspec.structs.replace(found, root=Path()), enc_hook=str))
    draft.replace(place)


def _decode(content: bytes) -> Distribution:
    return msgspec.json.decode(content, type=Distribution, dec_hook=lambda kind, value: kind(value))
