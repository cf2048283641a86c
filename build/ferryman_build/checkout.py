"""One build at a time per out/ folder, and a dist/ that is never half of anything."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ferryman_build.errors import BusyError, SpaceError

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
_NEEDED_BYTES = 500_000_000


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the lock of ``out`` (an advisory lock on out/.lock; it ends with the process, however that ends).

    Raises:
        BusyError: another process holds it; the message has its number.
    """
    out.mkdir(parents=True, exist_ok=True)
    with (out / ".lock").open("a+", encoding="utf-8") as file:
        if not _try_lock(file.fileno()):
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


def _try_lock(handle: int) -> bool:
    try:
        if os.name == "nt":
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        else:
            import fcntl

            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


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
