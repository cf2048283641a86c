"""The build cache: results of steps, kept by the content of what went in.

A result is a folder out/cache/<step>/<key>/. It is made in a sibling with a private name and renamed into place, so a
folder under its final name is always whole; a run that dies leaves only a sibling that the next run sweeps away. Keys
are digests of content (never of time stamps), and ``result.json`` holds the digest of what the step produced, which
is what later steps put into their own keys: an input that changes without changing the output stops right there.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import msgspec

_KEPT_PER_STEP = 48  # a few of each target
_BLOB_SECONDS = 30 * 24 * 3600  # since its last use
_BLOB_BYTES = 2_000_000_000
_BLOB = re.compile(r"[0-9a-f]{38}(\.z[1-9])?")  # the second form is pack.py's
_RESULT = "result.json"


class Result(msgspec.Struct, frozen=True):
    """What is known of a finished step: digest of its folder's content, seconds that it took, a note for people."""

    digest: str
    seconds: float
    note: str = ""


def digest(value: object) -> str:
    """SHA-256 (hex) of a JSON-able value, whatever the order of its mappings' keys."""
    return hashlib.sha256(msgspec.json.encode(value, order="deterministic")).hexdigest()


def file_digest(path: Path) -> str:
    """SHA-256 (hex) of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def tree_digest(root: Path, paths: Iterable[Path] | None = None) -> str:
    """SHA-256 (hex) of a folder: relative paths, executable bits, link targets and contents, in sorted order."""
    found = sorted(
        root.rglob("*") if paths is None else paths, key=lambda path: path.relative_to(root).as_posix()
    )
    sums = hashlib.sha256()
    for path in found:
        if path.is_symlink():
            kind, content = "link", str(path.readlink())
        elif path.is_file():
            kind, content = ("exec" if path.stat().st_mode & 0o111 else "file"), file_digest(path)
        else:
            continue
        line = f"{path.relative_to(root).as_posix()}\0{kind}\0{content}\n"
        sums.update(line.encode("utf-8", "surrogateescape"))  # a file's name may be no text
    return sums.hexdigest()


class Cache:
    """``root`` is out/cache. ``used`` are the entries that this run has touched; the sweep spares them."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.used: set[Path] = set()

    def path(self, step: str, key: str) -> Path:
        """Where the result of ``step`` for ``key`` is, or would be."""
        return self.root / step / key[:32]

    def find(self, step: str, key: str) -> tuple[Path, Result] | None:
        """The finished result, or None. A damaged one counts as none and is removed."""
        folder = self.path(step, key)
        try:
            result = msgspec.json.decode((folder / _RESULT).read_bytes(), type=Result)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError:
            shutil.rmtree(folder, ignore_errors=True)
            return None
        self.used.add(folder)
        os.utime(folder)  # only the sweep reads it
        return folder, result

    def forget(self, folder: Path) -> None:
        """No later run finds this result; the folder stays until the sweep, for whoever uses it now."""
        (folder / _RESULT).unlink(missing_ok=True)

    def make(
        self, step: str, key: str, fill: Callable[[Path], str], *, clock: Callable[[], float]
    ) -> tuple[Path, Result]:
        """Run ``fill`` on an empty folder and keep it. ``fill`` returns a note for people.

        Whatever ``fill`` raises passes through and leaves nothing behind.
        """
        folder = self.path(step, key)
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=".draft-", dir=folder.parent))
        draft.chmod(0o755)
        started = clock()
        try:
            note = fill(draft)
            result = Result(digest=tree_digest(draft), seconds=round(clock() - started, 3), note=note)
            (draft / _RESULT).write_bytes(msgspec.json.encode(result))
            if folder.exists():
                shutil.rmtree(folder)
            draft.rename(folder)
        except BaseException:
            shutil.rmtree(draft, ignore_errors=True)
            raise
        self.used.add(folder)
        return folder, result

    def sweep(self) -> int:
        """Remove drafts of dead runs, all but the newest few results of each step, and old blobs; the number removed.

        Call it only while holding the checkout's lock. The index's answers are small and stay.
        """
        removed = Blobs(self.root / "blobs").sweep(time.time())
        for drafts, results in map(_drafts_and_results, self.root.iterdir() if self.root.exists() else ()):
            kept = sorted(results, key=_last_used, reverse=True)
            for path in (*drafts, *(path for path in kept[_KEPT_PER_STEP:] if path not in self.used)):
                shutil.rmtree(path, ignore_errors=True)
                removed += 1
        return removed


def _drafts_and_results(step: Path) -> tuple[list[Path], list[Path]]:
    return list(step.glob(".draft-*/")), [found.parent for found in step.glob(f"[!.]*/{_RESULT}")]


def _last_used(path: Path) -> float:
    return path.stat().st_mtime


class Blobs:
    """Small files by key, shared by all steps: compiled modules, stripped libraries, compressed members.

    Written beside and renamed. A file's own date is that of its last use, and only the sweep reads it.
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, key: str) -> Path:
        return self.root / key[:2] / key[2:40]

    def find(self, key: str) -> Path | None:
        """The file of ``key``, which counts as a use; None when it is not there."""
        path = self.path(key)
        try:
            os.utime(path)
        except FileNotFoundError:
            return None
        return path

    def missing(self, keys: Mapping[str, object]) -> list[str]:
        """Those of ``keys`` that are not there, in order."""
        return [key for key in keys if self.find(key) is None]

    def sweep(self, now: float) -> int:
        """Remove drafts of dead runs, what was not used for a month, and, oldest first, what is over the limit."""
        found = [(path, path.stat()) for path in self.root.glob("*/*")]
        removed = left = 0
        for path, status in sorted(found, key=lambda item: -item[1].st_mtime):
            left += status.st_size
            old = now - status.st_mtime > _BLOB_SECONDS or left > _BLOB_BYTES
            if old or not _BLOB.fullmatch(path.name):
                path.unlink()
                removed += 1
        return removed

    def put(self, key: str, content: bytes) -> Path:
        path = self.path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, draft = tempfile.mkstemp(prefix=".draft-", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        Path(draft).chmod(0o644)
        Path(draft).replace(path)
        return path
