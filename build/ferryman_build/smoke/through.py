"""An artifact through every runner that is to try it, and the one result that comes of it."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from ferryman_build.artifacts import Kind, Smoke, SmokeCheck, SmokeResult
from ferryman_build.cmd import Runner
from ferryman_build.errors import BuildStepError, SmokeError, ToolMissingError
from ferryman_build.project import Project
from ferryman_build.runners import KINDS, pace
from ferryman_build.runners.base import Asked, Lending, Place, Purpose, RunnerKind
from ferryman_build.runners.native import Here, Isolation
from ferryman_build.settings import RunnerName
from ferryman_build.smoke.programs import Unusable
from ferryman_build.smoke.run import Specimen, try_out
from ferryman_build.targets import Target

_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
_VERSION_SECONDS = 60.0


class _Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What one runner came to; ``reason`` why it was not run, else ``checks`` and ``facts``.

    ``lost``: it said that it was ready and was not; another time it may be.
    """

    name: RunnerName
    label: str
    reason: str = ""
    lost: ToolMissingError | None = None
    checks: tuple[SmokeCheck, ...] = ()
    facts: tuple[str, ...] = ()


class _Session(msgspec.Struct, frozen=True, kw_only=True):
    """What all runners share."""

    specimen: Specimen
    host: Target
    runner: Runner
    python: Path
    base: Path
    floor: Mapping[str, str]
    isolation: Isolation | None

    def purpose(self, kind: RunnerKind) -> Purpose:
        """What a place of ``kind`` is opened for."""
        return purpose_of(kind, self.specimen.kind)

    def ready(self, kind: RunnerKind) -> bool:
        """Whether ``kind`` says that it can run the artifact."""
        return kind.ready(self.specimen.target, self.purpose(kind), self.floor).ready


def purpose_of(kind: RunnerKind, artifact: Kind) -> Purpose:
    """What a place of ``kind`` has to be for, so that an ``artifact`` can be tried in it.

    A .pyz needs a Python, which a place to build in has, and maybe an image of one's own.
    """
    lends = isinstance(kind, Lending) and kind.may_have_python
    return Purpose.BUILD if artifact is Kind.PYZ and not lends else Purpose.TRY


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
    kinds: Sequence[RunnerKind] | None = None,
    floor: Mapping[str, str] | None = None,
    needs_exec_tmp: bool = False,
    keeps_cache: bool = False,
    isolation: Isolation | None = None,
) -> SmokeResult:
    """Run the artifact as `[tool.ferryman.smoke]` says, in environments that have nothing of this machine.

    Args:
        path: the artifact.
        kind: of the artifact; a .pyz is run by a Python, an archive is unpacked first.
        target: what it was built for.
        project: its settings say what to run; ``{project}`` is its root.
        host: the target of this machine.
        runner: keeps logs and ends children on Ctrl-C.
        python: absolute path of an interpreter of this machine; of the version that a .pyz was made for.
        work: a folder; nothing stays in it.
        kinds: the runners, as runners.kinds_for names them; this machine alone when None.
        floor: the promise that chooses a userland; the target's own when None.
        needs_exec_tmp: the bundle unpacks itself into TMPDIR and loads code from there.
        keeps_cache: the bundle unpacks itself once, into the folder that FERRYMAN_CACHE names.
        isolation: for tests; otherwise probed.

    Returns:
        A result that is passed, failed, or untested with the reason. With several runners every check is named after its
        own, and one that fails is enough. A ``reason`` beside checks names runners that were ready before and could not be
        opened: such a result is true of now and is not to be kept.

    Raises:
        ToolMissingError: no runner ran it, and one that was ready before could not be opened: its engine went away, its
            userland is damaged. Nobody shall be told, nor remember, that the artifact cannot be tried here.
        SpaceError: the disk is full.
    """
    if kinds is None:
        kinds = (KINDS[RunnerName.NATIVE],) if target.id == host.id else ()
    if not kinds:
        return SmokeResult(status=Smoke.UNTESTED, reason=f"no runner for {target} on this machine")
    specimen = Specimen(path=path, kind=kind, target=target, project=project, needs_exec_tmp=needs_exec_tmp,
                        keeps_cache=keeps_cache)  # fmt: skip
    session = _Session(specimen=specimen, host=host, runner=runner, python=python, base=work.resolve() / "smoke",
                       floor=target.floor if floor is None else floor, isolation=isolation)  # fmt: skip
    return _joined([_through(session, one) for one in kinds])


def _through(session: _Session, kind: RunnerKind) -> _Outcome:
    """The artifact through one runner."""
    ready = session.ready(kind)
    untested = _Outcome(name=kind.name, label=kind.name.value)
    shutil.rmtree(session.base, ignore_errors=True)
    session.base.mkdir(parents=True)
    try:
        with _opened(session, kind) as place:
            seen = _in_place(session, kind, place)
            return msgspec.structs.replace(seen, label=place.label)
    except ToolMissingError as error:
        reason = f"{error} {error.advice}".strip()
        return msgspec.structs.replace(untested, reason=reason, lost=error if ready else None)
    except BuildStepError as error:  # the place itself failed or hung, and was ended with its children
        check = SmokeCheck(
            name="the runner starts",
            passed=False,
            seconds=0.0,
            detail="\n".join([str(error), *error.details]),
        )
        return msgspec.structs.replace(untested, checks=(check,))
    finally:
        shutil.rmtree(session.base, ignore_errors=True)


@contextlib.contextmanager
def _opened(session: _Session, kind: RunnerKind) -> Iterator[Place]:
    if kind.name is RunnerName.NATIVE and session.isolation is not None:
        stage = session.base / "stage"
        stage.mkdir()
        yield Here(session.isolation, stage)
        return
    target, folder = session.specimen.target, session.base / "place"
    folder.mkdir()
    with kind.open(target, session.purpose(kind), session.floor, folder, session.runner) as place:
        yield place


def _in_place(session: _Session, kind: RunnerKind, place: Place) -> _Outcome:
    found = _Outcome(name=kind.name, label=place.label)
    speed = pace(kind.name, session.specimen.target, session.host)
    python = session.python
    if session.specimen.kind is Kind.PYZ and kind.name is not RunnerName.NATIVE:
        its = (
            place.find_python(session.runner)
            if isinstance(place, Asked) and not place.python
            else place.python
        )
        if reason := _python_problem(session, place, its, speed):
            return msgspec.structs.replace(found, reason=reason)
        python = its or python
    log = (
        str(session.specimen.kind)
        if kind.name is RunnerName.NATIVE
        else f"{session.specimen.kind}-{place.label}"
    )
    try:
        seen = try_out(session.specimen, place, label=log, python=python, base=session.base / "run",
                       runner=session.runner, pace=speed)  # fmt: skip
    except Unusable as error:
        check = SmokeCheck(name="unpack", passed=False, seconds=0.0, detail=str(error))
        return msgspec.structs.replace(found, checks=(check,))
    return msgspec.structs.replace(found, checks=seen.checks, facts=seen.facts)


def _python_problem(session: _Session, place: Place, python: Path | None, speed: float) -> str:
    """Why a .pyz cannot be run by ``python`` in ``place``; '' when it can."""
    if python is None:
        return f"{place.label} has no Python to run a .pyz with"
    wanted = session.runner.run([session.python, "-I", "-c", _VERSION], name="python-version").output.strip()
    command = place.command(
        [python, "-I", "-c", _VERSION], cwd=session.base,
        env={"HOME": place.spell(session.base), "LC_ALL": "C.UTF-8", "PATH": ""}, folders=[session.base],
    )  # fmt: skip
    done = session.runner.run(command.words, name=f"python-version-{place.label}", cwd=command.cwd, env=command.env,
                              timeout=_VERSION_SECONDS * speed, ok=range(-255, 256))  # fmt: skip
    found = done.output.strip()
    return (
        ""
        if found == wanted
        else f"the Python of {place.label} is {found or 'not running'}, and the .pyz is for {wanted}"
    )


def _joined(outcomes: Sequence[_Outcome]) -> SmokeResult:
    """One result; what is not to be confused carries the label of its place."""
    ran = [outcome for outcome in outcomes if not outcome.reason]
    skipped = [outcome for outcome in outcomes if outcome.reason]
    lost = [outcome for outcome in skipped if outcome.lost]
    if not ran and lost and lost[0].lost:
        raise lost[0].lost
    if not ran:
        return SmokeResult(status=Smoke.UNTESTED, reason="; ".join(one.reason for one in skipped))
    checks = tuple(
        msgspec.structs.replace(check, name=f"{outcome.label}: {check.name}") if len(ran) > 1 else check
        for outcome in ran
        for check in outcome.checks
    )
    facts = [
        f"{outcome.label}: {fact}" if len(ran) > 1 else fact for outcome in ran for fact in outcome.facts
    ]
    notes = [f"{outcome.label}: not run: {outcome.reason}" for outcome in skipped]
    passed = all(outcome.checks and all(check.passed for check in outcome.checks) for outcome in ran)
    return SmokeResult(
        status=Smoke.PASSED if passed else Smoke.FAILED, runner=", ".join(outcome.name for outcome in ran),
        reason="; ".join(f"{one.label}: not run: {one.reason}" for one in lost), environment=(*facts, *notes),
        checks=checks,
    )  # fmt: skip


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
