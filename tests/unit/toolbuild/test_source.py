"""source: git's view of a project where there is one, and a sensible one where there is none."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from ferryman_build import source
from ferryman_build.errors import ConfigError
from ferryman_build.source import read_source, source_files

EPOCH_1980 = 315_532_800
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not here")


@pytest.fixture(autouse=True)
def plain_git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No configuration of the person who runs the tests, and no date but git's."""
    for name in os.environ:
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))


def git(root: Path, *words: str) -> str:
    who = [
        "-c",
        "user.name=Someone",
        "-c",
        "user.email=someone@example.invalid",
        "-c",
        "protocol.file.allow=always",
    ]
    env = {**os.environ, "GIT_COMMITTER_DATE": "1700000000 +0200", "GIT_AUTHOR_DATE": "1600000000 +0000"}
    done = subprocess.run(
        ["git", *who, *words], cwd=root, env=env, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)


def repository(root: Path, *names: str) -> str:
    """A repository with ``names`` in its only commit, whose number is returned."""
    root.mkdir(parents=True, exist_ok=True)
    git(root, "init", "--quiet")
    write(root, *names)
    git(root, "add", "--all")
    git(root, "commit", "--quiet", "--message", "x")
    return git(root, "rev-parse", "HEAD")


def names(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in source_files(root))


# --- with git ---------------------------------------------------------------------------------------------------------


@needs_git
@pytest.mark.parametrize("folder", ["plain", "with a space", "größe-漢字", 'quote\'d "x"'])
def test_repository(tmp_path: Path, folder: str) -> None:
    """Commit, its date and its files, wherever it lies."""
    root = tmp_path / folder
    commit = repository(root, "pyproject.toml", "pkg/é è.py")

    found = read_source(root)

    assert (found.commit, found.dirty, found.epoch) == (commit, False, 1_700_000_000)
    assert names(root) == ["pkg/é è.py", "pyproject.toml"]


def add_file(root: Path) -> None:
    write(root, "new.py")


def change_file(root: Path) -> None:
    (root / "a.py").write_text("changed")


def make_executable(root: Path) -> None:
    (root / "a.py").chmod(0o755)


def remove_file(root: Path) -> None:
    (root / "a.py").unlink()


def rename_file(root: Path) -> None:
    git(root, "mv", "a.py", "c.py")


@needs_git
@pytest.mark.parametrize("change", [add_file, change_file, make_executable, remove_file, rename_file])
def test_dirty(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """Whatever differs from the commit is said, and is another source."""
    repository(tmp_path, "a.py", "b.py")
    before = read_source(tmp_path)
    change(tmp_path)
    after = read_source(tmp_path)

    assert (before.dirty, after.dirty) == (False, True)
    assert after.digest != before.digest
    assert after.commit == before.commit


@needs_git
def test_same_content_in_another_commit(tmp_path: Path) -> None:
    """The digest is of the files, not of the history."""
    repository(tmp_path, "a.py")
    before = read_source(tmp_path)
    git(tmp_path, "commit", "--quiet", "--allow-empty", "--message", "y")
    after = read_source(tmp_path)

    assert after.commit != before.commit
    assert (after.digest, after.dirty) == (before.digest, False)


@needs_git
def test_ignored_files_are_no_source(tmp_path: Path) -> None:
    """What git ignores neither counts nor makes dirty; what it would track counts before it is added."""
    repository(tmp_path, "a.py")
    (tmp_path / ".gitignore").write_text("*.log\n/out/\n")
    git(tmp_path, "add", "--all")
    git(tmp_path, "commit", "--quiet", "--message", "ignore")
    before = read_source(tmp_path)
    write(tmp_path, "x.log", "out/product")

    assert read_source(tmp_path) == before
    write(tmp_path, "later.py")
    assert names(tmp_path) == [".gitignore", "a.py", "later.py"]


@needs_git
def test_project_in_a_subfolder(tmp_path: Path) -> None:
    """Only the project's own files are its source; a change beside it does not make it dirty."""
    commit = repository(tmp_path, "agent/a.py", "other/b.py", "top.py")
    before = read_source(tmp_path / "agent")
    (tmp_path / "other" / "b.py").write_text("changed")

    assert names(tmp_path / "agent") == ["a.py"]
    assert read_source(tmp_path / "agent") == before
    assert (before.commit, before.dirty) == (commit, False)


@needs_git
def test_submodule_is_source(tmp_path: Path) -> None:
    """The files of a submodule are what the program is built from, and git lists only its folder."""
    repository(tmp_path / "library", "lib.c", "lib.h")
    root = tmp_path / "agent"
    repository(root, "a.py")
    git(root, "submodule", "--quiet", "add", str(tmp_path / "library"), "vendor/library")
    git(root, "commit", "--quiet", "--message", "submodule")
    before = read_source(root)

    assert names(root) == [".gitmodules", "a.py", "vendor/library/lib.c", "vendor/library/lib.h"]
    (root / "vendor" / "library" / "lib.c").write_text("changed")
    assert read_source(root).digest != before.digest
    assert read_source(root).dirty


@needs_git
def test_repository_that_happens_to_lie_inside(tmp_path: Path) -> None:
    """A clone that nobody added is another project's, and a folder that is not checked out has no files."""
    repository(tmp_path, "a.py")
    repository(tmp_path / "clone", "c.py")

    assert names(tmp_path) == ["a.py"]


@needs_git
def test_links(tmp_path: Path) -> None:
    """A link is source itself, also one that leads nowhere or to a folder."""
    repository(tmp_path, "pkg/a.py")
    (tmp_path / "folder").symlink_to("pkg")
    (tmp_path / "nowhere").symlink_to("not-there")

    assert names(tmp_path) == ["folder", "nowhere", "pkg/a.py"]


@needs_git
def test_conflict_is_listed_once(tmp_path: Path) -> None:
    """A file in conflict has three entries in git's index."""
    repository(tmp_path, "a.py")
    base = git(tmp_path, "symbolic-ref", "--short", "HEAD")
    git(tmp_path, "checkout", "--quiet", "-b", "other")
    (tmp_path / "a.py").write_text("one")
    git(tmp_path, "commit", "--quiet", "--all", "--message", "one")
    git(tmp_path, "checkout", "--quiet", base)
    (tmp_path / "a.py").write_text("two")
    git(tmp_path, "commit", "--quiet", "--all", "--message", "two")
    with pytest.raises(subprocess.CalledProcessError):
        git(tmp_path, "merge", "other")

    assert names(tmp_path) == ["a.py"]


@needs_git
def test_inside_a_hook_of_another_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that git sets for its hooks do not make another repository ours."""
    repository(tmp_path / "other", "b.py")
    commit = repository(tmp_path / "agent", "a.py")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "other"))

    found = read_source(tmp_path / "agent")

    assert (found.commit, found.dirty) == (commit, False)
    assert names(tmp_path / "agent") == ["a.py"]


@needs_git
def test_without_commits(tmp_path: Path) -> None:
    """A repository in which nothing was committed yet has files and no commit."""
    git(tmp_path, "init", "--quiet")
    write(tmp_path, "a.py", ".gitignore")
    (tmp_path / ".gitignore").write_text("b.py")
    write(tmp_path, "b.py")

    found = read_source(tmp_path)

    assert (found.commit, found.dirty, found.epoch) == ("", False, EPOCH_1980)
    assert names(tmp_path) == [".gitignore", "a.py"]


# --- without git ------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["no repository", "no git"])
def no_git(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    if request.param == "no git":
        monkeypatch.setenv("PATH", str(tmp_path / "empty"))


@pytest.mark.usefixtures("no_git")
def test_folder(tmp_path: Path) -> None:
    """Every file but what tools leave; there is no commit, nothing is dirty, the date is the oldest of a zip."""
    root = tmp_path / "agent"
    write(
        root, "a.py", "pkg/b.py", ".hidden", "pkg/__pycache__/b.pyc", ".venv/x", ".git/x", "pkg/x.egg-info/y"
    )

    found = read_source(root)

    assert (found.commit, found.dirty, found.epoch) == ("", False, EPOCH_1980)
    assert names(root) == [".hidden", "a.py", "pkg/b.py"]


@pytest.mark.usefixtures("no_git")
@pytest.mark.parametrize("name", ["build", "dist", "out", "venv"])
def test_products_are_at_the_top(tmp_path: Path, name: str) -> None:
    """A folder that is called like a product is one at the top, and may be a package further down."""
    write(tmp_path, f"{name}/x.py", f"src/{name}/x.py")

    assert names(tmp_path) == [f"src/{name}/x.py"]


@pytest.mark.usefixtures("no_git")
def test_folder_has_a_stable_digest(tmp_path: Path) -> None:
    """The digest is of names and contents, not of the place."""
    for name in ("one", "two"):
        write(tmp_path / name, "b.py", "a.py")

    assert read_source(tmp_path / "one").digest == read_source(tmp_path / "two").digest
    write(tmp_path / "two", "c.py")
    assert read_source(tmp_path / "one").digest != read_source(tmp_path / "two").digest


# --- SOURCE_DATE_EPOCH ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("1700000001", 1_700_000_001),
        ("0", EPOCH_1980),
        ("315532799", EPOCH_1980),
        ("4354819198", 4_354_819_198),
        ("", EPOCH_1980),
    ],
)
def test_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str, wanted: int) -> None:
    """The variable wins; nothing is older than a zip can say."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", given)

    assert read_source(tmp_path).epoch == wanted


@pytest.mark.parametrize(
    "given", ["yesterday", "-1", "1.5", "²", "१", " 1", "1_000", "4354819199", "9" * 5000]
)
def test_wrong_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    """What is no number of seconds that an archive can hold is said before anything is built."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", given)

    with pytest.raises(ConfigError, match="SOURCE_DATE_EPOCH") as caught:
        read_source(tmp_path)

    assert "git log" in caught.value.advice
    assert caught.value.exit_code == 3


def test_unreadable_answer_of_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A git that fails, for whatever reason, is a git that is not there."""
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\necho 12; exit 128\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    write(tmp_path / "agent", "a.py")

    assert read_source(tmp_path / "agent").commit == ""
    assert names(tmp_path / "agent") == ["a.py"]


@needs_git
def test_a_checkout_of_another_user_is_told_from_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Git answers nothing for it: no commit, and a reason that can be shown."""
    repository(tmp_path, "a.py")
    assert source.git_refusal(tmp_path) == ""
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")

    assert source.git_refusal(tmp_path) == f"git does not read {tmp_path}, since another user owns it"
    assert read_source(tmp_path).commit == ""


@needs_git
def test_a_tag_is_history(tmp_path: Path) -> None:
    """The same commit under a new tag has another version for backends that ask git."""
    repository(tmp_path, "a.py")
    before = source.history(tmp_path)
    git(tmp_path, "tag", "v1.0")

    assert before
    assert source.history(tmp_path) != before
    assert "v1.0" in source.history(tmp_path)
