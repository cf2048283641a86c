"""The forms that the packaging standards give to names, versions, dependencies and requires-python.

`packaging` is imported only for what is not plainly right, because it costs 20 ms at every start:
the patterns below accept less than the standards do, and a test holds them against `packaging`.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from ferryman_build.validate import Mistake

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ferryman_build.toml_positions import KeyPath

_NAME = re.compile(r"[A-Z0-9]|[A-Z0-9][A-Z0-9._-]*[A-Z0-9]", re.IGNORECASE | re.ASCII)
_RELEASE = r"\d+(?:\.\d+)*(?:(?:a|b|rc)\d+)?(?:\.post\d+)?(?:\.dev\d+)?"
_CLAUSE = rf"(?:(?:[<>=!]=|[<>]) *{_RELEASE}|~= *\d+\.{_RELEASE})"
_CLAUSES = rf"{_CLAUSE}(?: *, *{_CLAUSE})*"
PLAIN_VERSION = re.compile(_RELEASE, re.ASCII)
PLAIN_SPECIFIER = re.compile(_CLAUSES, re.ASCII)
_MARKER = (
    r"(?:python_version|python_full_version|os_name|sys_platform|platform_machine|platform_system|extra)"
    r" *(?:[<>=!]=|[<>]) *(?:'[A-Za-z0-9._-]*'|\"[A-Za-z0-9._-]*\")"
)
PLAIN_REQUIREMENT = re.compile(
    rf"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?:\[[A-Za-z0-9]+(?:,[A-Za-z0-9]+)*\])? *(?:{_CLAUSES})?"
    rf" *(?:; *{_MARKER}(?: +(?:and|or) +{_MARKER})*)?",
    re.ASCII,
)
_MINIMUM = re.compile(r">=\s*3\.(\d+)", re.ASCII)


def normalized(name: str) -> str:
    """The one spelling of a distribution name: lower case, runs of ``-_.`` as one hyphen."""
    return re.sub(r"[-_.]+", "-", name).lower()


def name_mistakes(name: str, path: KeyPath) -> Iterator[Mistake]:
    """A distribution name."""
    if not name:
        yield Mistake(path, "missing — every project has a name")
    elif not _NAME.fullmatch(name):
        expected = "ASCII letters, digits, '.', '_' and '-', beginning and ending with a letter or digit"
        yield Mistake(path, f"{name!r} is not a name — expected {expected}")


def version_mistakes(version: str, path: KeyPath) -> Iterator[Mistake]:
    """A version as PEP 440 has it."""
    if not version:
        yield Mistake(
            path, 'missing — write version = "1.0", or dynamic = ["version"] if the build backend knows it'
        )
    elif not PLAIN_VERSION.fullmatch(version) and not _is_version(version):
        yield Mistake(
            path, f'{version!r} is not a version as PEP 440 has it — expected the like of "1.2.0" or "1.2rc1"'
        )


def specifier_mistakes(text: str, path: KeyPath) -> Iterator[Mistake]:
    """A set of version clauses."""
    if PLAIN_SPECIFIER.fullmatch(text):
        return
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        SpecifierSet(text)
    except InvalidSpecifier:
        cure = f' — did you mean ">={text}"?' if _is_version(text) else ' — expected the like of ">=3.11"'
        yield Mistake(path, f"{text!r} is not a version range{cure}")


def requirement_mistakes(text: str, path: KeyPath) -> Iterator[Mistake]:
    """A dependency as PEP 508 has it, found by its name in an index."""
    if PLAIN_REQUIREMENT.fullmatch(text):
        return
    from packaging.requirements import InvalidRequirement, Requirement

    try:
        url = Requirement(text).url
    except InvalidRequirement as error:
        why = str(error).partition("\n")[0].rstrip(".")
        yield Mistake(
            path, f'{text!r} is not a dependency as PEP 508 has it ({why}) — expected the like of "name>=1.2"'
        )
        return
    if url:
        what = "is named by a URL, which a lock by name and hash for every target cannot hold"
        yield Mistake(path, f"{text!r} {what} — name a version, and the folder of its wheel in UV_FIND_LINKS")


@functools.cache
def allows_python(requires_python: str, minor: str) -> bool:
    """Whether some release of Python ``minor`` ("3.12"; a path is not asked) satisfies requires-python."""
    if not requires_python or not re.fullmatch(r"3\.\d+", minor, re.ASCII):
        return True
    if plain := _MINIMUM.fullmatch(requires_python):
        return int(minor.partition(".")[2]) >= int(plain[1])
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    try:
        allowed = SpecifierSet(requires_python)
    except InvalidSpecifier:
        return True  # reported where it is written
    # "3.12" stands for any of its patch releases: >=3.12.4 allows it.
    return any(allowed.contains(f"{minor}.{patch}", prereleases=True) for patch in range(100))


def _is_version(text: str) -> bool:
    from packaging.version import InvalidVersion, Version

    try:
        Version(text)
    except InvalidVersion:
        return False
    return True
