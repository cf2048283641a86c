"""What can be built for which target, decided before anything is built.

    targets x kinds ─▶ Case ─▶ RULES, in order ─▶ READY, or BLOCKED with the first rule's reason and cure

:func:`make_plan` is pure: the same project, locks and answers give the same plan. :func:`plan_project` asks: one lock
per Python version in use, and for each target with a missing wheel whether another version would have one.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
from packaging.utils import canonicalize_name

from ferryman_build.artifacts import Kind, ProjectInfo, Struct
from ferryman_build.cmd import Runner
from ferryman_build.errors import PackageIndexError, ResolutionError
from ferryman_build.locking import check_python, resolve, resolve_alone
from ferryman_build.plan_facts import NOBODY, Sources
from ferryman_build.plan_rules import Case, contained, first_block, lacks_wheel
from ferryman_build.project import Project
from ferryman_build.settings import Collector, RunnerName, Settings
from ferryman_build.targets import Libc, Os, Target
from ferryman_build.ways import Way, collector_of
from ferryman_build.wheeltags import (
    Lock,
    LockedPackage,
    compatible_wheels,
    full_python,
    packages_for,
    short_python,
)

SCHEMA_VERSION = 2
UNKNOWN_VERSION = "<version>"
"""Stands in a file name for a version that only the built wheel will tell (`dynamic = ["version"]`)."""

_PYZ_COLLECTOR = "pip"
_PYZ_BUNDLER = "shiv"
_PARALLEL = 8  # questions at once; they wait for the network and not for the processor

Progress = Callable[[int, int, str], None]
LockFor = Callable[[str], Lock]
Alternatives = Mapping[str, Mapping[str, str]]
"""Per target id: the versions that resolve there from wheels alone; empty when none do or nobody could say."""


class Status(StrEnum):
    """Whether an artifact can be built."""

    READY = "READY"
    BLOCKED = "BLOCKED"


class Choice(Struct, frozen=True, kw_only=True):
    """A dependency as it will be installed; ``wheel`` is a file name."""

    name: str
    version: str
    wheel: str


class Row(Struct, frozen=True, kw_only=True):
    """One artifact that was asked for.

    ``runner`` would smoke-test it (several are joined by a comma); empty when none here can, and ``untested`` says why
    and what would change that. ``ci_runner`` is the label of the machine that builds it natively, ``on_runner`` the status
    it would have there, and ``on_runner_collector`` what would make the tree. ``reason`` and ``cure`` are empty when READY. ``python`` is X.Y; ``floor`` is the promise, such as
    "glibc 2.17"; ``runtime`` is the interpreter of a standalone tree, ``runtime-floor`` what it needs, measured, empty
    while it was never fetched; ``own-wheel`` is the project's own; ``wheels`` are sorted by name and do not contain a
    dependency that misses one.
    """

    target: str
    kind: Kind
    status: Status
    reason: str = ""
    cure: str = ""
    collector: str
    bundler: str = ""
    runner: str = ""
    untested: str = ""
    python: str
    file: str
    floor: str
    ci_runner: str
    on_runner: Status
    on_runner_collector: str = ""
    runtime: str = ""
    runtime_floor: str = ""
    own_wheel: str = ""
    wheels: tuple[Choice, ...] = ()


class CiEntry(Struct, frozen=True, kw_only=True):
    """One job of a CI matrix: ``target`` is built on a hosted ``runner``.

    ``smoke`` and ``image`` are what Ferryman is told there: the runner that tries the artifacts, and the container image
    for it, where the hosted machine itself has another C library than the target.
    """

    target: str
    runner: str
    kinds: tuple[Kind, ...]
    collector: str
    smoke: str = ""
    image: str = ""


class Plan(Struct, frozen=True, kw_only=True):
    """Rows in the order of targets, then kinds; ``ci`` is a matrix for hosted machines.

    ``host`` is the id of the machine that the plan was made on.
    """

    schema_version: int = SCHEMA_VERSION
    project: ProjectInfo
    host: str
    rows: tuple[Row, ...]
    ci: tuple[CiEntry, ...] = ()


# --- the plan ---------------------------------------------------------------------------------------------------------


def make_plan(
    project: Project,
    targets: Sequence[Target],
    kinds: Sequence[Kind] | None,
    host: Target,
    lock_for: LockFor,
    *,
    python_of: Callable[[Settings], str],
    sources: Sources = NOBODY,
    alternatives: Alternatives | None = None,
) -> Plan:
    """The plan for ``targets`` x ``kinds``.

    Args:
        project: the agent.
        targets: rows to plan for.
        kinds: None: those that the settings of each target ask for.
        host: the target of this machine.
        lock_for: the lock for a Python (X.Y or X.Y.Z); only called for one that requires-python allows.
        python_of: the CPython version (X.Y or X.Y.Z) that settings mean.
        sources: what is known of runtimes, runners and the project's own wheel.
        alternatives: what :func:`plan_project` found out; absent targets were not asked about.
    """
    cases = _cases(
        project,
        targets,
        kinds,
        host,
        lock_for,
        python_of=python_of,
        sources=sources,
        alternatives=alternatives or {},
    )
    info = ProjectInfo(name=project.name, version=project.version or UNKNOWN_VERSION)
    rows = tuple(plan_row(case) for case in cases)
    return Plan(project=info, host=host.id, rows=rows, ci=ci_matrix(rows, targets))


def _cases(
    project: Project,
    targets: Sequence[Target],
    kinds: Sequence[Kind] | None,
    host: Target,
    lock_for: LockFor,
    *,
    python_of: Callable[[Settings], str],
    sources: Sources,
    alternatives: Alternatives,
) -> Iterator[Case]:
    for target in targets:
        settings = project.for_target(target)
        python = python_of(settings)
        packages = _packages(project, target, python, lock_for)
        runtime, here = sources.runtime(target, settings, python), sources.here(target, settings)
        for kind in settings.kinds if kinds is None else kinds:
            yield Case(
                project=project,
                settings=settings,
                target=target,
                kind=kind,
                host=host,
                python=python,
                packages=packages,
                alternatives=alternatives.get(target.id, {}),
                own=sources.own,
                runtime=runtime,
                runner=sources.runner(target, settings, kind),
                here=here,
            )


def _packages(project: Project, target: Target, python: str, lock_for: LockFor) -> tuple[LockedPackage, ...]:
    try:
        check_python(python, project.requires_python)
    except ResolutionError:
        return ()  # the rule says so
    return packages_for(lock_for(python), target, python)


def plan_row(case: Case) -> Row:
    """One row of the plan."""
    block = first_block(case)
    hosted = _hosted(case)
    there = first_block(hosted)
    if (
        case.from_tree
        and contained(case.target)
        and hosted.way is not Way.STANDALONE
        and case.way is not Way.HERE
    ):
        there = block  # the hosted machine itself is another target
    brought = case.from_tree and case.way is not Way.HERE
    return Row(
        target=case.target.id,
        kind=case.kind,
        status=Status.READY if block is None else Status.BLOCKED,
        reason=block.reason if block else "",
        cure=block.cure if block else "",
        collector=collector_of(case.way).value if case.from_tree else _PYZ_COLLECTOR,
        bundler=_bundler(case),
        runner=", ".join(case.runner.names),
        untested=""
        if case.runner.names
        else case.runner.untested or f"untested here: this machine is {case.host}",
        python=short_python(case.python),
        file=file_name(case.project, case.target, case.kind),
        floor=case.target.floor_text,
        ci_runner=case.target.runner,
        on_runner=Status.READY if there is None else Status.BLOCKED,
        on_runner_collector=collector_of(hosted.way).value,
        runtime=f"{case.runtime.origin}, Python {case.runtime.python}"
        if brought and case.runtime.python
        else "",
        runtime_floor=_floor_text(case.runtime.floor) if brought else "",
        own_wheel=_own_wheel(case),
        wheels=_choices(case),
    )


def _hosted(case: Case) -> Case:
    """The same on the machine that CI gives the target.

    A hosted machine's own Python needs the newest C library that there is, and a runtime keeps the floor: where nothing
    was chosen, the runtime is taken.
    """
    settings = case.settings
    if settings.collector is Collector.AUTO and case.runtime.problem is None:
        settings = msgspec.structs.replace(settings, collector=Collector.STANDALONE)
    return msgspec.structs.replace(case, host=case.target, settings=settings, here={})


def _floor_text(floor: Mapping[str, str]) -> str:
    return ", ".join(f"{system} {version}" for system, version in floor.items())


def _own_wheel(case: Case) -> str:
    """Which wheel of the project serves the target."""
    own = case.own
    if not own.native:
        return ""  # pure: one for all
    return case.prebuilt or (f"built here with zig for {case.target.zig}" if own.crossable else "built here")


def _bundler(case: Case) -> str:
    """What starts the artifact."""
    return case.settings.bundle.value if case.from_tree else _PYZ_BUNDLER


def file_name(project: Project, target: Target, kind: Kind) -> str:
    """What the artifact will be called in dist/."""
    suffix = {Kind.ARCHIVE: f".{target.archive}", Kind.EXECUTABLE: target.suffix, Kind.PYZ: ".pyz"}[kind]
    return f"{project.executable}-{project.version or UNKNOWN_VERSION}-{target}{suffix}"


def _choices(case: Case) -> tuple[Choice, ...]:
    lacking = {package.name for package in case.missing}
    found = (package for package in case.packages if package.name not in lacking)
    return tuple(
        Choice(
            name=package.name,
            version=package.version,
            wheel=compatible_wheels(package, case.target, case.python)[0].filename,
        )
        for package in sorted(found, key=lambda package: package.name)
    )


def plan_json(plan: Plan) -> str:
    """The plan for programs; :func:`plan_schema` describes it."""
    return msgspec.json.format(msgspec.json.encode(plan)).decode() + "\n"


def plan_schema() -> dict[str, Any]:
    """JSON Schema 2020-12 of :func:`plan_json`."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **msgspec.json.schema(Plan)}


# Where the hosted machine of a target has another C library: what tries the artifacts there, and in which image.
# They have a Python, which a .pyz needs.
_ALPINE = (RunnerName.CONTAINER.value, "python:{python}-alpine3.20")
_OLD_GLIBC = (RunnerName.CONTAINER.value, "python:{python}-slim-bullseye")


def _trial(target: Target) -> tuple[str, str]:
    """(runner, image) for CI: the oldest userland that has an image, so that a promise is tried and not believed."""
    if target.os is not Os.LINUX:
        return RunnerName.NATIVE.value, ""
    return _ALPINE if target.libc is Libc.MUSL else _OLD_GLIBC


def ci_matrix(rows: Sequence[Row], targets: Sequence[Target]) -> tuple[CiEntry, ...]:
    """One entry per target for which a hosted machine exists that can build something, in the order of the rows."""
    kinds: dict[str, list[Row]] = {}
    for row in rows:
        if row.on_runner is Status.READY and row.ci_runner:
            kinds.setdefault(row.target, []).append(row)
    by_id = {target.id: target for target in targets}
    return tuple(_ci_entry(by_id[name], found) for name, found in kinds.items())


def _ci_entry(target: Target, rows: Sequence[Row]) -> CiEntry:
    smoke, image = _trial(target)
    image = image.format(python=rows[0].python)
    return CiEntry(
        target=target.id, runner=target.runner, kinds=tuple(row.kind for row in rows),
        collector=rows[0].on_runner_collector, smoke=smoke, image=image,
    )  # fmt: skip


# --- the shell --------------------------------------------------------------------------------------------------------


def plan_project(
    project: Project,
    targets: Sequence[Target],
    kinds: Sequence[Kind] | None,
    host: Target,
    *,
    runner: Runner,
    cache: Path,
    lock: Lock | None = None,
    progress: Progress | None = None,
    sources: Sources = NOBODY,
    refresh: bool = False,
) -> Plan:
    """:func:`make_plan` with every question asked, in parallel.

    Args:
        project: the agent.
        targets: rows to plan for.
        kinds: None: those that the settings of each target ask for.
        host: the target of this machine.
        runner: starts uv and named interpreters.
        cache: folder of kept answers.
        lock: the answer for its Python, when the caller has asked already.
        progress: called from this thread after each answer with (done, total, label); total grows once.
        sources: see :func:`make_plan`.
        refresh: ask although the answers are known.

    Raises:
        ResolutionError: the dependencies have no solution on any target.
        PackageIndexError: the index gave no usable answer.
    """
    say = progress or _silent
    constraints = project.root / project.settings.lock if project.settings.lock else None

    @functools.cache
    def python_named(wanted: str) -> str:
        return _python_version(wanted, runner)

    @functools.cache
    def lock_for(python: str) -> Lock:
        if lock is not None and lock.python == short_python(python):
            return lock
        return resolve(
            project.dependencies, python, runner=runner, cache=cache, constraints=constraints, refresh=refresh
        )

    def python_of(settings: Settings) -> str:
        return python_named(settings.python)

    cases = functools.partial(
        _cases,
        project,
        targets,
        kinds,
        host,
        lock_for,
        python_of=python_of,
        sources=sources,
    )
    pythons = dict.fromkeys(python_of(project.for_target(target)) for target in targets)
    first = list(cases(alternatives={}))
    for number, python in enumerate(pythons, 1):
        say(number, len(pythons), f"dependencies for Python {short_python(python)}")
    asked = list(dict.fromkeys(case.target for case in first if lacks_wheel(case)))

    def ask(target: Target) -> Mapping[str, str]:
        python = python_of(project.for_target(target))
        try:
            return resolve_alone(
                project.dependencies, python, target, runner=runner, cache=cache, refresh=refresh
            )
        except PackageIndexError:
            return {}  # the plan stands without this answer; only a cure is less exact

    answers = _ask_all(asked, ask, runner, say, len(pythons)) if asked else {}
    return make_plan(
        project,
        targets,
        kinds,
        host,
        lock_for,
        python_of=python_of,
        sources=sources,
        alternatives=answers,
    )


def _silent(_done: int, _total: int, _label: str) -> None:
    """The progress of whoever does not want to see any."""


def _ask_all(
    targets: Sequence[Target],
    ask: Callable[[Target], Mapping[str, str]],
    runner: Runner,
    say: Progress,
    before: int,
) -> Alternatives:
    answers: dict[str, Mapping[str, str]] = {}
    with ThreadPoolExecutor(_PARALLEL, thread_name_prefix="plan") as pool:
        waiting = {pool.submit(ask, target): target for target in targets}
        try:
            for done, future in enumerate(as_completed(waiting), before + 1):
                target = waiting[future]
                found = future.result()
                answers[target.id] = {canonicalize_name(name): version for name, version in found.items()}
                say(done, before + len(targets), f"other versions for {target}")
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            runner.end_all()  # the threads wait for their children, and leaving the pool waits for the threads
            raise
    return answers


def _python_version(wanted: str, runner: Runner) -> str:
    """X.Y or X.Y.Z of what `[tool.ferryman] python` names: nothing (ours), a version, or the path of an interpreter."""
    if not wanted:
        return full_python(f"{sys.version_info.major}.{sys.version_info.minor}")
    if not wanted.startswith("/"):
        return wanted
    code = "import platform; print(platform.python_version())"
    return runner.run([wanted, "-I", "-c", code], name="python version", timeout=30).output.strip()
