"""Userlands for these tests, made once by the real command line and kept in .cache/runners."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from ferryman_build.artifacts import Kind, SmokeResult
from ferryman_build.cmd import Runner
from ferryman_build.project import Project
from ferryman_build.runners import KINDS
from ferryman_build.runners import rootfs as rootfs_module
from ferryman_build.runners.base import RunnerKind
from ferryman_build.runners.rootfs import Entry, entry
from ferryman_build.settings import RunnerName, Settings, SmokeSettings
from ferryman_build.smoke import smoke_artifact
from ferryman_build.targets import host_target, parse_target
from support.ferryman import ROOT

HOME = ROOT / ".cache" / "runners"
Ferryman = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the userlands of these tests are."""
    if sys.platform != "linux" or entry() is None:
        pytest.skip("NOT TESTED: this machine lets us make no mount namespace")
    monkeypatch.setenv("FERRYMAN_HOME", str(HOME))
    return HOME


def ferryman(*words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`ferryman runners WORDS`, outside of any project."""
    return subprocess.run(
        [sys.executable, "-m", "ferryman_build", "runners", *words, "--plain", "--out", str(HOME / "out")],
        cwd="/", env={**os.environ, "PYTHONPATH": str(ROOT / "build"), "FERRYMAN_HOME": str(HOME), **variables},
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip


@pytest.fixture
def set_up(home: Path) -> Callable[..., RunnerKind]:
    """Sets a runner up for a target and a promise, and answers it; what cannot be had here is skipped with the reason."""

    def get(name: str, target: str, floor: str = "") -> RunnerKind:
        done = ferryman("setup", name, "--target", target, *(["--floor", floor] if floor else []))
        if done.returncode == 4:
            pytest.skip(f"NOT TESTED: {done.stderr}")
        assert done.returncode == 0, done.stderr
        return KINDS[RunnerName(name)]

    return get


@pytest.fixture(params=["as we are", "through a user namespace"])
def person(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Whoever runs the tests; and for root, what it is for everybody else as well."""
    if request.param != "as we are":
        how = Entry(user=True)
        if not rootfs_module._works(how):
            pytest.skip("NOT TESTED: no user namespaces here")
        monkeypatch.setattr(rootfs_module, "entry", lambda: how)
    return str(request.param)


Try = Callable[..., SmokeResult]


@pytest.fixture
def try_out(tmp_path: Path) -> Try:
    """An artifact through these runners, in a folder with a name that people would choose."""

    def run(
        path: Path, kind: Kind, target: str, *kinds: RunnerKind, floor: Mapping[str, str], executable: str = "agent",
        smoke: SmokeSettings | None = None, keeps_cache: bool = False,
    ) -> SmokeResult:  # fmt: skip
        root = tmp_path / "my project"
        root.mkdir(exist_ok=True)
        (root / "pyproject.toml").touch()
        project = Project(
            root=root, name="agent", version="1.0", requires_python=">=3.11", dependencies=(), entry_point="agent:main",
            executable=executable, settings=Settings(smoke=smoke or SmokeSettings()),
        )  # fmt: skip
        return smoke_artifact(
            path, kind, parse_target(target), project, host=host_target(), runner=Runner(tmp_path / "logs"),
            python=Path(sys.executable), work=tmp_path / "work", kinds=kinds, floor=floor, keeps_cache=keeps_cache,
        )  # fmt: skip

    return run
