"""What of an interpreter distribution is left out: resources/runtime_parts.toml, and which of it a program keeps."""

from __future__ import annotations

import functools
import re
import tomllib
from collections.abc import Collection, Iterable
from importlib import resources

import msgspec

from ferryman_build.errors import ConfigError
from ferryman_build.words import suggest

_NOTHING = re.compile(r"(?!)")


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One table of runtime_parts.toml; see its head for the fields."""

    why: str
    stdlib: tuple[str, ...] = ()
    native: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """What is left out, by path below the standard library and by file name among the extension modules.

    ``data`` are the globs, relative to the prefix, of what the kept parts bring.
    """

    names: tuple[str, ...]
    stdlib: re.Pattern[str]
    native: re.Pattern[str]
    data: tuple[str, ...]


@functools.cache
def all_parts() -> dict[str, Part]:
    """Name → part, in the file's order."""
    text = (
        resources.files("ferryman_build").joinpath("resources/runtime_parts.toml").read_text(encoding="utf-8")
    )
    return msgspec.convert(tomllib.loads(text), dict[str, Part])


def cut(keep_parts: Iterable[str], keep_modules: Collection[str]) -> Cut:
    """What a program does without that keeps these parts by name, and these modules.

    Raises:
        ConfigError: there is no such part.
    """
    known = all_parts()
    asked = set(keep_parts)
    if unknown := sorted(asked - known.keys()):
        raise ConfigError(
            "keep-parts names what is no part of a runtime.",
            advice=f"Parts are {', '.join(known)}.",
            details=[f"{name}{suggest(name, known)}" for name in unknown],
        )
    kept = {name for name, part in known.items() if name in asked or _spared(part, keep_modules)}
    gone = [part for name, part in known.items() if name not in kept]
    return Cut(
        names=tuple(name for name in known if name not in kept),
        stdlib=pattern(glob for part in gone for glob in part.stdlib),
        native=pattern(glob for part in gone for glob in part.native),
        data=tuple(glob for name, part in known.items() if name in kept for glob in part.data),
    )


def _spared(part: Part, keep_modules: Collection[str]) -> bool:
    return any(covers((module,), kept) for kept in keep_modules for module in part.modules)


def covers(modules: Iterable[str], name: str) -> bool:
    """Whether the dotted ``name`` is one of ``modules`` or below one."""
    return any(name == module or name.startswith(f"{module}.") for module in modules)


def pattern(globs: Iterable[str]) -> re.Pattern[str]:
    """A pattern for fullmatch of POSIX paths: a folder that fits means everything in it."""
    parts = [_regex(glob) for glob in globs]
    return re.compile(f"(?:{'|'.join(parts)})(?:/.*)?") if parts else _NOTHING


def _regex(glob: str) -> str:
    found = ""
    for piece in re.split(r"(\*\*/|\*|\?)", glob):
        found += {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}.get(piece) or re.escape(piece)
    return found
