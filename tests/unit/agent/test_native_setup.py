"""What setup.py makes of a machine, and what pyproject.toml tells cibuildwheel."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

from support.native_build import compiler

pytestmark = pytest.mark.skipif(os.name == "nt", reason="a compiler of Windows is not found by PATH and CC")

AGENT = Path(__file__).resolve().parents[3] / "agent_src"

# setup() as it would be called, without being called.
ASK = """
import json, runpy, setuptools
def setup(**asked):
    (extension,) = asked["ext_modules"] or [None]
    print(json.dumps({
        "sources": extension and sorted(extension.sources),
        "limited": extension and extension.py_limited_api,
        "options": asked["options"],
    }))
setuptools.setup = setup
runpy.run_path("setup.py")
"""


def asked(folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """setup.py in a copy of the sources, so that a checkout's build folder is not used."""
    copy = folder / "agent"
    if not copy.exists():
        shutil.copytree(AGENT / "native", copy / "native")
        shutil.copy2(AGENT / "setup.py", copy)
    return subprocess.run(
        [sys.executable, "-c", ASK], cwd=copy, env={**os.environ, "WATCHKEEPER_EXTENSION": "auto", **env}, capture_output=True, text=True, check=False
    )  # fmt: skip


@pytest.mark.parametrize("wanted", ["auto", "no"])
def test_without_a_compiler(tmp_path: Path, wanted: str) -> None:
    """The wheel is a plain one, and a sentence says why unless that was asked for; nothing fails."""
    empty = tmp_path / "empty"
    empty.mkdir()
    done = asked(tmp_path, PATH=str(empty), CC="no-such-compiler", WATCHKEEPER_EXTENSION=wanted)
    assert done.returncode == 0, done.stderr
    assert ("no C compiler" in done.stdout) is (wanted == "auto")
    assert '"sources": null' in done.stdout
    assert '"options": {}' in done.stdout


@pytest.mark.skipif(compiler() is None, reason="there is no C compiler on this machine")
@pytest.mark.parametrize("wanted", ["auto", "require"])
def test_with_a_compiler(tmp_path: Path, wanted: str) -> None:
    """Every source is in the extension, for the limited API, in a wheel that says so."""
    done = asked(tmp_path, WATCHKEEPER_EXTENSION=wanted)
    assert done.returncode == 0, done.stderr
    for path in (AGENT / "native").glob("*.c"):
        assert f'"native/{path.name}"' in done.stdout
    assert '"limited": true' in done.stdout
    assert '"options": {"bdist_wheel": {"py_limited_api": "cp311"}}' in done.stdout


def test_a_compiler_that_fails(tmp_path: Path) -> None:
    """It counts as none; whoever requires the extension learns of it from the build itself."""
    assert '"sources": null' in asked(tmp_path, CC="false").stdout
    assert '"limited": true' in asked(tmp_path, CC="false", WATCHKEEPER_EXTENSION="require").stdout


def test_a_word_that_is_none(tmp_path: Path) -> None:
    """A misspelt wish is not taken for another one."""
    done = asked(tmp_path, WATCHKEEPER_EXTENSION="yes")
    assert done.returncode == 1
    assert 'WATCHKEEPER_EXTENSION is "auto", "require" or "no", and not "yes".' in done.stderr


def pyproject() -> dict[str, Any]:
    tool: dict[str, Any] = tomllib.loads((AGENT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    return tool


def test_every_package_is_in_the_wheel() -> None:
    """setuptools is told each package by name; one that is forgotten would be missing where it is installed."""
    found = {".".join(path.parent.relative_to(AGENT).parts) for path in (AGENT / "watchkeeper").rglob("*.py")}
    assert set(pyproject()["setuptools"]["packages"]) == found


def test_cibuildwheel_requires_the_extension() -> None:
    """Every platform's table that sets the environment sets this too: a table replaces what stands above it."""
    matrix = pyproject()["cibuildwheel"]
    tables = [matrix, *(matrix[name] for name in ("linux", "windows", "macos"))]
    environments = [table["environment"] for table in tables if "environment" in table]
    assert environments
    assert all(environment["WATCHKEEPER_EXTENSION"] == "require" for environment in environments)
    assert matrix["macos"]["environment"]["MACOSX_DEPLOYMENT_TARGET"] == "11.0"


def test_cibuildwheel_tests_what_it_builds() -> None:
    """One build for 3.11, tests on that and the next ones, with a file that the sources hold."""
    matrix = pyproject()["cibuildwheel"]
    assert matrix["build"] == ["cp311-*", "cp312-*", "cp313-*"]
    command = matrix["test-command"].split()
    assert (AGENT / command[1].removeprefix("{project}/")).is_file()
    assert matrix["test-requires"] == []
    assert "abi3audit" in matrix["audit-command"]
