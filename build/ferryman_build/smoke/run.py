"""The smoke test of one artifact through one runner: its commands, then its life as a service."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from ferryman_build.artifacts import Kind, SmokeCheck
from ferryman_build.cmd import Runner
from ferryman_build.project import Project
from ferryman_build.runners.base import Inhabited, Place
from ferryman_build.settings import Service, SmokeSettings
from ferryman_build.smoke.process import Child
from ferryman_build.smoke.programs import AWKWARD, PLACERS
from ferryman_build.smoke.sandbox import Sandbox, cache_folder, make_sandbox
from ferryman_build.smoke.service import run_service
from ferryman_build.targets import Os, Target

_MOST_NAMES = 10


class Specimen(msgspec.Struct, frozen=True, kw_only=True):
    """One artifact and what is known of it; the same for every runner that it is tried with.

    ``needs_exec_tmp``: its bundle unpacks itself into TMPDIR and loads code from there. ``keeps_cache``: it unpacks itself
    once, into the folder that FERRYMAN_CACHE names.
    """

    path: Path
    kind: Kind
    target: Target
    project: Project
    needs_exec_tmp: bool = False
    keeps_cache: bool = False


class _Trial(msgspec.Struct, kw_only=True):
    """What every run in one place shares; ``facts`` and ``runs`` grow, ``home`` is kept.

    ``cache`` is a folder in which the program keeps itself unpacked, so that the first run is a first start and the
    others are later ones; None for a program that does not. ``pace`` scales the time limits.
    """

    specimen: Specimen
    program: list[Path]
    label: str
    keep: tuple[Path, ...]
    shown: tuple[Path, ...]
    base: Path
    runner: Runner
    place: Place
    pace: float
    cache: Path | None = None
    facts: tuple[str, ...] = ()
    runs: int = 0
    home: Path | None = None

    @property
    def system(self) -> Os:
        """What the program runs on."""
        return self.specimen.target.os

    def sandbox(self) -> Sandbox:
        """A fresh environment for the next run; the runs of a .pyz share a home, into which the first one unpacks."""
        self.runs += 1
        made = make_sandbox(
            self.base / f"run{self.runs}",
            place=self.place,
            system=self.system,
            keep=self.keep if self.home is None else (*self.keep, self.home),
            shown=self.shown,
            needs_exec_tmp=self.specimen.needs_exec_tmp,
            more={"FERRYMAN_CACHE": self.place.spell(self.cache)} if self.cache else {},
        )
        self.facts = made.facts
        if self.specimen.kind is not Kind.PYZ:
            return made
        self.home = self.home or made.home
        self.facts = tuple("home: empty at first" if fact == "home: empty" else fact for fact in made.facts)
        return msgspec.structs.replace(
            made, home=self.home, env={**made.env, "HOME": self.place.spell(self.home)}
        )

    def start(self, args: Sequence[str], name: str, sandbox: Sandbox) -> Child:
        """The program with ``args`` in ``sandbox``; raises OSError when it cannot be started."""
        return Child(
            sandbox.command([*self.program, *args]),
            echo=[*map(self.place.spell, self.program), *args],
            name=f"smoke-{self.label}-{name}",
            output=self.base / f"run{self.runs}" / "output",
            runner=self.runner,
            place=self.place,
            pace=self.pace,
        )


class Seen(msgspec.Struct, frozen=True):
    """What came of an artifact in one place."""

    checks: tuple[SmokeCheck, ...]
    facts: tuple[str, ...]


def try_out(
    specimen: Specimen, place: Place, *, label: str, python: Path, base: Path, runner: Runner, pace: float
) -> Seen:
    """Put the artifact in place and go through `[tool.ferryman.smoke]` of its project.

    Args:
        specimen: the artifact.
        place: where its programs start.
        label: for log files.
        python: runs a .pyz; a path of this machine, below ``place.root`` where the place has its own.
        base: a folder for this run alone; the caller removes it.
        runner: keeps logs and ends children on Ctrl-C.
        pace: see runners.pace.

    Raises:
        Unusable: the artifact cannot be put in place.
        OSError: the disk is full.
    """
    folder = base / AWKWARD
    folder.mkdir(parents=True)
    cache = _cache(place, base) if specimen.keeps_cache else None
    project = specimen.project
    try:
        program = PLACERS[specimen.kind](
            specimen.path, folder, f"{project.executable}{specimen.target.suffix}", python
        )
        trial = _Trial(
            specimen=specimen, program=program, label=label, base=base, runner=runner, place=place, pace=pace, cache=cache,
            keep=(folder, *([cache] if cache else ())), shown=(project.root, *_homes(specimen, place, python)),
        )  # fmt: skip
        checks = tuple(_checks(trial, project.settings.smoke))
        return Seen(checks, trial.facts)
    finally:
        if cache:
            shutil.rmtree(cache, ignore_errors=True)


def _cache(place: Place, base: Path) -> Path:
    """Where the program keeps itself unpacked."""
    if not isinstance(place, Inhabited):
        return cache_folder(base)
    made = place.user / "cache"
    made.mkdir(mode=0o700)
    return made


def _homes(specimen: Specimen, place: Place, python: Path) -> tuple[Path, ...]:
    """The folders of an interpreter of this machine: of the virtual environment, and of the Python that it was made from."""
    if specimen.kind is not Kind.PYZ or place.root is not None:
        return ()
    return python.parent.parent, python.resolve().parent.parent


def _checks(trial: _Trial, settings: SmokeSettings) -> Iterator[SmokeCheck]:
    for command in settings.commands:
        yield _command(trial, command, settings.timeout * trial.pace)
    if settings.service is not None:
        yield from _service(trial, settings.service)


def _command(trial: _Trial, command: Sequence[str], timeout: float) -> SmokeCheck:
    sandbox = trial.sandbox()
    args = fill(command, _words(trial, sandbox))
    name = shlex.join([Path(trial.program[-1]).name, *command])
    started = time.monotonic()
    try:
        with trial.start(args, "-".join(command[:1]) or "run", sandbox) as child:
            problem = _finish(child, timeout)
            seconds = time.monotonic() - started
            problem = problem and problem + child.tail()
    except OSError as error:
        problem, seconds = f"cannot be started: {error.strerror or error}", 0.0
    detail = problem or _home_note(sandbox)
    return SmokeCheck(name=name, passed=not problem, seconds=round(seconds, 3), detail=detail)


def _finish(child: Child, timeout: float) -> str:
    code = child.wait(timeout)
    if code is None:
        return f"did not finish within {timeout:g} s and was ended with its children"
    if code:
        return f"ended with exit code {code}"
    left = child.leftovers()
    return f"still running after it: {', '.join(left)}" if left else ""


def _service(trial: _Trial, service: Service) -> Iterator[SmokeCheck]:
    sandbox = trial.sandbox()
    words = _words(trial, sandbox)
    filled = msgspec.structs.replace(
        service,
        timeout=service.timeout * trial.pace,
        args=tuple(fill(service.args, words)),
        ready=fill([service.ready], words)[0],
        get=tuple(fill(service.get, words)),
    )
    try:
        with trial.start(filled.args, "service", sandbox) as child:
            yield from run_service(
                child,
                filled,
                sandbox,
                tree=not trial.specimen.needs_exec_tmp,
                system=trial.system,
                pace=trial.pace,
            )
    except OSError as error:
        yield SmokeCheck(name="start", passed=False, seconds=0.0, detail=f"cannot be started: {error}")
        return
    note = _home_note(sandbox)
    if note:
        yield SmokeCheck(name="home folder", passed=True, seconds=0.0, detail=note)


def _home_note(sandbox: Sandbox) -> str:
    written = sandbox.written(sandbox.home)
    more = f" and {len(written) - _MOST_NAMES} more" if len(written) > _MOST_NAMES else ""
    return f"wrote into its home: {', '.join(written[:_MOST_NAMES])}{more}" if written else ""


def _words(trial: _Trial, sandbox: Sandbox) -> Mapping[str, str]:
    """What the placeholders of settings.Service stand for in one run."""
    return {
        "{port}": str(_free_port()),
        "{project}": trial.place.spell(trial.specimen.project.root),
        "{tmp}": trial.place.spell(sandbox.scratch),
    }


def fill(texts: Sequence[str], words: Mapping[str, str]) -> list[str]:
    """Every placeholder replaced, and nothing in what replaced it: a folder may be called ``{tmp}``."""
    pattern = re.compile("|".join(map(re.escape, words)))
    return [pattern.sub(lambda found: words[found.group()], text) for text in texts]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
