"""resources/toolchain.toml as typed values: which sources, which flags, for which target."""

from __future__ import annotations

import functools
import tomllib
from collections.abc import Mapping
from fnmatch import fnmatchcase
from importlib import resources
from pathlib import Path

import msgspec

from ferryman_build.targets import Os, Target

SOURCES = Path(__file__).parent.parent / "launcher"
"""The launcher's own C files."""


class _Table(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of the file; a word that nobody reads is a mistake."""


class ZstdSource(_Table, frozen=True, kw_only=True):
    """Where the decoder comes from, what is kept of it, what is compiled and how; ``release`` is zstd's own version."""

    distribution: str
    version: str
    release: str
    sha256: str
    folder: str
    keep: tuple[str, ...]
    sources: tuple[str, ...]
    flags: tuple[str, ...]


class Flags(_Table, frozen=True, kw_only=True):
    """Flags of every compilation and of the link; ``section`` opens the payload's section in assembler.

    ``mark``: lines behind the payload, with ``{size}`` for its size in bytes.
    """

    compile: tuple[str, ...] = ()
    link: tuple[str, ...] = ()
    section: str = ""
    mark: tuple[str, ...] = ()


class OwnFiles(_Table, frozen=True, kw_only=True):
    """Flags of our own files."""

    flags: tuple[str, ...]


class Recipe(_Table, frozen=True, kw_only=True):
    """The whole file."""

    zstd: ZstdSource
    ours: OwnFiles
    platforms: Mapping[str, tuple[Os, ...]]
    all: Flags
    linux: Flags
    windows: Flags
    darwin: Flags
    targets: Mapping[str, Flags]

    def system(self, target: Target) -> Flags:
        """What the target's operating system adds."""
        return {Os.LINUX: self.linux, Os.WINDOWS: self.windows, Os.DARWIN: self.darwin}[target.os]

    def compile_flags(self, target: Target) -> tuple[str, ...]:
        """Of every C file."""
        return tuple(flag for table in self._tables(target) for flag in table.compile)

    def link_flags(self, target: Target) -> tuple[str, ...]:
        """Of the link, libraries last."""
        return tuple(flag for table in self._tables(target) for flag in table.link)

    def _tables(self, target: Target) -> tuple[Flags, ...]:
        return self.all, self.system(target), self.targets.get(target.id, Flags())

    def own_sources(self, target: Target, sources: Path = SOURCES) -> tuple[Path, ...]:
        """Our files for the target, by name."""
        return tuple(path for path in sorted(sources.glob("*.c")) if self._belongs(path.name, target.os))

    def _belongs(self, name: str, system: Os) -> bool:
        for pattern, systems in self.platforms.items():
            if fnmatchcase(name, pattern):
                return system in systems
        return True


@functools.cache
def read_recipe() -> Recipe:
    """resources/toolchain.toml."""
    text = resources.files("ferryman_build").joinpath("resources/toolchain.toml").read_text(encoding="utf-8")
    return msgspec.convert(tomllib.loads(text), Recipe)
