"""A file that is whole, has the promised digest, and is at its place at once, or is not there.

Bytes go to `.<name>.<digest>.part` beside the destination, which stays after an interruption so that the next attempt
goes on from it; its entity tag is kept beside it. The part becomes the file by a rename, after it was hashed and synced.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

from ferryman_client.errors import SpaceError, StateError, UnreachableError, VerifyError
from ferryman_client.fetch import Answer, Source
from ferryman_client.state import locked

Progress = Callable[[int, int], None]
"""Called with the bytes that are there and those that there will be."""

ATTEMPTS = 5  # per place, in a row without one new byte
READ = 1024 * 1024


class _Part:
    """The file in the making: what is there of it, its running hash, and the tag of the object that it is of."""

    def __init__(self, path: Path, size: int) -> None:
        self.path, self.size = path, size
        self.tag = path.with_suffix(".etag")
        self.digest = hashlib.sha256()
        self.have = 0

    def reread(self) -> None:
        """Hash what an earlier attempt left; too much of it is nothing."""
        self.digest, self.have = hashlib.sha256(), 0
        with suppress(FileNotFoundError), self.path.open("rb") as stream:
            while self.have <= self.size and (chunk := stream.read(READ)):
                self.digest.update(chunk)
                self.have += len(chunk)
        if self.have > self.size:
            self.discard()

    def etag(self) -> str:
        try:
            return self.tag.read_text(encoding="ascii")
        except (OSError, ValueError):
            return ""

    def discard(self) -> None:
        for path in (self.path, self.tag):
            path.unlink(missing_ok=True)
        self.digest, self.have = hashlib.sha256(), 0

    def take(self, answer: Answer, progress: Progress | None, url: str) -> None:
        """Append the body of the answer from ``url``, or begin anew when it is a whole one."""
        if answer.status != 206 or answer.start != self.have:
            if answer.status == 206:
                raise UnreachableError("The server sent another range than the one that was asked for.")
            self.discard()
        if answer.etag and not answer.etag.startswith("W/"):  # a weak tag says nothing about bytes
            with suppress(UnicodeError):
                self.tag.write_text(answer.etag, encoding="ascii")
        with self.path.open("ab") as stream:
            for chunk in answer.body:
                self._append(stream, chunk, url)
                if progress:
                    progress(self.have, self.size)

    def _append(self, stream: IO[bytes], chunk: bytes, url: str) -> None:
        if self.have + len(chunk) > self.size:
            raise VerifyError(
                f"{url} is longer than the {self.size} bytes that are signed for.", advice=_FORGED
            )
        stream.write(chunk)
        self.digest.update(chunk)
        self.have += len(chunk)


_FORGED = "It was deleted. The server or something on the way changes files; try another mirror."


def download(
    source: Source,
    urls: Sequence[str],
    path: Path,
    *,
    size: int,
    sha256: str,
    mode: int = 0o644,
    progress: Progress | None = None,
    lock_timeout: float = 60.0,
) -> Path:
    """Fetch ``path`` from the first of ``urls`` that has it; at once, if it is there already.

    Args:
        size: in bytes, as signed.
        sha256: as signed.
        mode: permission bits, before the umask.

    Raises:
        UnreachableError: no place has it; SpaceError; BusyError: another process fetches it;
        VerifyError: what came is not what is signed, from no place; StateError: the folder cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        if matches(path, size, sha256):
            return path
        part = _Part(path.with_name(f".{path.name}.{sha256[:16]}.part"), size)
        with locked(part.path.with_suffix(".lock"), lock_timeout, remove=True):
            if not matches(path, size, sha256):  # another process has fetched it meanwhile
                _check_space(path.parent, size, part)
                _from_anywhere(source, urls, part, sha256, progress)
                _deliver(part, path, mode)
    except OSError as error:
        raise _storage(error, path) from error
    return path


def matches(path: Path, size: int, sha256: str) -> bool:
    """Whether the file is there with these bytes."""
    try:
        return path.stat().st_size == size and file_digest(path) == sha256
    except OSError:
        return False


def file_digest(path: Path) -> str:
    """SHA-256 of a file; raises OSError."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _from_anywhere(
    source: Source, urls: Sequence[str], part: _Part, sha256: str, progress: Progress | None
) -> None:
    """Mirror after mirror; the first one's failure is the one that is told."""
    first: UnreachableError | VerifyError | None = None
    for url in urls:
        try:
            _from_one(source, url, part, sha256, progress)
            return
        except (UnreachableError, VerifyError) as error:
            if isinstance(error, VerifyError):
                part.discard()
            first = first or error
    assert first is not None, "there is at least one place"
    raise first


def _from_one(source: Source, url: str, part: _Part, sha256: str, progress: Progress | None) -> None:
    part.reread()
    resumed = part.have > 0
    _complete(source, url, part, progress)
    if part.digest.hexdigest() != sha256 and resumed:  # what was there already may be to blame
        part.discard()
        _complete(source, url, part, progress)
    if part.digest.hexdigest() != sha256:
        raise VerifyError(f"{url} is not what is signed: its SHA-256 is another.", advice=_FORGED)


def _complete(source: Source, url: str, part: _Part, progress: Progress | None) -> None:
    """Ask until all bytes are there; a connection that breaks again and again without one new byte is given up."""
    failures = 0
    while part.have < part.size:
        before = part.have
        try:
            with source.open(url, start=part.have, etag=part.etag() if part.have else "") as answer:
                part.take(answer, progress, url)
            if part.have < part.size:
                raise UnreachableError(f"{url} ended after {part.have} of {part.size} bytes.", advice=_LATER)
        except UnreachableError as error:
            if error.status == 416:  # the object there is shorter than the part
                part.discard()
            elif 400 <= error.status < 500 and error.status not in (408, 429):
                raise
            failures = 0 if part.have > before else failures + 1
            if failures >= ATTEMPTS:
                raise


_LATER = "Try again: it goes on where it stopped."


def _check_space(folder: Path, size: int, part: _Part) -> None:
    import shutil

    have = part.path.stat().st_size if part.path.exists() else 0
    free = shutil.disk_usage(folder).free
    if free < size - have:
        raise SpaceError(
            f"{folder} has room for {free} bytes, and the download needs {size - have}.",
            advice="Make room, or download to another place.",
        )


def _deliver(part: _Part, path: Path, mode: int) -> None:
    allowed = _under_umask(part.path.with_suffix(".mode"), mode)
    with part.path.open("ab") as stream:  # also where there was nothing to append: an empty file
        os.fsync(stream.fileno())
    part.path.chmod(allowed)
    part.path.replace(path)
    part.tag.unlink(missing_ok=True)


def _under_umask(probe: Path, mode: int) -> int:
    """What the process's umask leaves of ``mode``: a file that is made tells; asking for the umask would change it."""
    probe.unlink(missing_ok=True)
    handle = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        return os.fstat(handle).st_mode & 0o777
    finally:
        os.close(handle)
        probe.unlink(missing_ok=True)


def _storage(error: OSError, path: Path) -> SpaceError | StateError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return SpaceError(
            f"No space left for {path.name} in {path.parent}.",
            advice="Make room; the download goes on where it stopped.",
        )
    return StateError(
        f"{path} cannot be written: {error.strerror or error}.", advice="Check who owns the folder."
    )
