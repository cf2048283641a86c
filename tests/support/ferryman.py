"""Running the real command line on a project of a test's own."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parents[2]
LANTERN = ROOT / "tests" / "support" / "lantern"


_ONE_MODULE = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{name}"
version = "1.0"
requires-python = "{python}"
[project.scripts]
{name} = "{name}:main"
[tool.hatch.build.targets.wheel]
only-include = ["{name}.py"]
[tool.ferryman]
"""


def write_one_module(root: Path, name: str, program: str, settings: str, python: str = ">=3.11") -> None:
    """A project in ``root`` that is one module with a main(); ``settings`` are rows of [tool.ferryman]."""
    (root / f"{name}.py").write_text(program, encoding="utf-8")
    text = _ONE_MODULE.format(name=name, python=python)
    (root / "pyproject.toml").write_text(f"{text}{settings}\n", encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run of `ferryman` left: exit code and both streams."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, kw_only=True)
class Workshop:
    """A copy of an agent project with its own dist/; ``out`` may be shared, since results are kept by content."""

    project: Path
    out: Path
    dist: Path

    def command(self, *words: str) -> list[str]:
        """The words of a `ferryman` call on this project."""
        name, *rest = words
        options = ["--project", str(self.project), "--out", str(self.out)]
        options += ["--dist", str(self.dist)] if name == "build" else []
        return [sys.executable, "-m", "ferryman_build", name, *options, "--plain", *rest]

    def run(self, *words: str, env: Mapping[str, str] | None = None, timeout: float = 300) -> Outcome:
        """Run `ferryman WORDS` to its end."""
        done = subprocess.run(
            self.command(*words),
            env=environment(env),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        return Outcome(code=done.returncode, out=done.stdout, err=done.stderr)

    def manifest(self) -> dict[str, Any]:
        """dist/manifest.json."""
        found: dict[str, Any] = json.loads((self.dist / "manifest.json").read_text(encoding="utf-8"))
        return found

    def artifact(self, kind: str, target: str = "") -> Path:
        """The file of ``kind`` (for ``target``, when several were built)."""
        rows = (
            row
            for row in self.manifest()["artifacts"]
            if row["kind"] == kind and target in ("", row["target"])
        )
        return self.dist / next(rows)["path"]

    def edit(self, name: str, old: str, new: str) -> None:
        """Replace text in a file of the project; the text must be there."""
        path = self.project / name
        text = path.read_text(encoding="utf-8")
        assert old in text, f"{old!r} is not in {name}"
        path.write_text(text.replace(old, new), encoding="utf-8")

    def delivered(self) -> dict[str, str]:
        """Name → SHA-256 of everything in dist/: to see that a failed build changed nothing."""
        if not self.dist.exists():
            return {}
        return {
            path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(self.dist.iterdir())
        }


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The caller's environment with the source roots on PYTHONPATH."""
    roots = os.pathsep.join(str(ROOT / name) for name in ("build", "release"))
    return {**os.environ, "PYTHONPATH": roots, "NO_COLOR": "1", **(extra or {})}


def lantern(folder: Path, out: Path) -> Workshop:
    """A fresh copy of the second agent in ``folder``."""
    project = folder / "lantern"
    shutil.copytree(LANTERN, project, ignore=shutil.ignore_patterns("__pycache__"))
    return Workshop(project=project, out=out, dist=folder / "dist")


def processes_naming(text: str) -> list[str]:
    """Command lines of running processes that name ``text``; this process and its parents do not count."""
    ours = {os.getpid(), *(process.pid for process in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        words = " ".join(process.info["cmdline"] or ())
        if (
            text in words
            and process.info["pid"] not in ours
            and process.info["status"] != psutil.STATUS_ZOMBIE
        ):
            found.append(words)
    return found
