"""From files to components: each file gets into exactly one group, and each group becomes a component.

1. A native file whose name is a library's (resources/components.toml) belongs to that library, whoever brought it.
2. Any other library that came along with the interpreter is a component of its own, or its package's.
3. Everything else belongs to whoever brought it: the application, a wheel, the interpreter, the starter.
4. A symbolic link belongs where the file belongs that it means.
5. Files of one library in one folder are of one version: libssl does not say which it is, libcrypto beside it does.
"""

from __future__ import annotations

import posixpath
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence

import msgspec

from ferryman_build.sbom.natives import Read, read_versions
from ferryman_build.sbom.packages import Package
from ferryman_build.sbom.program import Owner, Shipped


class Key(msgspec.Struct, frozen=True, order=True):
    """What makes two files belong together. ``name`` is a wheel's or a library's; ``source`` a package's, with version."""

    owner: Owner
    name: str = ""
    version: str = ""
    source: str = ""


class Group(msgspec.Struct, kw_only=True):
    """A component in the making. ``says`` are the words that the version was read from, ``packages`` who packed it."""

    files: list[Shipped] = []
    linked_into: list[str] = []
    says: set[str] = set()
    packages: set[Package] = set()


class Grouped(msgspec.Struct, frozen=True, kw_only=True):
    """Every group by its key; of each path the group that owns it; of each path the groups of what is linked into it."""

    groups: Mapping[Key, Group]
    owner: Mapping[str, Key]
    inside: Mapping[str, tuple[Key, ...]]


def group_files(files: Sequence[Shipped], taken: Collection[str]) -> Grouped:
    """Group ``files``; ``taken`` are numbers that no library's version is taken for."""
    reads = {file.path: read_versions(file.native.found, taken) if file.native else () for file in files}
    owner = _owners(files, reads)
    groups: dict[Key, Group] = defaultdict(Group)
    for file in files:
        groups[owner[file.path]].files.append(file)
        groups[owner[file.path]].packages |= {file.package} if file.package else set()
        for read in reads[file.path]:
            group = groups[owner[file.path] if read.own else _linked(read)]
            group.says |= {read.says} - {""}
            group.linked_into += () if read.own else (file.path,)
    inside = {path: tuple(_linked(read) for read in found if not read.own) for path, found in reads.items()}
    return Grouped(groups=dict(groups), owner=owner, inside=inside)


def _owners(files: Sequence[Shipped], reads: Mapping[str, Sequence[Read]]) -> Mapping[str, Key]:
    versions = _folder_versions(files, reads)
    found = {file.path: _key(file, _own(reads[file.path]), versions) for file in files if not file.link}
    links = {file.path: file.link for file in files if file.link}
    ends = {file.path: found.get(_end(file.path, links)) for file in files if file.link}  # rule 4
    return {**found, **{file.path: ends[file.path] or _whose(file) for file in files if file.link}}


def _own(reads: Iterable[Read]) -> Read | None:
    return next((read for read in reads if read.own), None)


def _end(path: str, links: Mapping[str, str]) -> str:
    """Where a chain of links ends; a circle has no end."""
    for _ in links:
        path = links.get(path, path)
    return path


def _folder_versions(
    files: Iterable[Shipped], reads: Mapping[str, Sequence[Read]]
) -> Mapping[tuple[str, str], str]:
    """(library, folder) → version, where all files there that say one say the same (rule 5)."""
    said: dict[tuple[str, str], set[str]] = defaultdict(set)
    for file in files:
        own = _own(reads[file.path])
        if own and own.version:
            said[own.library, posixpath.dirname(file.path)].add(own.version)
    return {place: next(iter(found)) for place, found in said.items() if len(found) == 1}


def _key(file: Shipped, own: Read | None, versions: Mapping[tuple[str, str], str]) -> Key:
    package = file.package
    if own and file.owner is not Owner.STARTER:  # rule 1
        version = own.version or versions.get((own.library, posixpath.dirname(file.path)), "")
        return Key(
            Owner.MACHINE, own.library, version or (package.upstream if package else ""), _source(package)
        )
    if file.owner is Owner.MACHINE:  # rule 2
        if package:
            return Key(Owner.MACHINE, package.source, package.upstream, _source(package))
        return Key(Owner.MACHINE, posixpath.basename(file.path))
    return _whose(file)


def _whose(file: Shipped) -> Key:
    return Key(file.owner, file.wheel)  # rule 3


def _source(package: Package | None) -> str:
    return f"{package.source} {package.source_version}" if package else ""


def _linked(read: Read) -> Key:
    return Key(Owner.MACHINE, read.library, read.version)
