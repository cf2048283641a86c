"""Which libraries a machine is promised to have: resources/libraries.toml, whose head explains the tables."""

from __future__ import annotations

import fnmatch
import functools
import posixpath
import tomllib
from collections.abc import Mapping
from importlib import resources

import msgspec

from ferryman_build.inspect.native import version_key


class Policy(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One table of libraries.toml."""

    has: tuple[str, ...]
    sometimes: tuple[str, ...] = ()
    since: Mapping[str, str] = {}
    versions: Mapping[str, tuple[tuple[str, str], ...]] = {}

    def first_version(self, library: str) -> str | None:
        """The first version of the system with ``library``: "" for any, None when no version is promised to have it."""
        name = _name(library)
        for pattern, version in self.since.items():
            if fnmatch.fnmatchcase(name, pattern.lower()):
                return version
        return "" if _matches(name, self.has) or _matches(name, self.sometimes) else None

    def may_be_missing(self, library: str) -> bool:
        """Whether small machines lack it."""
        return _matches(_name(library), self.sometimes)

    def highest(self, prefix: str, glibc: str) -> str:
        """The highest symbol version of ``prefix`` on a machine with that glibc; "" where nothing is known."""
        found = ""
        for at_least, version in self.versions.get(prefix, ()):
            if version_key(at_least) <= version_key(glibc):
                found = version
        return found


def _name(library: str) -> str:
    # macOS names libraries by path, and the path is what it promises.
    return library.lower() if library.startswith("/") else posixpath.basename(library).lower()


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch.fnmatchcase(name, pattern.lower()) for pattern in patterns)


@functools.cache
def policies() -> Mapping[str, Policy]:
    """Every table by its name."""
    text = resources.files("ferryman_build").joinpath("resources/libraries.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), dict[str, Policy])
