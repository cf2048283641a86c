"""The public key of minisign: `base64("Ed" ‖ key id ‖ 32 bytes)` below a comment.

The key id is 8 bytes that only help to find the key; here they are the first of the key's BLAKE2b digest, so that the same
key always has the same id.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from typing import NamedTuple

from ferryman_release.errors import KeyProblemError

_UNTRUSTED = "untrusted comment: "
_KEY = b"Ed"
_ID = 8


class MinisignKey(NamedTuple):
    """A public key: ``key_id`` of 8 bytes, ``public`` of 32."""

    key_id: bytes
    public: bytes

    @classmethod
    def of(cls, public: bytes) -> MinisignKey:
        """The key with the id that it has here."""
        return cls(hashlib.blake2b(public, digest_size=_ID).digest(), public)

    @classmethod
    def parse(cls, text: str) -> MinisignKey:
        """Read minisign.pub, or its second line alone.

        Raises:
            KeyProblemError: it is neither.
        """
        lines = [line for line in text.splitlines() if line and not line.startswith(_UNTRUSTED)]
        data = decode_line(lines[0]) if len(lines) == 1 else b""
        if len(data) != len(_KEY) + _ID + 32 or not data.startswith(_KEY):
            raise KeyProblemError(
                "This is no public key of minisign.",
                advice="It has one line of 56 characters that begins with RW, below a comment.",
            )
        return cls(data[2:10], data[10:])

    @property
    def line(self) -> str:
        """The key as one word, as `minisign -P` takes it."""
        return base64.b64encode(_KEY + self.key_id + self.public).decode()

    @property
    def name(self) -> str:
        """The id as minisign prints it: a number, least byte first, without zeros in front."""
        return f"{int.from_bytes(self.key_id, 'little'):X}"

    def text(self) -> str:
        """minisign.pub."""
        return f"{_UNTRUSTED}minisign public key {self.name}\n{self.line}\n"


def decode_line(line: str) -> bytes:
    """The bytes of a base64 line; none when it is no such line."""
    try:
        return base64.b64decode(line, validate=True)
    except (binascii.Error, ValueError):
        return b""
