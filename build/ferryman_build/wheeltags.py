"""Which of a package's wheels fits which target: the pure half of :mod:`ferryman_build.locking`.

The rule, for a target row and CPython X.Y (PEP 425 tags, PEP 600 and PEP 656 for Linux):

* Python and ABI: what CPython X.Y itself accepts: ``cpXY-cpXY``, ``cpXY-abi3`` down to ``cp32-abi3``, ``none``.
* Platform: a wheel fits when one of its platform tags is named in the row's wheel-tags, or is a manylinux, musllinux or
  macOS tag *older than or equal to* the newest one of that family in the row. So ``manylinux2010_x86_64`` fits
  linux-amd64 although no row names it, and ``manylinux_2_34_x86_64`` does not.
* Order, best first: by Python and ABI as CPython prefers them, then by platform: within the row's floor the newest
  first, above the floor (a row may list ``manylinux_2_28`` over a floor of 2.17) the oldest first, ``linux_*`` and
  ``any`` last. The lower need wins because the floor is a promise to the customer's machine.
"""

from __future__ import annotations

import functools
import platform
import re
import sys
from typing import TYPE_CHECKING

import msgspec
from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from ferryman_build.targets import Os, Target

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


class Frozen(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """Base of what a lock consists of."""


class Wheel(Frozen, frozen=True):
    """One wheel of an index.

    ``size`` in bytes, 0 when the index does not say; ``pinned`` is false when the project's lock file does not have
    its hash: such a wheel is never used.
    """

    filename: str
    sha256: str
    size: int = 0
    pinned: bool = True


class LockedPackage(Frozen, frozen=True):
    """One version of one package.

    ``marker`` is a PEP 508 marker or empty; ``sdist`` tells whether there is a source distribution, ``sdist_sha256``
    its hash.
    """

    name: str
    version: str
    marker: str = ""
    wheels: tuple[Wheel, ...] = ()
    sdist: bool = False
    sdist_sha256: str = ""

    def __str__(self) -> str:
        return f"{self.name} {self.version}"


class Lock(Frozen, frozen=True):
    """Every package that any target may need for CPython ``python`` ("3.11").

    ``digest`` is the sha256 of the content: two locks with equal digests install the same bytes.
    """

    python: str
    packages: tuple[LockedPackage, ...]
    digest: str


# What an interpreter of each system says of itself; the row adds the machine. Release and version of the system are not
# known before the program runs, so markers on them see an empty string.
_SYSTEM_MARKERS = {
    Os.LINUX: {"os_name": "posix", "sys_platform": "linux", "platform_system": "Linux"},
    Os.DARWIN: {"os_name": "posix", "sys_platform": "darwin", "platform_system": "Darwin"},
    Os.WINDOWS: {"os_name": "nt", "sys_platform": "win32", "platform_system": "Windows"},
}
_LEGACY = {(2, 17): "manylinux2014", (2, 12): "manylinux2010", (2, 5): "manylinux1"}
_VERSIONED = re.compile(r"(manylinux|musllinux|macosx)_(\d+)_(\d+)_(.+)")
_FLOOR_KEY = {"manylinux": "glibc", "musllinux": "musl", "macosx": "macos"}
_OLDEST_GLIBC_MINOR = 5  # manylinux1, PEP 513
_OTHER_PYTHONS = ("3.11", "3.12", "3.13", "3.14")

Version = tuple[int, int]


def short_python(python: str) -> str:
    """``3.11.4`` and ``3.11`` alike as ``3.11``."""
    return ".".join(python.split(".")[:2])


def full_python(python: str) -> str:
    """X.Y.Z for markers. A bare X.Y is this interpreter's own patch release when X.Y is ours, else X.Y.0, as uv does."""
    if python.count(".") >= 2:
        return python
    if python == f"{sys.version_info.major}.{sys.version_info.minor}":
        return platform.python_version()
    return f"{python}.0"


def marker_environment(target: Target, python: str) -> dict[str, str]:
    """The environment of PEP 508 as an interpreter on ``target`` would report it."""
    machine = target.machine[0]
    return {
        **_SYSTEM_MARKERS[target.os],
        "platform_machine": machine.upper() if target.os is Os.WINDOWS else machine,  # AMD64, ARM64
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
        "implementation_version": full_python(python),
        "python_version": short_python(python),
        "python_full_version": full_python(python),
        "platform_release": "",
        "platform_version": "",
        "extra": "",
    }


def packages_for(lock: Lock, target: Target, python: str | None = None) -> tuple[LockedPackage, ...]:
    """The packages of ``lock`` that belong on ``target``: markers are evaluated for it and not for this machine."""
    environment = marker_environment(target, python or lock.python)
    return tuple(
        package
        for package in lock.packages
        if not package.marker or Marker(package.marker).evaluate(dict(environment))
    )


def compatible_wheels(package: LockedPackage, target: Target, python: str) -> tuple[Wheel, ...]:
    """The pinned wheels of ``package`` that ``target`` accepts, best first; see the rule at the head of this module."""
    return tuple(wheel for wheel in fitting_wheels(package, target, python) if wheel.pinned)


def fitting_wheels(package: LockedPackage, target: Target, python: str) -> tuple[Wheel, ...]:
    """As :func:`compatible_wheels`, with the wheels whose hash the project's lock file does not have."""
    ranks = tag_ranks(target, short_python(python))
    found = [
        (rank, tuple(-number for number in build), wheel.filename, wheel)
        for wheel in package.wheels
        for rank, build in (_rank(wheel.filename, ranks),)
        if rank is not None
    ]
    return tuple(entry[-1] for entry in sorted(found, key=lambda entry: entry[:3]))


def fits(filename: str, target: Target, python: str) -> bool:
    """Whether a wheel of this name can be installed on ``target``."""
    return _rank(filename, tag_ranks(target, short_python(python)))[0] is not None


def wheel_rank(filename: str, ranks: dict[Tag, int]) -> int | None:
    """The best rank of a wheel of this name among :func:`tag_ranks`; None when it does not fit."""
    return _rank(filename, ranks)[0]


def other_pythons(package: LockedPackage, target: Target, python: str) -> tuple[str, ...]:
    """Further CPython versions ("3.12") for which ``package`` has a wheel on ``target``."""
    others = (other for other in _OTHER_PYTHONS if other != short_python(python))
    return tuple(other for other in others if compatible_wheels(package, target, other))


def _rank(filename: str, ranks: dict[Tag, int]) -> tuple[int | None, tuple[int, ...]]:
    parsed = _parse(filename)
    if parsed is None:
        return None, ()
    tags, build = parsed
    return min((ranks[tag] for tag in tags if tag in ranks), default=None), build


@functools.lru_cache(maxsize=16384)
def _parse(filename: str) -> tuple[frozenset[Tag], tuple[int, ...]] | None:
    try:
        _, _, build, tags = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return None  # an index may hold names older than the standard; nobody can install them
    return frozenset(tags), tuple(part for part in build if isinstance(part, int))


@functools.lru_cache(maxsize=256)
def tag_ranks(target: Target, python: str) -> dict[Tag, int]:
    """Every tag that CPython ``python`` on ``target`` accepts, with its rank; 0 is best."""
    major, minor = (int(part) for part in python.split("."))
    platforms = accepted_platforms(target)
    interpreter = f"cp{major}{minor}"
    tags = (
        *cpython_tags((major, minor), [interpreter], platforms),
        *compatible_tags((major, minor), interpreter, platforms),
    )
    ranks: dict[Tag, int] = {}
    for rank, tag in enumerate(tags):
        ranks.setdefault(tag, rank)
    return ranks


def accepted_platforms(target: Target) -> tuple[str, ...]:
    """The platform tags of ``target``, best first; see the rule at the head of this module."""
    plain = [
        tag for tag in target.wheel_tags if _VERSIONED.match(tag) is None and not tag.startswith("manylinux")
    ]
    versioned = [
        tag for family, best, arch in _families(target) for tag in _family(target, family, best, arch)
    ]
    return tuple(dict.fromkeys((*versioned, *plain)))


def _families(target: Target) -> list[tuple[str, Version, str]]:
    """The newest version that the row lists per tag family and architecture."""
    newest: dict[tuple[str, str], Version] = {}
    for match in filter(None, map(_VERSIONED.fullmatch, target.wheel_tags)):
        family, major, minor, arch = match.groups()
        if (family, arch) == ("macosx", "universal2"):
            continue  # mac_platforms() derives it from the processor's own tag
        version = (int(major), int(minor))
        newest[family, arch] = max(version, newest.get((family, arch), version))
    return [(family, version, arch) for (family, arch), version in newest.items()]


def _family(target: Target, family: str, best: Version, arch: str) -> Iterable[str]:
    if family == "macosx":
        return mac_platforms(best, arch)
    floor = _version(target.floor.get(_FLOOR_KEY[family], "0.0"))
    oldest = _OLDEST_GLIBC_MINOR if family == "manylinux" else 0
    minors = range(best[1], oldest - 1, -1)
    within = [minor for minor in minors if (best[0], minor) <= floor]
    above = [minor for minor in reversed(minors) if (best[0], minor) > floor]
    return _spelled(family, best[0], (*within, *above), arch)


def _spelled(family: str, major: int, minors: Iterable[int], arch: str) -> Iterator[str]:
    for minor in minors:
        yield f"{family}_{major}_{minor}_{arch}"
        legacy = _LEGACY.get((major, minor)) if family == "manylinux" else None
        if legacy:
            yield f"{legacy}_{arch}"


def _version(text: str) -> Version:
    major, _, minor = text.partition(".")
    return int(major), int(minor or 0)
