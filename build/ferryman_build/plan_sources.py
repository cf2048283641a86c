"""Finding out what the plan has to know beside configuration and locks: runtimes, runners, the project's own wheel.

Nothing is fetched and nothing is started that lasts: a runtime that was never fetched has no measured floor, and the plan
says so.
"""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ferryman_build.artifacts import Kind
from ferryman_build.cache import Cache
from ferryman_build.cmd import Runner
from ferryman_build.collect.foreign import known_foreign
from ferryman_build.errors import FerrymanError, ToolMissingError
from ferryman_build.homes import home
from ferryman_build.own_wheel import own_wheel
from ferryman_build.plan import Plan, Progress, plan_project
from ferryman_build.plan_facts import Block, RunnerFact, RuntimeFact, Sources
from ferryman_build.project import Project
from ferryman_build.promises import with_own_promise
from ferryman_build.runners import kinds_for, readiness
from ferryman_build.runners.base import Purpose, RunnerKind
from ferryman_build.runners.wine import WineRunner
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
from ferryman_build.targets import Target
from ferryman_build.ways import Way, way_of
from ferryman_build.wheeltags import Lock, short_python


class Finder:
    """Answers for one project on one machine; each list of runtimes is read once."""

    def __init__(self, project: Project, host: Target, cache: Cache, runner: Runner) -> None:
        self._project, self._host, self._cache, self._runner = project, host, cache, runner
        self._rows = functools.cache(open_index)

    def sources(self) -> Sources:
        """What :func:`ferryman_build.plan.make_plan` is given."""
        return Sources(runtime=self.runtime_fact, runner=self.runner_fact, own=own_wheel(self._project))

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
        if way_of(settings, target, self._host) is Way.THROUGH:
            return self._foreign_fact(target, settings)
        try:
            runtime = self.runtime(target, settings, python)
            known = prepared(runtime, target, home(), python=short_python(python))
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

    def runner_kinds(self, target: Target, settings: Settings) -> tuple[RunnerKind, ...]:
        """Those that are ready to try artifacts of ``target``."""
        return tuple(
            kind
            for kind in kinds_for(target, self._host, settings.runner)
            if kind.ready(target, Purpose.TRY, target.floor).ready
        )

    def builder(self, target: Target, settings: Settings) -> RunnerKind:
        """The one in which PyInstaller analyses for ``target``; the plan has said that there is one."""
        return next(kind for kind in self._builders(target, settings)
                    if kind.ready(target, Purpose.BUILD, target.floor).ready)  # fmt: skip

    def _builders(self, target: Target, settings: Settings) -> list[RunnerKind]:
        """Wine has no Python of its own: it takes that of a runtime."""
        found = kinds_for(target, self._host, settings.runner)
        return [
            self._with_python(target, settings) if kind.name is RunnerName.WINE else kind for kind in found
        ]

    def _with_python(self, target: Target, settings: Settings) -> RunnerKind:
        try:
            runtime = self.runtime(target, settings, settings.python)
            known = prepared(runtime, target, home())
        except FerrymanError:
            known = None  # its readiness says what is missing
        return WineRunner(python_root=known.root / known.prefix if known else None)

    def runner_fact(self, target: Target, settings: Settings) -> RunnerFact:
        """The same for the plan."""
        names = tuple(kind.name.value for kind in self.runner_kinds(target, settings))
        return RunnerFact(names=names, untested="" if names else self._untested(target, settings),
                          problem=self._build_problem(target, settings))  # fmt: skip

    def _untested(self, target: Target, settings: Settings) -> str:
        outlook = readiness(target, self._host, settings.runner)
        return "untested here: " + " — ".join(filter(None, (outlook.untested, outlook.advice)))

    def _build_problem(self, target: Target, settings: Settings) -> Block | None:
        """Why PyInstaller cannot analyse for ``target`` in any runner."""
        possible = self._builders(target, settings)
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
