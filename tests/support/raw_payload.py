"""Payloads from raw fields, also impossible ones: docs/launcher.md as a second implementation, for tests."""

from __future__ import annotations

import hashlib
import struct
import sys
from dataclasses import dataclass, field

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


@dataclass(kw_only=True)
class RawFile:
    """A row of the index."""

    path: bytes
    content: bytes = b""
    segment: int = 1
    offset: int = 0
    size: int | None = None
    kind: int = 0
    mode: int = 0o644
    link: bytes = b""

    def pack(self) -> bytes:
        """Its bytes."""
        size = len(self.content) if self.size is None else self.size
        lengths = (len(self.path), len(self.link), self.segment, self.offset, size)
        row = struct.pack("<BBHHHIIQ", self.kind, 0, self.mode, *lengths)
        return row + hashlib.sha256(self.content or self.link).digest() + self.path + self.link


@dataclass(kw_only=True)
class RawPayload:
    """What a payload is made of; ``None`` means the right value."""

    files: list[RawFile]
    segments: list[tuple[bytes, int]] = field(default_factory=list)  # content, dictionary
    name: bytes = b"oneself"
    version: bytes = b"1.0"
    magic: bytes = b"FERRYMAN"
    form: int = 1
    counted: int | None = None  # rows that the index claims to have
    segments_counted: int | None = None
    index_size: int | None = None
    unpacked_sizes: list[int] | None = None
    index_tail: bytes = b""

    def pack(self) -> bytes:
        """The whole payload, with right hashes: only what is said in it is wrong."""
        packed = [self._compress(content, dictionary) for content, dictionary in self.segments]
        sizes = self.unpacked_sizes or [len(content) for content, _ in self.segments]
        counted = len(self.files) if self.counted is None else self.counted
        rows = [
            struct.pack("<III", len(data), size, dictionary)
            for data, size, (_, dictionary) in zip(packed, sizes, self.segments, strict=True)
        ]
        index = b"".join(
            (struct.pack("<II", len(rows), counted), *rows, *(file.pack() for file in self.files))
        )
        index += self.index_tail
        first = zstd.compress(index)
        body = b"".join((first, *packed))
        return self._head(body, len(index), len(first)) + body

    def _compress(self, content: bytes, dictionary: int) -> bytes:
        if not 0 < dictionary <= len(self.segments):
            return zstd.compress(content)
        prefix = zstd.ZstdDict(self.segments[dictionary - 1][0], is_raw=True)
        return zstd.compress(content, zstd_dict=prefix.as_prefix)

    def _head(self, body: bytes, index_size: int, index_packed: int) -> bytes:
        text = self.name + self.version
        segments = len(self.segments) + 1 if self.segments_counted is None else self.segments_counted
        size = index_size if self.index_size is None else self.index_size
        unpacked = sum(len(file.content) for file in self.files)
        head = self.magic + struct.pack(
            "<IIQIIQII", self.form, 136 + len(text), len(body), segments, size, unpacked, 30, 0
        )
        head += hashlib.sha256(body).digest() + struct.pack(
            "<III", len(self.name), len(self.version), index_packed
        )
        head += bytes(12) + text
        return head + hashlib.sha256(head).digest()
