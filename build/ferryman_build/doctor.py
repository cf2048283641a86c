"""`ferryman doctor`: every tool that the enabled steps need, the version found, or how to get it."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Iterator
from enum import StrEnum
from importlib import metadata
from pathlib import Path

import msgspec

from ferryman_build.artifacts import Kind
from ferryman_build.checkout import space_problem
from ferryman_build.cmd import Runner
from ferryman_build.collect.environment import tool_version
from ferryman_build.errors import FerrymanError, ToolMissingError
from ferryman_build.interpreter import find_headers, find_interpreter
from ferryman_build.project import Project
from ferryman_build.promises import promised_targets
from ferryman_build.runners import readiness
from ferryman_build.settings import Bundler
from ferryman_build.source import git_refusal, own_checkout
from ferryman_build.targets import host_target
from ferryman_build.toolchain import zig_lock


class State(StrEnum):
    """OPTIONAL is missing, and something else does the work."""

    FOUND = "found"
    OPTIONAL = "optional"
    MISSING = "missing"


class Finding(msgspec.Struct, frozen=True):
    """One line of the report. ``advice`` is empty when there is nothing to do."""

    name: str
    state: State
    found: str
    needed_for: str
    advice: str = ""


class Program(msgspec.Struct, frozen=True):
    """A program that a step may start: its version option, who needs it, whether Ferryman can do without."""

    name: str
    version: tuple[str, ...]
    needed_for: str
    advice: str
    optional: bool = True
    kinds: tuple[Kind, ...] = tuple(Kind)


PROGRAMS = (
    Program("git", ("--version",), "commit and date in the manifest",
            "Debian: apt-get install git. Without it the manifest has no commit and archives are dated 1980."),
    Program("ldd", ("--version",), "PyInstaller's search for shared libraries",
            "It comes with the C library (Debian: libc-bin; Alpine: musl-utils).", optional=False,
            kinds=(Kind.ARCHIVE, Kind.EXECUTABLE)),
    Program("objdump", ("--version",), "PyInstaller's check of object files",
            "Debian: apt-get install binutils. Without it Ferryman's own stand-in answers.",
            kinds=(Kind.ARCHIVE, Kind.EXECUTABLE)),
    Program("unshare", ("--version",), "smoke tests with a read-only, noexec /tmp",
            "Debian: apt-get install util-linux. Without it smoke tests use a read-only folder."),
    Program("cc", ("--version",), "projects whose own wheel compiles an extension",
            "Debian: apt-get install gcc python3-dev."),
)  # fmt: skip


def examine(project: Project, out: Path, runner: Runner) -> tuple[Finding, ...]:
    """Every finding, for the kinds that ``project`` builds."""
    return tuple(_findings(project, out, runner))


def _findings(project: Project, out: Path, runner: Runner) -> Iterator[Finding]:
    yield _interpreter(project, out, runner)
    yield Finding("uv", State.FOUND, metadata.version("uv"), "resolving, environments, building the wheel")
    if any(kind is not Kind.PYZ for kind in project.settings.kinds):
        yield from _launcher(project, out, runner)
    for name, use in (("pyinstaller", "analysis of the program"), ("shiv", ".pyz")):
        yield Finding(name, State.FOUND, f"{tool_version(name)} (pinned, fetched by hash)", use)
    yield from (_program(program) for program in PROGRAMS if set(program.kinds) & set(project.settings.kinds))
    if refusal := git_refusal(project.root):
        yield Finding(
            "checkout", State.OPTIONAL, refusal, "commit and date in the manifest", own_checkout(project.root)
        )
    yield from _runners(project)
    problem = space_problem(out)
    yield Finding("disk space", State.MISSING if problem else State.FOUND, problem or _free(out), "out/ and dist/",
                  "Free some space, or build with --out elsewhere." if problem else "")  # fmt: skip


def _interpreter(project: Project, out: Path, runner: Runner) -> Finding:
    use = "the program that is frozen"
    try:
        found = find_interpreter(project.settings.python, runner, out / "cache", lambda _: None)
    except FerrymanError as error:
        return Finding("python", State.MISSING, str(error), use, error.advice)
    return Finding(
        "python", State.FOUND, f"{found.version} at {found.path}, {found.libpython or 'python dll'}", use
    )


def _launcher(project: Project, out: Path, runner: Runner) -> Iterator[Finding]:
    """The compiler of the launcher and CPython's headers, for the bundler that needs them."""
    if project.settings.bundle is not Bundler.FERRYMAN:
        return
    version = tool_version("ziglang", zig_lock())
    yield Finding("zig", State.FOUND, f"{version} (pinned, fetched by hash)", "compiling the launcher")
    use = "compiling the launcher for this Python"
    try:
        interpreter = find_interpreter(project.settings.python, runner, out / "cache", lambda _: None)
        headers = find_headers(interpreter, runner, out / "cache", lambda _: None)
    except FerrymanError as error:
        yield Finding("headers", State.MISSING, str(error), use, error.advice)
        return
    yield Finding("headers", State.FOUND, str(headers.folder), use)


def _runners(project: Project) -> Iterator[Finding]:
    """What would try the artifacts of each target that ``project`` builds; what is untested is still built."""
    host = host_target()
    for target in promised_targets(project):
        settings = project.for_target(target)
        use = f"trying artifacts of {target}"
        try:
            outlook = readiness(target, host, settings.runner, target.floor)
        except FerrymanError as error:
            yield Finding("runner", State.MISSING, str(error), use, error.advice)
            continue
        if outlook.names:
            found = ", ".join(
                f"{name} ({what})" for name, what in zip(outlook.names, outlook.found, strict=True)
            )
            yield Finding("runner", State.FOUND, found, use)
        else:
            yield Finding("runner", State.OPTIONAL, f"untested here: {outlook.untested}", use, outlook.advice)


def _program(program: Program) -> Finding:
    path = shutil.which(program.name)
    if path is None:
        state = State.OPTIONAL if program.optional else State.MISSING
        return Finding(program.name, state, "not found", program.needed_for, program.advice)
    return Finding(program.name, State.FOUND, _version(path, program.version), program.needed_for)


def _version(path: str, option: Iterable[str]) -> str:
    try:
        done = subprocess.run([path, *option], capture_output=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return path
    return ((done.stdout or done.stderr).decode("utf-8", "replace").strip().splitlines() or [path])[0]


def _free(folder: Path) -> str:
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return f"{shutil.disk_usage(existing).free / 1e9:.1f} GB free"


def refuse_missing_programs(project: Project) -> None:
    """Raises ToolMissingError, naming every program that a build of ``project`` cannot do without."""
    needed = (
        program
        for program in PROGRAMS
        if not program.optional and set(program.kinds) & set(project.settings.kinds)
    )
    missing = [program for program in needed if shutil.which(program.name) is None]
    if missing:
        raise ToolMissingError(
            f"Not found: {', '.join(program.name for program in missing)}.",
            advice=" ".join(f"{program.name}: {program.advice}" for program in missing),
        )


def problems(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings that keep a build from running."""
    return tuple(finding for finding in findings if finding.state is State.MISSING)
