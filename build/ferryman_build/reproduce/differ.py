"""Where two files differ, down to the innermost member that can be named, and what the likely cause is.

A file is taken apart as far as its form is known: gzip, tar, zip (a .pyz with its first line), payload, native file, bytecode.
What is left is compared byte by byte. Containers whose members are all equal and whose own bytes are not are said to be so.
"""

from __future__ import annotations

import io
import lzma
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import msgspec

from ferryman_build.errors import InspectError
from ferryman_build.reproduce.regions import Region, regions
from ferryman_build.wrap.payload import read_payload

_PAYLOAD_SECTIONS = ("section .ferryman", "section .fman", "section __FERRYMAN,__payload")
_GZIP_HEAD = 10
_PYC_HEAD = 16
# What the readers raise for a file that is damaged; none of them says that it raises nothing else.
_UNREADABLE = (tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, InspectError, EOFError,
               NotImplementedError, ValueError, RuntimeError, LookupError, OverflowError, OSError)  # fmt: skip
_MOST = 40  # differences that are named; after so many nobody reads on


class Difference(msgspec.Struct, frozen=True):
    """``where``: the members on the way to it, outermost first; ``what`` differs; ``hint``: the likely cause, or ''."""

    where: tuple[str, ...]
    what: str
    hint: str = ""

    def __str__(self) -> str:
        place = " > ".join(self.where) or "the file"
        return f"{place}: {self.what}" + (f" ({self.hint})" if self.hint else "")


@dataclass(frozen=True, kw_only=True)
class Differ:
    """``places`` are folders that only one of the two builds knew: their names in a file explain it."""

    places: Sequence[str] = ()
    most: int = field(default=_MOST)

    def differences(self, one: bytes, two: bytes, where: tuple[str, ...] = ()) -> list[Difference]:
        """Every difference, at most ``most``; [] when the two are equal."""
        found: list[Difference] = []
        for difference in self._look(one, two, where):
            found.append(difference)
            if len(found) == self.most:
                break
        return found

    def _look(self, one: bytes, two: bytes, where: tuple[str, ...]) -> Iterator[Difference]:
        if one == two:
            return
        for matches, compare in _FORMS:
            if matches(one) and matches(two):
                try:
                    inner = list(compare(self, one, two, where))
                except _UNREADABLE as error:
                    inner = [self._raw(one, two, where, f"one of them is not readable: {error}")]
                yield from inner or [
                    self._raw(one, two, where, "all that is in it is equal: order, padding or compression")
                ]
                return
        yield self._raw(one, two, where)

    def _raw(self, one: bytes, two: bytes, where: tuple[str, ...], hint: str = "") -> Difference:
        return Difference(where, _bytes(one, two), hint or self._hint(one, two, where))

    def _hint(self, one: bytes, two: bytes, where: tuple[str, ...]) -> str:
        for place in self.places:
            if place.encode() in one or place.encode() in two:
                return f"it has the path of its build in it: {place}"
        if (
            any(step.startswith("_ferryman/") and step.endswith(".py") for step in where)
            and "needs" not in where[-1]
        ):
            return "what starts the .pyz: Ferryman itself was changed since the first build"
        name = where[-1].rpartition("/")[2] if where else ""
        return _NAMED.get(name, "") or _lines(one, two)

    # --- containers ---------------------------------------------------------------------------------------------------

    def _members(
        self, one: Mapping[str, _Member], two: Mapping[str, _Member], where: tuple[str, ...]
    ) -> Iterator[Difference]:
        """Names, order, properties, contents."""
        for names, others, which in ((one, two, "first"), (two, one, "second")):
            yield from (
                Difference((*where, name), f"is only in the {which} build")
                for name in names
                if name not in others
            )
        if one.keys() == two.keys() and list(one) != list(two):
            first = next(a for a, b in zip(one, two, strict=True) if a != b)
            yield Difference(
                where,
                f"members are in another order, from {first} on",
                "a folder was not sorted when it was read",
            )
        for name in one:
            if name in two:
                yield from self._member(one[name], two[name], (*where, name))

    def _member(self, one: _Member, two: _Member, where: tuple[str, ...]) -> Iterator[Difference]:
        for key, value in one.properties.items():
            other = two.properties.get(key)
            if value != other:
                yield Difference(where, f"{key} {value} and {other}", _PROPERTY_HINTS.get(key, ""))
        yield from self._look(one.content, two.content, where)

    def _gzip(self, one: bytes, two: bytes, where: tuple[str, ...]) -> Iterator[Difference]:
        for name, start, end in (("flags", 3, 4), ("date", 4, 8), ("compression", 8, 9), ("system", 9, 10)):
            if one[start:end] != two[start:end]:
                numbers = [int.from_bytes(data[start:end], "little") for data in (one, two)]
                yield Difference(
                    (*where, "gzip header"),
                    f"{name} {numbers[0]} and {numbers[1]}",
                    _PROPERTY_HINTS.get(name, ""),
                )
        yield from self._look(zlib.decompress(one, 31), zlib.decompress(two, 31), where)

    def _tar(self, one: bytes, two: bytes, where: tuple[str, ...]) -> Iterator[Difference]:
        return self._members(_tar_members(one), _tar_members(two), where)

    def _zip(self, one: bytes, two: bytes, where: tuple[str, ...]) -> Iterator[Difference]:
        heads = [data[: data.find(b"PK\x03\x04")] if data[:2] == b"#!" else b"" for data in (one, two)]
        if heads[0] != heads[1]:
            yield Difference(
                (*where, "first line"),
                " and ".join(head.decode("utf-8", "replace").strip() or "none" for head in heads),
            )
        yield from self._members(_zip_members(one), _zip_members(two), where)

    def _payload(self, one: bytes, two: bytes, where: tuple[str, ...]) -> Iterator[Difference]:
        first, second = read_payload(one), read_payload(two)
        for name in ("name", "version", "keep_days"):
            values = [getattr(payload.info, name) for payload in (first, second)]
            if values[0] != values[1]:
                yield Difference((*where, "head"), f"{name} {values[0]} and {values[1]}")
        contents = [
            {
                file.path: _Member(content, {"mode": oct(file.mode), "link": file.link})
                for file, content in payload.unpack()
            }
            for payload in (first, second)
        ]
        yield from self._members(contents[0], contents[1], where)
        if first.segments != second.segments:
            yield Difference((*where, "segments"), f"{len(first.segments)} and {len(second.segments)}, or of other sizes",
                             "another version of zstd, or files were grouped in another way")  # fmt: skip

    def _native(self, one: bytes, two: bytes, where: tuple[str, ...]) -> Iterator[Difference]:
        first, second = _numbered(regions(one)), _numbered(regions(two))
        for names, others, which in ((first, second, "first"), (second, first, "second")):
            yield from (
                Difference((*where, name), f"is only in the {which} build")
                for name in names
                if name not in others
            )
        parts = [(name, _cut(one, first[name]), _cut(two, second[name])) for name in first if name in second]
        differing = {name for name, a, b in parts if a != b}
        for name, a, b in parts:
            if name not in differing or (
                name == "PE headers" and differing & {"PE date stamp", "PE checksum"}
            ):
                continue
            if name in _PAYLOAD_SECTIONS:
                yield from self._look(a, b, (*where, "payload"))
            else:
                yield Difference(
                    (*where, name), _bytes(a, b), _REGION_HINTS.get(name, "") or self._hint(a, b, where)
                )

    def _pyc(self, one: bytes, two: bytes, where: tuple[str, ...]) -> Iterator[Difference]:
        if one[:4] != two[:4]:
            yield Difference(
                (*where, "magic number"), f"{one[:4].hex()} and {two[:4].hex()}", "compiled by another Python"
            )
        if one[4:_PYC_HEAD] != two[4:_PYC_HEAD]:
            dated = one[4:8] == two[4:8] == bytes(4)
            hint = (
                "the date of the source; compile with a hash instead"
                if dated
                else "another source, or kind of check"
            )
            yield Difference((*where, "head"), f"{one[4:_PYC_HEAD].hex()} and {two[4:_PYC_HEAD].hex()}", hint)
        if one[_PYC_HEAD:] != two[_PYC_HEAD:]:
            yield Difference((*where, "code"), _bytes(one[_PYC_HEAD:], two[_PYC_HEAD:]),
                             self._hint(one, two, ()) or "another path, or references that depend on what was compiled before")  # fmt: skip


@dataclass(frozen=True)
class _Member:
    content: bytes
    properties: Mapping[str, object]


def _tar_members(data: bytes) -> dict[str, _Member]:
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for info in archive:
            file = archive.extractfile(info) if info.isfile() else None
            properties = {"type": info.type, "mode": oct(info.mode), "date": info.mtime, "owner": f"{info.uid}:{info.gid}",
                          "owner's name": f"{info.uname}:{info.gname}", "link": info.linkname}  # fmt: skip
            found[info.name] = _Member(file.read() if file else b"", properties)
    return found


def _zip_members(data: bytes) -> dict[str, _Member]:
    found = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            properties = {
                "mode": oct(info.external_attr >> 16), "date": info.date_time, "compression": info.compress_type,
                "system": info.create_system, "extra field": info.extra.hex(), "comment": info.comment,
            }  # fmt: skip
            found[info.filename] = _Member(archive.read(info), properties)
    return found


def _numbered(found: Sequence[Region]) -> dict[str, Region]:
    """By name; what has the name of an earlier one gets a number."""
    named: dict[str, Region] = {}
    for region in found:
        name, number = region.name, 2
        while name in named:
            name, number = f"{region.name} ({number})", number + 1
        named[name] = region
    return named


def _cut(data: bytes, region: Region) -> bytes:
    return data[region.start : region.end]


def first_difference(one: bytes, two: bytes) -> int:
    """Offset of the first byte that differs; the shorter one's length when it is the other's beginning."""
    low, high = 0, min(len(one), len(two))
    if one[:high] == two[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if one[low:middle] != two[low:middle] else (middle, high)
    return low


def _bytes(one: bytes, two: bytes) -> str:
    at = first_difference(one, two)
    size = f"{len(one)} bytes" if len(one) == len(two) else f"{len(one)} and {len(two)} bytes"
    shown = " and ".join(data[at : at + 8].hex(" ") or "nothing" for data in (one, two))
    return f"{size}, first at {at:#x}: {shown}"


def _lines(one: bytes, two: bytes) -> str:
    """For text: the first line that differs."""
    if b"\0" in one[:4096] or b"\0" in two[:4096] or max(len(one), len(two)) > 1 << 20:
        return ""
    lines = [data.decode("utf-8", "replace").splitlines() for data in (one, two)]
    if sorted(lines[0]) == sorted(lines[1]):
        return "the same lines in another order"
    for number, (a, b) in enumerate(zip(*lines, strict=False), 1):
        if a != b:
            return f"line {number}: {a[:60]!r} and {b[:60]!r}"
    return "one is longer"


_NAMED = {
    "direct_url.json": "an installer wrote where it had the package from",
    "RECORD": "the list of installed files: look at what else differs",
    "INSTALLER": "another installer",
}
_PROPERTY_HINTS = {
    "mode": "the umask of the build",
    "date": "the time of the build, or the time zone",
    "owner": "the user of the build",
    "owner's name": "the user of the build",
    "system": "the operating system of the build",
    "compression": "another level or version of zlib",
}
_REGION_HINTS = {
    "PE date stamp": "the linker's clock; link with a fixed stamp",
    "PE checksum": "follows from another difference",
    "section .note.gnu.build-id": "the linker's digest: follows from another difference, or the build's path",
    "section .gnu_debuglink": "the name or digest of a file with debug information",
    "section .comment": "another compiler",
}

_Form = tuple[
    Callable[[bytes], bool], Callable[[Differ, bytes, bytes, tuple[str, ...]], Iterator[Difference]]
]
_FORMS: tuple[_Form, ...] = (
    (lambda data: data[:2] == b"\x1f\x8b", Differ._gzip),
    (lambda data: data[257:262] == b"ustar", Differ._tar),
    (lambda data: data[:4] == b"PK\x03\x04" or (data[:2] == b"#!" and b"PK\x03\x04" in data[:512]), Differ._zip),
    (lambda data: data[:8] == b"FERRYMAN", Differ._payload),
    (lambda data: bool(regions(data)), Differ._native),
    (lambda data: data[2:4] == b"\r\n" and len(data) > _PYC_HEAD, Differ._pyc),
)  # fmt: skip
