"""Finding out what the plan has to know beside configuration and locks: runtimes, runners, the project's own wheel.

Nothing is fetched and nothing is started that lasts: a runtime that was never fetched has no measured floor, and the plan
says so.
"""

from __future__ import annotations

import functools
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from ferryman_build.artifacts import Kind
from ferryman_build.cache import Cache
from ferryman_build.cmd import Runner
from ferryman_build.collect.foreign import known_foreign
from ferryman_build.errors import FerrymanError, ToolMissingError
from ferryman_build.homes import home
from ferryman_build.interpreter import python_floor
from ferryman_build.own_wheel import own_wheel
from ferryman_build.plan import Plan, Progress, plan_project
from ferryman_build.plan_facts import Block, RunnerFact, RuntimeFact, Sources
from ferryman_build.project import Project
from ferryman_build.promises import with_own_promise
from ferryman_build.runners import kinds_for, readiness
from ferryman_build.runners.base import Purpose, RunnerKind
from ferryman_build.runners.wine import WineRunner
from ferryman_build.runtimes.distribution import Distribution
from ferryman_build.runtimes.index import (
    Runtime,
    find_runtime,
    is_remote,
    local_path,
    named_runtime,
    open_index,
)
from ferryman_build.runtimes.prepared import prepared
from ferryman_build.settings import RunnerName, Settings
from ferryman_build.smoke import purpose_of
from ferryman_build.targets import Os, Target
from ferryman_build.ways import Way, way_of
from ferryman_build.wheeltags import Lock, short_python


class Finder:
    """Answers for one project on one machine; each list of runtimes is read once."""

    def __init__(self, project: Project, host: Target, cache: Cache, runner: Runner) -> None:
        self._project, self._host, self._cache, self._runner = project, host, cache, runner
        self._rows = functools.cache(open_index)
        self._floors = functools.cache(python_floor)
        self._kinds: dict[str, list[RunnerKind]] = {}
        self._prepared: dict[Runtime, Distribution | None] = {}

    def sources(self) -> Sources:
        """What :func:`ferryman_build.plan.make_plan` is given."""
        return Sources(
            runtime=self.runtime_fact, runner=self.runner_fact, own=own_wheel(self._project), here=self.here
        )  # fmt: skip

    def here(self, target: Target, settings: Settings) -> Mapping[str, str]:
        """What this machine's Python needs of its C library, where ``target`` is this machine's own; {} elsewhere."""
        own = target.id == self._host.id and target.os is Os.LINUX
        return self._floors(settings.python, self._runner) if own else {}

    def way(self, target: Target, settings: Settings) -> Way:
        """How the tree of ``target`` is made here."""
        return way_of(settings, target, self._host, self.here(target, settings))

    def runtime(self, target: Target, settings: Settings, python: str) -> Runtime:
        """The runtime of a standalone tree.

        Raises:
            FerrymanError: there is none.
        """
        if settings.runtime:
            return named_runtime(settings.runtime, target, self._project.root)
        place = settings.runtimes
        if place and not is_remote(place):
            place = str(self._project.root / local_path(place))
        return find_runtime(self._rows(place), target, short_python(python))

    def runtime_fact(self, target: Target, settings: Settings, python: str) -> RuntimeFact:
        """The same for the plan, with what is known of it without fetching anything; of a runner's Python, what that is."""
        if self.way(target, settings) is Way.THROUGH:
            return self._foreign_fact(target, settings)
        try:
            runtime = self.runtime(target, settings, python)
            known = self._known(runtime, target)
        except FerrymanError as error:
            return RuntimeFact(problem=Block(str(error), error.advice))
        origin = runtime.origin or runtime.file_name
        if known is None:
            return RuntimeFact(python=runtime.python, origin=origin)
        floor = {system: reason.version for system, reason in known.floor.items()}
        return RuntimeFact(python=known.version, origin=origin, fetched=True, floor=floor)

    def _foreign_fact(self, target: Target, settings: Settings) -> RuntimeFact:
        """The Python that PyInstaller would run with in a runner; what is missing there is the runner's to say."""
        try:
            kind = self.builder(target, settings)
            with tempfile.TemporaryDirectory(prefix="ferryman-plan-") as work:
                python = known_foreign(
                    kind, target, target.floor, Path(work), self._cache.root / "index", self._runner
                )
        except (ToolMissingError, StopIteration):
            return RuntimeFact()
        return RuntimeFact(python=python.version, origin=f"in {kind.name}", fetched=True, floor=python.floor)

    def runner_kinds(self, target: Target, settings: Settings, kind: Kind) -> tuple[RunnerKind, ...]:
        """Those that are ready to try artifacts of ``target``: a .pyz needs a Python, and only a place to build in has one."""
        return tuple(
            one
            for one in self._able(target, settings)
            if one.ready(target, purpose_of(one, kind), target.floor).ready
        )

    def refuse_unready(self, target: Target, settings: Settings) -> None:
        """A runner that was named is wanted: without it, nobody should believe that something was tried.

        Raises:
            ToolMissingError: it is not ready.
        """
        if settings.runner in (RunnerName.AUTO, RunnerName.NONE):
            return
        for one in self._able(target, settings):
            found = one.ready(target, Purpose.TRY, target.floor)
            if not found.ready:
                raise ToolMissingError(
                    f"The runner {one.name} is to try the artifacts of {target}, and it is not ready"
                    f"{f' ({found.found})' if found.found else ''}.",
                    advice=f'{found.advice.rstrip(".")}. Or set runner = "auto": then what cannot be tried is said to be untested.',
                )

    def builder(self, target: Target, settings: Settings) -> RunnerKind:
        """The one in which PyInstaller analyses for ``target``; the plan has said that there is one."""
        return next(kind for kind in self._able(target, settings)
                    if kind.ready(target, Purpose.BUILD, target.floor).ready)  # fmt: skip

    def _able(self, target: Target, settings: Settings) -> list[RunnerKind]:
        """What may run programs of ``target``. Wine has no Python of its own: it takes that of a runtime."""
        if target.id not in self._kinds:
            found = kinds_for(target, self._host, settings.runner)
            self._kinds[target.id] = [
                self._with_python(target, settings) if kind.name is RunnerName.WINE else kind
                for kind in found
            ]
        return self._kinds[target.id]

    def _known(self, runtime: Runtime, target: Target) -> Distribution | None:
        """What is on this disk of a runtime; it is read once."""
        if runtime not in self._prepared:
            self._prepared[runtime] = prepared(runtime, target, home(), python=runtime.short)
        return self._prepared[runtime]

    def _with_python(self, target: Target, settings: Settings) -> RunnerKind:
        try:
            runtime = self.runtime(target, settings, _version(settings))
            known = self._known(runtime, target)
        except FerrymanError:
            known = None  # its readiness says what is missing
        return WineRunner(python_root=known.root / known.prefix if known else None)

    def runner_fact(self, target: Target, settings: Settings, kind: Kind) -> RunnerFact:
        """The same for the plan."""
        names = tuple(one.name.value for one in self.runner_kinds(target, settings, kind))
        through = self.way(target, settings) is Way.THROUGH
        return RunnerFact(names=names, untested="" if names else self._untested(target, settings, kind),
                          problem=self._build_problem(target, settings) if through else None)  # fmt: skip

    def _untested(self, target: Target, settings: Settings, kind: Kind) -> str:
        purpose = Purpose.BUILD if kind is Kind.PYZ else Purpose.TRY
        outlook = readiness(target, self._host, settings.runner, purpose=purpose)
        return "untested here: " + " — ".join(filter(None, (outlook.untested, outlook.advice)))

    def _build_problem(self, target: Target, settings: Settings) -> Block | None:
        """Why PyInstaller cannot analyse for ``target`` in any runner."""
        possible = self._able(target, settings)
        answers = [(kind.name, kind.ready(target, Purpose.BUILD, target.floor)) for kind in possible]
        if any(found.ready for _, found in answers):
            return None
        if not answers:
            return Block(f"Nothing here runs programs of {target}.", "")
        name, found = answers[0]
        return Block(
            f"The runner {name} is not ready: {found.found or 'it is not here'}.",
            f"{found.advice.rstrip('.')}.",
        )


def _version(settings: Settings) -> str:
    """X.Y of the Python that ``settings`` mean, as far as they say it; else of ours."""
    return settings.python if settings.python.startswith("3.") else f"3.{sys.version_info.minor}"


def plan_with_sources(
    project: Project,
    targets: Sequence[Target],
    kinds: Sequence[Kind] | None,
    *,
    runner: Runner,
    cache: Cache,
    lock: Lock | None = None,
    progress: Progress | None = None,
    refresh: bool = False,
) -> Plan:
    """The plan, with everything asked that it has to know; see :func:`ferryman_build.plan.plan_project`."""
    host = with_own_promise(tuple(targets))
    return plan_project(
        project, targets, kinds, host, runner=runner, cache=cache.root / "index", lock=lock, progress=progress,
        sources=Finder(project, host, cache, runner).sources(), refresh=refresh,
    )  # fmt: skip
