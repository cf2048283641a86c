"""Preflight: everything that can be decided before time is spent, and one job per target that has something to build.

What is wrong is reported all at once; what is blocked is said with its reason.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from ferryman_build.artifacts import Kind
from ferryman_build.cache import Blobs, Cache
from ferryman_build.checkout import folder_problem, space_problem
from ferryman_build.cmd import Runner
from ferryman_build.doctor import refuse_missing_programs
from ferryman_build.errors import BlockedError, ConfigError, FerrymanError, SpaceError
from ferryman_build.interpreter import Headers, Interpreter, find_headers, find_interpreter
from ferryman_build.locking import Lock, resolve
from ferryman_build.plan import Plan, Status, plan_project
from ferryman_build.plan_facts import Sources
from ferryman_build.plan_sources import Finder
from ferryman_build.project import Project
from ferryman_build.promises import with_own_promise
from ferryman_build.runtimes.index import Runtime
from ferryman_build.settings import Bundler, Settings
from ferryman_build.source import git_refusal, own_checkout, read_source
from ferryman_build.steps import TargetJob
from ferryman_build.targets import Os, Target
from ferryman_build.ui import Ui
from ferryman_build.ways import Way


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What the command line says.

    ``named`` is false for `all`: then a target for which nothing can be built is passed over with its reason, as a part of
    a named target always is. ``strict``: anything blocked is an error.
    """

    targets: tuple[Target, ...]
    named: bool = True
    kinds: tuple[Kind, ...] | None
    out: Path
    dist: Path
    strict: bool = False
    verbose: bool = False
    refresh: bool = False


def preflight(
    project: Project, options: Options, cache: Cache, runner: Runner, ui: Ui
) -> tuple[TargetJob, ...]:
    """One job per target that has something to build.

    Raises:
        FerrymanError: the only thing that is wrong, the first of several with all of them, or what is blocked.
    """
    host = with_own_promise(options.targets)
    interpreters = Interpreters(project, options, cache, runner, ui)
    all_at_once(
        lambda: _refuse_places(project.root, options),
        lambda: _refuse_full_disks(options),
        lambda: refuse_missing_programs(project),
        # Those that single targets name are looked for when the plan has said that the target is built.
        lambda: interpreters.for_settings(project.settings),
    )
    if refusal := git_refusal(project.root):
        ui.say(f"note: {refusal}. {own_checkout(project.root)}")
    finder = Finder(project, host, cache, runner)
    sources = finder.sources()
    plan = plan_project(
        project, options.targets, options.kinds, host, runner=runner, cache=cache.root / "index",
        refresh=options.refresh, lock=interpreters.for_settings(project.settings)[1], sources=sources,
    )  # fmt: skip
    jobs = _Jobs(project, host, finder, sources, interpreters, cache, runner, ui)
    return tuple(jobs.make(target, kinds) for target, kinds in ready_kinds(plan, options, ui).items())


class _Jobs:
    """Turns what the plan says is READY into jobs."""

    def __init__(
        self,
        project: Project,
        host: Target,
        finder: Finder,
        sources: Sources,
        interpreters: Interpreters,
        cache: Cache,
        runner: Runner,
        ui: Ui,
    ) -> None:
        self._project, self._host, self._finder, self._sources = project, host, finder, sources
        self._interpreters, self._cache, self._runner, self._ui = interpreters, cache, runner, ui
        self._source = read_source(project.root)

    def make(self, target: Target, kinds: tuple[Kind, ...]) -> TargetJob:
        """The job of one target."""
        settings = self._project.for_target(target)
        interpreter, lock = self._interpreters.for_settings(settings)
        requires = self._project.build_requires
        way = self._finder.way(target, settings)
        self._finder.refuse_unready(target, settings)
        trees = any(kind is not Kind.PYZ for kind in kinds)
        return TargetJob(
            target=target, host=self._host, kinds=kinds, project=self._project, settings=settings, source=self._source,
            interpreter=interpreter, lock=lock, way=way, own=self._sources.own, build_requires=requires,
            build_lock=resolve(requires, interpreter.version, runner=self._runner, cache=self._cache.root / "index"),
            runtime=self._runtime(target, settings, interpreter, way) if trees else None,
            builder=self._finder.builder(target, settings) if trees and way is Way.THROUGH else None,
            runners={kind: self._finder.runner_kinds(target, settings, kind) for kind in kinds},
            untested={kind: self._sources.runner(target, settings, kind).untested for kind in kinds},
            blobs=Blobs(self._cache.root / "blobs"), cache=self._cache.root, runner=self._runner,
            known_headers=self._headers(settings, kinds, interpreter),
        )  # fmt: skip

    def _runtime(
        self, target: Target, settings: Settings, interpreter: Interpreter, way: Way
    ) -> Runtime | None:
        """What a standalone tree is made of; through Wine, what PyInstaller runs with, unless the runner has its own."""
        if way is Way.STANDALONE:
            return self._finder.runtime(target, settings, interpreter.version)
        if way is Way.THROUGH and target.os is Os.WINDOWS:
            with contextlib.suppress(FerrymanError):
                return self._finder.runtime(target, settings, interpreter.version)
        return None

    def _headers(self, settings: Settings, kinds: Sequence[Kind], interpreter: Interpreter) -> Headers | None:
        """This machine's CPython headers, where launcher or extension is compiled."""
        own = self._sources.own
        if not compiles(settings, kinds) and not (own.native and own.crossable):
            return None
        return find_headers(interpreter, self._runner, self._cache.root, self._ui.say)


def compiles(settings: Settings, kinds: Sequence[Kind]) -> bool:
    """Whether one of ``kinds`` is started by the launcher."""
    return settings.bundle is Bundler.FERRYMAN and any(kind is not Kind.PYZ for kind in kinds)


def all_at_once(*checks: Callable[[], object]) -> None:
    """Run every check although some fail.

    Raises:
        FerrymanError: what the only failing check raised; of several, the first one's class with all sentences.
    """
    errors: list[FerrymanError] = []
    for check in checks:
        try:
            check()
        except FerrymanError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        raise type(errors[0])(
            f"{len(errors)} things are in the way of this build.",
            advice="Mend each of them; `ferryman doctor` looks again.",
            details=[line for error in errors for line in (str(error), *error.details, f"  {error.advice}")],
        )


def _refuse_full_disks(options: Options) -> None:
    for folder in (options.out, options.dist):
        if problem := space_problem(folder):
            raise SpaceError(f"No space left: {problem}.", advice="Free some space, or use --out and --dist.")


def _refuse_places(root: Path, options: Options) -> None:
    """What children are told in lists: PATH and PYTHONPATH are split at a colon, the smoke test's at a line's end."""
    for place, option, forbidden in ((options.out, "--out", os.pathsep), (root, "--project", "")):
        wrong = [name for sign, name in ((forbidden, repr(forbidden)), ("\n", "a line break"))
                 if sign and sign in str(place)]  # fmt: skip
        if wrong:
            raise ConfigError(
                f"The path {str(place)!r} has {wrong[0]} in it, which tools that are given it would split.",
                advice=f"Rename the folder, or choose another one with {option}.",
            )
    if problem := folder_problem(options.dist):
        raise ConfigError(
            f"{problem}, and products are to go there.", advice="Choose another folder with --dist."
        )


class Interpreters:
    """The interpreter that each target's settings name, and the lock for its version; each is looked for once."""

    def __init__(self, project: Project, options: Options, cache: Cache, runner: Runner, ui: Ui) -> None:
        self._project, self._options = project, options
        self._cache, self._runner, self._ui = cache, runner, ui
        self._found: dict[str, tuple[Interpreter, Lock]] = {}

    def for_settings(self, settings: Settings) -> tuple[Interpreter, Lock]:
        """(interpreter, lock) of ``settings.python``."""
        if settings.python not in self._found:
            self._found[settings.python] = self._look(settings.python)
        return self._found[settings.python]

    def _look(self, wanted: str) -> tuple[Interpreter, Lock]:
        interpreter = find_interpreter(wanted, self._runner, self._cache.root, self._ui.say)
        project = self._project
        lock = resolve(
            project.dependencies, interpreter.version, runner=self._runner, cache=self._cache.root / "index",
            constraints=project.root / project.settings.lock if project.settings.lock else None,
            requires_python=project.requires_python, refresh=self._options.refresh,
        )  # fmt: skip
        return interpreter, lock


def ready_kinds(plan: Plan, options: Options, ui: Ui) -> dict[Target, tuple[Kind, ...]]:
    """Target → kinds to build. What is blocked is said; nothing to do for a named target, or at all, is an error."""
    blocked = [row for row in plan.rows if row.status is Status.BLOCKED]
    ready: dict[Target, tuple[Kind, ...]] = {}
    for target in options.targets:
        kinds = tuple(row.kind for row in plan.rows if row.target == target.id and row.status is Status.READY)
        if kinds:
            ready[target] = kinds
    empty = [target.id for target in options.targets if target not in ready]
    if blocked and (options.strict or (empty and options.named) or not ready):
        raise BlockedError(
            f"Nothing can be built here for {', '.join(empty)}." if empty else "Part of what was asked for is blocked.",
            advice=blocked[0].cure, details=[f"{row.target} {row.kind}: {row.reason}" for row in blocked],
        )  # fmt: skip
    for row in blocked:
        ui.say(f"- {row.target} {row.kind}: BLOCKED, {row.reason}")
    return ready
