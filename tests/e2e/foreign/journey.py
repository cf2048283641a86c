"""The way of the second agent (tests/support/lantern) through a runner: environment, analysis, tree, launcher.

Nothing of this machine's own target is made. The parts that were set up (a prefix, userlands, a toolchain) stay below
.cache, as on a developer's machine.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
from uv import find_uv_bin

from ferryman_build import tree
from ferryman_build.cache import Blobs
from ferryman_build.cmd import Runner
from ferryman_build.collect import environment as host_environment
from ferryman_build.collect import foreign
from ferryman_build.collect import pyinstaller as collector
from ferryman_build.collect.analysis import Analysis, Entry, EntryKind, Origin, Origins
from ferryman_build.interpreter import Headers, Interpreter, find_interpreter
from ferryman_build.locking import resolve
from ferryman_build.runners.base import Place, Purpose, RunnerKind
from ferryman_build.targets import Target, parse_target
from ferryman_build.toolchain import compile_launcher, link_launcher
from ferryman_build.wrap.launch import FOLDER, HOOKS, MAIN, Launch, launch_text, main_script, search_path
from support.ferryman import LANTERN, ROOT
from support.launcher_targets import tools

HOME = ROOT / ".cache" / "foreign"
ENTRY_POINT = "lantern.command:main"
DEPENDENCIES = ("msgspec>=0.19", "PyYAML>=6", "colorama>=0.4.6; sys_platform == 'win32'")


@dataclass
class Journey:
    """One target, in a folder of a test; ``seconds`` of each stage are what it took."""

    kind: RunnerKind
    target: Target
    folder: Path
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.runner = Runner(self.folder / "logs")
        self.compiler: Interpreter = find_interpreter("", self.runner, self.folder / "cache")
        self.python: foreign.ForeignInterpreter | None = None
        self.names: tuple[str, ...] = ()

    def part(self, name: str) -> Path:
        """A folder of the journey."""
        made = self.folder / name
        made.mkdir(exist_ok=True)
        return made

    @contextmanager
    def timed(self, name: str) -> Iterator[None]:
        """Take the time of a stage."""
        started = time.monotonic()
        yield
        self.seconds[name] = round(time.monotonic() - started, 1)

    @property
    def origins(self) -> Origins:
        return Origins(
            app=self.part("app"), env=self.folder / "env" / "env", work=self.part("work"), project=LANTERN
        )

    def environment(self, place: Place) -> None:
        """The agent's wheel, unpacked, and what it and PyInstaller need, for the target."""
        words = ["pip", "install", "--quiet", "--no-config", "--python", str(self.compiler.path), "--no-deps"]
        self.runner.run([find_uv_bin(), *words, "--target", self.part("app"), LANTERN], name="app")
        python = self.python = foreign.probe_foreign(place, self.part("probe"), self.runner)
        lock = resolve(DEPENDENCIES, python.version, runner=self.runner, cache=self.part("locks"))
        text, self.names = foreign.foreign_requirements(lock, self.target, python.version)
        with self.timed("environment"):
            foreign.make_foreign_environment(
                self.part("env"), python, self.compiler, self.target, text, self.runner
            )

    def analyse(
        self, place: Place, *, seconds: float = foreign.ANALYSE_SECONDS, script: str = ""
    ) -> Analysis:
        """What PyInstaller finds; ``script`` stands for the agent's main script."""
        assert self.python is not None
        into = self.origins.work
        program = into / "_ferryman_program.py"
        program.write_text(script or collector.entry_script(ENTRY_POINT), encoding="utf-8")
        left_out = {*collector.exclusions((), ()), *host_environment.tool_modules(self.names)}
        app = self.origins.app
        request = collector.Request(
            script=str(program), app=str(app), answer=str(into / "answer.json"),
            libpython=str(self.python.libpython or ""), optimize=1, hidden_imports=("lantern.colours", "runpy", "site"),
            plugins=("lantern.checks",), collect_data=(), collect_submodules=(), excludes=tuple(sorted(left_out)),
            distributions=("lantern-keeper", *self.names),
            data=((str(LANTERN / "lamps/harbour.yaml"), "lamps"), (str(app / "lantern/texts/motto.txt"), "lantern/texts")),
        )  # fmt: skip
        with self.timed("analysis"):
            return foreign.analyse_foreign(
                request, self.origins, into, place, self.python, self.runner, seconds=seconds
            )

    def assemble(self, analysis: Analysis, include: Path) -> Path:
        """The tree with its launcher; the program's path."""
        assert self.python is not None
        tools_env = self.part("tools")
        host_environment.make_environment(
            tools_env, self.compiler, host_environment.tool_requirements(()), self.runner
        )
        launcher = self._launcher(include)
        entries = [*analysis.entries, *self._start(analysis)]
        recipe = tree.Recipe(optimize=1, strip=True, tag=self.python.tag)
        root = self.part("made") / "tree"
        root.mkdir()
        with self.timed("tree"):
            tree.assemble(
                entries, self.origins, launcher, root, recipe, Blobs(self.part("blobs")), self.runner,
                tools=tools_env / "env",
            )  # fmt: skip
        return root / launcher.name

    def _start(self, analysis: Analysis) -> list[Entry]:
        assert self.python is not None
        into = self.part("start")
        hooks = analysis.hooks
        launch = Launch(
            name="lantern", version="2.3.0", python=self.python.short, optimize=1, interpreter=True,
            library=collector.library_name(self.python, self.target),
            path=search_path((entry.dest for entry in analysis.entries), self.python.short),
        )  # fmt: skip
        (into / "launch").write_text(launch_text(launch), encoding="utf-8", newline="\n")
        (into / "main.py").write_text(
            main_script(ENTRY_POINT, (hook.dest for hook in hooks)), encoding="utf-8"
        )
        return [
            Entry(f"{FOLDER}/launch", EntryKind.DATA, Origin.HOST, str(into / "launch")),
            Entry(MAIN, EntryKind.MODULE, Origin.HOST, str(into / "main.py")),
            *(msgspec.structs.replace(hook, dest=f"{HOOKS}/{hook.dest}.pyc") for hook in hooks),
        ]

    def _launcher(self, include: Path) -> Path:
        assert self.python is not None
        toolchain, _, runner = tools()
        headers = Headers(folder=include)
        objects = compile_launcher(
            toolchain, self.target, python=self.python.short, headers=headers, into=self.part("objects"), runner=runner
        )  # fmt: skip
        output = self.part("launcher") / f"lantern{self.target.suffix}"
        return link_launcher(toolchain, self.target, objects=objects, output=output, runner=runner)

    def run(self, place: Place, program: Path, *words: str) -> tuple[int, str]:
        """Exit code and output of the program in another place."""
        home = self.part("home")
        variables = {"HOME": place.spell(home), "TMPDIR": place.spell(home), "TEMP": place.spell(home)}
        command = place.command([program, *words], cwd=home, env=variables, folders=(self.folder,))
        done = self.runner.run(
            command.words, name="run", cwd=command.cwd, env=command.env, ok=range(256), timeout=120
        )
        return done.returncode, done.output

    @contextmanager
    def open(self, purpose: Purpose) -> Iterator[Place]:
        """A place of this journey's runner."""
        with self.kind.open(
            self.target, purpose, self.target.floor, self.part("places"), self.runner
        ) as place:
            yield place


def journey(kind: RunnerKind, target: Target, folder: Path) -> Journey:
    """A journey in the new folder ``folder``."""
    folder.mkdir()
    return Journey(kind=kind, target=target, folder=folder)


def with_floor(target: str, floor: dict[str, str]) -> Target:
    """A target that promises something else than its row."""
    return msgspec.structs.replace(parse_target(target), floor=floor)


def processes_below(folder: Path) -> list[str]:
    """Command lines of what still runs and names the folder."""
    listed = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line and "pytest" not in line]
