"""The steps that everything else needs: the project's wheel, and the environments of the build tools."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import msgspec

from ferryman_build.cache import file_digest
from ferryman_build.collect import environment, foreign
from ferryman_build.errors import BuildStepError
from ferryman_build.interpreter import Headers
from ferryman_build.locking import packages_for, requirements_text
from ferryman_build.own_wheel import prebuilt_for, prebuilt_wheels
from ferryman_build.pipeline import Step
from ferryman_build.runners.base import Place, Purpose
from ferryman_build.runtimes.prepared import runtime_key
from ferryman_build.source import history
from ferryman_build.steps.job import FOREIGN, TargetJob
from ferryman_build.steps.launchers import toolchain
from ferryman_build.targets import Target
from ferryman_build.wheel import asks_git, build_wheel, read_wheel, unpack_wheel
from ferryman_build.wheels import build_cross_wheel, refuse_other_sources


def _wheel_inputs(job: TargetJob) -> Mapping[str, object]:
    return {"source": job.source.digest, "epoch": job.source.epoch, "python": job.interpreter.identity,
            "backend": job.build_lock.digest,
            "history": history(job.project.root) if asks_git(job.build_requires) else ""}  # fmt: skip


def _wheel(job: TargetJob, into: Path) -> str:
    pins = requirements_text(packages_for(job.build_lock, job.host, job.interpreter.version))
    build_wheel(
        job.project.root, job.build_requires, pins, job.interpreter, job.source.epoch, into, job.runner
    )
    return read_wheel(into).path.name


def host_requirements(job: TargetJob) -> tuple[str, tuple[str, ...]]:
    """(requirements with hashes of project and tools on this machine, names of the project's own)."""
    packages = packages_for(job.lock, job.host, job.interpreter.version)
    names = tuple(package.name for package in packages)
    return requirements_text(packages) + environment.tool_requirements(names), names


def _env_inputs(job: TargetJob) -> Mapping[str, object]:
    return {"requirements": host_requirements(job)[0], "python": job.interpreter.identity,
            "path": str(job.interpreter.path)}  # fmt: skip


def _env(job: TargetJob, into: Path) -> str:
    requirements, names = host_requirements(job)
    environment.make_environment(into, job.interpreter, requirements, job.runner)
    return f"{len(names)} locked dependencies, PyInstaller {environment.tool_version('pyinstaller')}"


def _foreign_env_inputs(job: TargetJob) -> Mapping[str, object]:
    return {"place": place_key(job), "lock": job.lock.digest, "tools": environment.tools_lock(),
            "compiler": job.interpreter.identity, "target": job.target.id, "tags": job.target.wheel_tags}  # fmt: skip


def _foreign_env(job: TargetJob, into: Path) -> str:
    with opened(job, into) as place:
        python = foreign.probe_foreign(place, into, job.runner)
    requirements, names = foreign.foreign_requirements(job.lock, job.target, python.version)
    foreign.make_foreign_environment(into, python, job.interpreter, job.target, requirements, job.runner)
    (into / FOREIGN).write_bytes(msgspec.json.encode(python, enc_hook=str))
    return f"{len(names)} locked dependencies, Python {python.version} in {place.label}"


def place_key(job: TargetJob) -> list[str]:
    """What a place in which PyInstaller runs is known by."""
    assert job.builder is not None
    runtime = runtime_key(job.runtime) if job.runtime else ""  # Wine's Python is one
    return [job.builder.name, job.builder.ready(job.target, Purpose.BUILD, job.target.floor).found, runtime]


@contextlib.contextmanager
def opened(job: TargetJob, into: Path) -> Iterator[Place]:
    """The place in which PyInstaller runs for another machine; its own files lie below ``into`` and go with it."""
    assert job.builder is not None
    with (
        tempfile.TemporaryDirectory(prefix=".place-", dir=into) as work,
        job.builder.open(job.target, Purpose.BUILD, job.target.floor, Path(work), job.runner) as place,
    ):
        yield place


def _tools_inputs(job: TargetJob) -> Mapping[str, object]:
    return {
        "lock": environment.tools_lock(),
        "python": job.interpreter.identity,
        "path": str(job.interpreter.path),
    }


def _tools(job: TargetJob, into: Path) -> str:
    environment.make_environment(into, job.interpreter, environment.tool_requirements(()), job.runner)
    return f"shiv {environment.tool_version('shiv')}"


def _native_wheel_inputs(job: TargetJob) -> Mapping[str, object]:
    return {"source": job.source.digest, "epoch": job.source.epoch, "python": job.interpreter.identity,
            "backend": job.build_lock.digest, "toolchain": job.results["toolchain"].key, "target": job.target.id,
            "zig": job.target.zig, "tags": job.target.wheel_tags,
            "runtime": runtime_key(job.runtime) if job.runtime else "",
            "prebuilt": [(path.name, file_digest(path)) for path in prebuilt_wheels(job.project)]}  # fmt: skip


def _native_wheel(job: TargetJob, into: Path) -> str:
    """The wheel for this target: a prebuilt one of the same sources, or built here with zig as the compiler."""
    if not prebuilt_wheels(job.project):
        made = _own_wheel(job, job.target, into)
    else:
        with tempfile.TemporaryDirectory(prefix=".own-", dir=into) as folder:
            made = _prebuilt_or_own(job, Path(folder), into)
    unpack_wheel(made, into / "app")
    return made.name


def _prebuilt_or_own(job: TargetJob, work: Path, into: Path) -> Path:
    """What was built here vouches for the sources of what was built elsewhere."""
    own = _own_wheel(job, job.host, work)
    unpack_wheel(own, work / "app")
    found = prebuilt_for(job.project, read_wheel(work).version, job.target, job.python)
    if found is None:
        return _own_wheel(job, job.target, into)
    refuse_other_sources(found, work / "app")
    return Path(shutil.copy(found, into / found.name))


def _target_headers(job: TargetJob) -> Headers | None:
    """CPython's for the target, which an extension without the stable ABI cannot do without; a runtime has them."""
    if job.runtime is None or job.distribution.headers_folder is None:
        return None
    return Headers(folder=job.distribution.headers_folder, defines=job.distribution.headers_defines)


def _own_wheel(job: TargetJob, target: Target, into: Path) -> Path:
    """Built here: with zig, or for this machine alone by whatever the backend compiles with."""
    pins = requirements_text(packages_for(job.build_lock, job.host, job.interpreter.version))
    if not job.own.crossable:
        if target.id != job.host.id:
            raise BuildStepError(
                f"Among the prebuilt wheels none is for {target}, and {job.own.obstacle[:1].lower()}{job.own.obstacle[1:]}",
                advice="Add the target to the cibuildwheel matrix and name the folder with `wheels`, or drop the target.",
            )
        plain = into / "plain"
        plain.mkdir()
        build_wheel(
            job.project.root, job.build_requires, pins, job.interpreter, job.source.epoch, plain, job.runner
        )
        made = read_wheel(plain).path.rename(into / read_wheel(plain).path.name)
        shutil.rmtree(plain)
        return made
    try:
        return build_cross_wheel(
            job.project.root, target, python=job.interpreter, headers=job.headers, toolchain=toolchain(job),
            build_requires=job.build_requires, pins=pins, epoch=job.source.epoch, into=into, runner=job.runner,
            target_headers=_target_headers(job) if target.id == job.target.id else None,
        )  # fmt: skip
    except BuildStepError as error:
        if target.id == job.host.id:
            error.advice += (
                ' With compiler = "system" in [tool.ferryman], the compiler of this machine is taken.'
            )
        raise


WHEEL = Step(name="wheel", inputs=_wheel_inputs, run=_wheel)
NATIVE_WHEEL = Step(name="wheel", after=("toolchain",), inputs=_native_wheel_inputs, run=_native_wheel)
ENV = Step(name="env", inputs=_env_inputs, run=_env)
FOREIGN_ENV = Step(name="env", inputs=_foreign_env_inputs, run=_foreign_env)
TOOLS = Step(name="tools", inputs=_tools_inputs, run=_tools)
