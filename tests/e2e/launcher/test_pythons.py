"""The launcher is compiled for each version of Python, whose configuration has another layout and other fields."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from support.ferryman import Workshop, write_one_module
from support.launcher import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]

PROGRAM = """
import sys

def main():
    if sys.argv[1:] == ["--version"]:
        sys.exit(print("1.0"))
    print(sys.version_info[:2], [path for path in sys.path if not path.startswith(sys._MEIPASS)], sys.argv[1:])
    sys.exit(3)
"""
SETTINGS = """kinds = ["executable"]
smoke = { commands = [["--version"]] }"""


def has_python(version: str) -> bool:
    """Whether the machine has it, as Ferryman looks for it."""
    home = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    return bool(
        shutil.which(f"python{version}") or list(home.glob(f"versions/{version}.*/bin/python{version}"))
    )


@pytest.mark.parametrize("version", ["3.10", "3.12", "3.13", "3.14"])
def test_each_python(version: str, tmp_path: Path) -> None:
    """The program's modules come from its tree alone, also where the current folder has some; so does the interpreter."""
    if not has_python(version):
        pytest.skip(f"there is no Python {version} here")
    project = tmp_path / "probe"
    project.mkdir()
    write_one_module(project, "probe", PROGRAM, SETTINGS, python=">=3.10")
    workshop = Workshop(project=project, out=ROOT / ".cache" / "launcher", dist=tmp_path / "dist")
    outcome = workshop.run("build", "--python", version, timeout=800)
    assert outcome.code == 0, outcome.err
    (tmp_path / "probe.py").write_text("raise SystemExit('planted')\n", encoding="utf-8")
    env = {"FERRYMAN_CACHE": str(tmp_path / "cache"), "PYTHONPATH": str(tmp_path)}
    program = workshop.artifact("executable")
    major, minor = version.split(".")

    ran = subprocess.run(
        [program, "文"], cwd=tmp_path, env=env, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert (ran.returncode, ran.stdout) == (3, f"({major}, {minor}) [] ['文']\n"), ran

    words = ["-c", "import sys, site; print(sys.version_info[:2], sys.flags.isolated)"]
    plain = subprocess.run(
        [program, *words], cwd=tmp_path, env={**env, "FERRYMAN_INTERPRETER": "1"}, capture_output=True, text=True, check=False
    )  # fmt: skip
    assert (plain.returncode, plain.stdout) == (0, f"({major}, {minor}) 0\n"), plain
