"""The payload of a one-file executable: a tree, packed into zstd frames behind a head (docs/launcher.md).

The bytes depend on the files' paths, modes, groups and contents, on what :class:`PayloadInfo` says and on the version
of zstd; not on the order in which files are given, on dates, or on what the cache holds. Packed segments are kept in
the cache, so that after one edited line only the changed segment is compressed again.
"""

from __future__ import annotations

import hashlib
import os
import struct
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import msgspec

from ferryman_build.cache import Blobs, digest, file_digest
from ferryman_build.errors import BuildStepError, InspectError
from ferryman_build.wrap.payload_order import Content, Segment, rank, segments

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"FERRYMAN"
FORMAT = 1
LEVEL = 19  # more is slower and gains nothing in segments of this size
_HEAD = struct.Struct("<8sIIQIIQII32sIII12x")
_COUNTS = struct.Struct("<II")
_SEGMENT = struct.Struct("<III")
_FILE = struct.Struct("<BBHHHIIQ32s")
_SUM = 32  # bytes of a SHA-256
_NO_CONTENT = hashlib.sha256().digest()
_NAME_LIMIT = 127  # bytes of the name, and of the version
_TEXT_LIMIT = 0xFFFF  # of a path or a link's target, in bytes
_CONTENT_LIMIT = 0xFFFF_FFFF  # of a segment, in bytes
# Bytes of the index that are compressed with statistics of their own. A third of it are digests, which do not compress:
# with common statistics one of them changes every bit that follows, and a patch would hold the whole index.
_INDEX_BLOCK = 8 << 10
_WINDOW_LOG_LIMIT = 27  # what a decoder takes without being asked to

# Raise it when segments come out differently for the same contents: the cache is shared by all versions.
_RECIPE = "payload-1"


class PayloadFile(msgspec.Struct, frozen=True):
    """One file: POSIX path in the tree, permission bits, where its content is now, or the target of a symbolic link.

    ``group`` is what :func:`~ferryman_build.wrap.payload_order.group_of` says.
    """

    path: str
    mode: int
    source: Path | None
    link: str
    group: str


class PayloadInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Of the program: name, version, and after how many days without use its trees are pruned (0: never)."""

    name: str
    version: str
    keep_days: int = 30


class SegmentSummary(msgspec.Struct, frozen=True, kw_only=True):
    """``sha256`` is that of the packed bytes; ``fresh``: they were compressed now and did not come from the cache."""

    name: str
    files: int
    unpacked: int
    packed: int
    sha256: str
    fresh: bool


class PayloadSummary(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of the payload, bytes of all files, the payload's hash (hex), and its segments without the index."""

    packed: int
    unpacked: int
    sha256: str
    segments: tuple[SegmentSummary, ...]


# --- writing ----------------------------------------------------------------------------------------------------------


def write_payload(
    files: Iterable[PayloadFile], info: PayloadInfo, output: Path, blobs: Blobs, *, level: int = LEVEL
) -> PayloadSummary:
    """Write ``output``.

    Raises:
        BuildStepError: two files have one path, a path or a file is larger than the format can say, or a file changed
            while it was read.
    """
    _refuse_names(info)
    ordered = _checked(files)
    sizes = {file.path: _size(file) for file in ordered}
    contents, sources = _contents(ordered, sizes)
    plan = segments({content.sha256: content for content in contents.values() if content.size}.values())
    _refuse_large(plan)
    packed = _pack_all(plan, sources, blobs, level)
    raw_index = _index(ordered, contents, plan, packed)
    body = [compress(raw_index, level, block=_INDEX_BLOCK), *(frame for frame, _ in packed)]
    head = _head(info, body, len(raw_index), sum(sizes.values()))
    output.write_bytes(b"".join([head, *body]))
    return PayloadSummary(
        packed=len(head) + sum(map(len, body)),
        unpacked=sum(sizes.values()),
        sha256=_sha256(body).hex(),
        segments=tuple(map(_summary, plan, packed)),
    )


def compress(content: bytes, level: int, *, prefix: bytes = b"", block: int = 0) -> bytes:
    """One frame that states the size of its content.

    Args:
        prefix: the dictionary; the decoder is given the same.
        block: bytes after each of which the compressor begins anew with its statistics; 0: where it likes.
    """
    parameter = zstd.CompressionParameter
    options: dict[int, int] = {
        parameter.compression_level: level,
        parameter.content_size_flag: 1,
        parameter.checksum_flag: 0,  # the index has better ones
        parameter.dict_id_flag: 0,
    }
    primed = zstd.ZstdDict(prefix, is_raw=True).as_prefix if prefix else None
    compressor = zstd.ZstdCompressor(options=options, zstd_dict=primed)
    compressor.set_pledged_input_size(len(content))
    size = block or len(content) or 1
    blocks = [
        compressor.compress(content[at : at + size], compressor.FLUSH_BLOCK)
        for at in range(0, len(content) - size, size)
    ]
    last = content[len(blocks) * size :]
    return b"".join([*blocks, compressor.compress(last, compressor.FLUSH_FRAME)])


def _refuse_names(info: PayloadInfo) -> None:
    """What would be a folder in the cache, or longer than the launcher's memory for it."""
    for name in (info.name, info.version):
        plain = _is_plain(name) and "/" not in name and not name.startswith(".")
        if not plain or len(name.encode()) > _NAME_LIMIT:
            raise BuildStepError(
                f"{name[:60]!r} cannot be the name or the version of a one-file executable.",
                advice=f"Take letters, digits, dots and hyphens, at most {_NAME_LIMIT}, with no dot at the start.",
            )


def _checked(files: Iterable[PayloadFile]) -> list[PayloadFile]:
    """Sorted by the bytes of their paths."""
    ordered = sorted(files, key=lambda file: file.path.encode())
    for before, after in pairwise(ordered):
        if before.path == after.path:
            raise BuildStepError(
                f"Two files of the program have the path {after.path}.",
                advice="Take one of them out of `data`, or give it another folder with `into`.",
            )
    for file in ordered:
        if not _is_plain(file.path):
            raise BuildStepError(
                f"A file of the program has a path that a one-file executable cannot hold: {file.path[:60]!r}",
                advice="Rename it; its path must be relative, without `..`, a colon or a backslash.",
            )
        if max(len(file.path.encode()), len(file.link.encode())) > _TEXT_LIMIT:
            raise BuildStepError(
                f"A path of the program has more than {_TEXT_LIMIT} bytes: {file.path[:60]}…",
                advice="Give the file a shorter name, or leave it out of `data`.",
            )
    return ordered


def _size(file: PayloadFile) -> int:
    size = file.source.stat().st_size if file.source and not file.link else 0
    if size > _CONTENT_LIMIT:
        raise BuildStepError(
            f"{file.path} has {size} bytes; one file of a one-file executable can have {_CONTENT_LIMIT}.",
            advice="Ship it beside the executable, or build `archive` instead, which has no such limit.",
        )
    return size


def _contents(
    files: Iterable[PayloadFile], sizes: Mapping[str, int]
) -> tuple[dict[str, Content], dict[str, Path]]:
    """Path → content, for files; digest → where it can be read. Equal contents are one, under their first file's name."""
    found: dict[str, Content] = {}
    first: dict[str, Content] = {}
    sources: dict[str, Path] = {}
    for file in files:
        if file.link or file.source is None:
            continue
        content = Content(
            sha256=file_digest(file.source), size=sizes[file.path], path=file.path, group=file.group
        )
        found[file.path] = content
        sources[content.sha256] = file.source
        first[content.sha256] = min(content, first.get(content.sha256, content), key=rank)
    return {path: first[content.sha256] for path, content in found.items()}, sources


def _refuse_large(plan: Iterable[Segment]) -> None:
    for segment in plan:
        if segment.size > _CONTENT_LIMIT:
            raise BuildStepError(
                f"The files of {segment.name} have {segment.size} bytes together; {_CONTENT_LIMIT} is the most.",
                advice="Ship large data beside the executable, or build `archive` instead, which has no such limit.",
            )


def _pack_all(
    plan: Sequence[Segment], sources: Mapping[str, Path], blobs: Blobs, level: int
) -> list[tuple[bytes, bool]]:
    """(frame, whether it was compressed now) of each segment. zstd lets go of the interpreter's lock."""
    dictionary = plan[0] if any(segment.primed for segment in plan) else None
    prefix = _read(dictionary, sources) if dictionary else b""

    def pack(segment: Segment) -> tuple[bytes, bool]:
        key = _key(segment, dictionary if segment.primed else None, level)
        if kept := _kept(blobs, key):
            return kept, False
        frame = compress(_read(segment, sources), level, prefix=prefix if segment.primed else b"")
        blobs.put(key, hashlib.sha256(frame).digest() + frame)
        return frame, True

    largest_first = sorted(plan, key=lambda segment: -segment.size)
    with ThreadPoolExecutor(max_workers=_processors()) as pool:
        done = dict(
            zip((segment.contents for segment in largest_first), pool.map(pack, largest_first), strict=True)
        )
    return [done[segment.contents] for segment in plan]


def _processors() -> int:
    """How many of the machine's processors this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def _key(segment: Segment, dictionary: Segment | None, level: int) -> str:
    prefix = [content.sha256 for content in dictionary.contents] if dictionary else []
    own = [content.sha256 for content in segment.contents]
    return digest([_RECIPE, zstd.zstd_version, level, prefix, own])


def _kept(blobs: Blobs, key: str) -> bytes | None:
    """The packed segment of an earlier build, if it is whole."""
    path = blobs.find(key)
    kept = path.read_bytes() if path else b""
    frame = kept[_SUM:]
    return frame if frame and hashlib.sha256(frame).digest() == kept[:_SUM] else None


def _read(segment: Segment, sources: Mapping[str, Path]) -> bytes:
    parts = []
    for content in segment.contents:
        part = sources[content.sha256].read_bytes()
        if hashlib.sha256(part).hexdigest() != content.sha256:
            raise BuildStepError(
                f"{content.path} changed while the executable was packed.",
                advice="Build again while nothing writes into out/ and the project's data.",
            )
        parts.append(part)
    return b"".join(parts)


def _index(
    files: Sequence[PayloadFile],
    contents: Mapping[str, Content],
    plan: Sequence[Segment],
    packed: Sequence[tuple[bytes, bool]],
) -> bytes:
    rows = [
        _SEGMENT.pack(len(frame), segment.size, int(segment.primed))
        for segment, (frame, _) in zip(plan, packed, strict=True)
    ]
    places = dict(_places(plan))
    described = (_row(file, contents.get(file.path), places) for file in files)
    return b"".join([_COUNTS.pack(len(plan), len(files)), *rows, *described])


def _places(plan: Iterable[Segment]) -> Iterator[tuple[str, tuple[int, int]]]:
    """Digest → (number of the segment, offset in it)."""
    for number, segment in enumerate(plan, 1):
        offset = 0
        for content in segment.contents:
            yield content.sha256, (number, offset)
            offset += content.size


def _row(file: PayloadFile, content: Content | None, places: Mapping[str, tuple[int, int]]) -> bytes:
    path, target = file.path.encode(), file.link.encode()
    sum_ = bytes.fromhex(content.sha256) if content else hashlib.sha256(target).digest()
    size = content.size if content else 0
    number, offset = places[content.sha256] if content and size else (0, 0)
    kind = 1 if target else 0
    return _FILE.pack(kind, 0, file.mode, len(path), len(target), number, offset, size, sum_) + path + target


def _head(info: PayloadInfo, body: Sequence[bytes], index_size: int, unpacked: int) -> bytes:
    name, version = info.name.encode(), info.version.encode()
    head = _HEAD.pack(
        MAGIC, FORMAT, _HEAD.size + len(name) + len(version) + _SUM, sum(map(len, body)), len(body), index_size,
        unpacked, info.keep_days, 0, _sha256(body), len(name), len(version), len(body[0]),
    )  # fmt: skip
    head += name + version
    return head + hashlib.sha256(head).digest()


def _sha256(parts: Iterable[bytes]) -> bytes:
    sums = hashlib.sha256()
    for part in parts:
        sums.update(part)
    return sums.digest()


def _summary(segment: Segment, packed: tuple[bytes, bool]) -> SegmentSummary:
    frame, fresh = packed
    return SegmentSummary(
        name=segment.name,
        files=len(segment.contents),
        unpacked=segment.size,
        packed=len(frame),
        sha256=hashlib.sha256(frame).hexdigest(),
        fresh=fresh,
    )


# --- reading ----------------------------------------------------------------------------------------------------------


class IndexSegment(msgspec.Struct, frozen=True, kw_only=True):
    """A segment of the index: bytes packed and unpacked; ``dictionary`` counts from 1, 0 is none."""

    packed: int
    unpacked: int
    dictionary: int


class IndexFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the index. ``segment`` counts from 1; 0 for a link or an empty file. ``link`` is "" for a file."""

    path: str
    mode: int
    link: str
    segment: int
    offset: int
    size: int
    sha256: str


class Payload(msgspec.Struct, frozen=True, kw_only=True):
    """A payload that was read; ``frames`` are its packed segments without the index."""

    info: PayloadInfo
    sha256: str
    unpacked: int
    segments: tuple[IndexSegment, ...]
    files: tuple[IndexFile, ...]
    frames: tuple[bytes, ...]

    def content(self, number: int) -> bytes:
        """Segment ``number``, unpacked; its dictionary is unpacked for it each time.

        Raises:
            InspectError: it is damaged.
        """
        row = self.segments[number - 1]
        return _decompress(
            self.frames[number - 1], row.unpacked, self.content(row.dictionary) if row.dictionary else b""
        )

    def unpack(self) -> Iterator[tuple[IndexFile, bytes]]:
        """Every file with its content (of a link: nothing), each compared with its digest.

        Raises:
            InspectError: one of them is damaged.
        """
        unpacked = {
            number: self.content(number) for number in sorted({file.segment for file in self.files} - {0})
        }
        for file in self.files:
            content = unpacked[file.segment][file.offset : file.offset + file.size] if file.segment else b""
            if hashlib.sha256(file.link.encode() or content).hexdigest() != file.sha256:
                raise _damaged(f"{file.path} has another content than the index says")
            yield file, content


def read_payload(source: Path | bytes) -> Payload:
    """Read head and index, and compare both digests. What follows may be zeros: a section can be longer.

    Raises:
        InspectError: it is no payload, is truncated or changed, or says something that the format does not allow.
    """
    data = source if isinstance(source, bytes) else source.read_bytes()
    fields = _read_head(data)
    body = data[fields.head : fields.head + fields.body]
    _require(len(body) == fields.body, "it is shorter than its head says")
    _require(not data[fields.head + fields.body :].strip(b"\0"), "something follows it")
    _require(
        hashlib.sha256(body).digest() == fields.sha256, "its content has another digest than its head says"
    )
    _require(fields.index <= len(body), "its index is longer than its content")
    rows, files = _read_index(_decompress(body[: fields.index], fields.index_size), fields.count)
    _require(
        sum(file.size for file in files) == fields.unpacked, "its files have another size than its head says"
    )
    return Payload(
        info=fields.info,
        sha256=fields.sha256.hex(),
        unpacked=fields.unpacked,
        segments=rows,
        files=files,
        frames=tuple(_frames(body[fields.index :], rows)),
    )


class _Head(msgspec.Struct, frozen=True):
    head: int
    body: int
    count: int
    index_size: int
    unpacked: int
    sha256: bytes
    index: int
    info: PayloadInfo


def _read_head(data: bytes) -> _Head:
    _require(data[:8] == MAGIC, "it does not begin with the word FERRYMAN")
    _require(len(data) >= _HEAD.size, "it is shorter than its head")
    (_, number, head, body, count, index_size, unpacked, keep_days, flags, sum_, name, version, index) = (
        _HEAD.unpack_from(data)
    )
    _require(number == FORMAT, f"its format is {number}, and this Ferryman knows {FORMAT}")
    _require(
        head == _HEAD.size + name + version + _SUM and head <= len(data), "the size of its head is wrong"
    )
    _require(hashlib.sha256(data[: head - _SUM]).digest() == data[head - _SUM : head], "its head is damaged")
    _require(
        flags == 0 and not data[_HEAD.size - 12 : _HEAD.size].strip(b"\0"), "it has flags that mean nothing"
    )
    _require(count >= 1, "it has no index")
    text = _HEAD.size + name
    info = PayloadInfo(
        name=_text(data[_HEAD.size : text]), version=_text(data[text : text + version]), keep_days=keep_days
    )
    return _Head(head, body, count, index_size, unpacked, sum_, index, info)


def _read_index(data: bytes, count: int) -> tuple[tuple[IndexSegment, ...], tuple[IndexFile, ...]]:
    try:
        number, files = _COUNTS.unpack_from(data)
        _require(number == count - 1, "head and index count its segments differently")
        at = _COUNTS.size + number * _SEGMENT.size
        rows = tuple(
            IndexSegment(packed=packed, unpacked=unpacked, dictionary=dictionary)
            for packed, unpacked, dictionary in _SEGMENT.iter_unpack(data[_COUNTS.size : at])
        )
        found = []
        for _ in range(files):
            file, at = _read_file(data, at)
            found.append(file)
    except struct.error as error:
        raise _damaged("its index is too short") from error
    _require(at == len(data), "its index is too long")
    _check_rows(rows)
    _check_files(found, rows)
    return rows, tuple(found)


def _read_file(data: bytes, at: int) -> tuple[IndexFile, int]:
    kind, zero, mode, path, target, segment, offset, size, sum_ = _FILE.unpack_from(data, at)
    start, middle, end = at + _FILE.size, at + _FILE.size + path, at + _FILE.size + path + target
    _require(end <= len(data), "its index is too short")
    _require(
        kind in {0, 1} and not zero and bool(target) == bool(kind), "a file of its index is of no known kind"
    )
    file = IndexFile(
        path=_text(data[start:middle]), mode=mode, link=_text(data[middle:end]), segment=segment, offset=offset,
        size=size, sha256=sum_.hex(),
    )  # fmt: skip
    return file, end


def _check_rows(rows: Sequence[IndexSegment]) -> None:
    for number, row in enumerate(rows, 1):
        _require(row.dictionary < number, "a segment's dictionary does not come before it")
        first = not row.dictionary or not rows[row.dictionary - 1].dictionary
        _require(first, "a segment's dictionary has a dictionary itself")
        _require(row.packed > 0 and row.unpacked > 0, "a segment is empty")


def _check_files(files: Sequence[IndexFile], rows: Sequence[IndexSegment]) -> None:
    for before, after in pairwise(files):
        _require(before.path.encode() < after.path.encode(), "its files are not sorted")
    for file in files:
        _require(_is_plain(file.path), f"a file's path leads out of the tree: {file.path!r}")
        if file.segment == 0:
            _require(file.size == file.offset == 0, f"{file.path} has a size and no segment")
            empty = file.link or bytes.fromhex(file.sha256) == _NO_CONTENT
            _require(bool(empty), f"{file.path} has no content")
            continue
        _require(not file.link and file.segment <= len(rows), f"{file.path} is in no segment")
        end = file.offset + file.size
        _require(file.size > 0 and end <= rows[file.segment - 1].unpacked, f"{file.path} leaves its segment")


def _is_plain(path: str) -> bool:
    """Relative, without . and .., and without what Windows reads as a drive or a separator; the launcher asks the same."""
    return not {"", ".", ".."} & set(path.split("/")) and not set("\0\\:") & set(path)


def _frames(body: bytes, rows: Iterable[IndexSegment]) -> Iterator[bytes]:
    at = 0
    for row in rows:
        frame = body[at : at + row.packed]
        _require(_stated_size(frame) == row.unpacked, "a segment does not have the size that the index says")
        yield frame
        at += row.packed
    _require(at == len(body), "its segments do not fill it")


def _stated_size(frame: bytes) -> int | None:
    try:
        return zstd.get_frame_info(frame).decompressed_size
    except zstd.ZstdError:
        return None


def _decompress(frame: bytes, size: int, prefix: bytes = b"") -> bytes:
    _require(_stated_size(frame) == size, "a segment does not have the size that the index says")
    primed = zstd.ZstdDict(prefix, is_raw=True).as_prefix if prefix else None
    decoder = zstd.ZstdDecompressor(
        zstd_dict=primed, options={zstd.DecompressionParameter.window_log_max: _WINDOW_LOG_LIMIT}
    )
    try:
        content = decoder.decompress(frame, size + 1)
    except zstd.ZstdError as error:
        raise _damaged("a segment cannot be unpacked") from error
    _require(
        decoder.eof and not decoder.unused_data and len(content) == size, "a segment is cut off or too long"
    )
    return content


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise _damaged("a name in it is not UTF-8") from error


def _require(condition: bool, what: str) -> None:
    if not condition:
        raise _damaged(what)


def _damaged(what: str) -> InspectError:
    return InspectError(
        f"The payload is damaged: {what}.", advice="Build the executable again, or download it again."
    )
