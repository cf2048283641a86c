"""Which contents of a payload are compressed together, and in which order.

A segment is compressed on its own, so one changed byte changes its whole segment and nothing else of the payload. What
changes together therefore lies together: the interpreter's libraries, the standard library, each dependency, and the
application in small pieces. Small bytecode segments are primed with a part of the standard library that nearly every
program has, and lose little by being small (docs/adr/0008). Everything here depends on paths, groups, sizes and
digests; the cuts depend on paths alone, so that an edit moves none.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Collection, Iterable, Sequence

import msgspec

from ferryman_build.collect.analysis import EntryKind, Origin

_OWN_FOLDER = "_ferryman"  # below _internal: what the launcher reads
_SBOM = f"{_OWN_FOLDER}/sbom.cdx.json"
_PIECE = 8 << 20  # bytes that a segment has at most, about; a single larger file is one segment


class Content(msgspec.Struct, frozen=True, kw_only=True):
    """One content of a payload, under the path and the group of the first file that has it."""

    sha256: str
    size: int
    path: str
    group: str


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """Contents that are compressed together; ``primed``: with the dictionary, which is a segment itself."""

    name: str
    contents: tuple[Content, ...]
    primed: bool

    @property
    def size(self) -> int:
        """Bytes when unpacked."""
        return sum(content.size for content in self.contents)


class _Rule(msgspec.Struct, frozen=True, kw_only=True):
    """A group of at least ``alone`` bytes has its own segments, smaller ones of the class share; ``fine``: cut small."""

    alone: int
    primed: bool
    fine: bool = False


# By the class of a group (what is before its colon), in the order in which they lie in the payload: what changes often
# comes last.
_RULES = {
    "native": _Rule(alone=4 << 20, primed=False),
    "stdlib": _Rule(alone=0, primed=True),
    "extension": _Rule(alone=512 << 10, primed=False),
    "dist": _Rule(alone=128 << 10, primed=True),
    "data": _Rule(alone=64 << 10, primed=False),
    "app": _Rule(alone=0, primed=True, fine=True),
    "sbom": _Rule(alone=0, primed=False),
}
_CLASSES = tuple(_RULES)

# The modules of the standard library that are the dictionary, where a program has them. Named, not chosen by size: a
# program that imports one module more must not get another dictionary, and with it other bytes everywhere.
_DICTIONARY = frozenset(
    {"asyncio", "collections", "contextlib", "dataclasses", "enum", "functools", "http", "inspect", "json", "logging",
     "os", "pathlib", "re", "typing", "urllib"}
)  # fmt: skip
_DICTIONARY_NAME = "stdlib:dictionary"
_INTERPRETER = (Origin.HOST, Origin.RUNTIME)


def group_of(dest: str, kind: EntryKind, origin: Origin, own_top_levels: Collection[str]) -> str:
    """The group of a file of the tree.

    ==================== ==================================================================================
    native:<file name>   a native library of the interpreter or the system
    stdlib               the standard library's modules and data
    extension:<name>     native libraries that come with a dependency, or with the project
    dist:<name>          the other files of a dependency, by their top-level name
    data:<name>          files of the project's folder that `data` names, by their top-level name
    app                  the project's own wheel, and what Ferryman writes to start it
    sbom                 what the program consists of: it changes with every file
    ==================== ==================================================================================

    Args:
        dest: path relative to ``_internal``.
        own_top_levels: import names of the project's wheel, which tell its files from a dependency's.
    """
    if dest == _SBOM:
        return "sbom"
    top = _top_level(dest)
    if kind is EntryKind.NATIVE:
        return f"native:{dest.rsplit('/', 1)[-1]}" if origin in _INTERPRETER else f"extension:{top}"
    own = origin in {Origin.APP, Origin.WORK} or top in own_top_levels
    if own or dest.startswith(f"{_OWN_FOLDER}/"):
        return "app"
    if origin in _INTERPRETER:
        return "stdlib"
    return f"data:{top}" if origin is Origin.PROJECT else f"dist:{top}"


def _top_level(dest: str) -> str:
    """The import name at the head of ``dest``; of `name-1.0.dist-info` and `name.libs`, the name."""
    head, slash, _ = dest.partition("/")
    name = head.removesuffix(".dist-info")
    if name != head:
        return name.partition("-")[0].lower()
    return head.removesuffix(".libs") if slash else head.split(".", 1)[0]


def rank(content: Content) -> tuple[int, str, bytes]:
    """Sorts contents by class, group and path; groups of an unknown class come last."""
    kind = _class(content.group)
    place = _CLASSES.index(kind) if kind in _RULES else len(_CLASSES)
    return place, content.group, content.path.encode()


def segments(contents: Iterable[Content]) -> list[Segment]:
    """Every content in one segment; the dictionary, if there is one, is the first of them."""
    ordered = sorted(contents, key=rank)
    dictionary = tuple(content for content in ordered if _in_dictionary(content))
    others = (content for content in ordered if not _in_dictionary(content))
    found = [Segment(name=_DICTIONARY_NAME, contents=dictionary, primed=False)] if dictionary else []
    for kind, members in itertools.groupby(others, key=lambda content: _class(content.group)):
        found += _of_class(kind, list(members), primes=bool(dictionary))
    return found


def _of_class(kind: str, contents: Sequence[Content], *, primes: bool) -> list[Segment]:
    rule = _RULES.get(kind, _RULES["data"])
    groups = {name: list(members) for name, members in itertools.groupby(contents, key=lambda c: c.group)}
    alone = {name: members for name, members in groups.items() if _size(members) >= rule.alone}
    shared = [content for name, members in groups.items() if name not in alone for content in members]
    named = [(f"{kind}:*", shared), *alone.items()]
    return [
        Segment(name=name, contents=tuple(piece), primed=rule.primed and primes)
        for name, members in named
        for piece in _cut(members, fine=rule.fine)
    ]


def _cut(contents: Sequence[Content], *, fine: bool) -> list[list[Content]]:
    """Runs of ``contents``, cut before those whose path has a digest of enough zero bits.

    How many bits is a matter of how many runs are wanted: a file that comes or goes joins or parts two runs at most,
    and when their number doubles every cut of before is kept.
    """
    wanted = math.ceil(_size(contents) / _PIECE)
    if fine:
        wanted = max(wanted, min(16, len(contents) // 4))
    if wanted < 2:
        return [list(contents)] if contents else []
    every = 1 << max(0, (len(contents) // wanted).bit_length() - 1)
    runs: list[list[Content]] = []
    for content in contents:
        if not runs or _path_number(content.path) % every == 0:
            runs.append([])
        runs[-1].append(content)
    return runs


def _path_number(path: str) -> int:
    return int.from_bytes(hashlib.sha256(path.encode()).digest()[:8], "little")


def _in_dictionary(content: Content) -> bool:
    if content.group != "stdlib" or not content.path.endswith(".pyc"):
        return False
    return _top_level(content.path.removeprefix("_internal/")) in _DICTIONARY


def _size(contents: Iterable[Content]) -> int:
    return sum(content.size for content in contents)


def _class(group: str) -> str:
    return group.partition(":")[0]
