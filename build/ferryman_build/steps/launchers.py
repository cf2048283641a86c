"""The steps that make the launcher: its compiler, its object files, and the program that starts a tree."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ferryman_build.cache import file_digest
from ferryman_build.collect.environment import tool_version
from ferryman_build.interpreter import Headers
from ferryman_build.pipeline import Step
from ferryman_build.runtimes.distribution import HEADERS
from ferryman_build.steps.job import TargetJob
from ferryman_build.toolchain import (
    Toolchain,
    compile_launcher,
    link_launcher,
    shared_toolchain,
    toolchain_key,
    zig_lock,
)
from ferryman_build.ui import human_size
from ferryman_build.ways import Way


def toolchain(job: TargetJob) -> Toolchain:
    """The compiler; it and what it compiles of its own (C start files, system libraries) serve all builds of a user."""
    return shared_toolchain(job.interpreter, job.runner)


def objects(job: TargetJob) -> tuple[Path, ...]:
    """The object files of the launcher for this target and Python."""
    return tuple(sorted((job.folder("objects") / "objects").glob("*.o")))


def _toolchain_inputs(job: TargetJob) -> Mapping[str, object]:
    del job
    return {"toolchain": toolchain_key()}


def _toolchain(job: TargetJob, into: Path) -> str:
    """The result of the step is only what it says; see toolchain/shared.py."""
    del into
    toolchain(job)
    return f"zig {tool_version('ziglang', zig_lock())}"


def _headers(job: TargetJob) -> Headers:
    """Those of the shipped interpreter where it has some, else this machine's: of one X.Y they are the same everywhere."""
    if job.way is Way.STANDALONE and job.distribution.headers_folder:
        return Headers(folder=job.distribution.headers_folder, defines=job.distribution.headers_defines)
    return job.headers


def _objects_inputs(job: TargetJob) -> Mapping[str, object]:
    # Ferryman's own code, the launcher's sources among it, is in every key.
    digests, defines = _header_facts(job)
    return {"toolchain": job.results["toolchain"].key, "target": job.target.zig, "python": job.python,
            "defines": defines, "headers": digests}  # fmt: skip


def _header_facts(job: TargetJob) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(digests of the headers, what they are compiled with), of a runtime as its step has kept them."""
    if job.way is Way.STANDALONE and job.summary.headers:
        return job.summary.headers, job.summary.defines
    headers = job.headers
    return tuple(file_digest(headers.folder / name) for name in HEADERS), headers.defines


def _objects(job: TargetJob, into: Path) -> str:
    made = compile_launcher(
        toolchain(job), job.target, python=job.python, headers=_headers(job), into=into, runner=job.runner
    )
    return f"{len(made)} files for Python {job.python}"


def _launcher_inputs(job: TargetJob) -> Mapping[str, object]:
    return {"objects": job.made("objects"), "target": job.target.zig, "name": job.program}


def _launcher(job: TargetJob, into: Path) -> str:
    made = link_launcher(
        toolchain(job), job.target, objects=objects(job), output=into / job.program, runner=job.runner
    )
    return human_size(made.stat().st_size)


TOOLCHAIN = Step(name="toolchain", inputs=_toolchain_inputs, run=_toolchain)
OBJECTS = Step(name="objects", after=("toolchain",), inputs=_objects_inputs, run=_objects)
STANDALONE_OBJECTS = Step(
    name="objects", after=("toolchain", "runtime"), inputs=_objects_inputs, run=_objects
)
LAUNCHER = Step(name="launcher", after=("objects",), inputs=_launcher_inputs, run=_launcher)
