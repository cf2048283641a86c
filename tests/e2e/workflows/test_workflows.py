"""«Works in CI» is more than YAML: the jobs of the Linux leg run here, in fresh clones of what is committed.

    nox -s e2e -- workflows -k lint        ci.yml's job of that name
    nox -s e2e -- workflows -k merge       build.yml's, and what it needs: plan, wheels, build

What is tried are the lines and how they fit together: outputs, artifacts, environment, order. GitHub's own part is
emulated (tests/support/workflow_runner.py), and the legs for other machines are not run at all.
"""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.workflow_runner import LINUX, Job, PythonMissingError, WorkflowRun, clone

REPOSITORY = Path(__file__).resolve().parents[3]
TARGET = "linux-amd64"

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.network,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        sys.platform != "linux" or platform.machine() != "x86_64",
        reason="what is run is the leg of ubuntu-24.04",
    ),
]


def leg_of_this_machine(matrix: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The Linux machine, the Python that runs the tests, and its own target; tried here where no engine answers."""
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    mine = {"os": LINUX, "runner": LINUX, "python": (python,), "target": (TARGET,)}
    if any(value not in mine.get(key, (value,)) for key, value in matrix.items()):
        return None
    contained = matrix.get("smoke") == "container" and not has_engine()
    return {**matrix, "smoke": "auto", "image": ""} if contained else matrix


def runtimes_of_this_machine() -> dict[str, str]:
    """The test runtimes, where they were made, in place of the published ones: they promise less (tools/test_runtimes.py)."""
    folder = REPOSITORY / ".cache" / "runtimes"
    if not (folder / "runtimes.toml").is_file():
        return {}
    return {"FERRYMAN_RUNTIMES": str(folder), "FERRYMAN_FLOOR": "glibc 2.31"}


def start(workflow: str, folder: Path) -> Iterator[WorkflowRun]:
    machine = runtimes_of_this_machine()
    yield WorkflowRun(REPOSITORY, workflow, folder, legs=leg_of_this_machine, machine=machine)
    # Environments and caches of every job: gigabytes, which pytest would keep for three runs.
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def ci(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkflowRun]:
    yield from start("ci.yml", tmp_path_factory.mktemp("ci"))


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkflowRun]:
    yield from start("build.yml", tmp_path_factory.mktemp("build"))


def done(run: WorkflowRun, name: str) -> Job:
    """The job, ended well, with what it printed kept in out/workflows."""
    try:
        job = run.job(name)
    except PythonMissingError as missing:
        pytest.skip(str(missing))
    kept = REPOSITORY / "out" / "workflows"
    kept.mkdir(parents=True, exist_ok=True)
    said = "".join(f"$ {ran.command}\n{ran.output}[exit code {ran.code}]\n" for ran in job.ran)
    (kept / f"{name}.txt").write_text(said, encoding="utf-8")
    return job.check()


@pytest.mark.parametrize("name", ["lint", "types", "tests", "gate"])
def test_ci(ci: WorkflowRun, name: str) -> None:
    """Every job of ci.yml ends well, and leaves its clone as git made it."""
    job = done(ci, name)

    assert job.workspace is not None
    if name != "gate":
        status = ["git", "status", "--porcelain"]
        assert subprocess.run(status, cwd=job.workspace, capture_output=True, check=True).stdout == b""


def test_build_plan(build: WorkflowRun) -> None:
    """The output of `plan` is the JSON of `ferryman plan`, with a leg for this machine that says all that build needs."""
    job = done(build, "plan")

    legs = [leg for leg in json.loads(job.outputs["plan"])["ci"] if leg["target"] == TARGET]
    assert [set(leg) for leg in legs] == [{"target", "runner", "kinds", "collector", "smoke", "image"}]


def has_engine() -> bool:
    """Whether cibuildwheel's Linux half can work: a container engine that is there and answers."""
    named = os.environ.get("CIBW_CONTAINER_ENGINE", "docker").split(";")[0]
    return (
        shutil.which(named) is not None
        and not subprocess.run([named, "info"], capture_output=True, check=False).returncode
    )


@pytest.fixture(scope="module")
def supplied(build: WorkflowRun) -> WorkflowRun:
    """build.yml with wheels: the job's own, or, where no engine answers, what `nox -s wheels -- --cross` makes."""
    if not has_engine():
        home = clone(REPOSITORY, build.folder / "cross")
        words = [sys.executable, "noxfile.py", "-s", "wheels", "--", "--cross", "--target", TARGET]
        subprocess.run(words, cwd=home, check=True)
        build.stand_in("wheels", {"wheels-ubuntu-24.04": home / "out" / "wheels" / "cross"})
    return build


def test_build_wheels(build: WorkflowRun) -> None:
    """The job `wheels` ends well and uploads a wheel for each C library of this machine's target."""
    if not has_engine():
        pytest.skip("no container engine answers: cibuildwheel builds Linux wheels in containers")
    done(build, "wheels")

    names = [path.name for path in (build.artifacts / "wheels-ubuntu-24.04").iterdir()]
    assert [kind for kind in ("manylinux", "musllinux") if not any(kind in name for name in names)] == []


def test_build_build(supplied: WorkflowRun) -> None:
    """The job `build` ends well for this machine, and uploads a manifest whose every file is there."""
    done(supplied, "build")

    whole(supplied.artifacts / f"part-{TARGET}" / TARGET)


def test_build_merge(supplied: WorkflowRun) -> None:
    """The job `merge` ends well, and the artifact `dist` is what a release would take."""
    done(supplied, "merge")

    whole(supplied.artifacts / "dist")


def whole(dist: Path) -> None:
    """Assert that a dist/ has what its manifest and its checksums name."""
    manifest = json.loads((dist / "manifest.json").read_text(encoding="utf-8"))
    assert {entry["target"] for entry in manifest["artifacts"]} >= {TARGET}
    assert [entry["path"] for entry in manifest["artifacts"] if not (dist / entry["path"]).is_file()] == []
    subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=dist, check=True)
