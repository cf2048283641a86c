"""What a runner is: a way to run a target's programs although this machine may be another one.

    kinds_for(target, host, wanted) ─▶ RunnerKind ─▶ open ─▶ Place ─▶ command ─▶ words for cmd.Runner on this machine

A :class:`RunnerKind` knows whether a target's programs can run through it, whether this machine has what it needs, and
how to get that. A :class:`Place` is one that is open: a folder tree and an environment in which programs of the target
start. It answers words, variables and a folder for :class:`ferryman_build.cmd.Runner`, which stays the only door through
which programs are started: limits, logs and the end of the whole group are its business.

Files are not copied in and out: a place shows folders of this machine under names that :meth:`Place.spell` tells, and
what the program writes there is seen here at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import msgspec

from ferryman_build.cmd import Child, Runner
from ferryman_build.settings import RunnerName
from ferryman_build.targets import Target


class Purpose(StrEnum):
    """TRY: an artifact, as on a fresh machine. BUILD: build tools; the place then has a Python of the target."""

    TRY = "try"
    BUILD = "build"


class Readiness(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a runner can work here now.

    ``found`` is for people ("qemu-aarch64 8.0, Debian bullseye"); ``advice`` is the command that would make it ready,
    empty when it is.
    """

    ready: bool
    found: str = ""
    advice: str = ""


class Command(msgspec.Struct, frozen=True, kw_only=True):
    """What to start on this machine so that a program runs in a place."""

    words: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path


class Place(Protocol):
    """An open runner. ``facts`` say what a program sees there, for the manifest ("userland: Debian bullseye, glibc 2.31").

    ``pipes``: the program's three streams must be pipes or /dev/null, never files (Wine's Python dies otherwise).
    ``python`` is the target's interpreter as a path of this machine; only with :attr:`Purpose.BUILD`.
    ``root`` is where the place keeps its own files on this machine: ``unspell`` answers paths below it for what is not
    one of the shared folders; None when there is no difference.
    ``label`` is what the checks of several places are told apart by ("bullseye"). ``denies`` is whether what `command` is
    given as ``denied`` is really read-only and noexec.
    """

    label: str
    facts: tuple[str, ...]
    denies: bool
    pipes: bool
    python: Path | None
    root: Path | None

    def spell(self, path: Path) -> str:
        """How programs in the place call a path of this machine."""
        ...

    def unspell(self, text: str) -> Path:
        """The path on this machine of what a program in the place names."""
        ...

    def command(
        self,
        words: Sequence[str | Path],
        *,
        cwd: Path,
        env: Mapping[str, str],
        folders: Sequence[Path] = (),
        shown: Sequence[Path] = (),
        denied: Sequence[Path] = (),
    ) -> Command:
        """What starts a program.

        Args:
            words: the program and its arguments; a :class:`Path` is spelled, a string is handed over as it is.
            cwd: working directory, a path of this machine.
            env: the whole environment of the program, spelled already; the place adds only what it cannot do without.
            folders: folders of this machine that the program may read and write; with :attr:`Purpose.BUILD` everything
                is to be seen anyway.
            shown: folders and files of this machine that the program must see and need not write to; read-only where the
                place can do that.
            denied: folders that shall be read-only and noexec where the place can do that (temporary ones).
        """
        ...

    def stop(self, child: Child) -> None:
        """Ask the program, and it alone, to end, as a service manager of the target would."""
        ...


@runtime_checkable
class Watching(Protocol):
    """A place that knows of programs which nobody finds by their process group or their HOME."""

    def leftovers(self) -> list[str]:
        """Those that still run, as ``name (pid)``."""
        ...


@runtime_checkable
class Inhabited(Protocol):
    """A place with a user of its own, whose folder nobody else can write to: a program that keeps a cache trusts it."""

    @property
    def user(self) -> Path:
        """That folder, on this machine."""
        ...


@runtime_checkable
class Lending(Protocol):
    """A runner whose places to try in may have a Python, although nobody made them to build in: an image of one's own."""

    @property
    def may_have_python(self) -> bool:
        """Whether that can be so now."""
        ...


@runtime_checkable
class Asked(Protocol):
    """A place that has to be asked whether it has a Python."""

    def find_python(self, runner: Runner) -> Path | None:
        """Its path, to be spelled as it is; None when there is none."""
        ...


class RunnerKind(Protocol):
    """One way to run programs. Nothing is installed by anything but :meth:`setup`."""

    name: ClassVar[RunnerName]

    def runs(self, target: Target, host: Target) -> bool:
        """Whether it could run programs of ``target`` on a machine like ``host``; asks nothing."""
        ...

    def ready(self, target: Target, purpose: Purpose, floor: Mapping[str, str]) -> Readiness:
        """What this machine has of it; quick, changes nothing. ``floor`` is the promise (glibc …) that a userland keeps."""
        ...

    def setup(self, target: Target, runner: Runner, say: Callable[[str], None]) -> None:
        """Get what is needed: `ferryman runners setup NAME [--target T]`.

        Raises:
            ToolMissingError: it cannot be had here; the advice says what a person can do.
        """
        ...

    def open(
        self, target: Target, purpose: Purpose, floor: Mapping[str, str], work: Path, runner: Runner
    ) -> AbstractContextManager[Place]:
        """A place for ``target``; ``work`` is a folder for its own files, removed by the caller.

        Raises:
            ToolMissingError: it is not ready.
        """
        ...
