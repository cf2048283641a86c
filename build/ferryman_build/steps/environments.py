"""The steps that everything else needs: the project's wheel, and the environments of the build tools."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ferryman_build.collect import environment
from ferryman_build.locking import packages_for, requirements_text
from ferryman_build.pipeline import Step
from ferryman_build.source import history
from ferryman_build.steps.job import TargetJob
from ferryman_build.wheel import asks_git, build_wheel, read_wheel


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


def _tools_inputs(job: TargetJob) -> Mapping[str, object]:
    return {
        "lock": environment.tools_lock(),
        "python": job.interpreter.identity,
        "path": str(job.interpreter.path),
    }


def _tools(job: TargetJob, into: Path) -> str:
    environment.make_environment(into, job.interpreter, environment.tool_requirements(()), job.runner)
    return f"shiv {environment.tool_version('shiv')}"


WHEEL = Step(name="wheel", inputs=_wheel_inputs, run=_wheel)
ENV = Step(name="env", inputs=_env_inputs, run=_env)
TOOLS = Step(name="tools", inputs=_tools_inputs, run=_tools)
