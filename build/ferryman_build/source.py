"""What the program is made from: git's view of the project and a digest of its files."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from ferryman_build.artifacts import Source
from ferryman_build.cache import tree_digest
from ferryman_build.errors import ConfigError

# The date of an archive member when neither SOURCE_DATE_EPOCH nor git says one: the oldest that a .zip can hold.
_DEFAULT_EPOCH = 315_532_800  # 1980-01-01
_NEVER_SOURCE = {".git", ".hg", ".venv", "venv", ".nox", ".tox", "__pycache__", "out", "dist", "build", ".cache",
                 ".mypy_cache", ".ruff_cache", ".pytest_cache", "node_modules"}  # fmt: skip


def read_source(root: Path) -> Source:
    """Commit, dirtiness, content digest and epoch of the project at ``root``.

    No git, no repository and a repository without a commit are all fine: then ``commit`` is ''.

    Raises:
        ConfigError: SOURCE_DATE_EPOCH is not a number of seconds.
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
        paths = (root / name for name in listed.split("\0") if name)
        return [path for path in paths if path.is_symlink() or path.is_file()]
    found: list[Path] = []
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(
            name for name in folders if name not in _NEVER_SOURCE and not name.endswith(".egg-info")
        )
        found += (Path(folder, name) for name in names)
    return found


def _epoch(root: Path, commit: str) -> int:
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if given:
        if not given.isdigit():
            raise ConfigError(
                f"SOURCE_DATE_EPOCH is {given!r}, which is not a number of seconds since 1970.",
                advice="Unset it, or set it to what `git log -1 --format=%ct` prints.",
            )
        return max(int(given), _DEFAULT_EPOCH)
    stamp = _git(root, "log", "-1", "--format=%ct").strip() if commit else ""
    return max(int(stamp), _DEFAULT_EPOCH) if stamp else _DEFAULT_EPOCH


def _git(root: Path, *words: str) -> str:
    """Git's answer, or '' where there is no git, no repository, or nothing to say.

    Not through cmd.Runner: a missing git is no failure here, and five log files per build would help nobody.
    """
    env = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    try:
        done = subprocess.run(["git", "-C", root, *words], capture_output=True, env=env, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.decode("utf-8", "surrogateescape") if done.returncode == 0 else ""
