"""`ferryman runtimes`, by its command line, on lists and archives of this machine."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from ferryman_build.cli import main
from ferryman_build.runtimes.index import FILE, Runtime, index_text, open_index
from support.runtimes.fake import posix, tar

CONTENT = tar(posix(prefix="python/"))
Run = Callable[..., int]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two runtimes, one of them damaged."""
    rows = []
    for target, content in (("linux-amd64", CONTENT), ("linux-arm64", CONTENT[:-1])):
        (tmp_path / f"{target}.tar.gz").write_bytes(content)
        sha256 = hashlib.sha256(CONTENT).hexdigest()
        rows.append(
            Runtime(python="3.11.9", target=target, url=f"{target}.tar.gz", sha256=sha256, origin="tests")
        )
    (tmp_path / FILE).write_text(index_text(rows, "# mine"), encoding="utf-8")
    return tmp_path


@pytest.fixture
def run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`ferryman runtimes WORDS` in an empty folder with an empty home."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("FERRYMAN_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FERRYMAN_RUNTIMES", str(folder))
    return lambda *words: main(["runtimes", *words, "--plain"])


def test_list(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """A line per row, with its version, target, origin and state."""
    assert run() == 0
    said = capsys.readouterr().out
    assert [line.split()[:3] for line in said.splitlines()[3:]] == [
        ["3.11.9", "linux-amd64", "tests"],
        ["3.11.9", "linux-arm64", "tests"],
    ]
    assert said.count(" here") == 2


def test_list_as_json(run: Run, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Addresses are whole; --target chooses."""
    assert run("list", "--json", "--target", "linux/arm64") == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["target"], found["address"], found["state"]) == (
        "linux-arm64", str(folder / "linux-arm64.tar.gz"), "here",
    )  # fmt: skip


def test_own_list_without_a_project(
    run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Outside of any project and without a word, it is Ferryman's own."""
    monkeypatch.delenv("FERRYMAN_RUNTIMES")
    assert run("--target", "darwin-arm64", "--python", "3.11") == 0
    assert "python-build-standalone" in capsys.readouterr().out


def test_project_names_the_list(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`runtimes` in a project is relative to the project, wherever the command is started."""
    monkeypatch.delenv("FERRYMAN_RUNTIMES")
    (folder / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "1"\nrequires-python = ">=3.11"\n[project.scripts]\nx = "x:main"\n[tool.ferryman]\nruntimes = "."\n',
        encoding="utf-8",
    )
    assert run("--project", str(folder), "--json") == 0
    assert {row["origin"] for row in json.loads(capsys.readouterr().out)} == {"tests"}


def test_verify_names_what_is_wrong(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """The good row passes, the bad one is told with both hashes, and the exit code is that of a wrong hash."""
    assert run("verify", "--target", "linux-amd64") == 0
    assert run("verify") == 6
    said = capsys.readouterr().err
    assert "linux-arm64.tar.gz is not the file that runtimes.toml names" in said
    assert "expected sha256" in said


def test_mirror_takes_what_it_can(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The good archive is there with a list of its own; the bad one is named and not there."""
    place = tmp_path / "mirror"
    assert run("mirror", str(place)) == 6
    assert [row.target for row in open_index(str(place))] == ["linux-amd64"]
    assert Path(open_index(str(place))[0].address).read_bytes() == CONTENT
    assert len(list(place.iterdir())) == 2

    assert run("mirror", str(place), "--target", "linux-amd64") == 0
    assert "was there" in capsys.readouterr().err


def test_update_writes_a_copy(run: Run, folder: Path, tmp_path: Path) -> None:
    """A file of SHA256SUMS gives new rows; the list's head and other rows stay, and the list itself is not touched."""
    name = "cpython-3.13.9+20260101-aarch64-apple-darwin-install_only.tar.gz"
    (tmp_path / "SUMS").write_text(f"{'0' * 64}  {name}\n", encoding="utf-8")
    before = (folder / FILE).read_bytes()

    assert run("update", str(tmp_path / "SUMS"), str(tmp_path / "new.toml")) == 0
    assert (tmp_path / "new.toml").read_text(encoding="utf-8").startswith("# mine\n")
    assert [row.python for row in open_index(str(tmp_path / "new.toml"))] == ["3.11.9", "3.11.9", "3.13.9"]
    assert (folder / FILE).read_bytes() == before


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("mirror",), 2, "wants one folder"),
        (("mirror", "a", "b"), 2, "wants one folder"),
        (("update",), 2, "wants a release"),
        (("update", "no-such-file"), 2, "cannot be read"),
        (("verify", "--target", "windows-amd64"), 2, "no runtime for windows-amd64"),
        (("list", "--target", "linux-arm65"), 2, "no target called"),
        (("list", "--runtimes", "no-such-folder"), 3, "no list of runtimes"),
        (("list", "--project", "no-such-project"), 0, ""),
    ],
)  # fmt: skip
def test_wrong_words(
    words: tuple[str, ...], code: int, sentence: str, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each is a sentence; a list named by the environment needs no project."""
    assert run(*words) == code
    assert sentence in capsys.readouterr().err
