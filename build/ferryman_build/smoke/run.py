"""The smoke test of one artifact: its commands, then its life as a service."""

from __future__ import annotations

import re
import shlex
import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from ferryman_build.artifacts import Kind, Smoke, SmokeCheck, SmokeResult
from ferryman_build.cmd import Runner
from ferryman_build.errors import SmokeError
from ferryman_build.project import Project
from ferryman_build.settings import Service, SmokeSettings
from ferryman_build.smoke.process import Child
from ferryman_build.smoke.programs import AWKWARD, PLACERS, Unusable
from ferryman_build.smoke.sandbox import Isolation, Sandbox, cache_folder, make_sandbox
from ferryman_build.smoke.service import run_service
from ferryman_build.targets import Target

_MOST_NAMES = 10


class _Trial(msgspec.Struct, kw_only=True):
    """What every run of one artifact shares; ``facts`` and ``runs`` grow, ``home`` is kept.

    ``cache`` is a folder in which the program keeps itself unpacked, so that the first run is a first start and the
    others are later ones; None for a program that does not.
    """

    program: list[str]
    kind: Kind
    label: str
    project: Path
    keep: tuple[Path, ...]
    base: Path
    runner: Runner
    needs_exec_tmp: bool
    isolation: Isolation | None
    cache: Path | None = None
    facts: tuple[str, ...] = ()
    runs: int = 0
    home: Path | None = None

    def sandbox(self) -> Sandbox:
        """A fresh environment for the next run; the runs of a .pyz share a home, into which the first one unpacks."""
        self.runs += 1
        made = make_sandbox(
            self.base / f"run{self.runs}",
            keep=self.keep if self.home is None else (*self.keep, self.home),
            needs_exec_tmp=self.needs_exec_tmp,
            more={"FERRYMAN_CACHE": str(self.cache)} if self.cache else {},
            isolation=self.isolation,
        )
        self.facts = made.facts
        if self.kind is not Kind.PYZ:
            return made
        self.home = self.home or made.home
        self.facts = tuple("home: empty at first" if fact == "home: empty" else fact for fact in made.facts)
        return msgspec.structs.replace(made, home=self.home, env={**made.env, "HOME": str(self.home)})

    def start(self, args: Sequence[str], name: str, sandbox: Sandbox) -> Child:
        """The program with ``args`` in ``sandbox``; raises OSError when it cannot be started."""
        return Child(
            sandbox.command([*self.program, *args]),
            echo=[*self.program, *args],
            name=f"smoke-{self.label}-{name}",
            cwd=sandbox.cwd,
            env=sandbox.env,
            output=self.base / f"run{self.runs}" / "output",
            runner=self.runner,
        )


def smoke_artifact(
    path: Path,
    kind: Kind,
    target: Target,
    project: Project,
    *,
    host: Target,
    runner: Runner,
    python: Path,
    work: Path,
    needs_exec_tmp: bool = False,
    keeps_cache: bool = False,
    isolation: Isolation | None = None,
) -> SmokeResult:
    """Run the artifact as `[tool.ferryman.smoke]` says, in an environment that has nothing of this machine.

    Args:
        path: the artifact.
        kind: of the artifact; a .pyz is run by ``python``, an archive is unpacked first.
        target: what it was built for.
        project: its settings say what to run; ``{project}`` is its root.
        host: the target of this machine.
        runner: keeps logs and ends children on Ctrl-C.
        python: absolute path of an interpreter.
        work: a folder; nothing stays in it.
        needs_exec_tmp: the bundle unpacks itself into TMPDIR and loads code from there.
        keeps_cache: the bundle unpacks itself once, into the folder that FERRYMAN_CACHE names.
        isolation: for tests; otherwise probed.

    Returns:
        A result that is passed, failed, or untested with the reason. Only interruption and a full disk raise.
    """
    if target != host:
        return SmokeResult(status=Smoke.UNTESTED, reason=f"no runner for {target} on this machine")
    base = work.resolve() / "smoke"
    shutil.rmtree(base, ignore_errors=True)
    place = base / AWKWARD
    place.mkdir(parents=True)
    cache = cache_folder(base) if keeps_cache else None
    try:
        program = PLACERS[kind](path, place, f"{project.executable}{target.suffix}", python)
        trial = _Trial(
            program=program, kind=kind, label=str(kind), project=project.root, base=base, runner=runner,
            keep=(place, project.root, *([cache] if cache else ()), *(_homes(python) if kind is Kind.PYZ else ())),
            needs_exec_tmp=needs_exec_tmp, isolation=isolation, cache=cache,
        )  # fmt: skip
        return _result(tuple(_checks(trial, project.settings.smoke)), trial.facts)
    except Unusable as error:
        return _result((SmokeCheck(name="unpack", passed=False, seconds=0.0, detail=str(error)),), ())
    finally:
        for folder in (base, cache):
            if folder:
                shutil.rmtree(folder, ignore_errors=True)


def _homes(python: Path) -> tuple[Path, ...]:
    """The folders of an interpreter: of the virtual environment, and of the Python that it was made from."""
    return python.parent.parent, python.resolve().parent.parent


def _result(checks: tuple[SmokeCheck, ...], facts: tuple[str, ...]) -> SmokeResult:
    passed = bool(checks) and all(check.passed for check in checks)
    return SmokeResult(
        status=Smoke.PASSED if passed else Smoke.FAILED, runner="native", environment=facts, checks=checks
    )


def _checks(trial: _Trial, settings: SmokeSettings) -> Iterator[SmokeCheck]:
    for command in settings.commands:
        yield _command(trial, command, settings.timeout)
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
        args=tuple(fill(service.args, words)),
        ready=fill([service.ready], words)[0],
        get=tuple(fill(service.get, words)),
    )
    try:
        with trial.start(filled.args, "service", sandbox) as child:
            yield from run_service(child, filled, sandbox, tree=not trial.needs_exec_tmp)
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
        "{project}": str(trial.project),
        "{tmp}": str(sandbox.scratch),
    }


def fill(texts: Sequence[str], words: Mapping[str, str]) -> list[str]:
    """Every placeholder replaced, and nothing in what replaced it: a folder may be called ``{tmp}``."""
    pattern = re.compile("|".join(map(re.escape, words)))
    return [pattern.sub(lambda found: words[found.group()], text) for text in texts]


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def raise_for_failure(result: SmokeResult, artifact: str, log: Path | None) -> None:
    """Turn a failed result into an error; everything else passes.

    Raises:
        SmokeError: names the first failed check and what was seen; ``details`` are the last lines of output.
    """
    if result.status is not Smoke.FAILED:
        return
    failed = next(check for check in result.checks if not check.passed)
    problem, *tail = failed.detail.splitlines() or ["failed"]
    raise SmokeError(
        f"{artifact} did not pass its smoke test: {failed.name}: {problem}.",
        advice="Run the artifact by hand, or change [tool.ferryman.smoke] if the test is wrong.",
        details=tail,
        log=log,
    )
