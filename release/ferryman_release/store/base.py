"""What every store can do, in words that do not depend on where it is.

Two promises carry all of publishing. `create` never overwrites: whoever makes a key first has made it, and everyone
else is told so. `replace` writes only over what the caller has seen. How a store keeps them is its own business; one
that cannot refuses, and never does half.

Keys are relative to the store's URL, with `/` between their segments and none at either end; no segment begins with a
dot. Etags are opaque, without quotes, and change with the content.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

import msgspec

from ferryman_release.errors import ConflictError, StoreError
from ferryman_release.model import ARTIFACTS, CHANNELS, METADATA, TIMESTAMP
from ferryman_release.store.capabilities import Capabilities

_KEY = re.compile(r"(?:(?!\.)[A-Za-z0-9._+@=,~!-]+/)*(?!\.)[A-Za-z0-9._+@=,~!-]+")
LONGEST_KEY = 900  # S3 allows 1024 bytes with the prefix

FOREVER = "public, max-age=31536000, immutable"
SHORT = "public, max-age=60"
NEVER = "no-cache"


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """An object: ``size`` in bytes, ``modified`` in seconds since 1970. In a listing ``etag`` may be empty."""

    key: str
    size: int
    etag: str
    modified: float


class Headers(msgspec.Struct, frozen=True, kw_only=True):
    """What a reader is told with the bytes."""

    content_type: str
    cache_control: str


class Outcome(StrEnum):
    """How a `create` ended that did not fail: EXISTED means that the very same bytes were there."""

    CREATED = "created"
    EXISTED = "existed"


class Job(msgspec.Struct, frozen=True, kw_only=True):
    """One object for `create_many`; ``sha256`` (hex) is that of the bytes of ``source``."""

    key: str
    source: Path | bytes
    headers: Headers
    sha256: str

    @property
    def size(self) -> int:
        """Bytes to carry."""
        return len(self.source) if isinstance(self.source, bytes) else size_of(self.source)


Progress = Callable[[str, int], None]
"""Called with a key and how many bytes of it have arrived since the last call (negative when a part starts over).

Calls come from several threads. What it raises ends the transfer.
"""


class Store(Protocol):
    """A place for objects. Every method raises StoreError with a cure when the store does not answer or refuses.

    A store is a context manager; leaving it gives back what it holds (connections, a lease).
    """

    @property
    def url(self) -> str:
        """What the settings call it, without credentials."""
        ...

    def capabilities(self, *, refresh: bool = False) -> Capabilities:
        """What the store keeps of its word; asked of it by writing small objects where that is not known yet."""
        ...

    def get(self, key: str) -> tuple[bytes, str] | None:
        """A whole small object and its etag; None when there is none."""
        ...

    def head(self, key: str) -> Entry | None:
        """What is known of an object without its bytes; None when there is none."""
        ...

    def create(
        self,
        key: str,
        source: Path | bytes,
        headers: Headers,
        *,
        sha256: str,
        progress: Progress | None = None,
    ) -> Outcome:
        """Make an object that is never overwritten.

        Raises:
            ConflictError: the key holds other bytes; the message names both digests.
            StoreError: ``source`` does not have the digest ``sha256``; nothing was made.
        """
        ...

    def replace(self, key: str, data: bytes, headers: Headers, *, etag: str | None) -> str:
        """Write over what had ``etag``, or where nothing was (None); the new etag.

        Raises:
            ConflictError: the key has another etag by now, and other bytes than ``data``.
        """
        ...

    def put(self, key: str, data: bytes, headers: Headers) -> None:
        """Write whatever was there: only for what is made from the rest, such as index.html."""
        ...

    def list(self, prefix: str = "") -> Iterator[Entry]:
        """All objects whose key begins so, in the order of their keys."""
        ...

    def delete(self, key: str) -> None:
        """Take an object away; nothing happens when there is none."""
        ...

    def create_many(self, jobs: Sequence[Job], *, progress: Progress | None = None) -> dict[str, Outcome]:
        """`create` for each, several at a time, in bounded memory; outcomes by key.

        The first failure ends the rest and is raised; what was made stays, and is EXISTED the next time.
        """
        ...

    def close(self) -> None:
        """Give back what the store holds."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...


def check_key(key: str) -> str:
    """The key, if it is one that every store can hold and that cannot lead out of it."""
    if _KEY.fullmatch(key) is None or len(key) > LONGEST_KEY:
        raise StoreError(
            f"{key!r} cannot be the name of an object.",
            advice="Names have letters, digits and ._+@=,~!- in segments that do not begin with a dot; rename the file.",
        )
    return key


# Suffix → content type, the longest suffix that fits first.
_TYPES = {
    ".tar.gz": "application/gzip",
    ".tgz": "application/gzip",
    ".gz": "application/gzip",
    ".zip": "application/zip",
    ".pyz": "application/zip",
    ".whl": "application/zip",
    ".zst": "application/zstd",
    ".exe": "application/vnd.microsoft.portable-executable",
    ".msi": "application/x-msi",
    ".deb": "application/vnd.debian.binary-package",
    ".rpm": "application/x-rpm",
    ".apk": "application/octet-stream",
    ".cdx.json": "application/vnd.cyclonedx+json",
    ".spdx.json": "application/spdx+json",
    ".intoto.json": "application/vnd.in-toto+json",
    ".sigstore.json": "application/vnd.dev.sigstore.bundle.v0.3+json",
    ".json": "application/json",
    ".minisig": "text/plain; charset=utf-8",
    ".signed": "text/plain; charset=utf-8",
    ".pub": "text/plain; charset=utf-8",
    ".pem": "text/plain; charset=utf-8",
    ".asc": "text/plain; charset=utf-8",
    ".txt": "text/plain; charset=utf-8",
    ".md": "text/plain; charset=utf-8",
    ".sh": "text/plain; charset=utf-8",
    ".ps1": "text/plain; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".png": "image/png",
}
_LONGEST_FIRST = sorted(_TYPES, key=len, reverse=True)
_SUMS = "SHA256SUMS"
_OTHER = "application/octet-stream"
_ROLES = re.compile(rf"{METADATA}/\d+\.[a-z0-9-]+\.json")


def content_type(key: str) -> str:
    """What a browser is told that the bytes are, by the name of the file."""
    name = key.rpartition("/")[2].lower()
    if name == _SUMS.lower():
        return "text/plain; charset=utf-8"
    return next((_TYPES[suffix] for suffix in _LONGEST_FIRST if name.endswith(suffix)), _OTHER)


def cache_control(key: str) -> str:
    """How long a cache may answer for the store: a year for what never changes, a minute for the rest.

    The pointer is asked for each time. What is none of the known kinds is short-lived: that harms nobody.
    """
    if key == TIMESTAMP:
        return NEVER
    immutable = (
        key.startswith(f"{ARTIFACTS}/")
        or (key.startswith(f"{CHANNELS}/") and key.endswith(".json"))
        or _ROLES.fullmatch(key) is not None
    )
    return FOREVER if immutable else SHORT


def headers_for(key: str) -> Headers:
    """The headers of an object by its key (the layout is in :mod:`ferryman_release.model`)."""
    return Headers(content_type=content_type(key), cache_control=cache_control(key))


def open_source(path: Path) -> BinaryIO:
    """The file that is to be published, for reading."""
    try:
        return path.open("rb")
    except OSError as error:
        raise _unreadable(path, error) from error


def size_of(path: Path) -> int:
    """Its size in bytes."""
    try:
        return path.stat().st_size
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"{path} cannot be read: {error.strerror}.",
        advice="Build again, and let nothing clear dist/ while a release runs.",
    )


def changed_source(key: str, expected: str, found: str) -> StoreError:
    """What is said of a file that is no longer the one that was described."""
    return StoreError(
        f"The file for {key} has changed since its digest was taken: it was {expected}, and is {found}.",
        advice="Nothing was published under that name; let nothing write to dist/ while a release runs, and run it again.",
    )


def other_bytes(key: str, theirs: str, ours: str) -> ConflictError:
    """What is said when a name that never changes holds something else."""
    return ConflictError(
        f"{key} exists with other bytes: sha256 {theirs} is there, {ours} was to be published.",
        advice="What has been published is never overwritten: release these bytes under a new version.",
    )


def lost_race(key: str) -> ConflictError:
    """What is said when an object was replaced by somebody else after it was read."""
    return ConflictError(
        f"{key} was changed by somebody else meanwhile.",
        advice="Nothing of yours is lost: run the same command again, and it goes on from what is there now.",
    )
