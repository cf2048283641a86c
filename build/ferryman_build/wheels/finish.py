"""From what the backend made to the wheel that ships: right names and tags, nothing else in it, equal bytes."""

from __future__ import annotations

import contextlib
from pathlib import Path

import msgspec

from ferryman_build.errors import BuildStepError
from ferryman_build.inspect.native import Format, Native, version_key
from ferryman_build.targets import Libc, Os, Target
from ferryman_build.wheels.archive import Member, Wheel, read_wheel_file, tagged, write_wheel_file
from ferryman_build.wheels.compiler import is_stable, musl_library
from ferryman_build.wheels.elf_needed import name_musl
from ferryman_build.wheels.natives import claim, contradiction, natives, unresolved
from ferryman_build.wheels.refusals import CURE

_LEGACY = {"2.17": "manylinux2014"}
# Written beside a library by some linkers, and of no use to a program.
_LINKERS_OWN = frozenset({".lib", ".exp", ".pdb", ".a", ".def"})
# Libraries that every Linux has under these names, as far as the manylinux and musllinux rules go for plain C and C++
# (PEP 600, PEP 656). Whatever else an extension needs would have to be brought along.
_SYSTEM_LIBRARIES = frozenset({
    "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2",
})  # fmt: skip


def platform_tag(target: Target) -> str:
    """The platform part of a wheel's name for ``target``: what the compiler was told to go down to.

    A glibc floor is written as PEP 600 has it, with the older name beside it where there is one: sorted, as the
    standard for names wants it and auditwheel does it.
    """
    _, _, glibc = (
        target.zig.partition("-gnu.") if "-gnu." in target.zig else target.zig.partition("-gnueabihf.")
    )
    if target.libc is not Libc.GNU or not glibc:
        return target.wheel_tags[0]
    machine = target.machine[0]
    tag = f"manylinux_{glibc.replace('.', '_')}_{machine}"
    return f"{_LEGACY[glibc]}_{machine}.{tag}" if glibc in _LEGACY else tag


def finish(made: Path, target: Target, *, for_one_python: bool, epoch: int, into: Path) -> Path:
    """The wheel for ``target``, from the one that the backend wrote at ``made``.

    Args:
        for_one_python: whether extensions without the stable ABI may be in it.

    Raises:
        BuildStepError: there is no extension in it, or one that is not for ``target``.
    """
    wheel = read_wheel_file(made)
    if wheel.platform == "any" and not list(
        natives(wheel)
    ):  # its extension is optional, or setup.py only speaks of one
        return write_wheel_file(wheel, into, epoch)
    wheel = msgspec.structs.replace(wheel, platform=platform_tag(target), members=_members(wheel, target))
    _check(wheel, target, for_one_python=for_one_python)
    return write_wheel_file(tagged(wheel), into, epoch)


def is_for_later_pythons(made: Path, target: Target) -> bool:
    """Whether every native file in a backend's wheel is named after the stable ABI."""
    found = [Path(member.name).name for member, _ in natives(read_wheel_file(made))]
    return all(is_stable(name, target) for name in found)


def _members(wheel: Wheel, target: Target) -> tuple[Member, ...]:
    native = {member.name for member, _ in natives(wheel)}
    return tuple(
        _member(member, target, native=member.name in native)
        for member in wheel.members
        if Path(member.name).suffix not in _LINKERS_OWN
    )


def _member(member: Member, target: Target, *, native: bool) -> Member:
    if not native:
        return member
    data = member.data
    if target.libc is Libc.MUSL:
        with contextlib.suppress(ValueError):  # not made by our compiler: the check says what it is
            data = name_musl(data, musl_library(target))
    return Member(member.name, data, executable=True)


def _check(wheel: Wheel, target: Target, *, for_one_python: bool) -> None:
    wanted = claim(platform_tag(target).partition(".")[0])
    assert wanted is not None, target
    found = list(natives(wheel))
    if not found:
        raise BuildStepError(
            f"The wheel for {target} has no extension in it, so there was nothing to compile for another platform.",
            advice="If the project has one that is optional, the log says why it was left out; "
            "a project without one has the same wheel for every platform.",
        )
    for member, native in found:
        if other := contradiction(native, wanted):
            raise BuildStepError(
                f"{native.name} was to be compiled for {target} and is {other}.",
                advice=f"The project's build does not use the compiler that setuptools names. {CURE}",
            )
        if not for_one_python and not is_stable(Path(native.name).name, target):
            raise BuildStepError(_not_stable(native, target), advice=_STABLE_CURE)
        _check_needs(native, target)
        _check_names(member, native)


def _not_stable(native: Native, target: Target) -> str:
    return f"{native.name} is an extension for one version of Python, and CPython's headers for {target} are not here."


_STABLE_CURE = (
    "Compile it with the stable ABI (py_limited_api=True and Py_LIMITED_API), or name a runtime of the target, whose "
    f"headers are then used. Otherwise: {CURE[0].lower()}{CURE[1:]}"
)


def _check_names(member: Member, native: Native) -> None:
    """A shared library links with names that nobody has, and fails where it is imported: on the customer's machine."""
    nowhere = unresolved(member.data) if native.format is Format.ELF else ()
    if nowhere:
        raise BuildStepError(
            f"{native.name} uses {nowhere[0]}, which neither its own sources nor the system's libraries have.",
            advice="Look at the extension's list of sources: one of them is missing, or a library in `libraries`.",
            details=nowhere[1:],
        )


def _check_needs(native: Native, target: Target) -> None:
    if target.os is not Os.LINUX:
        return
    allowed = {*_SYSTEM_LIBRARIES} if target.libc is Libc.GNU else {musl_library(target)}
    strange = [name for name in native.needed if name not in allowed and not name.startswith("ld-")]
    if strange:
        raise BuildStepError(
            f"{native.name} needs {strange[0]}, which not every {target} has.",
            advice=f"Link it statically, or let a tool bring it along. {CURE}",
        )
    reason, floor = native.floor.get("glibc"), target.floor.get("glibc", "")
    if reason and version_key(reason.version) > version_key(floor):
        raise BuildStepError(
            f"{native.name} needs glibc {reason.version} ({reason.symbol}), and {target} promises {floor}.",
            advice=f"Do without that function, or raise the floor. {CURE}",
        )
