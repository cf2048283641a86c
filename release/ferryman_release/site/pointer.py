"""channels/<channel>.signed: what a channel offers, for installers that know no TUF.

One object holds a signature and what it signs, so that no reader ever has one without the other:

    four lines of a minisign signature (prehashed: Ed25519 over the BLAKE2b-512 of the rest)
    format 1
    name lantern
    channel stable
    version 1.4.0
    released 2026-11-21T12:00:00Z
    expires 2027-02-19T12:00:00Z
    serial 12                                       (left out when 0)
    sums <sha256 of that version's SHA256SUMS>
    minimum 1.2.0                                   (optional)
    yanked 1.3.0                                    (repeated)
    file <target> <kind> <size> <sha256> <path>     (repeated; the path is relative to artifacts/)
    floor <target> <kind> <system> <version>        (repeated: what the file needs of its machine)

Each line is a key and its words, with one blank between. A reader passes over keys that it does not know, so that a later
Ferryman may add some; what a reader must understand raises the number of the format.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator

import msgspec

from ferryman_build.artifacts import Struct
from ferryman_release.errors import MetadataError
from ferryman_release.model import CHANNELS
from ferryman_release.site.model import Site, SiteChannel

FORMAT = 1
LONGEST = 1 << 20  # bytes; what a reader takes at most

_WORD = re.compile(r"[\x21-\x7e]+")
_PATH = re.compile(r"[A-Za-z0-9][A-Za-z0-9.+!_~-]*(/[A-Za-z0-9][A-Za-z0-9.+!_~-]*)*")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_SIGNATURE_LINES = 4


class PointerFile(Struct, frozen=True, kw_only=True):
    """An artifact: ``size`` in bytes, ``path`` relative to `<prefix>/artifacts`."""

    target: str
    kind: str
    size: int
    sha256: str
    path: str
    floor: dict[str, str] = msgspec.field(default_factory=dict)


class Pointer(Struct, frozen=True, kw_only=True):
    """What is signed; the fields are the keys of the lines."""

    name: str
    channel: str
    version: str
    released: str
    expires: str
    sums: str
    serial: int = 0
    minimum: str = ""
    yanked: tuple[str, ...] = ()
    files: tuple[PointerFile, ...] = ()


class SignedPointer(Struct, frozen=True, kw_only=True):
    """The two parts of the object, and what the second one says. The signature has *not* been looked at."""

    signature: bytes
    payload: bytes
    pointer: Pointer


def pointer_key(channel: str) -> str:
    """Where the object is, relative to the prefix."""
    return f"{CHANNELS}/{channel}.signed"


def pointer_of(site: Site, channel: SiteChannel) -> Pointer:
    """What the pointer of a channel says."""
    return Pointer(
        name=site.name,
        channel=channel.channel,
        version=channel.version,
        released=channel.released,
        expires=channel.expires,
        sums=channel.sums,
        serial=channel.serial,
        minimum=channel.minimum,
        yanked=tuple(one.version for one in channel.yanked),
        files=tuple(
            PointerFile(target=one.target, kind=one.kind, size=one.size, sha256=one.sha256, path=one.path,
                        floor=one.floor)
            for one in channel.files
        ),
    )  # fmt: skip


def pointer(value: Pointer, sign: Callable[[bytes], bytes]) -> bytes:
    """The object's bytes; ``sign`` takes the payload and returns the text of its minisign signature.

    Raises:
        MetadataError: a field cannot stand in a line of words.
    """
    payload = pointer_payload(value)
    signature = sign(payload).rstrip(b"\n")
    if signature.count(b"\n") != _SIGNATURE_LINES - 1:
        raise MetadataError("A minisign signature has four lines; the signer gave something else.")
    return signature + b"\n" + payload


def pointer_payload(value: Pointer) -> bytes:
    """What is signed."""
    problems = list(_problems(value))
    if problems:
        raise MetadataError(
            f"The pointer of channel {value.channel} cannot be written.",
            advice="Give versions, targets and files names without blanks.", details=problems,
        )  # fmt: skip
    return "".join(f"{line}\n" for line in _lines(value)).encode("ascii")


def _lines(value: Pointer) -> Iterator[str]:
    yield f"format {FORMAT}"
    for key in ("name", "channel", "version", "released", "expires"):
        yield f"{key} {getattr(value, key)}"
    if value.serial:
        yield f"serial {value.serial}"
    yield f"sums {value.sums}"
    if value.minimum:
        yield f"minimum {value.minimum}"
    for version in value.yanked:
        yield f"yanked {version}"
    for one in value.files:
        yield f"file {one.target} {one.kind} {one.size} {one.sha256} {one.path}"
    for one in value.files:
        for system, version in sorted(one.floor.items()):
            yield f"floor {one.target} {one.kind} {system} {version}"


def _problems(value: Pointer) -> Iterator[str]:
    words = [
        value.name,
        value.channel,
        value.version,
        *value.yanked,
        *([value.minimum] if value.minimum else []),
    ]
    words += [word for one in value.files for word in (one.target, one.kind, *one.floor, *one.floor.values())]
    yield from (f"{word!r} is not one word" for word in words if not _WORD.fullmatch(word))
    yield from (f"{moment!r} is not a moment such as 2026-11-21T12:00:00Z"
                for moment in (value.released, value.expires) if not _MOMENT.fullmatch(moment))  # fmt: skip
    digests = [value.sums, *(one.sha256 for one in value.files)]
    yield from (f"{digest!r} is not a SHA-256" for digest in digests if not _SHA256.fullmatch(digest))
    yield from (f"{one.path!r} is not a plain path" for one in value.files if not _PATH.fullmatch(one.path))


def parse_pointer(data: bytes) -> SignedPointer:
    """The parts of ``data``; whoever calls compares the signature with the payload.

    Raises:
        MetadataError: it is not a pointer, or one of a format that this Ferryman does not know.
    """
    signature, payload = split_pointer(data)
    try:
        value = _parse(payload.decode("ascii").splitlines())
    except (KeyError, ValueError) as error:
        raise _broken(str(error)) from error
    problems = list(_problems(value))
    if problems:
        raise _broken(problems[0])
    return SignedPointer(signature=signature, payload=payload, pointer=value)


def split_pointer(data: bytes) -> tuple[bytes, bytes]:
    """The signature's four lines, and what they sign."""
    if len(data) > LONGEST:
        raise _broken(f"{len(data)} bytes are too many")
    parts = data.split(b"\n", _SIGNATURE_LINES)
    if len(parts) <= _SIGNATURE_LINES:
        raise _broken("it has less than five lines")
    return b"".join(line + b"\n" for line in parts[:_SIGNATURE_LINES]), parts[_SIGNATURE_LINES]


def _parse(lines: Iterable[str]) -> Pointer:
    rows = [(key, words) for key, *words in (line.split(" ") for line in lines)]
    once = {key: words[0] for key, words in rows if len(words) == 1}
    if once["format"] != str(FORMAT):
        raise ValueError(f"its format is {once['format']}, and not {FORMAT}")
    floors: dict[tuple[str, str], dict[str, str]] = {}
    for target, kind, system, version in (words for key, words in rows if key == "floor"):
        floors.setdefault((target, kind), {})[system] = version
    return Pointer(
        **{key: once[key] for key in ("name", "channel", "version", "released", "expires", "sums")},
        serial=int(once.get("serial", "0")),
        minimum=once.get("minimum", ""),
        yanked=tuple(words[0] for key, words in rows if key == "yanked"),
        files=tuple(_parse_file(words, floors) for key, words in rows if key == "file"),
    )


def _parse_file(words: list[str], floors: dict[tuple[str, str], dict[str, str]]) -> PointerFile:
    target, kind, size, sha256, path = words
    return PointerFile(
        target=target,
        kind=kind,
        size=int(size),
        sha256=sha256,
        path=path,
        floor=floors.get((target, kind), {}),
    )


def _broken(why: str) -> MetadataError:
    return MetadataError(f"This is not a channel's pointer: {why}.", advice="Publish the channel again.")
