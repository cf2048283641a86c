"""What a tree needs of its machine, measured from the bytes of every file in it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from ferryman_build.artifacts import Needs
from ferryman_build.errors import InspectError
from ferryman_build.inspect.formats import read_native
from ferryman_build.inspect.members import Member, members
from ferryman_build.inspect.native import Format, Native, Reason, higher, version_key
from ferryman_build.targets import Libc, Os, Target

_FORMATS: Mapping[Os, Format] = {Os.LINUX: Format.ELF, Os.WINDOWS: Format.PE, Os.DARWIN: Format.MACHO}
_ORIGIN = re.compile(r"(\$ORIGIN|\$\{ORIGIN\}|@loader_path)(?=/|$)")
_MOST_DETAILS = 20


class Survey(msgspec.Struct, frozen=True, kw_only=True):
    """What was found: the needs, the reason for each floor, every native file, and what a person should look at."""

    needs: Needs
    reasons: dict[str, Reason] = {}
    natives: tuple[Native, ...] = ()
    warnings: tuple[str, ...] = ()


def needs_of_tree(root: Path, target: Target) -> Needs:
    """What the program in folder ``root`` needs; see :func:`survey_tree`, which also says why.

    Raises:
        InspectError: a file is code for another machine than ``target``.
    """
    return survey_tree(root, target).needs


def survey_tree(root: Path, target: Target) -> Survey:
    """Read every file of folder ``root`` and put together what they need from outside of it.

    Raises:
        InspectError: a file is code for another machine than ``target``; ``details`` names each.
    """
    natives, names, warnings = scan(members(root))
    _refuse_foreign(natives, target)
    warnings += [warning for native in natives for warning in _warnings(native, target)]
    warnings += search_leaks(native for native in natives if not _is_foreign(native, target))
    ours = [native for native in natives if native.format is _FORMATS[target.os] and native.loadable]
    return summarize(ours, names, warnings)


def scan(files: Iterable[Member]) -> tuple[list[Native], set[str], list[str]]:
    """The native files among ``files``, the names that a library may be found by, and warnings about links."""
    natives: list[Native] = []
    names: set[str] = set()
    warnings: list[str] = []
    for member in files:
        if member.link.startswith(".."):
            warnings.append(f"{member.name}: the link leads out of the tree")
            continue
        names.add(posixpath.basename(member.name).lower())
        if member.link:
            continue
        with member.open() as file:
            native = read_native(member.name, file)
        if native is not None:
            natives.append(native)
    return natives, names, warnings


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


def _refuse_foreign(natives: Iterable[Native], target: Target) -> None:
    wrong = [native for native in natives if _is_foreign(native, target) and not _is_template(native)]
    if not wrong:
        return
    raise InspectError(
        f"{wrong[0].name} is code for {_machine(wrong[0])}, but the tree is for {target}.",
        advice="Find out which dependency brought the file; its wheel is for another platform than its name says.",
        details=[f"{native.name}: {_machine(native)}" for native in wrong[:_MOST_DETAILS]],
    )


def _is_foreign(native: Native, target: Target) -> bool:
    same_format = native.format is _FORMATS[target.os]
    return same_format and native.loadable and target.arch not in native.architectures


def _is_template(native: Native) -> bool:
    # setuptools and distlib carry launchers for every Windows machine as data; the program itself lies at the top.
    return native.format is Format.PE and native.name.lower().endswith(".exe") and "/" in native.name


def _machine(native: Native) -> str:
    return f"{native.format.upper()} {' and '.join(native.architectures) or 'of unknown machine'}"


def _warnings(native: Native, target: Target) -> list[str]:
    found = [f"{native.name}: {note}" for note in native.notes]
    if not native.loadable:
        return found
    if native.format is not _FORMATS[target.os]:
        return [f"{native.name}: {_machine(native)} in a tree for {target}; it will not run there"]
    if _is_foreign(native, target):
        return [f"{native.name}: {_machine(native)} in a tree for {target}; taken for data"]
    return found


def search_leaks(natives: Iterable[Native]) -> list[str]:
    """One sentence per library folder (RUNPATH, RPATH, LC_RPATH) that is not inside the tree, and who searches it.

    An absolute folder is one of the machine that built the file: whoever can write there on the customer's machine
    decides what is loaded.
    """
    users: dict[str, list[str]] = {}
    for native in natives:
        for folder in native.search:
            if not _inside(native.name, folder):
                users.setdefault(folder, []).append(native.name)
    return [_leak(folder, names) for folder, names in sorted(users.items())]


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
