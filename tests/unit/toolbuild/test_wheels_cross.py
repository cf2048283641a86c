"""cross, refusals: what is asked of the backend, and what is refused before anything is started."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from ferryman_build.cmd import Completed, Runner
from ferryman_build.errors import BuildStepError
from ferryman_build.interpreter import Headers, Interpreter
from ferryman_build.targets import parse_target
from ferryman_build.toolchain import Toolchain
from ferryman_build.wheels import build_cross_wheel, why_not_here
from support.plover.files import ARM64, elf, pe, wheel

SETUPTOOLS = ("setuptools>=77",)
PYTHON = Interpreter(path=Path("/x/python"), version="3.11.2", tag="t", identity="i", libpython=None)


class Backend(Runner):
    """Stands in for uv and the backend: writes the wheel that it is told to, and keeps what it was asked."""

    def __init__(self, made: dict[str, bytes], *, wheels: int = 1, fails: bool = False) -> None:
        super().__init__()
        self.made, self.wheels, self.fails = made, wheels, fails
        self.words: list[list[str]] = []
        self.request: dict[str, Any] = {}

    def run(self, args: Sequence[str | Path], *, env: Any = None, advice: str = "", **_: Any) -> Completed:
        self.words.append([str(word) for word in args])
        if "FERRYMAN_REQUEST" not in (env or {}):
            return Completed(0, "", None)
        self.env = env
        self.request = json.loads(Path(env["FERRYMAN_REQUEST"]).read_text())
        self.compiler = json.loads(Path(env["FERRYMAN_CC"]).read_text())
        source = Path(self.request["source"])
        self.saw = sorted(path.relative_to(source).as_posix() for path in source.rglob("*") if path.is_file())
        self.config = (Path(self.request["variables"]["INCLUDEPY"]) / "pyconfig.h").read_text()
        if self.fails:
            raise BuildStepError("wheel failed with exit code 1.", advice=advice)
        for number in range(self.wheels):
            wheel(Path(self.request["into"]), f"cp311-abi3-linux_x8{number}", self.made)
        return Completed(0, "", None)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Without git, with what an earlier build left."""
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    root = tmp_path / "my plovér"
    for name in ("setup.py", "native/core.c", "build/lib/stale.py"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    (root / "pyproject.toml").write_text('[build-system]\nbuild-backend = "setuptools.build_meta"\n')
    return root


@pytest.fixture
def include(tmp_path: Path) -> Path:
    folder = tmp_path / "include"
    folder.mkdir()
    (folder / "pyconfig.h").write_text("of this machine")
    return folder


def build(
    project: Path,
    target: str,
    runner: Runner,
    *,
    own: Path | None = None,
    requires: tuple[str, ...] = SETUPTOOLS,
) -> Path:
    folder = project.parent
    return build_cross_wheel(
        project, parse_target(target), python=PYTHON, headers=Headers(folder=folder / "include"),
        toolchain=Toolchain(zig=folder / "zig", zstd=folder, cache=folder / "cache"), build_requires=requires,
        pins="setuptools==84 --hash=sha256:00\n", epoch=1_700_000_000, into=folder / "into", runner=runner,
        target_headers=Headers(folder=own) if own else None,
    )  # fmt: skip


@pytest.mark.usefixtures("include")
def test_one_wheel_is_left(project: Path) -> None:
    """The folder holds the wheel and nothing of how it was made; the project is as it was."""
    before = sorted(project.rglob("*"))
    runner = Backend({"plover/_core.abi3.so": elf(ARM64)})

    made = build(project, "linux-arm64", runner)

    assert list((project.parent / "into").iterdir()) == [made]
    assert made.name == "plover-1.2.0-cp311-abi3-manylinux2014_aarch64.manylinux_2_17_aarch64.whl"
    assert sorted(project.rglob("*")) == before


@pytest.mark.usefixtures("include")
def test_backend_is_pinned_and_told_the_target(project: Path) -> None:
    """It comes by hash from wheels, sees a copy of the sources, and hears of the target from sysconfig alone."""
    runner = Backend({"plover/_core.pyd": pe(ARM64)})

    build(project, "windows-arm64", runner)

    venv, install, backend = runner.words
    assert "venv" in venv
    assert "--require-hashes" in install
    assert "--only-binary" in install
    assert backend[-1].endswith("backend.py")
    assert runner.saw == ["native/core.c", "pyproject.toml", "setup.py"]
    assert runner.request["platform"] == "win-arm64"
    assert runner.request["suffixes"] == [".cp311-win_arm64.pyd", ".pyd"]
    assert runner.compiler["target"] == ["-target", "aarch64-windows-gnu"]
    assert runner.env["SOURCE_DATE_EPOCH"] == "1700000000"
    assert runner.env["ZIG_GLOBAL_CACHE_DIR"] == str(project.parent / "cache")
    assert "MS_WINDOWS" in runner.config
    assert "CFLAGS" not in runner.env


@pytest.mark.parametrize(
    ("name", "config"), [("_core.pyd", "MS_WINDOWS"), ("_core.cp311-win_arm64.pyd", "of this machine")]
)
def test_headers_of_the_target(name: str, config: str, project: Path, include: Path) -> None:
    """They count without the stable ABI alone: a stable extension is the same file wherever it was compiled."""
    runner = Backend({f"plover/{name}": pe(ARM64)})

    build(project, "windows-arm64", runner, own=include)

    assert config in runner.config


def test_headers_of_the_target_may_be_needed_to_compile(project: Path, include: Path) -> None:
    """What ours lack is tried with the target's own, and what that says is the message."""
    with pytest.raises(BuildStepError, match="exit code 1"):
        build(project, "windows-arm64", failing := Backend({}, fails=True), own=include)

    assert failing.config == "of this machine"
    assert len(failing.words) == 4


@pytest.mark.usefixtures("include")
@pytest.mark.parametrize(
    ("requires", "seen"),
    [(SETUPTOOLS, False), ((*SETUPTOOLS, "setuptools-scm>=8"), True), (("setuptools_scm",), True)],
)
def test_backend_that_asks_git_is_shown_the_history(
    requires: tuple[str, ...], seen: bool, project: Path
) -> None:
    """The copy has no history of its own."""
    (project / ".git").mkdir()
    runner = Backend({"plover/_core.abi3.so": elf(ARM64)})

    build(project, "linux-arm64", runner, requires=requires)

    assert (".git" in runner.saw) is seen


@pytest.mark.usefixtures("include")
@pytest.mark.parametrize("wheels", [0, 2])
def test_one_wheel_is_needed(wheels: int, project: Path) -> None:
    """A backend that makes none or two is told of."""
    with pytest.raises(BuildStepError, match=f"made {wheels} wheels, and one is needed"):
        build(project, "linux-arm64", Backend({"plover/_core.abi3.so": elf(ARM64)}, wheels=wheels))

    assert list((project.parent / "into").iterdir()) == []


@pytest.mark.usefixtures("include")
def test_failed_build_says_what_else_can_be_done(project: Path) -> None:
    """The advice of a failed compilation names cibuildwheel and the setting for its wheels."""
    with pytest.raises(BuildStepError) as failed:
        build(project, "linux-arm64", Backend({}, fails=True))

    assert "cibuildwheel" in failed.value.advice
    assert "wheels = " in failed.value.advice
    assert list((project.parent / "into").iterdir()) == []


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("backend", "requires", "reason"),
    [
        ("maturin", ("maturin>=1",), "only setuptools can be told"),
        ("mesonpy", ("meson-python",), "the project is built by mesonpy"),
        ("scikit_build_core.build", ("scikit-build-core",), "built by scikit_build_core.build"),
        ("hatchling.build", ("hatchling",), "built by hatchling.build"),
        ("setuptools.build_meta", ("setuptools", "Cython>=3", "numpy>=2"), "the build needs numpy, and numpy's headers"),
        ("setuptools.build_meta", ("setuptools", "setuptools_rust>=1.5.2"), "the build needs setuptools-rust"),
        ("setuptools.build_meta", ("setuptools", "scikit-build"), "the build needs scikit-build"),
        ("setuptools.build_meta", ("setuptools[toml]>=77", "cmake; sys_platform != 'win32'"), "the build needs cmake"),
    ],
)  # fmt: skip
def test_what_cannot_be_built_here(
    backend: str, requires: tuple[str, ...], reason: str, project: Path
) -> None:
    """One sentence with the reason, and the cure, before anything is installed."""
    (project / "pyproject.toml").write_text(f'[build-system]\nbuild-backend = "{backend}"\n')
    runner = Backend({})

    with pytest.raises(BuildStepError, match=reason) as refused:
        build(project, "linux-arm64", runner, requires=requires)

    assert str(refused.value).startswith("The wheel for linux-arm64 cannot be built on this machine: ")
    assert (
        'cibuildwheel in CI, and name the folder that they are in: `wheels = "FOLDER"`'
        in refused.value.advice
    )
    assert runner.words == []


@pytest.mark.parametrize(
    ("text", "requires"),
    [
        (
            '[build-system]\nbuild-backend = "setuptools.build_meta"\n',
            ("setuptools", "Cython", "cffi", "pybind11"),
        ),
        ("[project]\nname = 'x'\n", ("setuptools",)),
        ('[build-system]\nbuild-backend = "own"\nbackend-path = ["tools"]\n', ("setuptools",)),
        (None, ("setuptools",)),
    ],
)
def test_what_can_be_built_here(text: str | None, requires: tuple[str, ...], project: Path) -> None:
    """setuptools, by its own name or behind a backend of the project's own, with generators of plain C and C++."""
    if text is None:
        (project / "pyproject.toml").unlink()
    else:
        (project / "pyproject.toml").write_text(text)

    assert why_not_here(project, requires) == ""


def test_not_from_windows(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There setuptools starts Microsoft's compiler, whatever CC says."""
    monkeypatch.setattr(sys, "platform", "win32")

    assert "on Windows" in why_not_here(project, SETUPTOOLS)
