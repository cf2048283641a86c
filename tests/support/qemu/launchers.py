"""Launchers for other machines, made by the toolchain and the packer that builds use."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ferryman_build.cmd import Runner
from ferryman_build.interpreter import Headers, find_interpreter
from ferryman_build.targets import parse_target
from ferryman_build.toolchain import Toolchain, compile_launcher, link_launcher, open_toolchain, prepare


@dataclass(frozen=True)
class Works:
    """A toolchain, and where what it makes for one test session goes."""

    toolchain: Toolchain
    headers: Headers
    folder: Path
    runner: Runner

    @classmethod
    def open(cls, cache: Path, include: Path, folder: Path) -> Works:
        """``cache`` keeps the toolchain; ``include`` has the headers of the interpreter that is shipped."""
        runner = Runner(folder / "logs")
        place = cache / "toolchain"
        if not (place / "ready").exists():
            place.mkdir(parents=True, exist_ok=True)
            prepare(place, find_interpreter("", runner, cache), runner)
            (place / "ready").touch()
        return cls(open_toolchain(place, cache / "zig"), Headers(folder=include), folder, runner)

    def launcher(self, target: str, payload: Path | None = None) -> Path:
        """The launcher for ``target``, with ``payload`` in it when there is one."""
        into = self.folder / target
        row = parse_target(target)
        objects = tuple(sorted((into / "objects").glob("*.o"))) or compile_launcher(
            self.toolchain, row, python="3.11", headers=self.headers, into=into, runner=self.runner
        )
        output = into / ("one-file" if payload else "bare")
        return link_launcher(
            self.toolchain, row, objects=objects, output=output, runner=self.runner, payload=payload
        )
