"""`ferryman doctor`: every tool that the enabled steps need, the version found, or how to get it."""

from __future__ import annotations

import shutil
import subprocess
import sys
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
from ferryman_build.homes import home
from ferryman_build.inspect.gate_codes import NO_DECODER_CURE
from ferryman_build.interpreter import find_headers, find_interpreter
from ferryman_build.project import Project
from ferryman_build.promises import promised_targets
from ferryman_build.runners import KINDS, readiness
from ferryman_build.runners.base import Purpose, Readiness, RunnerKind
from ferryman_build.runtimes.fetch import archives, fetched
from ferryman_build.runtimes.index import Runtime, is_remote, local_path, open_index
from ferryman_build.settings import Bundler, RunnerName, Settings
from ferryman_build.source import git_refusal, own_checkout
from ferryman_build.targets import Target, all_targets, host_target
from ferryman_build.toolchain import zig_lock
from ferryman_build.wheeltags import short_python


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
    yield _decoder()
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
    host = host_target()
    yield from (_runner_kind(kind, host) for kind in KINDS.values())
    yield _analysing(host)
    yield _standalone(project)
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


def _decoder() -> Finding:
    """Of use only to who builds for amd64 targets: anybody else does without."""
    use = "measuring the x86-64 code of amd64 targets"
    try:
        return Finding("iced-x86", State.FOUND, metadata.version("iced-x86"), use)
    except metadata.PackageNotFoundError:
        return Finding("iced-x86", State.OPTIONAL, "not found", use, NO_DECODER_CURE)


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


# --- how to get each runner and collector, whatever this project asks for ---

_PACKAGES = {
    RunnerName.ROOTFS: "Debian's packages: mmdebstrap.",
    RunnerName.QEMU: "Debian's packages: mmdebstrap, qemu-user-static, binfmt-support.",
}
"""What `setup` installs where it may, and asks for where it may not; the other runners name theirs themselves."""


def _able(kind: RunnerKind, host: Target) -> list[Target]:
    usual = (target for target in all_targets() if target.tier == 1 or target.id == host.id)
    return [target for target in usual if kind.runs(target, host)]


def _asked(kind: RunnerKind, host: Target, purpose: Purpose) -> list[tuple[Target, Readiness]]:
    """What ``kind`` has for each of the usual targets, as its row in the table promises."""
    return [(target, kind.ready(target, purpose, target.floor)) for target in _able(kind, host)]


def _runner_kind(kind: RunnerKind, host: Target) -> Finding:
    """For what a runner is ready; else the command, and the packages that it needs."""
    name, states = f"runner {kind.name}", _asked(kind, host, Purpose.TRY)
    use = f"trying {_names(target for target, _ in states) or 'nothing'}"
    if not states:
        return Finding(name, State.OPTIONAL, f"runs nothing on a machine that is {host}", use)
    lacking = [(target, state) for target, state in states if not state.ready]
    if not lacking:
        return Finding(name, State.FOUND, states[0][1].found, use)
    ready = _names(target for target, state in states if state.ready)
    why = lacking[0][1].found or "is not set up"
    found = f"ready for {ready} alone; else: {why}" if ready else why
    packages = "" if ready else _PACKAGES.get(kind.name, "")
    cure = " ".join(filter(None, (_sentence(lacking[0][1].advice), packages)))
    return Finding(name, State.OPTIONAL, found, use, cure)


def _analysing(host: Target) -> Finding:
    """Where PyInstaller can look at a program; it needs a Python of the target there."""
    name, use = "collector pyinstaller", "trees by PyInstaller's own analysis"
    others = [kind for kind in KINDS.values() if kind.name not in (RunnerName.NATIVE, RunnerName.ROOTFS)]
    states = [(kind, *answer) for kind in others for answer in _asked(kind, host, Purpose.BUILD)]
    through = dict.fromkeys(f"{target} through {kind.name}" for kind, target, state in states if state.ready)
    cures = dict.fromkeys(
        _sentence(state.advice) for _, _, state in states if not state.ready and state.advice
    )
    found = ", ".join((f"{host} here", *through))
    advice = "" if through or not cures else f"For another machine, one of: {' '.join(cures)}"
    return Finding(name, State.FOUND, found, use, advice)


def _standalone(project: Project) -> Finding:
    """The runtimes that trees of other machines are made of."""
    name, use = "collector standalone", "trees of other targets"
    python = _python(project.settings)
    try:
        rows = [row for row in open_index(_runtimes(project)) if row.short == python]
    except FerrymanError as error:
        return Finding(name, State.OPTIONAL, str(error), use, error.advice)
    usual = [target.id for target in all_targets() if target.tier == 1]
    known = {row.target: row for row in reversed(rows) if row.target in usual}
    here = [one for one in usual if one in known and _is_here(known[one])]
    found = f"CPython {python} here for {', '.join(here) or 'nothing yet'}"
    later = [one for one in usual if one in known and one not in here]
    lacking = [one for one in usual if one not in known]
    advice = [
        f"A build fetches what it needs; `ferryman runtimes verify --target {','.join(later)}` does so before." if later else "",
        f"None is listed for {', '.join(lacking)}: name one with `runtime`, or a list with `runtimes`." if lacking else "",
    ]  # fmt: skip
    return Finding(name, State.FOUND if known else State.OPTIONAL, found, use, " ".join(filter(None, advice)))


def _is_here(row: Runtime) -> bool:
    return fetched(row, archives(home())) is not None if row.remote else Path(row.address).exists()


def _runtimes(project: Project) -> str:
    """The setting, a relative path resolved."""
    place = project.settings.runtimes
    return place if not place or is_remote(place) else str(project.root / local_path(place))


def _python(settings: Settings) -> str:
    """X.Y as far as the settings say it; else that of Ferryman."""
    numbers = settings.python[:1].isdigit()
    return short_python(settings.python) if numbers else f"{sys.version_info.major}.{sys.version_info.minor}"


def _names(targets: Iterable[Target]) -> str:
    return ", ".join(target.id for target in targets)


def _sentence(advice: str) -> str:
    return f"{advice.rstrip('.')}." if advice else ""


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
