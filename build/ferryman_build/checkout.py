"""One build at a time per out/ folder, and a dist/ that is never half of anything."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from ferryman_build.errors import BusyError, ConfigError, SpaceError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_HELD = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES, errno.EDEADLK)  # the last two: Windows
_NEEDED_BYTES = 500_000_000


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the lock of ``out`` (an advisory lock on out/.lock; it ends with the process, however that ends).

    Raises:
        BusyError: another process holds it; the message has its number.
        ConfigError: ``out`` cannot be a folder of ours, or its file system has no locks.
    """
    if problem := folder_problem(out):
        raise ConfigError(f"{problem}.", advice="Name another folder with --out.")
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("a+", encoding="utf-8") as file:
        if not _try_lock(file.fileno(), out):
            file.seek(0)
            owner = file.read().strip() or "unknown"
            raise BusyError(
                f"Another build is using {out} (process {owner}).",
                advice="Wait until it has finished, or build elsewhere with --out and --dist.",
            )
        file.seek(0)
        file.truncate()
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _try_lock(handle: int, out: Path) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            return False
        raise ConfigError(
            f"The file system of {out} has no locks ({error.strerror}).",
            advice="Keep the cache on a local disk, with --out.",
        ) from error
    return True


def folder_problem(folder: Path) -> str:
    """'' or why files cannot be written to ``folder``, which need not be there yet."""
    existing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
    if not existing.is_dir():
        return f"{existing} is not a folder"
    return "" if os.access(existing, os.W_OK | os.X_OK) else f"{existing} cannot be written to"


def space_problem(folder: Path, needed: int = _NEEDED_BYTES) -> str:
    """'' or a sentence that says how much space is missing where ``folder`` is or will be."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if free >= needed:
        return ""
    return f"{existing} has {free // 1_000_000} MB free and a build needs about {needed // 1_000_000} MB"


def draft_copy(content: bytes, target: Path, executable: bool) -> Path:
    """Write ``content`` under a hidden name beside ``target``, flushed to disk; rename it over ``target`` to finish.

    Raises:
        SpaceError: no space left; the draft is gone again.
    """
    draft: Path | None = None
    try:
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        draft = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        draft.chmod(0o755 if executable else 0o644)
    except BaseException as error:
        if draft is not None:
            draft.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno in NO_SPACE:
            raise SpaceError(
                f"No space left while writing {target}.",
                advice="Free some space; nothing in dist/ was changed.",
            ) from error
        raise
    return draft


@contextlib.contextmanager
def drafts_removed_on_error() -> Iterator[list[tuple[Path, Path]]]:
    """A list of (draft, target); whatever goes wrong inside, drafts that were not renamed are removed."""
    drafts: list[tuple[Path, Path]] = []
    try:
        yield drafts
    except BaseException:
        for draft, _ in drafts:
            draft.unlink(missing_ok=True)
        raise


def replace_all(drafts: Sequence[tuple[Path, Path]]) -> None:
    """Rename each (draft, target), in order; when that ends early, every target is again what it was.

    What a target was is kept beside it as ``.NAME.ferryman-before`` until the last rename, so that :func:`undo_dead_run` can
    do the same for a run that was killed.
    """
    targets = [target for _, target in drafts]
    try:
        for target in targets:
            _set_aside(target)
        for draft, target in drafts:
            draft.replace(target)
    except BaseException:
        fresh = [
            target for draft, target in drafts if not draft.exists() and not os.path.lexists(_aside(target))
        ]
        for target in targets:
            _put_back(target)
        for target in fresh:
            target.unlink(missing_ok=True)
        raise
    for target in targets:
        _aside(target).unlink(missing_ok=True)


def undo_dead_run(last: Path) -> None:
    """Put back what a killed :func:`replace_all` had set aside in the folder of ``last``, its last target.

    When ``last`` is no longer what it was, everything before it is in place as well, and only the old files go.
    """
    kept = _aside(last)
    finished = last.exists() and not (kept.exists() and kept.read_bytes() == last.read_bytes())
    asides = sorted(
        last.parent.glob(".*.ferryman-before"), key=lambda path: path == kept
    )  # what decides goes last
    for aside in asides:
        if finished:
            aside.unlink()
        else:
            _put_back(aside.with_name(aside.name.removeprefix(".").removesuffix(".ferryman-before")))


def _aside(target: Path) -> Path:
    return target.with_name(f".{target.name}.ferryman-before")


def _set_aside(target: Path) -> None:
    """A second name for what is there now, so that the first one never goes away."""
    aside = _aside(target)
    aside.unlink(missing_ok=True)
    if not os.path.lexists(target):
        return
    try:
        os.link(target, aside, follow_symlinks=False)
    except OSError:  # a file system without hard links
        shutil.copy2(target, aside, follow_symlinks=False)


def _put_back(target: Path) -> None:
    aside = _aside(target)
    if os.path.lexists(aside):
        aside.replace(target)
        aside.unlink(missing_ok=True)  # renaming one name of a file to its other name does nothing
