"""What the steps of one target share."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ferryman_build.artifacts import Kind, Source
from ferryman_build.cache import Blobs
from ferryman_build.cmd import Runner
from ferryman_build.collect.analysis import Analysis, Origins
from ferryman_build.interpreter import Headers, Interpreter
from ferryman_build.locking import Lock
from ferryman_build.pipeline import Finished
from ferryman_build.project import Project
from ferryman_build.settings import Settings
from ferryman_build.targets import Target
from ferryman_build.tree import Tree, TreeFile
from ferryman_build.wheel import Wheel, read_wheel


@dataclass(kw_only=True)
class TargetJob:
    """One target of one build: what is given, and the results that the pipeline fills in.

    ``cache`` is out/cache; ``known_headers`` are CPython's, for the targets whose launcher is compiled.
    """

    target: Target
    host: Target
    kinds: tuple[Kind, ...]
    project: Project
    settings: Settings
    source: Source
    interpreter: Interpreter
    lock: Lock
    build_lock: Lock
    build_requires: tuple[str, ...]
    blobs: Blobs
    cache: Path
    runner: Runner
    known_headers: Headers | None = None
    results: dict[str, Finished] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.target.id

    def folder(self, step: str) -> Path:
        """The result folder of a step that has run."""
        found = self.results[step].folder
        assert found is not None, step
        return found

    def made(self, step: str) -> str:
        """Digest of what a step produced; goes into the keys of later steps."""
        result = self.results[step].result
        assert result is not None, step
        return result.digest

    @property
    def headers(self) -> Headers:
        """CPython's headers."""
        assert self.known_headers is not None
        return self.known_headers

    @property
    def wheel(self) -> Wheel:
        return read_wheel(self.folder("wheel"))

    @property
    def python(self) -> str:
        """X.Y."""
        return self.interpreter.short

    @property
    def stem(self) -> str:
        """The file name of every artifact less its suffix."""
        return f"{self.project.executable}-{self.wheel.version}-{self.target}"

    @property
    def origins(self) -> Origins:
        return Origins(
            app=self.folder("wheel") / "app",
            env=self.folder("env") / "env",
            work=self.folder("analyse"),
            project=self.project.root,
        )

    @property
    def analysis(self) -> Analysis:
        return msgspec.json.decode((self.folder("analyse") / "analysis.json").read_bytes(), type=Analysis)

    @property
    def tree(self) -> Tree:
        files = msgspec.json.decode(
            (self.folder("tree") / "tree.json").read_bytes(), type=tuple[TreeFile, ...]
        )
        return Tree(root=self.folder("tree") / "tree", executable=self.program, files=files)

    @property
    def program(self) -> str:
        """File name of the executable."""
        return f"{self.project.executable}{self.target.suffix}"
