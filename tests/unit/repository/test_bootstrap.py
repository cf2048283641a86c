"""tools/bootstrap.py: what `python3 noxfile.py` does before nox can take over, and what it says when it cannot."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[3]
PYTHON = sys.executable

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the fake environments are made of links")


@pytest.fixture
def bootstrap() -> ModuleType:
    """The module, loaded anew, since it is no part of a package."""
    spec = importlib.util.spec_from_file_location("bootstrap_under_test", ROOT / "tools" / "bootstrap.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A checkout with a lock, in a folder whose name is not plain."""
    root = tmp_path / "mes agents é"
    (root / "locks").mkdir(parents=True)
    (root / "locks" / "nox.txt").write_text("nox==1 --hash=sha256:00\n")
    return root


class FakeRun:
    """Stands for the two commands that bootstrap runs; making the environment makes its interpreter."""

    def __init__(self, *, venv: int = 0, pip: int = 0, pip_says: str = "") -> None:
        self.codes = {"venv": venv, "pip": pip}
        self.pip_says = pip_says
        self.modules: list[str] = []

    def __call__(self, command: list[str]) -> Any:
        module = command[command.index("-m") + 1]
        self.modules.append(module)
        if module == "venv" and not self.codes["venv"]:
            python = Path(command[-1], "bin", "python")
            python.parent.mkdir(parents=True)
            python.symlink_to(PYTHON)
        return SimpleNamespace(returncode=self.codes[module], stdout=self.pip_says)


def run(
    bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, fake: Any
) -> tuple[int, list[Any]]:
    handed: list[Any] = []
    monkeypatch.setattr(bootstrap, "run", fake)
    monkeypatch.setattr(bootstrap, "has_nox", lambda: False)
    monkeypatch.setattr(bootstrap, "hand_over", lambda command: handed.append(command) or 0)
    return bootstrap.main(str(checkout), ["-s", "build", "--", "--help"]), handed


def environments(checkout: Path) -> list[str]:
    place = checkout / ".cache" / "bootstrap"
    return sorted(path.name for path in place.iterdir()) if place.exists() else []


def test_makes_an_environment_once(
    bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first run makes the environment, the second finds it; both hand all arguments to its nox."""
    fake = FakeRun()
    first, handed = run(bootstrap, checkout, monkeypatch, fake)
    second, again = run(bootstrap, checkout, monkeypatch, fake)

    assert (first, second) == (0, 0)
    assert fake.modules == ["venv", "pip"]
    assert handed == again
    assert handed[0][1:] == ["-m", "nox", "-f", str(checkout / "noxfile.py"), "-s", "build", "--", "--help"]
    assert len(environments(checkout)) == 1


def test_new_lock_makes_a_new_environment(
    bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment belongs to the lock it was made from."""
    run(bootstrap, checkout, monkeypatch, FakeRun())
    (checkout / "locks" / "nox.txt").write_text("nox==2 --hash=sha256:00\n")
    run(bootstrap, checkout, monkeypatch, FakeRun())

    assert len(environments(checkout)) == 2


def test_vanished_interpreter_is_rebuilt(
    bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An environment whose interpreter was uninstalled is made again in the same place."""
    run(bootstrap, checkout, monkeypatch, FakeRun())
    python = checkout / ".cache" / "bootstrap" / environments(checkout)[0] / "bin" / "python"
    python.unlink()
    python.symlink_to("/nonexistent/python3")
    fake = FakeRun()
    code, _ = run(bootstrap, checkout, monkeypatch, fake)

    assert code == 0
    assert fake.modules == ["venv", "pip"]
    assert os.access(python, os.X_OK)


@pytest.mark.parametrize(
    ("says", "code", "sentence", "cure"),
    [
        pytest.param(
            "Could not find a version", 13, "package index could not be reached", "PIP_INDEX_URL", id="index"
        ),
        pytest.param(
            "THESE PACKAGES DO NOT MATCH THE HASHES",
            13,
            "is not the one that locks/nox.txt names",
            "SECURITY.md",
            id="hash",
        ),
        pytest.param(
            "OSError: No space left on device", 10, "no space left on device", "Make room", id="space"
        ),
    ],
)
def test_failed_install(
    bootstrap: ModuleType,
    checkout: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    says: str,
    code: int,
    sentence: str,
    cure: str,
) -> None:
    """A failed install says what happened and what to do, has its own code, and leaves nothing."""
    got, handed = run(bootstrap, checkout, monkeypatch, FakeRun(pip=1, pip_says=says))

    error = capsys.readouterr().err
    assert (got, handed, environments(checkout)) == (code, [], [])
    assert sentence in error
    assert cure in error
    assert says in error


def test_without_ensurepip(
    bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A Debian without python3-venv is told which package to install, before anything is made."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    fake = FakeRun()
    code, handed = run(bootstrap, checkout, monkeypatch, fake)

    assert (code, handed, fake.modules, environments(checkout)) == (4, [], [], [])
    assert "apt-get install python3-venv" in capsys.readouterr().err


def test_interrupted(
    bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C in the middle ends with 130 and leaves nothing that a later run would believe."""

    def interrupt(command: list[str]) -> Any:
        if "pip" in command:
            raise KeyboardInterrupt
        return FakeRun()(command)

    code, handed = run(bootstrap, checkout, monkeypatch, interrupt)

    assert (code, handed, environments(checkout)) == (130, [], [])
    assert "interrupted" in capsys.readouterr().err


def test_killed_run_is_swept(bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What kill -9 left is removed an hour later; a young folder may belong to a run that is still going."""
    place = checkout / ".cache" / "bootstrap"
    for name, age in (("tmp-old", 7200), ("tmp-young", 5)):
        (place / name).mkdir(parents=True)
        os.utime(place / name, (time.time() - age,) * 2)
    run(bootstrap, checkout, monkeypatch, FakeRun())

    assert "tmp-old" not in environments(checkout)
    assert "tmp-young" in environments(checkout)


def test_loser_of_a_race_uses_the_winner(
    bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two first runs at once end with one environment, and both go on."""

    def meanwhile(command: list[str]) -> Any:
        if "pip" in command:
            home = Path(bootstrap.key(str(checkout / "locks" / "nox.txt")))
            FakeRun()(["-m", "venv", str(checkout / ".cache" / "bootstrap" / home)])
            return FakeRun()(["-m", "pip"])
        return FakeRun()(command)

    code, handed = run(bootstrap, checkout, monkeypatch, meanwhile)

    assert code == 0
    assert len(handed) == len(environments(checkout)) == 1


@pytest.mark.skipif(getattr(os, "geteuid", int)() == 0, reason="root may write anywhere")
def test_unwritable_checkout(
    bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkout of somebody else's is answered with a sentence."""
    checkout.chmod(0o500)
    code, _ = run(bootstrap, checkout, monkeypatch, FakeRun())
    checkout.chmod(0o700)

    assert code == 10
    assert "could not be written" in capsys.readouterr().err


def test_a_file_in_the_way(
    bootstrap: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When .cache cannot be a folder, the path is named and no traceback is printed."""
    (checkout / ".cache").write_text("")
    code, handed = run(bootstrap, checkout, monkeypatch, FakeRun())

    assert (code, handed) == (10, [])
    assert ".cache" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["noxfile.py", "tools/bootstrap.py"])
def test_parses_on_an_old_python(name: str) -> None:
    """A Python that is too old can read the files, so that it can say that it is."""
    ast.parse((ROOT / name).read_text(encoding="utf-8"), feature_version=(3, 6))


def test_old_python_is_told() -> None:
    """On an older Python the noxfile ends with code 4 and a sentence that names the version it needs."""
    pretend = (
        "import sys, runpy; sys.version_info = (3, 9, 2, 'final', 0); sys.argv = ['noxfile.py', '-s', 'build'];"
        "runpy.run_path('noxfile.py', run_name='__main__')"
    )
    done = subprocess.run([PYTHON, "-c", pretend], cwd=ROOT, capture_output=True, text=True, check=False)

    assert done.returncode == 4
    assert "needs Python 3.11 or newer" in done.stderr
    assert "Traceback" not in done.stderr
