"""What the gate can find, whether it stops a build, and what helps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from enum import StrEnum

import msgspec

from ferryman_build.targets import Target


class Code(StrEnum):
    """One word per kind of finding, as `allow` names it."""

    FLOOR = "floor"
    LIBC = "libc"
    SYMBOL_VERSION = "symbol-version"
    PRIVATE_SYMBOL = "private-symbol"
    CPU = "cpu"
    CPU_AT_RUN_TIME = "cpu-at-run-time"
    CPU_UNKNOWN = "cpu-unknown"
    LIBRARY = "library"
    LIBRARY_SOMETIMES = "library-sometimes"
    FOREIGN = "foreign"
    FOREIGN_DATA = "foreign-data"
    TEXT_RELOCATIONS = "text-relocations"
    EXECUTABLE_STACK = "executable-stack"
    ASLR = "aslr"
    NX = "nx"
    GUI = "gui"
    UNSIGNED = "unsigned"
    SIGNATURE = "signature"
    SETUID = "setuid"
    WORLD_WRITABLE = "world-writable"
    BYTECODE_PATH = "bytecode-path"
    BYTECODE_SOURCE = "bytecode-source"
    BUILD_FOLDER = "build-folder"
    SEARCH_PATH = "search-path"
    LINK = "link"
    UNREADABLE = "unreadable"


class Severity(StrEnum):
    """An error stops the build; a note is for a person to look at."""

    ERROR = "error"
    NOTE = "note"


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """One thing that the target does not promise: ``what`` is the symbol, library, instruction or bit that shows it."""

    code: Code
    path: str
    what: str
    message: str
    cure: str
    severity: Severity


_LEAVE_OUT = "leave the module out with `exclude-modules`"
_KNOWN = "accept it with `allow = [{allow}]`"
NO_DECODER_CURE = (
    "Build on an x86-64 machine, or install iced-x86 beside Ferryman, for which this one needs a Rust compiler; or accept"
    ' that nobody has looked with `allow = ["cpu-unknown:*"]`.'
)
_FLOOR = '`floor = "{what}"` in [tool.ferryman.target.{target}]'

CODES: Mapping[Code, tuple[Severity, str]] = {
    Code.FLOOR: (
        Severity.ERROR,
        ("Build that library in an older userland (the collector `standalone` brings a runtime with a low floor, a"
        f" manylinux wheel of the dependency has one), promise less with {_FLOOR}, or {_LEAVE_OUT}."),
    ),
    Code.LIBC: (
        Severity.ERROR,
        ("Take the wheel for the target's C library (manylinux for glibc, musllinux for musl), build it with the"
        f" target's compiler, or {_LEAVE_OUT}."),
    ),
    Code.SYMBOL_VERSION: (
        Severity.ERROR,
        ("Let the tree bring the library that has the symbol, build in an older userland, or promise less with"
        ' a higher `floor` in [tool.ferryman.target.{target}].'),
    ),
    Code.PRIVATE_SYMBOL: (Severity.NOTE, "Only a file that belongs to glibc itself should use them."),
    Code.CPU: (
        Severity.ERROR,
        ("Compile it without -march/-mavx (Python itself: take the collector `standalone`), let it choose at run time,"
        f" promise less with {_FLOOR}, {_LEAVE_OUT}, or, when the caller does the choosing, {_KNOWN}."),
    ),
    Code.CPU_AT_RUN_TIME: (Severity.NOTE, "Nothing to do: the file asks the processor first."),
    Code.CPU_UNKNOWN: (Severity.ERROR, NO_DECODER_CURE),
    Code.LIBRARY: (
        Severity.ERROR,
        ("Let the wheel that needs it bring it (auditwheel, delvewheel, delocate), put it into the tree with"
        f" [[tool.ferryman.data]], {_LEAVE_OUT}, or, when every machine of yours has it, {_KNOWN}."),
    ),
    Code.LIBRARY_SOMETIMES: (Severity.NOTE, "Look whether the machines that it is for have it; containers often lack it."),
    Code.FOREIGN: (
        Severity.ERROR,
        ("Find out which dependency brought the file; its wheel is for another platform than its name says. A file that"
        f" is only carried as data: {_KNOWN}."),
    ),
    Code.FOREIGN_DATA: (Severity.NOTE, f"Taken for data. If nothing needs it, {_LEAVE_OUT}."),
    Code.TEXT_RELOCATIONS: (
        Severity.ERROR, f"Compile it with -fPIC: SELinux, musl and Android refuse such a library. Or {_LEAVE_OUT}."
    ),
    Code.EXECUTABLE_STACK: (
        Severity.ERROR,
        ("Link it with -z noexecstack (an assembler file lacks .note.GNU-stack), or clear the flag with"
        f" `patchelf --clear-execstack`: glibc 2.41 refuses to load it. Or {_LEAVE_OUT}."),
    ),
    Code.ASLR: (Severity.NOTE, "Link it with /DYNAMICBASE (zig and MinGW: -Wl,--dynamicbase)."),
    Code.NX: (Severity.NOTE, "Link it with /NXCOMPAT (zig and MinGW: -Wl,--nxcompat)."),
    Code.GUI: (
        Severity.ERROR,
        f"Link it for the console (-Wl,--subsystem,console): nobody sees what a GUI program prints. If it is one, {_KNOWN}.",
    ),
    Code.UNSIGNED: (Severity.ERROR, "Sign it, ad hoc at least: macOS kills unsigned code for Apple's processors."),
    Code.SIGNATURE: (Severity.ERROR, "Sign it again after the last change: macOS kills code that was changed afterwards."),
    Code.SETUID: (Severity.ERROR, "Take the bits away (chmod u-s,g-s): who installs the program decides with whose rights it runs."),
    Code.WORLD_WRITABLE: (Severity.ERROR, "Take the bit away (chmod o-w): every user could change what others run."),
    Code.BYTECODE_PATH: (
        Severity.ERROR, "Compile it without the path of this machine (py_compile's dfile, compileall -s and -p)."
    ),
    Code.BYTECODE_SOURCE: (Severity.NOTE, "Only tracebacks show it."),
    Code.BUILD_FOLDER: (Severity.NOTE, "Compile with -ffile-prefix-map, or look for a configured prefix."),
    Code.SEARCH_PATH: (
        Severity.ERROR,
        ("Whoever can write there decides what is loaded. Link it without -rpath, cut it out of the file (`patchelf"
        f" --remove-rpath`, `install_name_tool -delete_rpath`), or, when the folder is only yours to write to, {_KNOWN}."),
    ),
    Code.LINK: (Severity.NOTE, "On another machine it leads elsewhere: ship the file itself."),
    Code.UNREADABLE: (
        Severity.ERROR,
        ("What it needs is not known. See that the file is whole (its wheel, its download, a pointer of git-lfs in its"
        f" place), or {_LEAVE_OUT}. One that no program loads: {_KNOWN}."),
    ),
}  # fmt: skip
"""Code → whether it is an error, and the way out; ``{what}``, ``{allow}`` and ``{target}`` are filled in."""


def finding(
    code: Code,
    path: str,
    what: str,
    message: str,
    target: Target,
    *,
    severity: Severity | None = None,
    floor: str = "",
) -> Finding:
    """A finding with the table's severity and cure; ``floor`` is the promise that would do."""
    usual, cure = CODES[code]
    allow = json.dumps(f"{code}:{path}", ensure_ascii=False)  # TOML writes such a text as JSON does
    filled = {"{what}": floor or what, "{allow}": allow, "{target}": target.id}
    for word, value in filled.items():
        cure = cure.replace(word, value)
    return Finding(code=code, path=path, what=what, message=message, cure=cure, severity=severity or usual)


def several(paths: list[str]) -> str:
    """``a`` or ``a and 3 more``."""
    return paths[0] if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more"
