"""The steps of a standalone tree: an interpreter for the target, and everything that goes into its tree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from ferryman_build.collect import standalone
from ferryman_build.pipeline import Step
from ferryman_build.runtimes.distribution import check_floor, check_magic, summary
from ferryman_build.runtimes.prepared import runtime_key
from ferryman_build.settings import Bundler
from ferryman_build.steps.job import SUMMARY, TargetJob
from ferryman_build.steps.trees import data_digests, hidden_imports, own_imports, project_data


def _runtime_inputs(job: TargetJob) -> Mapping[str, object]:
    assert job.runtime is not None
    return {"runtime": runtime_key(job.runtime), "target": job.target.id, "python": job.python,
            "floor": dict(job.target.floor)}  # fmt: skip


def _runtime(job: TargetJob, into: Path) -> str:
    """Fetched and unpacked beside all checkouts (homes.home); kept of it is what later steps' keys are made of."""
    distribution = job.distribution
    check_floor(distribution, job.target)  # what the plan could not know before it was fetched
    check_magic(distribution, job.interpreter.bytecode, f"Python {job.interpreter.version}")
    (into / SUMMARY).write_bytes(msgspec.json.encode(summary(distribution)))
    return f"CPython {distribution.version}, needs {distribution.floor_text or 'nothing'}"


def _kept_modules(job: TargetJob) -> tuple[str, ...]:
    """What the project imports or asks for: parts of the runtime that have one of these are kept."""
    return tuple(sorted({*own_imports(job), *hidden_imports(job), *job.settings.keep_modules}))


def _collect_inputs(job: TargetJob) -> Mapping[str, object]:
    return {
        "runtime": job.results["runtime"].key, "site": job.made("site"), "wheel": job.made("wheel"),
        "data": data_digests(job), "excluded": job.settings.exclude_modules, "kept": _kept_modules(job),
        "parts": job.settings.keep_parts, "target": job.target.id,
        "bundle": job.settings.bundle is Bundler.FERRYMAN,
    }  # fmt: skip


def _collect(job: TargetJob, into: Path) -> str:
    assert job.runtime is not None
    request = standalone.Request(
        distribution=job.distribution, target=job.target, site=job.folder("site") / "site",
        app=job.folder("wheel") / "app", project=job.project.root, data=project_data(job),
        exclude_modules=job.settings.exclude_modules, keep_modules=_kept_modules(job),
        keep_parts=job.settings.keep_parts, origin=job.runtime.origin,
    )  # fmt: skip
    analysis = standalone.collect(request)
    (into / "analysis.json").write_bytes(msgspec.json.encode(analysis))
    return f"{len(analysis.entries)} files"


RUNTIME = Step(name="runtime", inputs=_runtime_inputs, run=_runtime)
COLLECT = Step(name="analyse", after=("wheel", "runtime", "site"), inputs=_collect_inputs, run=_collect)
