"""What a collector found: a list of files with their origin, independent of where the origins lie on disk.

An analysis outlives the folders that it was made in. So every source path is kept as an origin and a path below it:
``app`` (the unpacked wheel of the project), ``project`` (its folder, for files that `data` names), ``env`` (the locked
dependencies), ``work`` (made by the analysis itself) or ``host`` (absolute: the interpreter and the system's libraries).
A standalone tree has ``runtime`` (the unpacked interpreter distribution) and ``site`` (the target's dependencies) instead
of ``env`` and ``host``.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path, PurePosixPath

import msgspec


class Origin(StrEnum):
    """Which folder a source path is relative to; see the head of this module."""

    APP = "app"
    ENV = "env"
    WORK = "work"
    PROJECT = "project"
    HOST = "host"
    RUNTIME = "runtime"
    SITE = "site"


class EntryKind(StrEnum):
    """MODULE is Python source to be compiled; NATIVE a shared library or extension; LINK a symbolic link."""

    MODULE = "module"
    NATIVE = "native"
    DATA = "data"
    LINK = "link"


class Entry(msgspec.Struct, frozen=True, order=True):
    """One file of the tree: ``dest`` is its POSIX path there, ``path`` its place below ``origin``.

    For a LINK, ``path`` is the link's target and ``origin`` means nothing. For a MODULE, ``dest`` ends in .pyc.
    """

    dest: str
    kind: EntryKind
    origin: Origin
    path: str


class Analysis(msgspec.Struct, frozen=True, kw_only=True):
    """``hooks`` are run before the program, in order; ``missing`` are modules that nobody found (mostly optional).

    ``notes`` are sentences for people: what was left out although somebody might look for it. ``paths`` are places of the
    tree that belong on sys.path behind its top, in this order.
    """

    entries: tuple[Entry, ...]
    hooks: tuple[Entry, ...]
    missing: tuple[str, ...]
    tools: dict[str, str]
    notes: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


class Origins(msgspec.Struct, frozen=True, kw_only=True):
    """Where each origin lies now; ``runtime`` and ``site`` only for a standalone tree."""

    app: Path
    env: Path
    work: Path
    project: Path
    runtime: Path | None = None
    site: Path | None = None

    def source(self, entry: Entry) -> Path:
        """The file that ``entry`` is made from."""
        if entry.origin is Origin.HOST:
            return Path(entry.path)
        root: Path | None = getattr(self, entry.origin.value)
        assert root is not None, entry
        return root / entry.path

    def classify(self, path: str) -> tuple[Origin, str]:
        """Origin and relative path of an absolute ``path``; the longest root wins."""
        roots: Mapping[Origin, Path] = {
            origin: root for origin in Origin if (root := getattr(self, origin.value, None)) is not None
        }
        for origin, root in sorted(roots.items(), key=lambda item: -len(str(item[1]))):
            if Path(path).is_relative_to(root):
                return origin, PurePosixPath(Path(path).relative_to(root)).as_posix()
        return Origin.HOST, path
