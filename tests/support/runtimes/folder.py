"""A folder of test runtimes: archives beside a runtimes.toml, which is what a mirror is."""

from __future__ import annotations

import fcntl
import hashlib
import os
from collections.abc import Callable, Iterable
from pathlib import Path

from ferryman_build.cache import file_digest
from ferryman_build.runtimes.index import FILE, Runtime, index_text, read_index
from support.ferryman import ROOT
from support.runtimes.built import work_folder
from support.runtimes.makers import LOW_FLOOR, MAKERS, Job, Maker

DEFAULT = ROOT / ".cache" / "runtimes"
_HEAD = "# Interpreters for tests, made by tools/test_runtimes.py."


def make(
    targets: Iterable[str],
    into: Path = DEFAULT,
    say: Callable[[str], None] = print,
    *,
    low_floor: bool = False,
) -> Path:
    """The folder with runtimes for at least ``targets``; what it has already is not made again.

    Args:
        targets: ids of targets.
        into: the folder.
        say: gets a line before each long step.
        low_floor: only the makers of LOW_FLOOR will do where there is one.

    Raises:
        UnavailableError: one of them cannot be made on this host.
    """
    into.mkdir(parents=True, exist_ok=True)
    with (into / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for target in targets:
            _ensure(target, into, say, low_floor=low_floor)
    return into


def _ensure(target: str, into: Path, say: Callable[[str], None], *, low_floor: bool) -> Path:
    """The archive for a target, made if need be, behind the one that its maker needs."""
    low = LOW_FLOOR.get(target)
    wanted = [low] if low and low_floor else [MAKERS[target], *([low] if low else [])]
    rows = {row.target: row for row in rows_of(into)}
    for maker in wanted:
        name = archive_name(target, maker)
        if target in rows and rows[target].url == name and (into / name).is_file():
            return into / name
    helper = _ensure(wanted[0].helper, into, say, low_floor=False) if wanted[0].helper else None
    row = _make(target, wanted[0], into, say, helper)
    rows = {**{one.target: one for one in rows_of(into)}, target: row}
    draft = into / f".draft-{FILE}"
    draft.write_text(index_text((rows[one] for one in sorted(rows)), _HEAD), encoding="utf-8")
    draft.replace(into / FILE)
    return into / row.url


def rows_of(folder: Path) -> tuple[Runtime, ...]:
    """The rows that a folder has, none where there is no list yet."""
    listed = folder / FILE
    return read_index(listed.read_text(encoding="utf-8"), str(folder)) if listed.is_file() else ()


def archive_name(target: str, maker: Maker) -> str:
    """Changes with the maker's version, so that what an older maker made is made again."""
    recipe = hashlib.sha256(f"{target} {maker.version}".encode()).hexdigest()[:8]
    return f"cpython-3.11-{target}-{recipe}.tar.zst"


def _make(target: str, maker: Maker, into: Path, say: Callable[[str], None], helper: Path | None) -> Runtime:
    name = archive_name(target, maker)
    draft = into / f".draft-{os.getpid()}-{name}"
    try:
        with work_folder(into) as work:
            made = maker.make(Job(work, draft, say, helper))
        sha256 = file_digest(draft)
        draft.replace(into / name)
    finally:
        draft.unlink(missing_ok=True)
    return Runtime(
        python=made.python, target=target, url=name, sha256=sha256, licence="PSF-2.0", origin=made.origin
    )
