"""The agent of this repository, as `ferryman build` makes it, and what its build was made from."""

from __future__ import annotations

import json
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from table import KEPT, ROOT

AGENT = ROOT / "agent_src"


class Built:
    """Built in out/bench/agent; a second time only what has changed since runs again."""

    def __init__(self) -> None:
        self.folder = KEPT / "agent"
        self.cache = self.folder / "out" / "cache"
        self.dist = self.folder / "dist"
        command = [
            sys.executable, "-m", "ferryman_build", "build", "--plain", "--project", str(AGENT),
            "--out", str(self.folder / "out"), "--dist", str(self.dist),
        ]  # fmt: skip
        sys.stderr.write("building the agent ...\n")
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"ferryman build ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        self.manifest: Mapping[str, Any] = json.loads((self.dist / "manifest.json").read_text("utf-8"))

    def artifact(self, kind: str) -> Mapping[str, Any]:
        return next(item for item in self.manifest["artifacts"] if item["kind"] == kind)

    def path(self, kind: str) -> Path:
        return self.dist / str(self.artifact(kind)["path"])

    def step(self, pattern: str) -> Path:
        """What a step has made. A build touches every result that it takes, so the youngest one is this build's."""
        found = [
            (path.stat().st_mtime, path) for path in self.cache.glob(pattern.split("/", maxsplit=1)[0] + "/*")
        ]
        return next(max(found)[1].glob(pattern.split("/", 1)[1]))

    @cached_property
    def name(self) -> str:
        return str(self.manifest["project"]["name"])

    @cached_property
    def entry(self) -> str:
        """MODULE:FUNCTION of the program."""
        project = tomllib.loads((AGENT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        return str(project["scripts"][self.name])

    @cached_property
    def base(self) -> Path:
        """The interpreter that the tree was made from; a virtual environment's links lead to it."""
        return self.step("env/env/bin/python").resolve()

    @cached_property
    def wheel(self) -> Path:
        return self.step("wheel/*.whl")

    @cached_property
    def requirements(self) -> Path:
        """The agent's locked dependencies, without what builds it."""
        return self.step("site/requirements.txt")

    def unpack_tree(self, into: Path) -> Path:
        """The archive's content; the answer is the executable in it."""
        with tarfile.open(self.path("archive")) as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Debian 12's Python has none
            archive.extractall(into)
        return next(path for path in into.glob("*/*") if path.is_file())

    def modules(self) -> list[str]:
        """Every module of the agent, as the wheel has them."""
        app = self.step("wheel/app")
        files = sorted(path.relative_to(app) for path in app.rglob("*.py") if path.name != "__main__.py")
        return [".".join(path.with_suffix("").parts).removesuffix(".__init__") for path in files]
