"""toolchain.shared: one toolchain for all checkouts of a user, whole or not there, at a place that only its content decides."""

from __future__ import annotations

from pathlib import Path

import pytest

from ferryman_build.cmd import Runner
from ferryman_build.errors import ResolutionError
from ferryman_build.interpreter import Interpreter
from ferryman_build.toolchain import shared

PYTHON = Interpreter(
    path=Path("/usr/bin/python3"), version="3.11.2", tag="cpython-311", identity="x", libpython=None
)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Every folder that a toolchain was prepared in; what is prepared is a zig of no bytes."""
    folders: list[Path] = []

    def prepare(into: Path, _interpreter: Interpreter, _runner: Runner) -> None:
        folders.append(into)
        zig = into / "env" / "lib" / "python3.11" / "site-packages" / "ziglang" / "zig"
        zig.parent.mkdir(parents=True)
        zig.touch()

    monkeypatch.setenv("FERRYMAN_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(shared, "prepare", prepare)
    return folders


def test_it_is_prepared_once(made: list[Path], tmp_path: Path) -> None:
    """The second build finds it; nothing but the finished folder is left."""
    first = shared.shared_toolchain(PYTHON, Runner())
    assert shared.shared_toolchain(PYTHON, Runner()) == first
    assert len(made) == 1
    assert [path.name for path in (tmp_path / "home" / "toolchain").iterdir()] == [
        shared.toolchain_key()[:32]
    ]
    assert first.zig.is_file()
    assert first.cache == tmp_path / "home" / "zig"


def test_a_failure_leaves_nothing(made: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Half a toolchain is never found by the next build."""

    def fail(into: Path, _interpreter: Interpreter, _runner: Runner) -> None:
        (into / "half").touch()
        raise ResolutionError("no zig")

    monkeypatch.setattr(shared, "prepare", fail)
    with pytest.raises(ResolutionError):
        shared.shared_toolchain(PYTHON, Runner())
    assert list((tmp_path / "home" / "toolchain").iterdir()) == []
    assert made == []


def test_of_two_at_once_one_stays(made: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that was slower throws its own away."""
    quick = shared.prepare

    def overtaken(into: Path, interpreter: Interpreter, runner: Runner) -> None:
        quick(into, interpreter, runner)
        place = tmp_path / "home" / "toolchain" / shared.toolchain_key()[:32]
        quick(place, interpreter, runner)

    monkeypatch.setattr(shared, "prepare", overtaken)
    assert shared.shared_toolchain(PYTHON, Runner()).zig.is_file()
    assert len(list((tmp_path / "home" / "toolchain").iterdir())) == 1
    assert len(made) == 2
