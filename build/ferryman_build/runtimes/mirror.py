"""A mirror: a folder with archives and the runtimes.toml that names them, for machines without a network.

It can be filled bit by bit. An archive is there under its name only when it is whole and right; the list names only what
is there, and is written anew after each archive, so that a mirror that was broken off is a smaller one.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from ferryman_build.cache import file_digest
from ferryman_build.errors import ConfigError
from ferryman_build.runtimes.fetch import (
    Line,
    archives,
    download,
    explained_space,
    fetch,
    fetched,
    sweep_drafts,
)
from ferryman_build.runtimes.index import FILE, Runtime, index_text, open_index
from ferryman_build.runtimes.update import ordered

_HEAD = "# A mirror of interpreter distributions, made by `ferryman runtimes mirror`; see docs/runtimes.md."
_SUFFIX = re.compile(r"\.(tar\.\w+|tgz|zip|tar)$")


def archive_name(runtime: Runtime) -> str:
    """What an archive is called in a mirror: a name that needs no quoting in an address."""
    suffix = _SUFFIX.search(runtime.file_name)
    return f"cpython-{runtime.python}-{runtime.target}-{runtime.sha256[:12]}{suffix[0] if suffix else ''}"


def add(
    runtime: Runtime,
    folder: Path,
    home: Path,
    line: Line | None = None,
    say: Callable[[str], None] | None = None,
) -> bool:
    """Put a runtime into the mirror ``folder``; false when it was there already.

    Raises:
        ConfigError: the row names a folder, which has no hash.
        ResolutionError, PackageIndexError, SpaceError: it cannot be had.
    """
    if not runtime.sha256:
        raise ConfigError(
            f"{runtime} is a folder and cannot be mirrored.",
            advice="Pack it, and give its row the archive's sha256.",
        )
    name = archive_name(runtime)
    with explained_space(folder):
        folder.mkdir(parents=True, exist_ok=True)
        sweep_drafts(folder)
        place = folder / name
        there = place.is_file() and file_digest(place) == runtime.sha256
        if not there:
            _place(runtime, place, home, line, say)
        _list(msgspec.structs.replace(runtime, url=name, base=str(folder)), folder)
    return not there


def _place(
    runtime: Runtime, place: Path, home: Path, line: Line | None, say: Callable[[str], None] | None
) -> None:
    """Downloaded straight into the mirror, or copied from what this machine has."""
    if runtime.remote and fetched(runtime, archives(home)) is None:
        if say is not None:
            say(f"fetching {runtime}")
        download(runtime.address, place, runtime.sha256, line or Line())
        return
    source = fetch(runtime, archives(home))
    handle, name = tempfile.mkstemp(prefix=".draft-", dir=place.parent)
    os.close(handle)
    try:
        shutil.copyfile(source, name)
        Path(name).chmod(0o644)
        Path(name).replace(place)
    finally:
        Path(name).unlink(missing_ok=True)


def _list(runtime: Runtime, folder: Path) -> None:
    """Write the list with this row, and with the others whose archives are there."""
    rows = {}
    with contextlib.suppress(ConfigError):  # there is none yet
        rows = {row.url: row for row in open_index(str(folder)) if (folder / row.url).exists()}
    rows[runtime.url] = runtime
    draft = folder / f".draft-{FILE}.{os.getpid()}"
    draft.write_text(index_text(ordered(rows.values()), _HEAD), encoding="utf-8")
    draft.replace(folder / FILE)
