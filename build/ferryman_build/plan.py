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
from ferryman_build.plan_rules import Case, contained, first_block, lacks_wheel
from ferryman_build.project import Project
from ferryman_build.settings import Settings
from ferryman_build.targets import Target
from ferryman_build.wheeltags import (
    Lock,
    LockedPackage,
    compatible_wheels,
    full_python,
    packages_for,
    short_python,
)

SCHEMA_VERSION = 1
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

    ``runner`` would smoke-test it; empty when none here can, and ``untested`` says why. ``ci_runner`` is the label of
    the machine that builds it natively, ``on_runner`` the status it would have there. ``reason`` and ``cure`` are empty
    when READY. ``python`` is X.Y; ``floor`` is the row's promise, such as "glibc 2.17"; ``wheels`` are sorted by name and
    do not contain a dependency that misses one.
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
    wheels: tuple[Choice, ...] = ()


class Plan(Struct, frozen=True, kw_only=True):
    """Rows in the order of targets, then kinds. ``host`` is the id of the machine that the plan was made on."""

    schema_version: int = SCHEMA_VERSION
    project: ProjectInfo
    host: str
    rows: tuple[Row, ...]


# --- the plan ---------------------------------------------------------------------------------------------------------


def make_plan(
    project: Project,
    targets: Sequence[Target],
    kinds: Sequence[Kind] | None,
    host: Target,
    lock_for: LockFor,
    *,
    python_of: Callable[[Settings], str],
    own_wheel_tag: str | None = None,
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
        own_wheel_tag: "cp311-abi3-linux_x86_64" when the agent's wheel is built and not pure.
        alternatives: what :func:`plan_project` found out; absent targets were not asked about.
    """
    cases = _cases(
        project,
        targets,
        kinds,
        host,
        lock_for,
        python_of=python_of,
        own_wheel_tag=own_wheel_tag or "",
        alternatives=alternatives or {},
    )
    info = ProjectInfo(name=project.name, version=project.version or UNKNOWN_VERSION)
    return Plan(project=info, host=host.id, rows=tuple(plan_row(case) for case in cases))


def _cases(
    project: Project,
    targets: Sequence[Target],
    kinds: Sequence[Kind] | None,
    host: Target,
    lock_for: LockFor,
    *,
    python_of: Callable[[Settings], str],
    own_wheel_tag: str,
    alternatives: Alternatives,
) -> Iterator[Case]:
    for target in targets:
        settings = project.for_target(target)
        python = python_of(settings)
        packages = _packages(project, target, python, lock_for)
        for kind in settings.kinds if kinds is None else kinds:
            yield Case(
                project=project,
                settings=settings,
                target=target,
                kind=kind,
                host=host,
                python=python,
                packages=packages,
                own_wheel_tag=own_wheel_tag,
                alternatives=alternatives.get(target.id, {}),
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
    there = first_block(msgspec.structs.replace(case, host=case.target))
    if case.from_tree and contained(case.target) and case.target != case.host:
        there = block  # the hosted machine itself is another target
    native = case.target == case.host
    return Row(
        target=case.target.id,
        kind=case.kind,
        status=Status.READY if block is None else Status.BLOCKED,
        reason=block.reason if block else "",
        cure=block.cure if block else "",
        collector=case.settings.collector.value if case.from_tree else _PYZ_COLLECTOR,
        bundler=_bundler(case),
        runner="native" if native else "",
        untested="" if native else f"untested here: this machine is {case.host}",
        python=short_python(case.python),
        file=file_name(case.project, case.target, case.kind),
        floor=case.target.floor_text,
        ci_runner=case.target.runner,
        on_runner=Status.READY if there is None else Status.BLOCKED,
        wheels=_choices(case),
    )


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


def ci_matrix(plan: Plan) -> list[dict[str, Any]]:
    """One entry {target, runner, kinds} per target for which a hosted machine exists that can build something."""
    entries: dict[str, dict[str, Any]] = {}
    for row in plan.rows:
        if row.on_runner is Status.READY and row.ci_runner:
            entry = {"target": row.target, "runner": row.ci_runner, "kinds": []}
            entries.setdefault(row.target, entry)["kinds"].append(row.kind.value)
    return list(entries.values())


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
    own_wheel_tag: str | None = None,
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
        own_wheel_tag: see :func:`make_plan`.
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
        own_wheel_tag=own_wheel_tag or "",
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
        own_wheel_tag=own_wheel_tag,
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
