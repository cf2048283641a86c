"""Whether a Mach-O file is signed, and whether the signature fits: macOS kills arm64 code where it does not.

Source: Apple's cs_blobs.h (SuperBlob, CodeDirectory). Whose signature it is, is not asked: that is the affair of
Gatekeeper and of the release half.
"""

from __future__ import annotations

import hashlib
import struct

from ferryman_build.inspect.native import Trait

_SUPER_BLOB, _DIRECTORY = 0xFADE0CC0, 0xFADE0C02
_CMS_SLOT = 0x10000
_DIRECTORY_SLOTS = (0, *range(0x1000, 0x1006))
_AD_HOC = 0x2
_HASHES = {1: "sha1", 2: "sha256", 3: "sha256", 4: "sha384"}


def signature(content: bytes, offset: int, size: int) -> Trait:
    """The state of the signature at ``offset`` of one architecture's ``content`` (0, 0: there is none)."""
    if not size:
        return Trait.UNSIGNED
    if offset + size > len(content):
        return Trait.BROKEN_SIGNATURE
    try:
        return _read(content, content[offset : offset + size])
    except (struct.error, IndexError, ValueError):
        return Trait.BROKEN_SIGNATURE


def _read(content: bytes, blob: bytes) -> Trait:
    magic, _, count = struct.unpack_from(">III", blob)
    if magic != _SUPER_BLOB:
        return Trait.BROKEN_SIGNATURE
    slots = dict(struct.unpack_from(">II", blob, 12 + 8 * number) for number in range(count))
    directories = [blob[slots[slot] :] for slot in _DIRECTORY_SLOTS if slot in slots]
    if not directories or not all(_fits(content, directory) for directory in directories):
        return Trait.BROKEN_SIGNATURE
    cms = blob[slots[_CMS_SLOT] :] if _CMS_SLOT in slots else b""
    empty = len(cms) < 8 or struct.unpack_from(">I", cms, 4)[0] <= 8
    flags = struct.unpack_from(">I", directories[0], 12)[0]
    return Trait.AD_HOC if flags & _AD_HOC or empty else Trait.SIGNED


def _fits(content: bytes, directory: bytes) -> bool:
    """Whether the digest of every page is the one in the code directory."""
    magic, _, _, _, hashes_at, _, _, slots, limit = struct.unpack_from(">9I", directory)
    length, kind, _, page = struct.unpack_from("BBBB", directory, 36)
    algorithm = _HASHES.get(kind)
    if magic != _DIRECTORY or algorithm is None or limit > len(content):
        return False
    step = min(1 << page, limit) if page else limit
    if not step or slots != -(-limit // step):
        return False
    return all(
        hashlib.new(
            algorithm, content[step * n : min(step * n + step, limit)], usedforsecurity=False
        ).digest()[:length]
        == directory[hashes_at + length * n :][:length]
        for n in range(slots)
    )
