"""Newer rows from a release of python-build-standalone: its SHA256SUMS says which files there are, and their hashes.

Of each minor version and target the newest final release is taken, in the form "install_only": an interpreter with a shared
libpython (for musl too) and nothing that only a compiler needs. Where a row of the list came from somebody else, it stays.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from urllib.parse import quote

from ferryman_build.errors import ResolutionError, UsageError
from ferryman_build.inspect.native import version_key
from ferryman_build.runtimes.fetch import read_small
from ferryman_build.runtimes.index import Runtime, is_remote, local_path, release
from ferryman_build.settings import OLDEST_PYTHON
from ferryman_build.targets import all_targets

RELEASES = "https://github.com/astral-sh/python-build-standalone/releases/download"
SUMS = "SHA256SUMS"
ORIGIN = "python-build-standalone"
LICENCE = "PSF-2.0"
_LINE = re.compile(
    r"^([0-9a-f]{64})[ *]+(cpython-(3\.\d+\.\d+)\+(\d{8})-([A-Za-z0-9_-]+)-install_only\.tar\.gz)$",
    re.MULTILINE,
)
# Its words for a machine where they are not Rust's.
_WORDS = {"riscv64": "riscv64gc", "ppc64le": "powerpc64le"}


def sums_address(word: str) -> str:
    """Where the SHA256SUMS are that a person means: a release such as 20250702, an address or a file."""
    if re.fullmatch(r"\d{8}", word):
        return f"{RELEASES}/{word}/{SUMS}"
    return word


def read_sums(address: str) -> str:
    """The text of a SHA256SUMS.

    Raises:
        UsageError: there is no such file.
        ResolutionError, PackageIndexError: the address does not give it.
    """
    if is_remote(address):
        return read_small(address).decode("utf-8", "replace")
    try:
        return local_path(address).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(
            f"{address} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}.",
            advice="Name a release such as 20250702, or the address or file of its SHA256SUMS.",
        ) from error


def rows_of_release(text: str, address: str) -> tuple[Runtime, ...]:
    """A row for the newest patch of each minor version and target that Ferryman knows, in the list's order.

    Args:
        text: SHA256SUMS.
        address: where that came from; the archives lie beside it. For a file, on the project's own site.

    Raises:
        ResolutionError: there is none.
    """
    targets = {target.rust: target.id for target in all_targets()}
    newest: dict[tuple[str, str], Runtime] = {}
    for sha256, file, python, tag, triple in _LINE.findall(text):
        target = targets.get(_rust(triple))
        short = ".".join(python.split(".")[:2])
        if target is None or version_key(short) < OLDEST_PYTHON:
            continue
        base = address.rpartition("/")[0] if is_remote(address) else f"{RELEASES}/{tag}"
        row = Runtime(
            python=python,
            target=target,
            url=f"{base}/{quote(file)}",
            sha256=sha256,
            licence=LICENCE,
            origin=f"{ORIGIN} {tag}",
        )
        known = newest.get((short, target))
        if known is None or release(python) > release(known.python):
            newest[short, target] = row
    if not newest:
        raise ResolutionError(
            f"{address} names no interpreter for any target.",
            advice=f"It has to be the {SUMS} of a release of {ORIGIN}, with its install_only archives.",
        )
    return ordered(newest.values())


def _rust(triple: str) -> str:
    machine, dash, rest = triple.partition("-")
    return f"{_WORDS.get(machine, machine)}{dash}{rest}"


def updated(rows: Iterable[Runtime], newer: Iterable[Runtime]) -> tuple[Runtime, ...]:
    """``rows`` with ``newer`` in the place of those of the same origin, minor version and target; never an older patch."""
    fresh = {(row.short, row.target): row for row in newer}
    kept = []
    for row in rows:
        replacement = fresh.get((row.short, row.target))
        if not row.origin.startswith(ORIGIN) or replacement is None:
            kept.append(row)
        elif release(row.python) > release(replacement.python):
            kept.append(row)
            del fresh[row.short, row.target]
    return ordered((*kept, *fresh.values()))


def ordered(rows: Iterable[Runtime]) -> tuple[Runtime, ...]:
    """By minor version, then as targets.toml has them."""
    places: Mapping[str, int] = {target.id: place for place, target in enumerate(all_targets())}
    return tuple(
        sorted(rows, key=lambda row: (version_key(row.short), places[row.target], release(row.python)))
    )


def head_of(text: str) -> str:
    """The comment that a list begins with."""
    lines = []
    for line in text.splitlines():
        if line.startswith("["):
            break
        lines.append(line)
    return "\n".join(lines).strip()
