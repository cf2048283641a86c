"""What a tree needs of its machine, measured from the bytes of every file in it."""

from __future__ import annotations

import posixpath
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from ferryman_build.artifacts import Needs
from ferryman_build.cache import Blobs
from ferryman_build.errors import InspectError
from ferryman_build.inspect.measure import facts_once, worth_reading
from ferryman_build.inspect.members import Member, members
from ferryman_build.inspect.native import Format, Native, Reason, higher, version_key
from ferryman_build.targets import Libc, Os, Target

FORMATS: Mapping[Os, Format] = {Os.LINUX: Format.ELF, Os.WINDOWS: Format.PE, Os.DARWIN: Format.MACHO}
_ORIGIN = re.compile(r"(\$ORIGIN|\$\{ORIGIN\}|@loader_path)(?=/|$)")
_LIBRARIES = (".so", ".pyd", ".dll", ".dylib")
_LD_SCRIPT = (
    b"/* G"  # "/* GNU ld script": text in place of a library, which linkers take and no loader is asked to
)
_MOST_DETAILS = 20
_ODD_MODE = stat.S_ISUID | stat.S_ISGID | stat.S_IWOTH


class Listed(Protocol):
    """What a tree knows of its files already (:class:`ferryman_build.tree.TreeFile`)."""

    @property
    def path(self) -> str:
        """POSIX path in the tree."""
        ...

    @property
    def mode(self) -> int:
        """Permission bits that the file is shipped with; on disk it may be a hard link with others."""
        ...

    @property
    def sha256(self) -> str:
        """Of the content."""
        ...


class Found(msgspec.Struct, kw_only=True):
    """What a walk over files sees, before anything is made of it.

    ``names`` (lower case) are those that a library may be found by, ``links`` lead out of the tree, ``modes`` are the
    permission bits that no file of a product should have, ``built_in`` and ``compiled_in`` are folders of the build and
    absolute paths of sources by file, ``bytecode`` are those of the files that are compiled Python, ``misnamed`` have the
    name of a library and are none.
    """

    natives: list[Native] = []
    names: set[str] = set()
    links: list[str] = []
    modes: dict[str, int] = {}
    built_in: dict[str, str] = {}
    compiled_in: dict[str, str] = {}
    bytecode: set[str] = set()
    misnamed: list[str] = []


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What was found: the needs, the reason for each floor, every native file, and what a person should look at.

    ``foreign`` are files for another machine, ``leaks`` library folders outside of the tree and who searches them.
    """

    needs: Needs
    reasons: dict[str, Reason] = {}
    natives: tuple[Native, ...] = ()
    warnings: tuple[str, ...] = ()
    foreign: tuple[Native, ...] = ()
    leaks: dict[str, tuple[str, ...]] = {}
    found: Found = msgspec.field(default_factory=Found)


def needs_of_tree(root: Path, target: Target) -> Needs:
    """What the program in folder ``root`` needs; see :func:`survey_tree`, which also says why.

    Raises:
        InspectError: a file is code for another machine than ``target``.
    """
    return survey_tree(root, target).needs


def survey_tree(
    root: Path,
    target: Target,
    *,
    blobs: Blobs | None = None,
    files: Iterable[Listed] = (),
    folders: Sequence[str] = (),
    refuse_foreign: bool = True,
) -> Survey:
    """Read every file of folder ``root`` and put together what they need from outside of it.

    Args:
        root: the tree.
        target: what it is for.
        blobs: where measurements are kept by content; None: nothing is kept.
        files: what is known of the files: their modes count instead of those on disk, their digests spare reading.
        folders: absolute folders of this machine that no product should name.
        refuse_foreign: False: files for another machine are in the survey's ``foreign`` and no error.

    Raises:
        InspectError: a file is code for another machine than ``target``; ``details`` names each.
    """
    known = {file.path: file for file in files}
    survey = survey_members(_with_known(members(root), known), target, blobs=blobs, folders=folders)
    if refuse_foreign:
        _refuse_foreign(survey.foreign, target)
    return survey


def survey_members(
    listed: Iterable[Member],
    target: Target | None = None,
    *,
    blobs: Blobs | None = None,
    folders: Sequence[str] = (),
) -> Survey:
    """As :func:`survey_tree`, of any files; without a target nothing is foreign and every loadable file counts."""
    found = look(listed, blobs, folders)
    foreign = [
        native
        for native in found.natives
        if target and _is_foreign(native, target) and not _is_template(native)
    ]
    ours = [
        native for native in found.natives if native.loadable and (not target or _is_ours(native, target))
    ]
    leaks = _leaks(ours)
    warnings = [*_link_warnings(found), *_leak_sentences(leaks)]
    warnings += [f"{name}: called a library, but is no native code" for name in found.misnamed]
    for native in found.natives:
        warnings += (
            _warnings(native, target) if target else [f"{native.name}: {note}" for note in native.notes]
        )
    survey = summarize(ours, found.names, warnings)
    return msgspec.structs.replace(survey, foreign=tuple(foreign), leaks=leaks, found=found)


def _is_ours(native: Native, target: Target) -> bool:
    return native.format is FORMATS[target.os] and native.loadable and target.arch in native.architectures


def _with_known(listed: Iterable[Member], known: Mapping[str, Listed]) -> Iterator[Member]:
    for member in listed:
        file = known.get(member.name)
        if file is None or member.link:
            yield member
        else:
            yield msgspec.structs.replace(member, mode=file.mode, sha256=file.sha256)


def look(files: Iterable[Member], blobs: Blobs | None = None, folders: Sequence[str] = ()) -> Found:
    """Read ``files``; ``blobs`` and ``folders`` as for :func:`survey_tree`."""
    found = Found()
    for member in files:
        if member.link.startswith(".."):
            found.links.append(member.name)
            continue
        found.names.add(posixpath.basename(member.name).lower())
        if not member.link:
            _look_at(member, blobs, folders, found)
    return found


def _look_at(member: Member, blobs: Blobs | None, folders: Sequence[str], found: Found) -> None:
    if member.mode & _ODD_MODE:
        found.modes[member.name] = member.mode
    with member.open() as file:
        head = file.read(4)
        if not worth_reading(head):
            _look_at_name(member.name, head, found)
            return
        facts = facts_once(member.name, lambda: head + file.read(), blobs, member.sha256, folders)
    if facts.native is not None:
        found.natives.append(facts.native)
    else:
        _look_at_name(member.name, head, found)
    if facts.bytecode:
        found.bytecode.add(member.name)
    if facts.built_in:
        found.built_in[member.name] = facts.built_in
    if facts.compiled_in:
        found.compiled_in[member.name] = facts.compiled_in


def _look_at_name(name: str, head: bytes, found: Found) -> None:
    """A library that was cut off at its first bytes, or has something else in its place, is native code by its name only."""
    if name.lower().endswith(_LIBRARIES) and head != _LD_SCRIPT:
        found.misnamed.append(name)


def scan(files: Iterable[Member]) -> tuple[list[Native], set[str], list[str]]:
    """The native files among ``files``, the names that a library may be found by, and warnings about links."""
    found = look(files)
    return found.natives, found.names, _link_warnings(found)


def _link_warnings(found: Found) -> list[str]:
    return [f"{name}: the link leads out of the tree" for name in found.links]


def summarize(natives: Sequence[Native], names: Iterable[str], warnings: Iterable[str] = ()) -> Survey:
    """The highest floor and the libraries that are nowhere among ``names`` (lower case) or ``natives``."""
    reasons: dict[str, Reason] = {}
    for native in natives:
        for system, reason in native.floor.items():
            reasons[system] = higher(reasons.get(system), reason)
    inside = {*names, *(posixpath.basename(native.provides).lower() for native in natives if native.provides)}
    wanted = {library for native in natives for library in native.needed}
    wanted |= {posixpath.basename(native.interpreter) for native in natives if native.interpreter}
    outside = sorted(name for name in wanted if posixpath.basename(name).lower() not in inside)
    floor = {system: reason.version for system, reason in sorted(reasons.items())}
    return Survey(
        needs=Needs(floor=floor, libraries=tuple(outside)),
        reasons=reasons,
        natives=tuple(natives),
        warnings=tuple(warnings),
    )


def _refuse_foreign(wrong: Sequence[Native], target: Target) -> None:
    if not wrong:
        return
    raise InspectError(
        f"{wrong[0].name} is code for {machine(wrong[0])}, but the tree is for {target}.",
        advice="Find out which dependency brought the file; its wheel is for another platform than its name says.",
        details=[f"{native.name}: {machine(native)}" for native in wrong[:_MOST_DETAILS]],
    )


def _is_foreign(native: Native, target: Target) -> bool:
    same_format = native.format is FORMATS[target.os]
    return same_format and native.loadable and target.arch not in native.architectures


def _is_template(native: Native) -> bool:
    # setuptools and distlib carry launchers for every Windows machine as data; the program itself lies at the top.
    return native.format is Format.PE and native.name.lower().endswith(".exe") and "/" in native.name


def machine(native: Native) -> str:
    """Format and machine for a sentence."""
    return f"{native.format.upper()} {' and '.join(native.architectures) or 'of unknown machine'}"


def _warnings(native: Native, target: Target) -> list[str]:
    found = [f"{native.name}: {note}" for note in native.notes]
    if not native.loadable:
        return found
    if native.format is not FORMATS[target.os]:
        return [f"{native.name}: {machine(native)} in a tree for {target}; it will not run there"]
    if _is_foreign(native, target):
        return [f"{native.name}: {machine(native)} in a tree for {target}; taken for data"]
    return found


def search_leaks(natives: Iterable[Native]) -> list[str]:
    """One sentence per library folder (RUNPATH, RPATH, LC_RPATH) that is not inside the tree, and who searches it.

    An absolute folder is one of the machine that built the file: whoever can write there on the customer's machine
    decides what is loaded.
    """
    return _leak_sentences(_leaks(natives))


def _leaks(natives: Iterable[Native]) -> dict[str, tuple[str, ...]]:
    users: dict[str, list[str]] = {}
    for native in natives:
        for folder in native.search:
            if not _inside(native.name, folder):
                users.setdefault(folder, []).append(native.name)
    return {folder: tuple(names) for folder, names in sorted(users.items())}


def _leak_sentences(leaks: Mapping[str, Sequence[str]]) -> list[str]:
    return [_leak(folder, names) for folder, names in leaks.items()]


def _leak(folder: str, names: Sequence[str]) -> str:
    who = names[0] if len(names) == 1 else f"{names[0]} and {len(names) - 1} more"
    return (
        f"{who}: looking for libraries in {folder or 'the working directory'!r}, which is outside of the tree"
    )


def _inside(name: str, folder: str) -> bool:
    if folder.startswith("@executable_path"):
        return True
    if _ORIGIN.match(folder) is None:
        return False
    place = _ORIGIN.sub(posixpath.dirname(name) or ".", folder, count=1)
    return posixpath.normpath(place).split("/", 1)[0] != ".."


def floor_problems(
    needs: Needs, target: Target, reasons: Mapping[str, Reason] | None = None
) -> tuple[str, ...]:
    """One sentence for each value that is above what ``target`` promises; ``reasons`` are a survey's.

    Whether they stop the build is for the caller.
    """
    found = []
    for system, version in needs.floor.items():
        promised = target.floor.get(system)
        if promised is not None and version_key(version) <= version_key(promised):
            continue
        why = _because((reasons or {}).get(system))
        found.append(f"needs {system} {version}{why} but {target} promises {promised or f'no {system}'}")
    musl = [name for name in needs.libraries if name.startswith(("libc.musl-", "ld-musl-"))]
    if musl and target.libc is Libc.GNU:
        found.append(f"needs musl ({', '.join(musl)}) but {target} promises {target.floor_text}")
    return tuple(found)


def _because(reason: Reason | None) -> str:
    if reason is None or not reason.file:
        return ""
    symbol = f": symbol {reason.symbol}" if reason.symbol else ""
    return f" ({reason.label} in {reason.file}{symbol})"
