"""A store in a bucket: how `create` and `replace` keep their promises over the requests of S3's protocol.

Where the store honours a condition, the condition is the promise. Where it ignores one, the publisher holds a lease
(:mod:`ferryman_release.store.fallback`), looks before it writes and reads back what it wrote. Which of the two is the
store's own answer (:mod:`ferryman_release.store.probe`), asked before the first write.

A refused condition is no failure yet. The answer to an earlier try may have been lost, so what is there is compared
with what was to be written: the same bytes are a success.
"""

from __future__ import annotations

import hashlib
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from ferryman_build.settings import Compat
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
from ferryman_release.store.capabilities import Capabilities, keep, kept
from ferryman_release.store.fallback import Lease, Terms
from ferryman_release.store.multipart import PART, Buffers, Large, Multipart
from ferryman_release.store.parallel import run_all
from ferryman_release.store.probe import Connect, probe
from ferryman_release.store.wire import Body, ChangedError, ConditionFailedError, Stored, Wire

WORKERS = 8
LARGEST_PUT = 5 << 30
_READS = 3
_LISTED_FROM = 3  # objects of one folder
_LOOKED_FOR = 1 << 16  # bytes; a smaller object is sent without a look


class BucketStore:
    """``kept_in`` is the file that holds what is known of the store; ``terms`` are those of the lease."""

    def __init__(
        self,
        *,
        url: str,
        prefix: str,
        endpoint: str,
        compat: Compat,
        connect: Connect,
        kept_in: Path,
        terms: Terms | None = None,
        workers: int = WORKERS,
    ) -> None:
        self._url = url
        self._prefix = prefix
        self._endpoint = endpoint
        self._compat = compat
        self._connect = connect
        self._kept_in = kept_in
        self._terms = terms or Terms()
        self._workers = workers
        self._lock = threading.RLock()
        self._known: Capabilities | None = None
        self._wires: dict[bool, Wire] = {}
        self._lease: Lease | None = None
        self._asked = False
        self._pool: ThreadPoolExecutor | None = None
        self.buffers = Buffers(workers)

    @property
    def url(self) -> str:
        return self._url

    def capabilities(self, *, refresh: bool = False) -> Capabilities:
        """What the store can do: what is known of it since less than a week, else by asking it.

        Whether the bucket keeps old versions is asked each time: switched on, it makes some stores ignore conditions.
        """
        with self._lock:
            if refresh or not self._asked:
                known = None if refresh else kept(self._kept_in, self._url, self._endpoint)
                if known is None or known.versioned != self._wire.versioned():
                    known = probe(self._connect, self._prefix, self._url, self._endpoint)
                    keep(self._kept_in, known)
                self._known, self._asked = known, True
            assert self._known is not None
            return self._known

    def known(self) -> Capabilities | None:
        """The same as far as it is known without asking."""
        with self._lock:
            return self._known or kept(self._kept_in, self._url, self._endpoint)

    # -- reading ------------------------------------------------------------------------------------------------------

    def get(self, key: str) -> tuple[bytes, str] | None:
        for _ in range(_READS):
            found = self._wire.get(self._prefix + check_key(key))
            if found is None:
                return None
            data, about = found
            if about.sha256 in ("", hashlib.sha256(data).hexdigest()):
                return data, about.etag
        raise StoreError(
            f"{key} was read {_READS} times, and its bytes never had the digest that was kept with it.",
            advice="The object is damaged, or a proxy changes what it carries: compare it with the release's SHA256SUMS.",
        )

    def head(self, key: str) -> Entry | None:
        found = self._wire.head(self._prefix + check_key(key))
        if found is None:
            return None
        return Entry(key=key, size=found.size, etag=found.etag, modified=found.modified)

    def list(self, prefix: str = "") -> Iterator[Entry]:
        for found in self._wire.list(self._prefix + prefix):
            key = found.key.removeprefix(self._prefix)
            if not any(part.startswith(".") for part in key.split("/")):  # claims and probes are no objects
                yield Entry(key=key, size=found.size, etag=found.etag, modified=found.modified)

    # -- writing ------------------------------------------------------------------------------------------------------

    def create(
        self,
        key: str,
        source: Path | bytes,
        headers: Headers,
        *,
        sha256: str,
        progress: Progress | None = None,
    ) -> Outcome:
        job = Job(key=check_key(key), source=source, headers=headers, sha256=sha256)
        return self._create(job, progress, there=job.size > _LOOKED_FOR)

    def create_many(self, jobs: Sequence[Job], *, progress: Progress | None = None) -> dict[str, Outcome]:
        for job in jobs:
            check_key(job.key)
        absent = self._absent([job.key for job in jobs])

        def one(job: Job) -> tuple[str, Outcome]:
            return job.key, self._create(job, progress, there=job.key not in absent)

        return dict(run_all(one, jobs, workers=self._workers))

    def replace(self, key: str, data: bytes, headers: Headers, *, etag: str | None) -> str:
        able = self.capabilities()
        if able.replace and able.create:
            return self._replace_if(key, data, headers, etag, bare=able.bare_etag)
        return self._replace_leased(key, data, headers, etag)

    def put(self, key: str, data: bytes, headers: Headers) -> None:
        self._wire.put(self._prefix + check_key(key), data, headers, sha256=hashlib.sha256(data).hexdigest())

    def delete(self, key: str) -> None:
        self._wire.delete(self._prefix + check_key(key))

    def close(self) -> None:
        with self._lock:
            lease, self._lease = self._lease, None
            pool, self._pool = self._pool, None
            wires, self._wires = self._wires, {}
        if lease is not None:
            lease.release()
        if pool is not None:
            pool.shutdown()
        for wire in wires.values():
            wire.close()

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

    # -- create -------------------------------------------------------------------------------------------------------

    def _create(self, job: Job, progress: Progress | None, *, there: bool) -> Outcome:
        """``there``: look first, since a body that is refused has been sent for nothing."""
        if there and (found := self._wire.head(self._prefix + job.key)):
            return self._existed(job, found, progress)
        able = self.capabilities()
        if able.create:
            try:
                self._send(job, progress, absent=True)
            except ConditionFailedError:
                return self._compare(job, progress)
            return Outcome.CREATED
        return self._create_leased(job, progress)

    def _create_leased(self, job: Job, progress: Progress | None) -> Outcome:
        """The second way: look, write, read back, all within the lease."""
        self._leased()
        if found := self._wire.head(self._prefix + job.key):
            return self._existed(job, found, progress)
        self._leased()
        self._send(job, progress, absent=False)
        self._leased()
        self._compare(job, None)
        return Outcome.CREATED

    def _absent(self, keys: Sequence[str]) -> set[str]:
        """Those of the keys that are not there, found by listing folders where that costs less than asking for each."""
        folders = Counter(key.rpartition("/")[0] for key in keys)
        listed = {folder for folder, count in folders.items() if folder and count > _LISTED_FROM}
        there = {entry.key for folder in sorted(listed) for entry in self.list(f"{folder}/")}
        return {key for key in keys if key.rpartition("/")[0] in listed and key not in there}

    def _compare(self, job: Job, progress: Progress | None) -> Outcome:
        found = self._wire.head(self._prefix + job.key)
        if found is None:
            raise lost_race(job.key)
        return self._existed(job, found, progress)

    def _existed(self, job: Job, found: Stored, progress: Progress | None) -> Outcome:
        theirs = found.sha256
        if not theirs or (theirs == job.sha256 and found.size != job.size):
            theirs = self._digest(job.key)
        if theirs != job.sha256:
            raise other_bytes(job.key, theirs, job.sha256)
        if progress is not None:
            progress(job.key, job.size)
        return Outcome.EXISTED

    def _digest(self, key: str) -> str:
        """The digest of what is there, by reading it: who made it has not said."""
        digest = hashlib.sha256()
        for chunk in self._wire.read(self._prefix + key):
            digest.update(chunk)
        return digest.hexdigest()

    def _send(self, job: Job, progress: Progress | None, *, absent: bool) -> None:
        able = self.capabilities()
        if job.size <= PART or isinstance(job.source, bytes):
            self._send_whole(job, progress, absent=absent)
        elif able.create_multipart or (able.multipart and not absent):
            self._send_parts(job, job.source, progress, absent=absent)
        else:
            self._send_stream(job, job.source, progress, absent=absent)

    def _send_whole(self, job: Job, progress: Progress | None, *, absent: bool) -> None:
        with self.buffers.one():
            if isinstance(job.source, bytes):
                data = job.source
            else:
                with open_source(job.source) as file:
                    data = file.read()
            self._put_checked(job, data, absent=absent)
        if progress is not None:
            progress(job.key, len(data))

    def _send_parts(self, job: Job, path: Path, progress: Progress | None, *, absent: bool) -> None:
        large = Large(
            key=self._prefix + job.key,
            path=path,
            headers=job.headers,
            sha256=job.sha256,
            absent=absent,
            label=job.key,
            progress=progress,
        )
        Multipart(self._wire, self.buffers, self._parts_pool()).upload(large)

    def _send_stream(self, job: Job, path: Path, progress: Progress | None, *, absent: bool) -> None:
        """One request, read from the disk while it is sent: for stores that heed conditions only there."""
        if job.size > LARGEST_PUT:
            raise StoreError(
                f"{job.key} has {job.size >> 30} GB, and this store takes 5 GB at most where it also keeps its word.",
                advice="Publish to a store that honours conditions on multipart uploads (docs/stores.md).",
            )
        with open_source(path) as file:
            self._put_checked(job, file, absent=absent)
        if progress is not None:
            progress(job.key, job.size)

    def _put_checked(self, job: Job, body: Body, *, absent: bool) -> None:
        try:
            self._wire.put(self._prefix + job.key, body, job.headers, sha256=job.sha256, absent=absent)
        except ChangedError as error:
            raise changed_source(job.key, job.sha256, str(error)) from error

    # -- replace ------------------------------------------------------------------------------------------------------

    def _replace_if(self, key: str, data: bytes, headers: Headers, etag: str | None, *, bare: bool) -> str:
        tag = etag if etag is None or bare else f'"{etag}"'
        sha256 = hashlib.sha256(data).hexdigest()
        try:
            return self._wire.put(
                self._prefix + check_key(key), data, headers, sha256=sha256, absent=etag is None, match=tag
            )
        except ConditionFailedError:
            return self._same_or_lost(key, data)

    def _replace_leased(self, key: str, data: bytes, headers: Headers, etag: str | None) -> str:
        self._leased()
        current = self.get(key)
        if (current[1] if current else None) != etag:
            return self._same_or_lost(key, data)
        self._leased()
        self.put(key, data, headers)
        self._leased()
        return self._same_or_lost(key, data)

    def _same_or_lost(self, key: str, data: bytes) -> str:
        """The etag of what is there, if it is what we wanted to be there."""
        current = self.get(key)
        if current is None or current[0] != data:
            raise lost_race(key)
        return current[1]

    # -- how ----------------------------------------------------------------------------------------------------------

    @property
    def _wire(self) -> Wire:
        with self._lock:
            relaxed = self._relaxed()
            if relaxed not in self._wires:
                self._wires[relaxed] = self._connect(relaxed=relaxed)
            return self._wires[relaxed]

    def _relaxed(self) -> bool:
        if self._compat is not Compat.AUTO:
            return self._compat is Compat.RELAXED
        if self._known is None:
            self._known = kept(self._kept_in, self._url, self._endpoint)
        return self._known is None or not self._known.trailers

    def _leased(self) -> None:
        """Hold the lease, which lasts until the store is closed."""
        with self._lock:
            if self._lease is None:
                if not self.capabilities().consistent:
                    raise StoreError(
                        f"{self._url} ignores conditions and does not show at once what was written.",
                        advice="Two publishers could overwrite each other there: publish to another store (docs/stores.md).",
                    )
                self._lease = Lease(self._wire, self._prefix, self._terms)
            lease = self._lease
        lease.hold()

    def _parts_pool(self) -> ThreadPoolExecutor:
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(self._workers, thread_name_prefix="store-part")
            return self._pool
