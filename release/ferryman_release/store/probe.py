"""Does a store keep its word? Asked with small objects of its own, under `.probe/`, that are removed again.

Several stores accept a conditional request and ignore the condition: rclone and the older code of MinIO always,
radosgw on versioned buckets and at the completion of multipart uploads. So every condition is tried where it must fail
as well as where it must hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import threading
import time
from collections.abc import Callable
from typing import Protocol

import msgspec

from ferryman_release.errors import StoreError
from ferryman_release.store.base import Headers
from ferryman_release.store.capabilities import Capabilities
from ferryman_release.store.parallel import run_all
from ferryman_release.store.wire import ConditionFailedError, NoUploadError, Part, Wire, WireError

PROBE = ".probe/"
_HEADERS = Headers(content_type="text/plain; charset=utf-8", cache_control="no-store")
_RACERS = 4
_UNKNOWN = (400, 405, 501)  # how stores answer to a header or an operation that they do not have


class Connect(Protocol):
    """Makes a wire, with relaxed checksums or boto3's own."""

    def __call__(self, *, relaxed: bool) -> Wire: ...


class Answers(msgspec.Struct, frozen=True, kw_only=True):
    """What was seen of multipart uploads, and of `If-Match`."""

    first: bool
    second: bool


def probe(connect: Connect, prefix: str, url: str, endpoint: str) -> Capabilities:
    """Ask the store everything; about 25 small requests.

    Raises:
        StoreError: the store cannot be reached, or a plain write, read or listing fails.
    """
    wire = connect(relaxed=True)
    asked = _Probe(wire, f"{prefix}{PROBE}{secrets.token_hex(8)}/")
    try:
        consistent = asked.consistent()
        replace, bare = asked.replace()
        multipart, create_multipart = asked.multipart()
        return Capabilities(
            url=url,
            endpoint=endpoint,
            checked=time.time(),
            create=asked.create(),
            create_multipart=create_multipart,
            multipart=multipart,
            replace=replace,
            bare_etag=bare,
            trailers=asked.trailers(connect),
            consistent=consistent,
            versioned=wire.versioned(),
        )
    finally:
        asked.clear()
        wire.close()


class _Probe:
    def __init__(self, wire: Wire, folder: str) -> None:
        self._wire = wire
        self._folder = folder
        self._keys: set[str] = set()
        self._lock = threading.Lock()

    def _key(self, name: str) -> str:
        key = self._folder + name
        with self._lock:
            self._keys.add(key)
        return key

    def _put(
        self,
        name: str,
        text: str,
        *,
        absent: bool = False,
        match: str | None = None,
        wire: Wire | None = None,
    ) -> str:
        data = text.encode()
        digest = hashlib.sha256(data).hexdigest()
        return (wire or self._wire).put(
            self._key(name), data, _HEADERS, sha256=digest, absent=absent, match=match
        )

    def consistent(self) -> bool:
        """Whether an object is read and listed as soon as it is written, and read anew when it is written again."""
        for text in ("first", "second"):
            self._put("plain", text)
            found = self._wire.get(self._key("plain"))
            if found is None or found[0] != text.encode():
                return False
        return [entry.key for entry in self._wire.list(self._folder)] == [self._key("plain")]

    def create(self) -> bool:
        """`If-None-Match: *` one after the other, and several at once."""
        try:
            self._put("once", "first", absent=True)
        except WireError as error:
            if error.status in _UNKNOWN:
                return False
            raise
        if _accepted(lambda: self._put("once", "second", absent=True)):
            return False
        won = run_all(
            lambda who: _accepted(lambda: self._put("race", f"racer {who}", absent=True)),
            range(_RACERS),
            workers=_RACERS,
        )
        return sum(won) == 1

    def replace(self) -> tuple[bool, bool]:
        """Whether `If-Match` holds what it says, and whether only a tag without quotes is understood."""
        stale = self._put("tag", "first")
        for form, bare in (('"{}"', False), ("{}", True)):
            right = self._put("tag", "second")
            if not _accepted(lambda form=form, tag=right: self._put("tag", "third", match=form.format(tag))):  # type: ignore[misc]
                continue
            refused = not _accepted(lambda form=form: self._put("tag", "fourth", match=form.format(stale)))  # type: ignore[misc]
            return refused, bare
        return False, False

    def multipart(self) -> tuple[bool, bool]:
        """Whether there are multipart uploads, and whether their completion heeds `If-None-Match: *`."""
        self._put("small", "first")
        try:
            over_small = self._complete("small")
            first, again = self._complete("large"), self._complete("large")
        except WireError as error:
            if error.status in _UNKNOWN:
                return False, False
            raise
        return True, first and not over_small and not again

    def _complete(self, name: str) -> bool:
        """Make an object of one part, if there is none; whether that was accepted."""
        key = self._key(name)
        upload = self._wire.begin(key, _HEADERS, sha256="")
        try:
            etag = self._wire.part(key, upload, 1, b"part")
            part = Part(number=1, etag=etag, size=4)
            return _accepted(lambda: self._wire.complete(key, upload, [part], absent=True))
        finally:
            with contextlib.suppress(StoreError, NoUploadError):
                self._wire.abort(key, upload)

    def trailers(self, connect: Connect) -> bool:
        """Whether boto3's own way to send checksums is taken."""
        wire = connect(relaxed=False)
        try:
            self._put("trailer", "first", wire=wire)
        except WireError as error:
            if error.status in (411, *_UNKNOWN, 403):
                return False
            raise
        finally:
            wire.close()
        return True

    def clear(self) -> None:
        """Remove what was written."""
        for key in sorted(self._keys):
            with contextlib.suppress(StoreError):
                self._wire.delete(key)


def _accepted(ask: Callable[[], object]) -> bool:
    """Whether a conditional request went through; a store that does not know the condition has not accepted it."""
    try:
        ask()
    except ConditionFailedError:
        return False
    except WireError as error:
        if error.status in (409, *_UNKNOWN):
            return False
        raise
    return True
