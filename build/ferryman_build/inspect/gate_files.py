"""The gate's rules about files: what headers allow, permission bits, signatures, and paths of the machine that builds."""

from __future__ import annotations

import posixpath
import re
import stat
from collections.abc import Iterator, Mapping

from ferryman_build.inspect.gate_codes import Code, Finding, Severity, finding, several
from ferryman_build.inspect.native import NO_DECODER, NOT_MEASURED, NOT_READABLE, Native, Trait
from ferryman_build.inspect.survey import Survey
from ferryman_build.targets import Os, Target

_SENTENCES: Mapping[Trait, tuple[Code, str]] = {
    Trait.TEXT_RELOCATIONS: (Code.TEXT_RELOCATIONS, "changes its own code when it is loaded"),
    Trait.EXECUTABLE_STACK: (Code.EXECUTABLE_STACK, "makes the stack of the whole process executable"),
    Trait.NO_ASLR: (Code.ASLR, "is always loaded at the same address"),
    Trait.NO_NX: (Code.NX, "lets data be executed"),
    Trait.GUI: (Code.GUI, "is for the Windows GUI subsystem"),
    Trait.UNSIGNED: (Code.UNSIGNED, "is not signed"),
    Trait.BROKEN_SIGNATURE: (Code.SIGNATURE, "has a signature that does not fit its content"),
}


_LOADED = re.compile(r"\.(so|pyd|dll|dylib|exe|[0-9]+)$")  # python3.11, libx.so.1
_SUFFIXES: Mapping[Os, tuple[str, ...]] = {
    Os.LINUX: (".so",), Os.WINDOWS: (".dll", ".pyd"), Os.DARWIN: (".so", ".dylib"),
}  # fmt: skip
# Folders that only the administrator of a machine writes to, and where its loader looks without being told.
_SYSTEM: Mapping[Os, tuple[str, ...]] = {
    Os.LINUX: ("/lib", "/lib64", "/usr/lib", "/usr/lib64"), Os.WINDOWS: (), Os.DARWIN: ("/usr/lib", "/System/Library"),
}  # fmt: skip


def findings(survey: Survey, target: Target) -> Iterator[Finding]:
    """What files are and what they give away."""
    for native in survey.natives:
        yield from _traits(native, target)
    yield from _misnamed(survey, target)
    yield from _modes(survey, target)
    yield from _paths(survey, target)
    yield from _searched(survey, target)


def noted(native: Native, target: Target) -> Iterator[Finding]:
    """What a reader says of a file of the target's own format: damage stops a build where a loader may meet the file."""
    for note in native.notes:
        text = f"{native.name}: {note}"
        if note == NO_DECODER:
            continue  # the file is whole; the rules about processors say what that means for this target
        if "GLIBC_PRIVATE" in note:
            yield finding(Code.PRIVATE_SYMBOL, native.name, note, text, target)
        elif note.startswith(NOT_MEASURED) or (note.startswith(NOT_READABLE) and loaded_by_name(native.name)):
            yield finding(Code.UNREADABLE, native.name, note, text, target)
        else:
            yield finding(Code.UNREADABLE, native.name, note, text, target, severity=Severity.NOTE)


def loaded_by_name(path: str) -> bool:
    """Whether loaders, or whoever starts programs, take a file of that name for native code; others have it as data."""
    name = posixpath.basename(path).lower()
    return "." not in name or _LOADED.search(name) is not None


def _misnamed(survey: Survey, target: Target) -> Iterator[Finding]:
    for path in survey.found.misnamed:
        if path.lower().endswith(_SUFFIXES[target.os]):
            text = f"{path} is called a library, but is no native code"
            yield finding(Code.UNREADABLE, path, "no native code", text, target)


def _traits(native: Native, target: Target) -> Iterator[Finding]:
    for trait, where in native.traits.items():
        if trait not in _SENTENCES or not _matters(trait, where, native, target):
            continue
        code, sentence = _SENTENCES[trait]
        what = where if code not in (Code.UNSIGNED, Code.SIGNATURE) else trait.value
        message = f"{native.name} {sentence} ({where})"
        yield finding(code, native.name, what, message, target, severity=_severity(code, target))


def _matters(trait: Trait, where: str, native: Native, target: Target) -> bool:
    if trait is Trait.GUI:  # of a library it means nothing, and only what is started lies at the top
        return native.name.lower().endswith(".exe") and "/" not in native.name
    if trait in (Trait.UNSIGNED, Trait.BROKEN_SIGNATURE):
        return target.arch in where.split(" + ")
    return True


def _severity(code: Code, target: Target) -> Severity | None:
    """Where a system is stricter or kinder than the table."""
    if code is Code.ASLR and target.os is Os.WINDOWS and target.arch == "arm64":
        return Severity.ERROR  # Windows for Arm loads nothing else
    if code is Code.UNSIGNED and target.arch == "amd64":
        return Severity.NOTE  # macOS starts it, when it was not downloaded
    return None


def _modes(survey: Survey, target: Target) -> Iterator[Finding]:
    if target.os is Os.WINDOWS:
        return  # it has other permissions, and none of them come from an archive
    for path, mode in survey.found.modes.items():
        if mode & (stat.S_ISUID | stat.S_ISGID):
            message = f"{path} would run with the rights of its owner or group (mode {mode:04o})"
            yield finding(Code.SETUID, path, f"mode {mode:04o}", message, target)
        if mode & stat.S_IWOTH:
            message = f"{path} may be changed by every user (mode {mode:04o})"
            yield finding(Code.WORLD_WRITABLE, path, f"mode {mode:04o}", message, target)


def _paths(survey: Survey, target: Target) -> Iterator[Finding]:
    found = survey.found
    for folder, names in _by_value(found.built_in).items():
        compiled = [name for name in names if name in found.bytecode]
        native = [name for name in names if name not in found.bytecode]
        if compiled:
            message = (
                f"{several(compiled)}: the bytecode names {folder}, a folder of the machine that built it"
            )
            yield finding(Code.BYTECODE_PATH, compiled[0], folder, message, target)
        if native:
            message = f"{several(native)}: names {folder}, a folder of the machine that built it"
            yield finding(Code.BUILD_FOLDER, native[0], folder, message, target)
    others = [name for name in found.compiled_in if name not in found.built_in]
    if others:
        source = found.compiled_in[others[0]]
        message = f"{several(others)}: compiled from {source}"
        yield finding(Code.BYTECODE_SOURCE, others[0], source, message, target)
    for path in found.links:
        yield finding(Code.LINK, path, "link", f"{path}: the link leads out of the tree", target)


def _searched(survey: Survey, target: Target) -> Iterator[Finding]:
    """Folders outside of the tree. Those of the system itself, and the tree's own neighbours, are for a person to look at."""
    for folder, users in survey.leaks.items():
        what = folder or "the working directory"
        sentence = f"looking for libraries in {what!r}, which is outside of the tree"
        if folder.startswith(("$ORIGIN", "${ORIGIN}", "@")) or _of_system(folder, target):
            text = f"{several(list(users))}: {sentence}"
            yield finding(Code.SEARCH_PATH, users[0], what, text, target, severity=Severity.NOTE)
        else:  # one for each file: what is allowed for one is not for the others
            yield from (
                finding(Code.SEARCH_PATH, user, what, f"{user}: {sentence}", target) for user in users
            )


def _of_system(folder: str, target: Target) -> bool:
    plain = posixpath.normpath(folder) if folder else ""
    return any(plain == own or plain.startswith(f"{own}/") for own in _SYSTEM[target.os])


def _by_value(items: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in items.items():
        found.setdefault(value, []).append(name)
    return found
