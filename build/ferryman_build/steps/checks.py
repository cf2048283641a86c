"""The steps that look at products: what they need, and whether they run; and what the manifest takes from them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from ferryman_build import smoke
from ferryman_build.artifacts import Kind, Needs, Smoke, SmokeResult
from ferryman_build.cache import digest
from ferryman_build.collect import imports
from ferryman_build.errors import SmokeError
from ferryman_build.inspect import Severity, Survey, judge, raise_for_findings, survey_pyz, survey_tree
from ferryman_build.pipeline import Step
from ferryman_build.steps.job import TargetJob
from ferryman_build.steps.trees import excluded_modules
from ferryman_build.wrap.bundle import BUNDLERS


def _inspect(job: TargetJob, into: Path) -> str:
    survey = survey_tree(
        job.folder("tree") / "tree", job.target, blobs=job.blobs, files=job.tree.files, folders=_folders(job),
        refuse_foreign=False,
    )  # fmt: skip
    return _judged(job, survey, into)


def _inspect_pyz(job: TargetJob, into: Path) -> str:
    survey = survey_pyz(
        artifact_path(job, Kind.PYZ), f"=={job.python}.*", job.target.wheel_tags, target=job.target, blobs=job.blobs,
        folders=_folders(job),
    )  # fmt: skip
    return _judged(job, survey, into)


def _folders(job: TargetJob) -> tuple[str, ...]:
    """Folders of this machine that nothing of the product should name."""
    return tuple(str(folder) for folder in (job.project.root, job.cache.parent) if len(folder.parts) > 2)


def _judged(job: TargetJob, survey: Survey, into: Path) -> str:
    """What was measured, once it is known to be what the target promises.

    Raises:
        InspectError: the compat gate.
    """
    findings = judge(survey, job.target, job.settings.allow)
    raise_for_findings(findings, job.target)
    notes = [finding.message for finding in findings if finding.severity is Severity.NOTE]
    (into / "notes.json").write_bytes(msgspec.json.encode([*notes, *job_notes(job)]))
    return _keep(survey.needs, into)


def job_notes(job: TargetJob) -> tuple[str, ...]:
    """What the collector left out although somebody might look for it."""
    return job.analysis.notes if "analyse" in job.results else ()


def _keep(found: Needs, into: Path) -> str:
    (into / "needs.json").write_bytes(msgspec.json.encode(found))
    return ", ".join(f"{name} {version}" for name, version in found.floor.items()) or "no native code"


def needs(job: TargetJob, kind: Kind) -> Needs:
    """What the artifact of ``kind`` needs, as the inspect steps measured it."""
    step = "inspect-pyz" if kind is Kind.PYZ else "inspect"
    found = msgspec.json.decode((job.folder(step) / "needs.json").read_bytes(), type=Needs)
    if kind is Kind.EXECUTABLE:
        runtime = BUNDLERS[job.settings.bundle].runtime_needs
        return msgspec.structs.replace(found, runtime=(*found.runtime, *runtime))
    return found


def notes(job: TargetJob) -> list[str]:
    """What a person should look at in the products."""
    found = []
    for step in ("inspect", "inspect-pyz"):
        if step in job.results:
            found += msgspec.json.decode((job.folder(step) / "notes.json").read_bytes(), type=list[str])
    return found


def artifact_path(job: TargetJob, kind: Kind) -> Path:
    """The file that the wrap step of ``kind`` made."""
    suffix = {Kind.ARCHIVE: f".{job.target.archive}", Kind.EXECUTABLE: job.target.suffix, Kind.PYZ: ".pyz"}[
        kind
    ]
    return job.folder(kind.value) / f"{job.stem}{suffix}"


def smoke_step(kind: Kind) -> Step:
    """The step that runs the artifact of ``kind``."""

    def inputs(job: TargetJob) -> Mapping[str, object]:
        # The commands may read files of the project, so its whole source takes part.
        return {"artifact": job.made(kind.value), "settings": digest(job.settings.smoke), "host": job.host.id,
                "source": job.source.digest, "python": str(job.interpreter.path), "runners": _runners(job, kind)}  # fmt: skip

    def run(job: TargetJob, into: Path) -> str:
        result = smoke.smoke_artifact(
            artifact_path(job, kind), kind, job.target, job.project, host=job.host, runner=job.runner,
            python=job.interpreter.path, work=into, kinds=job.runners[kind], floor=job.target.floor,
            needs_exec_tmp=kind is Kind.EXECUTABLE and BUNDLERS[job.settings.bundle].needs_exec_tmp,
            keeps_cache=kind is Kind.EXECUTABLE and BUNDLERS[job.settings.bundle].keeps_cache,
        )  # fmt: skip
        try:
            smoke.raise_for_failure(result, f"{job.stem} ({kind})", job.runner.log_dir)
        except SmokeError as error:
            error.advice = imports.cure(error.details, excluded_modules(job)) or error.advice
            raise
        (into / "smoke.json").write_bytes(msgspec.json.encode(result))
        return result.reason or f"{len(result.checks)} checks passed, {result.runner}"

    return Step(
        name=f"smoke-{kind}",
        after=(kind.value,),
        inputs=inputs,
        run=run,
        skip=lambda job: _untested(job, kind),
    )


def _is_answer(folder: Path) -> bool:
    """A trial that lost one of its runners says something of this machine at this moment, and not of the artifact."""
    result = msgspec.json.decode((folder / "smoke.json").read_bytes(), type=SmokeResult)
    return result.status is not Smoke.UNTESTED and not result.reason


def _untested(job: TargetJob, kind: Kind) -> str | None:
    """Why the artifact cannot be run here."""
    if job.runners.get(kind):
        return None
    return job.untested.get(kind) or f"no runner for {job.target} on this machine"


def _runners(job: TargetJob, kind: Kind) -> list[list[str]]:
    """What tries the artifacts, by name and by what it has: another userland is another trial.

    A .pyz needs a Python, and only a place to build in has one.
    """
    return [
        [
            one.name,
            one.ready(job.target, smoke.purpose_of(one, kind), job.target.floor).found,
            job.target.floor_text,
        ]
        for one in job.runners[kind]
    ]


def smoke_result(job: TargetJob, kind: Kind) -> SmokeResult:
    """What the smoke step of ``kind`` saw."""
    finished = job.results[f"smoke-{kind}"]
    if finished.skipped:
        return SmokeResult(status=Smoke.UNTESTED, reason=finished.skipped)
    path = job.folder(f"smoke-{kind}") / "smoke.json"
    return msgspec.json.decode(path.read_bytes(), type=SmokeResult)


def _inspect_inputs(job: TargetJob) -> Mapping[str, object]:
    return {"tree": job.made("tree"), **_promise(job)}


def _promise(job: TargetJob) -> Mapping[str, object]:
    """What the compat gate judges by."""
    return {"target": msgspec.to_builtins(job.target), "allow": job.settings.allow, "folders": _folders(job)}


def _inspect_pyz_inputs(job: TargetJob) -> Mapping[str, object]:
    return {"pyz": job.made("pyz"), **_promise(job)}


INSPECT = Step(name="inspect", after=("tree",), inputs=_inspect_inputs, run=_inspect)
INSPECT_PYZ = Step(name="inspect-pyz", after=("pyz",), inputs=_inspect_pyz_inputs, run=_inspect_pyz)
SMOKE = {kind: smoke_step(kind) for kind in Kind}
