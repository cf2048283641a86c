"""What the program is made from: git's view of the project and a digest of its files."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

from ferryman_build.artifacts import Source
from ferryman_build.cache import tree_digest
from ferryman_build.errors import ConfigError

# The date of an archive member when neither SOURCE_DATE_EPOCH nor git says one: the oldest that a .zip can hold.
_DEFAULT_EPOCH = 315_532_800  # 1980-01-01
_LATEST_EPOCH = 4_354_819_198  # 2107-12-31, the newest
_NEVER_SOURCE = {".git", ".hg", ".venv", ".nox", ".tox", "__pycache__", ".cache", ".mypy_cache", ".ruff_cache",
                 ".pytest_cache", "node_modules"}  # fmt: skip
# Only at the top: further down a folder of such a name may well be source.
_PRODUCTS = {"out", "dist", "build", "venv"}
# Inside a git hook these name the repository that the hook is for, which need not be ours.
_GIT_PLACES = {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX", "GIT_COMMON_DIR", "GIT_OBJECT_DIRECTORY",
               "GIT_NAMESPACE"}  # fmt: skip


def read_source(root: Path) -> Source:
    """Commit, dirtiness, content digest and epoch of the project at ``root``.

    No git, no repository and a repository without a commit are all fine: then ``commit`` is ''.

    Raises:
        ConfigError: SOURCE_DATE_EPOCH is not a number of seconds, or later than an archive can say.
    """
    commit = _git(root, "rev-parse", "HEAD").strip()
    dirty = bool(commit) and bool(
        _git(root, "status", "--porcelain", "--untracked-files=normal", "--", ".").strip()
    )
    return Source(
        commit=commit, dirty=dirty, digest=tree_digest(root, source_files(root)), epoch=_epoch(root, commit)
    )


def source_files(root: Path) -> list[Path]:
    """Every file below ``root`` that is source: what git tracks or would track; without git, all but usual products."""
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".")
    if listed:
        # A file in conflict is listed once for each side; a submodule as a path without what is in it.
        paths = dict.fromkeys(root / name for name in listed.split("\0") if name and not name.endswith("/"))
        return [file for path in paths for file in _files_at(path)]
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            name for name in folders if name not in _NEVER_SOURCE and not name.endswith(".egg-info")
            and not (name in _PRODUCTS and Path(folder) == root)
        )  # fmt: skip
        found += (Path(folder, name) for name in names)
    return found


def _files_at(path: Path) -> list[Path]:
    if path.is_symlink() or path.is_file():
        return [path]
    return source_files(path) if (path / ".git").exists() else []


def _epoch(root: Path, commit: str) -> int:
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given:
        if not re.fullmatch("[0-9]{1,10}", given) or int(given) > _LATEST_EPOCH:
            raise ConfigError(
                f"SOURCE_DATE_EPOCH is {given!r}, which is not a number of seconds since 1970 and before 2108.",
                advice="Unset it, or set it to what `git log -1 --format=%ct` prints.",
            )
        return max(int(given), _DEFAULT_EPOCH)
    stamp = _git(root, "-c", "log.showSignature=false", "log", "-1", "--format=%ct").strip() if commit else ""
    return min(max(int(stamp), _DEFAULT_EPOCH), _LATEST_EPOCH) if stamp else _DEFAULT_EPOCH


def history(root: Path) -> str:
    """What a backend that asks git for the version can see of it: the nearest tag, the distance, the commit."""
    return _git(root, "describe", "--tags", "--long", "--always", "--dirty").strip()


def git_refusal(root: Path) -> str:
    """'' or why git does not answer for a repository that is there: its owner is somebody else."""
    done = _run_git(root, "rev-parse", "HEAD")
    if done is None or b"dubious ownership" not in done.stderr:
        return ""
    return f"git does not read {root}, since another user owns it"


def own_checkout(root: Path) -> str:
    """What to do about :func:`git_refusal`."""
    return f"Without git the manifest has no commit; `git config --global --add safe.directory {root}` lets git read it."


def _git(root: Path, *words: str) -> str:
    """Git's answer, or '' where there is no git, no repository, or nothing to say."""
    done = _run_git(root, *words)
    return done.stdout.decode("utf-8", "surrogateescape") if done and done.returncode == 0 else ""


def _run_git(root: Path, *words: str) -> subprocess.CompletedProcess[bytes] | None:
    """None where there is no git.

    Not through cmd.Runner: a missing git is no failure here, and five log files per build would help nobody.
    """
    caller = {name: value for name, value in os.environ.items() if name not in _GIT_PLACES}
    env = {**caller, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        return subprocess.run(["git", "-C", root, *words], capture_output=True, env=env, check=False)
    except FileNotFoundError:
        return None
