"""A store in a folder: what `file://` means, and what a release goes to when nobody has said anything else.

An object appears whole or not at all. It is written under a private name in `.ferryman/`, flushed to the disk, and
then linked to its own name, which fails when that name is taken (`create`), or renamed over it (`replace`, `put`)
under a lock of the whole folder. A process that is killed leaves a draft behind and nothing else; the kernel gives the
lock back. Drafts that a day has passed over are removed.

The folder is what a web server serves as it is. It keeps no headers: types and cache times are the server's.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from ferryman_build.cache import file_digest
from ferryman_build.checkout import NO_SPACE
from ferryman_build.errors import SpaceError
from ferryman_release.errors import StoreError
from ferryman_release.store.base import (
    Entry,
    Headers,
    Job,
    Outcome,
    Progress,
    changed_source,
    check_key,
    lost_race,
    open_source,
    other_bytes,
)
from ferryman_release.store.capabilities import Capabilities
from ferryman_release.store.parallel import run_all

PRIVATE = ".ferryman"
_CHUNK = 1 << 20
_WORKERS = 4
_DRAFT_SECONDS = 24 * 3600.0
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


class FileStore:
    """``folder`` is made when the first object is."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder.absolute()
        self._swept = False

    @property
    def url(self) -> str:
        return self._folder.as_uri()

    def capabilities(self, *, refresh: bool = False) -> Capabilities:
        return Capabilities(
            url=self.url,
            checked=time.time(),
            create=True,
            create_multipart=True,
            replace=True,
            versioned=False,
        )

    def get(self, key: str) -> tuple[bytes, str] | None:
        with _explained(self._folder), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            data = self._path(key).read_bytes()
            return data, hashlib.sha256(data).hexdigest()
        return None

    def head(self, key: str) -> Entry | None:
        path = self._path(key)
        with _explained(self._folder), contextlib.suppress(FileNotFoundError, NotADirectoryError):
            facts = path.stat()
            return Entry(key=key, size=facts.st_size, etag=file_digest(path), modified=facts.st_mtime)
        return None

    def create(
        self,
        key: str,
        source: Path | bytes,
        headers: Headers,
        *,
        sha256: str,
        progress: Progress | None = None,
    ) -> Outcome:
        path = self._path(key)
        with _explained(self._folder):
            if path.is_file():
                if (theirs := file_digest(path)) != sha256:
                    raise other_bytes(key, theirs, sha256)
                _report(progress, key, path.stat().st_size)
                return Outcome.EXISTED
            with self._draft(source, key, progress) as (draft, found):
                if found != sha256:
                    raise changed_source(key, sha256, found)
                if self._link(draft, path):
                    return Outcome.CREATED
            if (theirs := file_digest(path)) != sha256:
                raise other_bytes(key, theirs, sha256)
            return Outcome.EXISTED

    def replace(self, key: str, data: bytes, headers: Headers, *, etag: str | None) -> str:
        path, new = self._path(key), hashlib.sha256(data).hexdigest()
        with _explained(self._folder), self._draft(data, key) as (draft, _), self._lock():
            current = self.get(key)
            have = current[1] if current else None
            if have == etag and etag is not None:
                self._rename(draft, path)
            elif not (have is None and etag is None and self._link(draft, path)) and have != new:
                raise lost_race(key)
        return new

    def put(self, key: str, data: bytes, headers: Headers) -> None:
        path = self._path(key)
        with _explained(self._folder), self._draft(data, key) as (draft, _), self._lock():
            self._rename(draft, path)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        top = self._folder / prefix.rpartition("/")[0]
        if ".." in prefix.split("/"):
            return
        with _explained(self._folder):
            found = sorted((path.relative_to(self._folder).as_posix(), path) for path in _files(top))
        for key, path in found:
            with contextlib.suppress(FileNotFoundError):  # taken away meanwhile
                if key.startswith(prefix):
                    facts = path.stat()
                    yield Entry(key=key, size=facts.st_size, etag="", modified=facts.st_mtime)

    def delete(self, key: str) -> None:
        path = self._path(key)
        with _explained(self._folder), self._lock():
            path.unlink(missing_ok=True)
            for parent in path.relative_to(self._folder).parents[:-1]:
                try:
                    (self._folder / parent).rmdir()
                except OSError:  # it has other objects
                    break

    def create_many(self, jobs: Sequence[Job], *, progress: Progress | None = None) -> dict[str, Outcome]:
        def one(job: Job) -> tuple[str, Outcome]:
            done = self.create(job.key, job.source, job.headers, sha256=job.sha256, progress=progress)
            return job.key, done

        return dict(run_all(one, jobs, workers=_WORKERS))

    def close(self) -> None:
        """Nothing is held between two calls."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        self.close()

    # -- how ----------------------------------------------------------------------------------------------------------

    def _path(self, key: str) -> Path:
        return self._folder.joinpath(*check_key(key).split("/"))

    @contextlib.contextmanager
    def _draft(
        self, source: Path | bytes, key: str, progress: Progress | None = None
    ) -> Iterator[tuple[Path, str]]:
        """The bytes of ``source`` on disk under a private name, and their digest; the name is gone afterwards."""
        drafts = self._folder / PRIVATE / "drafts"
        drafts.mkdir(parents=True, exist_ok=True)
        self._sweep(drafts)
        draft = drafts / f"{os.getpid()}-{secrets.token_hex(8)}"
        try:
            with open(draft, "xb") as file:
                digest = _copy(source, file, lambda more: _report(progress, key, more))
                file.flush()
                os.fsync(file.fileno())
            yield draft, digest
        finally:
            draft.unlink(missing_ok=True)

    def _sweep(self, drafts: Path) -> None:
        """Remove what processes left behind that were killed long ago."""
        if self._swept:
            return
        self._swept = True
        for path in drafts.iterdir():
            with contextlib.suppress(OSError):
                if path.stat().st_mtime < time.time() - _DRAFT_SECONDS:
                    path.unlink()

    def _link(self, draft: Path, path: Path) -> bool:
        """Give the draft its name; False when the name is taken."""
        try:
            _beside(path, lambda: os.link(draft, path))
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            return self._rename_unless_taken(draft, path)
        _flush_folder(path.parent)
        return True

    def _rename_unless_taken(self, draft: Path, path: Path) -> bool:
        """The same for a file system without hard links: all publishers of this folder take its lock."""
        with self._lock():
            if path.exists():
                return False
            self._rename(draft, path)
            return True

    def _rename(self, draft: Path, path: Path) -> None:
        _beside(path, lambda: draft.replace(path))
        _flush_folder(path.parent)

    @contextlib.contextmanager
    def _lock(self) -> Iterator[None]:
        """Wait for the folder's lock and hold it; it ends with the process, however that ends."""
        private = self._folder / PRIVATE
        private.mkdir(parents=True, exist_ok=True)
        with open(private / "lock", "ab") as file:
            _wait_for_lock(file.fileno())
            yield


def _wait_for_lock(handle: int) -> None:
    if os.name == "nt":
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_LOCK, 1)  # type: ignore[attr-defined]
    else:
        import fcntl

        fcntl.flock(handle, fcntl.LOCK_EX)


def _copy(source: Path | bytes, into: BinaryIO, report: Callable[[int], None]) -> str:
    """Write ``source`` there and say its digest (hex)."""
    if isinstance(source, bytes):
        into.write(source)
        report(len(source))
        return hashlib.sha256(source).hexdigest()
    digest = hashlib.sha256()
    with open_source(source) as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
            into.write(chunk)
            report(len(chunk))
    return digest.hexdigest()


def _report(progress: Progress | None, key: str, more: int) -> None:
    if progress is not None:
        progress(key, more)


def _beside(path: Path, act: Callable[[], object]) -> None:
    """Act in the folder of ``path``, which somebody else's `delete` may take away just after it was made."""
    for _ in range(10):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            act()
        except FileNotFoundError:
            continue
        return
    act()


def _flush_folder(folder: Path) -> None:
    """Make a new name last through a power cut, where the system can be asked for it."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _files(folder: Path) -> Iterator[Path]:
    """All files below ``folder`` that are objects: no hidden name on the way."""
    try:
        entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        if entry.is_dir():
            yield from _files(Path(entry.path))
        elif entry.is_file():
            yield Path(entry.path)


@contextlib.contextmanager
def _explained(folder: Path) -> Iterator[None]:
    """What the file system answers, as a sentence."""
    try:
        yield
    except OSError as error:
        if error.errno in NO_SPACE:
            raise SpaceError(
                f"No space left for the store in {folder}.",
                advice="Make room there, or remove old releases with `ferryman gc`; then run the same again.",
            ) from error
        raise StoreError(
            f"The store in {folder} cannot be used: {error.strerror or error} ({error.filename or folder}).",
            advice="Let [tool.ferryman.release] url name a folder that you can write to.",
        ) from error
