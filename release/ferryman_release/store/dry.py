"""A store that writes nothing and says what it would have written."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from ferryman_build.ui import human_size
from ferryman_release.store.base import Entry, Headers, Job, Outcome, Progress, Store, lost_race, other_bytes
from ferryman_release.store.bucket import BucketStore
from ferryman_release.store.capabilities import Capabilities


class DryRunStore:
    """Reads from ``store`` and remembers what is written, so that a later step reads what an earlier one wrote.

    ``requests`` has a line for each object that would be written.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._written: dict[str, bytes | Path] = {}
        self.requests: list[str] = []

    @property
    def url(self) -> str:
        return self._store.url

    def capabilities(self, *, refresh: bool = False) -> Capabilities:
        """Those that are known; a store that was never asked is not asked now, since that writes."""
        if not isinstance(self._store, BucketStore):
            return self._store.capabilities()
        unknown = Capabilities(url=self.url, checked=0.0, create=True, create_multipart=True, replace=True)
        return self._store.known() or unknown

    def get(self, key: str) -> tuple[bytes, str] | None:
        if key not in self._written:
            return self._store.get(key)
        data = self._bytes(key)
        return data, hashlib.sha256(data).hexdigest()

    def head(self, key: str) -> Entry | None:
        if key not in self._written:
            return self._store.head(key)
        data = self._bytes(key)
        return Entry(key=key, size=len(data), etag=hashlib.sha256(data).hexdigest(), modified=0.0)

    def create(
        self,
        key: str,
        source: Path | bytes,
        headers: Headers,
        *,
        sha256: str,
        progress: Progress | None = None,
    ) -> Outcome:
        job = Job(key=key, source=source, headers=headers, sha256=sha256)
        if self.head(key) is not None:
            return self._compared(job)
        self._note("create", key, job.size, headers, "if nothing is there")
        self._written[key] = source
        if progress is not None:
            progress(key, job.size)
        return Outcome.CREATED

    def replace(self, key: str, data: bytes, headers: Headers, *, etag: str | None) -> str:
        current = self.get(key)
        if (current[1] if current else None) != etag:
            raise lost_race(key)
        condition = f"if its tag is {etag}" if etag else "if nothing is there"
        self._note("replace", key, len(data), headers, condition)
        self._written[key] = data
        return hashlib.sha256(data).hexdigest()

    def put(self, key: str, data: bytes, headers: Headers) -> None:
        self._note("put", key, len(data), headers, "in any case")
        self._written[key] = data

    def list(self, prefix: str = "") -> Iterator[Entry]:
        there = {entry.key: entry for entry in self._store.list(prefix)}
        for key in self._written:
            if key.startswith(prefix) and (entry := self.head(key)):
                there[key] = entry
        yield from (there[key] for key in sorted(there))

    def delete(self, key: str) -> None:
        self.requests.append(f"delete {key}")

    def create_many(self, jobs: Sequence[Job], *, progress: Progress | None = None) -> dict[str, Outcome]:
        return {
            job.key: self.create(job.key, job.source, job.headers, sha256=job.sha256, progress=progress)
            for job in jobs
        }

    def close(self) -> None:
        self._store.close()

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

    def _bytes(self, key: str) -> bytes:
        found = self._written[key]
        return found if isinstance(found, bytes) else found.read_bytes()

    def _compared(self, job: Job) -> Outcome:
        """What is there is fetched and compared: a dry run is to find the conflicts of the real one."""
        found = self.get(job.key)
        theirs = hashlib.sha256(found[0]).hexdigest() if found else ""
        if theirs != job.sha256:
            raise other_bytes(job.key, theirs, job.sha256)
        return Outcome.EXISTED

    def _note(self, verb: str, key: str, size: int, headers: Headers, condition: str) -> None:
        about = f"{human_size(size)}, {headers.content_type}, {headers.cache_control}"
        self.requests.append(f"{verb} {key} ({about}), {condition}")
