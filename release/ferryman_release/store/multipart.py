"""Large objects in parts: several at a time, in bounded memory, continued where an earlier run stopped.

boto3's own transfer cannot ask for `If-None-Match` at completion, nor go on after a kill. An upload of the same key
that somebody has begun is taken over when every part of it that has arrived is ours by size and MD5. Whether its
metadata have our digest can be seen only when it is complete; if they do not, that object, which nobody can know of
yet, is taken away and sent anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, wait
from pathlib import Path
from typing import BinaryIO

import msgspec

from ferryman_release.errors import StoreError
from ferryman_release.store.base import Headers, Progress, changed_source, open_source
from ferryman_release.store.wire import ChangedError, ConditionFailedError, NoUploadError, Part, Upload, Wire

PART = 8 << 20
MOST_PARTS = 10_000  # S3's own limit
_ROUNDS = 3  # an upload may be aborted under our hands, by another publisher or by a rule of the bucket


class Buffers:
    """How many parts are in memory at once, in all transfers of a store together."""

    def __init__(self, slots: int) -> None:
        self._free = threading.Semaphore(slots)
        self._lock = threading.Lock()
        self.held = 0
        self.most = 0

    def take(self) -> None:
        """Wait for room for one part."""
        self._free.acquire()
        with self._lock:
            self.held += 1
            self.most = max(self.most, self.held)

    def give(self) -> None:
        """Its bytes are no longer needed."""
        with self._lock:
            self.held -= 1
        self._free.release()

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        """Room for one part inside the block."""
        self.take()
        try:
            yield
        finally:
            self.give()


class Large(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be uploaded: a file, and what it is called there."""

    key: str
    path: Path
    headers: Headers
    sha256: str
    absent: bool
    label: str  # what the progress callback is told
    progress: Progress | None = None

    def report(self, more: int) -> None:
        """Tell whoever watches."""
        if self.progress is not None:
            self.progress(self.label, more)


class Multipart:
    """Uploads through ``wire``; parts are sent by ``pool``, and ``buffers`` bounds what is in memory."""

    def __init__(self, wire: Wire, buffers: Buffers, pool: Executor) -> None:
        self._wire = wire
        self._buffers = buffers
        self._pool = pool

    def upload(self, large: Large) -> None:
        """Make the object, with the condition that ``large`` asks for.

        Raises:
            ConditionFailedError: there is an object of that name.
            StoreError: the file does not have its digest; nothing was made.
        """
        begun = self._begun(large.key)
        for round_ in range(_ROUNDS):
            taken = self._take_over(large, begun) if round_ == 0 else None
            upload = taken or self._wire.begin(large.key, large.headers, sha256=large.sha256)
            try:
                self._carry(large, upload)
            except NoUploadError:  # it was complete and only the answer was lost, or somebody has aborted it
                if self._there(large):
                    break
                continue
            if not (taken and self._mislabelled(large)):
                break
        else:
            raise StoreError(
                f"The upload of {large.label} was aborted {_ROUNDS} times by somebody else.",
                advice="Let one publisher run at a time, and look at the bucket's rule for unfinished uploads.",
            )
        for one in begun:
            self._wire.abort(one.key, one.id)  # with the object there, these could only fail

    def _carry(self, large: Large, upload: str) -> None:
        try:
            parts = self._send(large, upload)
            self._wire.complete(large.key, upload, parts, absent=large.absent)
        except (ConditionFailedError, ChangedError) as error:
            self._wire.abort(large.key, upload)
            if isinstance(error, ChangedError):
                raise changed_source(large.label, large.sha256, str(error)) from error
            raise

    # -- taking over --------------------------------------------------------------------------------------------------

    def _begun(self, key: str) -> list[Upload]:
        """Unfinished uploads of this very key, newest first."""
        found = [one for one in self._wire.uploads(key) if one.key == key]
        return sorted(found, key=lambda one: one.started, reverse=True)

    def _take_over(self, large: Large, begun: list[Upload]) -> str | None:
        """The upload whose parts are all ours; None when none is."""
        for one in begun:
            with contextlib.suppress(NoUploadError):
                parts = self._wire.parts(large.key, one.id)
                if parts and _all_ours(large.path, parts):
                    return one.id
        return None

    def _there(self, large: Large) -> bool:
        """Whether the object is there and says that it is this one.

        Raises:
            ConditionFailedError: it does not say so, and may be another publisher's.
        """
        found = self._wire.head(large.key)
        if found is not None and found.sha256 != large.sha256:
            raise ConditionFailedError
        return found is not None

    def _mislabelled(self, large: Large) -> bool:
        """Whether what was just completed here has the label of whoever began it; then it is taken away again."""
        found = self._wire.head(large.key)
        wrong = found is not None and found.sha256 not in ("", large.sha256)
        if wrong:
            self._wire.delete(large.key)
        return wrong

    # -- sending ------------------------------------------------------------------------------------------------------

    def _send(self, large: Large, upload: str) -> list[Part]:
        """All parts, in order; those that have arrived before are read and not sent."""
        have = {part.number: part for part in self._wire.parts(large.key, upload)}
        digest = hashlib.sha256()
        futures: list[Future[Part]] = []
        with open_source(large.path) as file:
            try:
                for number, data in self._read(file):
                    digest.update(data)
                    futures.append(
                        self._pool.submit(self._one, large, upload, number, data, have.get(number))
                    )
                    if any(done.done() and done.exception() for done in futures):
                        break
            finally:
                wait(futures)
        parts = [future.result() for future in futures]
        if digest.hexdigest() != large.sha256:
            raise ChangedError(digest.hexdigest())
        return parts

    def _read(self, file: BinaryIO) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of each part; waits while enough is in memory. The receiver's thread gives the room back."""
        for number in range(1, MOST_PARTS + 1):
            self._buffers.take()
            data = b""
            try:
                data = file.read(PART)
            finally:
                if not data:
                    self._buffers.give()
            if not data:
                return
            yield number, data
        raise StoreError(
            f"{file.name} is larger than {MOST_PARTS * PART >> 30} GB, the most that one object takes.",
            advice="Make the artifact smaller.",
        )

    def _one(self, large: Large, upload: str, number: int, data: bytes, there: Part | None) -> Part:
        try:
            if there is None or not _is(there, data):
                etag = self._wire.part(large.key, upload, number, data)
                there = Part(number=number, etag=etag, size=len(data))
            large.report(len(data))
            return there
        finally:
            self._buffers.give()


def _is(part: Part, data: bytes) -> bool:
    return part.size == len(data) and part.etag == hashlib.md5(data, usedforsecurity=False).hexdigest()


def _all_ours(path: Path, parts: Sequence[Part]) -> bool:
    """Whether each part that has arrived holds what the file has at its place."""
    with open_source(path) as file:
        for part in parts:
            file.seek((part.number - 1) * PART)
            if not _is(part, file.read(PART)):
                return False
    return True
