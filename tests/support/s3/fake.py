"""A bucket in memory that can lie: for what a store's answers lead to, without a server and without waiting."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ferryman_release.store.base import Entry, Headers
from ferryman_release.store.wire import (
    Body,
    ChangedError,
    ConditionFailedError,
    NoUploadError,
    Part,
    Stored,
    Upload,
    WireError,
)


class Clock:
    """Seconds that pass only when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@dataclass
class Lies:
    """What the bucket does not do as it should."""

    ignores_absent: bool = False
    ignores_absent_in_race: bool = False
    ignores_absent_at_completion: bool = False
    ignores_match: bool = False
    never_matches: bool = False
    only_bare: bool = False
    lists_late: bool = False
    reads_late: bool = False
    refuses_trailers: bool = False
    no_multipart: bool = False
    knows_no_conditions: bool = False  # answers 501 to them
    versioned: bool | None = False


@dataclass
class Bucket:
    """What several wires share."""

    lies: Lies = field(default_factory=Lies)
    clock: Callable[[], float] = field(default_factory=Clock)
    objects: dict[str, tuple[bytes, Stored]] = field(default_factory=dict)
    late: dict[str, bytes] = field(default_factory=dict)
    open: dict[str, tuple[str, str, dict[int, bytes]]] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    before: Callable[[str, str], None] | None = None  # called with verb and key before each request
    lock: threading.RLock = field(default_factory=threading.RLock)

    def wire(self, *, relaxed: bool = True) -> FakeWire:
        return FakeWire(self, relaxed=relaxed)


class FakeWire:
    def __init__(self, bucket: Bucket, *, relaxed: bool) -> None:
        self._bucket = bucket
        self._relaxed = relaxed

    def _ask(self, verb: str, key: str) -> Lies:
        if self._bucket.before is not None:
            self._bucket.before(verb, key)
        self._bucket.asked.append(f"{verb} {key}")
        return self._bucket.lies

    def put(
        self,
        key: str,
        body: Body,
        headers: Headers,
        *,
        sha256: str,
        absent: bool = False,
        match: str | None = None,
    ) -> str:
        data = body if isinstance(body, bytes) else body.read()
        lies = self._ask("PUT", key)
        if sha256 and hashlib.sha256(data).hexdigest() != sha256:
            raise ChangedError(hashlib.sha256(data).hexdigest())
        if lies.refuses_trailers and not self._relaxed:
            raise WireError("no", code="MissingContentLength", status=411)
        if lies.knows_no_conditions and (absent or match is not None):
            raise WireError("no", code="NotImplemented", status=501)
        with self._bucket.lock:
            there = self._bucket.objects.get(key)
            race = lies.ignores_absent_in_race and key.endswith("race")
            if absent and there and not lies.ignores_absent and not race:
                raise ConditionFailedError("PreconditionFailed")
            if match is not None and not lies.ignores_match:
                form = "{}" if lies.only_bare else '"{}"'
                if lies.never_matches or there is None or match != form.format(there[1].etag):
                    raise ConditionFailedError("PreconditionFailed")
            return self._store(key, data, sha256)

    def _store(self, key: str, data: bytes, sha256: str) -> str:
        etag = hashlib.md5(data).hexdigest()
        now = float(int(self._bucket.clock()))
        if key in self._bucket.objects:
            self._bucket.late[key] = self._bucket.objects[key][0]
        about = Stored(size=len(data), etag=etag, modified=now, sha256=sha256)
        self._bucket.objects[key] = (data, about)
        return etag

    def get(self, key: str) -> tuple[bytes, Stored] | None:
        lies = self._ask("GET", key)
        with self._bucket.lock:
            found = self._bucket.objects.get(key)
            if found and lies.reads_late and key in self._bucket.late:
                return self._bucket.late[key], found[1]
            return found

    def read(self, key: str) -> Iterator[bytes]:
        found = self.get(key)
        assert found is not None
        yield found[0]

    def head(self, key: str) -> Stored | None:
        self._ask("HEAD", key)
        with self._bucket.lock:
            found = self._bucket.objects.get(key)
            return found[1] if found else None

    def list(self, prefix: str) -> Iterator[Entry]:
        lies = self._ask("LIST", prefix)
        with self._bucket.lock:
            found = sorted(self._bucket.objects.items())
        for key, (data, about) in found[: -1 if lies.lists_late else None]:
            if key.startswith(prefix):
                yield Entry(key=key, size=len(data), etag=about.etag, modified=about.modified)

    def delete(self, key: str) -> None:
        self._ask("DELETE", key)
        with self._bucket.lock:
            self._bucket.objects.pop(key, None)

    def begin(self, key: str, headers: Headers, *, sha256: str) -> str:
        if self._ask("BEGIN", key).no_multipart:
            raise WireError("no", code="NotImplemented", status=501)
        with self._bucket.lock:
            name = f"upload-{len(self._bucket.asked)}"
            self._bucket.open[name] = (key, sha256, {})
            return name

    def part(self, key: str, upload: str, number: int, body: bytes) -> str:
        self._ask("PART", f"{key} {number}")
        with self._bucket.lock:
            if upload not in self._bucket.open:
                raise NoUploadError("NoSuchUpload")
            self._bucket.open[upload][2][number] = body
        return hashlib.md5(body).hexdigest()

    def parts(self, key: str, upload: str) -> Sequence[Part]:
        self._ask("PARTS", key)
        with self._bucket.lock:
            if upload not in self._bucket.open:
                raise NoUploadError("NoSuchUpload")
            return [
                Part(number=number, etag=hashlib.md5(data).hexdigest(), size=len(data))
                for number, data in sorted(self._bucket.open[upload][2].items())
            ]

    def complete(self, key: str, upload: str, parts: Sequence[Part], *, absent: bool) -> str:
        lies = self._ask("COMPLETE", key)
        with self._bucket.lock:
            if upload not in self._bucket.open:
                raise NoUploadError("NoSuchUpload")
            if absent and key in self._bucket.objects and not lies.ignores_absent_at_completion:
                raise ConditionFailedError("PreconditionFailed")
            _, sha256, have = self._bucket.open.pop(upload)
            return self._store(key, b"".join(have[part.number] for part in parts), sha256)

    def abort(self, key: str, upload: str) -> None:
        self._ask("ABORT", key)
        with self._bucket.lock:
            self._bucket.open.pop(upload, None)

    def uploads(self, prefix: str) -> Sequence[Upload]:
        self._ask("UPLOADS", prefix)
        with self._bucket.lock:
            return [
                Upload(key=key, id=name, started=float(index))
                for index, (name, (key, _, _)) in enumerate(self._bucket.open.items())
                if key.startswith(prefix)
            ]

    def versioned(self) -> bool | None:
        return self._bucket.lies.versioned

    def close(self) -> None:
        pass
