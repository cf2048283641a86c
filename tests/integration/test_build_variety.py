"""Projects as other people lay them out: each is built and runs, or is refused with a sentence and a cure."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from support.projects import MAIN, PROJECT, SCRIPT, SETUPTOOLS, Make, built, maker, refused


@pytest.fixture
def make(tmp_path: Path, shared_out: Path) -> Make:
    return maker(tmp_path, shared_out)


# --- what is built ----------------------------------------------------------------------------------------------------


def test_the_version_comes_from_the_wheel(make: Make) -> None:
    """`dynamic = ["version"]`, an attribute that setuptools reads; the plan stands without it."""
    dynamic = PROJECT.replace('version = "1.0"', 'dynamic = ["version"]')
    text = (
        f'{SETUPTOOLS}{dynamic}{SCRIPT}[tool.setuptools.dynamic]\nversion = {{ attr = "lamp.__version__" }}\n'
    )
    workshop = make({"pyproject.toml": text, "lamp/__init__.py": f"__version__ = '3.2.1'\n{MAIN}"})

    assert built(workshop, "pyz").startswith("lamp-3.2.1-")
    assert workshop.run("plan").code == 0


def test_the_version_comes_from_a_tag(make: Make) -> None:
    """A backend that asks git gets the history, a new tag gives a new version, and the checkout stays clean."""
    text = PROJECT.replace('version = "1.0"', 'dynamic = ["version"]') + SCRIPT
    backend = SETUPTOOLS.replace('"setuptools>=77"', '"setuptools>=77", "setuptools-scm>=8"')
    scm = '[tool.setuptools_scm]\n[tool.setuptools]\npy-modules = ["lamp"]\n'
    workshop = make({"pyproject.toml": f"{backend}{text}{scm}", "lamp.py": MAIN})

    def git(*words: str) -> str:
        who = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        done = subprocess.run(
            ["git", "-C", workshop.project, *who, *words], capture_output=True, text=True, check=True
        )
        return done.stdout

    for words in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "x"), ("tag", "v2.5")):
        git(*words)
    first = built(workshop, "pyz")
    git("tag", "-d", "v2.5")
    git("tag", "v2.6")
    second = built(workshop, "pyz")

    assert ("-2.5-" in first, "-2.6-" in second) == (True, True), (first, second)
    assert git("status", "--porcelain", "--ignored") == ""
    assert workshop.manifest()["source"]["dirty"] is False


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "no [project] table", id="empty"),
        pytest.param("[tool.black]\n", "no [project] table", id="no-project"),
        pytest.param(f"{PROJECT}", "nothing says how the program starts", id="no-script"),
        pytest.param(f"build-system = 3\n{PROJECT}{SCRIPT}", "expected a table", id="build-system"),
        pytest.param(
            f'{PROJECT}dependencies = ["idna @ https://example.org/idna-3.7-py3-none-any.whl"]\n{SCRIPT}',
            "UV_FIND_LINKS",
            id="url",
        ),
    ],
)
def test_a_project_that_cannot_be_built_is_refused_at_once(make: Make, text: str, said: str) -> None:
    """Exit 3, before anything is asked or made."""
    refused(make({"pyproject.toml": text, "lamp.py": MAIN}), 3, said)


@pytest.mark.parametrize("option", ["--out", "--dist"])
def test_a_file_where_a_folder_is_needed(make: Make, tmp_path: Path, option: str) -> None:
    """Said before anything is built; the file stays."""
    workshop = make({"pyproject.toml": f"{PROJECT}{SCRIPT}", "lamp.py": MAIN})
    file = tmp_path / "file"
    file.write_text("mine")
    refused(workshop, 3, f"{file} is not a folder", option, words=("build", option, str(file)))

    assert file.read_text() == "mine"


@pytest.mark.parametrize("name", [f"a{os.pathsep}b", "a\nb"])
def test_a_cache_whose_path_would_be_split(make: Make, tmp_path: Path, name: str) -> None:
    """PATH and PYTHONPATH have no way to quote their separator."""
    workshop = make({"pyproject.toml": f"{PROJECT}{SCRIPT}", "lamp.py": MAIN}, out=tmp_path / name)
    refused(workshop, 3, "would split", "--out")
