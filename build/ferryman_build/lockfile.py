"""The lock file of a project: requirements with hashes that name no index. Reading, applying and writing it.

One line per package version, ``name==version [; marker] --hash=sha256:… …``, as ``pip install --require-hashes`` reads
it. Only the hashes of wheels (and of the source distribution) tell where a file came from, so the same lock serves
every mirror.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

import msgspec
from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name, canonicalize_version

from ferryman_build.errors import ConfigError, ResolutionError
from ferryman_build.wheeltags import (
    Frozen,
    Lock,
    LockedPackage,
    Wheel,
    compatible_wheels,
    fitting_wheels,
    short_python,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from ferryman_build.targets import Target

_HEADER = "# Written by `ferryman lock`. Every target, every wheel; no index is named here on purpose.\n"
_HASH = re.compile(r"--hash=sha256:([0-9a-fA-F]{64})(?=\s|$)")


class Pin(Frozen, frozen=True):
    """One line of a project's lock file."""

    name: str
    version: str
    marker: str
    hashes: frozenset[str]


def sealed(python: str, packages: tuple[LockedPackage, ...]) -> Lock:
    """A lock with its digest."""
    return Lock(
        python=python,
        packages=packages,
        digest=hashlib.sha256(msgspec.json.encode([python, packages])).hexdigest(),
    )


# --- reading ------


def read_pins(path: Path) -> tuple[Pin, ...]:
    """The lines of a requirements file with hashes.

    Raises:
        ConfigError: unreadable, or a line is not ``name==version [; marker] --hash=sha256:…``; one detail per line.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(
            f"The lock file {path.name} cannot be read: {error}.", advice="`ferryman lock` writes one."
        ) from None
    pins, mistakes = [], []
    for number, line in _logical_lines(text):
        try:
            pins.append(_pin(line))
        except ValueError as error:  # InvalidRequirement is one
            mistakes.append(f"{path.name}:{number}: {error}")
    if mistakes:
        raise ConfigError(
            f"The lock file {path.name} is not a list of name==version with hashes.",
            advice="Write it anew with `ferryman lock`.", details=mistakes,
        )  # fmt: skip
    return tuple(pins)


def _logical_lines(text: str) -> Iterable[tuple[int, str]]:
    """Lines as pip reads them: comments dropped, backslash continues; numbered from 1."""
    pending, start = "", 0
    for number, raw in enumerate(text.splitlines(), 1):
        line = re.sub(r"(^|\s)#.*$", "", raw).rstrip()
        start = start if pending else number
        pending += line.removesuffix("\\") + " "
        if not line.endswith("\\"):
            if pending.strip():
                yield start, pending.strip()
            pending = ""
    if pending.strip():
        yield start, pending.strip()


def _pin(line: str) -> Pin:
    if line.startswith("-"):
        raise ValueError(
            f"an option ({line.split(maxsplit=1)[0]}) has no place here; index settings belong to UV_*"
        )
    hashes = frozenset(found.lower() for found in _HASH.findall(line))
    try:
        wanted = Requirement(re.sub(r"\s--hash=\S+", "", line).strip())
    except InvalidRequirement as error:
        raise ValueError(
            f"{line.split(maxsplit=1)[0]} is not a requirement ({error.args[0].splitlines()[0]})"
        ) from None
    exact = [spec.version for spec in wanted.specifier if spec.operator in ("==", "===")]
    if wanted.url or len(exact) != 1 or len(wanted.specifier) != 1 or "*" in exact[0]:
        raise ValueError(f"{wanted.name} is not pinned with == to one version")
    if not hashes:
        raise ValueError(f"{wanted.name} has no --hash=sha256:")
    marker = str(wanted.marker) if wanted.marker else ""
    return Pin(name=canonicalize_name(wanted.name), version=exact[0], marker=marker, hashes=hashes)


def pin_line(pin: Pin) -> str:
    """The pin without its hashes."""
    return f"{pin.name}=={pin.version}" + (f" ; {pin.marker}" if pin.marker else "")


def apply_pins(lock: Lock, pins: Sequence[Pin], path: Path) -> Lock:
    """``lock`` with every wheel marked by whether the lock file has its hash.

    Raises:
        ResolutionError: the file misses a package, or has none of a package's hashes.
    """
    known: dict[tuple[str, str], frozenset[str]] = {}
    for pin in pins:
        key = (pin.name, _plain(pin.version))
        known[key] = known.get(key, frozenset()) | pin.hashes
    packages = tuple(
        _with_pins(package, known.get((package.name, _plain(package.version))), path)
        for package in lock.packages
    )
    return sealed(lock.python, packages)


def _plain(version: str) -> str:
    """A version in its normal form (PEP 440), so that 1.0 in a hand-written file is 1.0.0 of the index."""
    return canonicalize_version(version)


def _with_pins(package: LockedPackage, hashes: frozenset[str] | None, path: Path) -> LockedPackage:
    if hashes is None:
        raise ResolutionError(
            f"The lock file {path.name} has no line for {package}, which the dependencies need.",
            advice="Write it anew with `ferryman lock`.",
        )
    wheels = tuple(msgspec.structs.replace(wheel, pinned=wheel.sha256 in hashes) for wheel in package.wheels)
    sdist = package.sdist_sha256 if package.sdist_sha256 in hashes else ""
    if wheels and not sdist and not any(wheel.pinned for wheel in wheels):
        raise _mismatch(package, wheels, path.name)
    return msgspec.structs.replace(package, wheels=wheels, sdist=bool(sdist), sdist_sha256=sdist)


def _mismatch(package: LockedPackage, wheels: Iterable[Wheel], file: str) -> ResolutionError:
    return ResolutionError(
        f"The index's files of {package} do not have the hashes in {file}.",
        advice="If the index is trusted, write the file anew with `ferryman lock`; if not, find out who changed it.",
        details=[f"{wheel.filename}: sha256 {wheel.sha256}" for wheel in wheels],
    )


# --- writing ----------------------------------------------------------------------------------------------------------


def lock_text(lock: Lock) -> str:
    """The lock file of ``lock``: universal (markers kept), sorted, every hash, no index and no URL."""
    return _HEADER + "".join(_requirement(package, _every_hash(package)) for package in lock.packages)


def requirements_text(
    packages: Iterable[LockedPackage],
    target: Target | None = None,
    python: str = "",
) -> str:
    """Requirements for ``pip|uv install --require-hashes``.

    Args:
        packages: of one target, or of all.
        target: only the hash of the wheel that the plan chose for it, so that plan and installation agree although an
            installer might prefer a newer platform tag; None: every hash.
        python: CPython X.Y of ``target``.

    Raises:
        ResolutionError: a package has no wheel for ``target``, or none whose hash the lock file has.
    """
    if target is None:
        return "".join(_requirement(package, _every_hash(package)) for package in packages)
    chosen = ((package, _chosen_hash(package, target, python)) for package in packages)
    # The marker was decided for the target; the installer would decide it for itself.
    return "".join(
        _requirement(msgspec.structs.replace(package, marker=""), [sha]) for package, sha in chosen
    )


def _every_hash(package: LockedPackage) -> list[str]:
    hashes = {wheel.sha256 for wheel in package.wheels if wheel.pinned and wheel.sha256} | {
        package.sdist_sha256
    }
    return sorted(hashes - {""})


def _chosen_hash(package: LockedPackage, target: Target, python: str) -> str:
    wheels = compatible_wheels(package, target, python)
    if wheels:
        return wheels[0].sha256
    unpinned = fitting_wheels(package, target, python)
    if unpinned:
        raise _mismatch(package, unpinned, "the lock file")
    raise ResolutionError(
        f"{package} has no wheel for {target} and CPython {short_python(python)}.",
        advice="`ferryman plan` says what would cure that.",
    )


def _requirement(package: LockedPackage, hashes: Iterable[str]) -> str:
    marker = f" ; {package.marker}" if package.marker else ""
    lines = [f"{package.name}=={package.version}{marker}", *(f"    --hash=sha256:{sha}" for sha in hashes)]
    return " \\\n".join(lines) + "\n"
