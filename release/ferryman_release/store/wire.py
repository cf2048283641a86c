"""The requests of S3's protocol that publishing needs, as a Protocol: one class speaks it, and tests can lie with it.

Nothing here knows boto3. :mod:`ferryman_release.store.s3` is the implementation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import BinaryIO, Protocol

import msgspec

from ferryman_release.errors import StoreError
from ferryman_release.store.base import Entry, Headers


class WireError(StoreError):
    """A request failed; ``code`` is what the store calls it, ``status`` that of HTTP (0: there was no answer)."""

    def __init__(
        self, message: str, *, advice: str = "", details: Sequence[str] = (), code: str = "", status: int = 0
    ) -> None:
        super().__init__(message, advice=advice, details=details)
        self.code = code
        self.status = status


class ConditionFailedError(Exception):
    """The store has refused a condition: there is an object, or it has another tag, or there is none."""


class ChangedError(Exception):
    """What was to be sent has another digest than was said; the message is the digest that it has."""


class NoUploadError(Exception):
    """The store knows no such multipart upload (any more), or not those parts of it."""


class Stored(msgspec.Struct, frozen=True, kw_only=True):
    """An object's head; ``sha256`` is what its maker wrote into the metadata, or empty."""

    size: int
    etag: str
    modified: float
    sha256: str = ""


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """A part that has arrived; numbers begin with 1."""

    number: int
    etag: str
    size: int


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A multipart upload that has begun; ``started`` in seconds since 1970."""

    key: str
    id: str
    started: float


Body = bytes | BinaryIO
"""What is sent: bytes, or an open file from its position to its end."""


class Wire(Protocol):
    """Keys are whole here: with the prefix. Etags come and go without quotes. Raises WireError."""

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
        """Write an object; its etag. ``absent``: only if there is none. ``match``: If-Match as it stands.

        A body that does not have the digest ``sha256`` (where that is not empty) is not sent.

        Raises:
            ConditionFailedError: there is one, or another one, or none.
            ChangedError: the body has another digest.
        """
        ...

    def get(self, key: str) -> tuple[bytes, Stored] | None: ...

    def read(self, key: str) -> Iterator[bytes]:
        """The bytes of an object, in pieces."""
        ...

    def head(self, key: str) -> Stored | None: ...

    def list(self, prefix: str) -> Iterator[Entry]: ...

    def delete(self, key: str) -> None: ...

    def begin(self, key: str, headers: Headers, *, sha256: str) -> str:
        """Begin a multipart upload; its id."""
        ...

    def part(self, key: str, upload: str, number: int, body: bytes) -> str:
        """Send one part; its etag. Raises NoUploadError."""
        ...

    def parts(self, key: str, upload: str) -> Sequence[Part]:
        """What has arrived. Raises NoUploadError."""
        ...

    def complete(self, key: str, upload: str, parts: Sequence[Part], *, absent: bool) -> str:
        """Make the object of its parts; its etag. Raises ConditionFailedError and NoUploadError."""
        ...

    def abort(self, key: str, upload: str) -> None:
        """Forget an upload; nothing happens when there is none."""
        ...

    def uploads(self, prefix: str) -> Sequence[Upload]:
        """Uploads that have begun for keys with this prefix; none where the store cannot say."""
        ...

    def versioned(self) -> bool | None:
        """Whether the bucket keeps old versions; None when it does not say."""
        ...

    def close(self) -> None: ...
