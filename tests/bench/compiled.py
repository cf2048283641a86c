"""C programs that only the bench needs, made by the toolchain that the build has just used."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cached_property
from pathlib import Path

from built import Built

from ferryman_build.cmd import Runner
from ferryman_build.interpreter import Headers
from ferryman_build.targets import parse_target
from ferryman_build.toolchain import Toolchain, compile_launcher, link_launcher, open_toolchain

HERE = Path(__file__).parent
_HEADERS = "import json, sysconfig; print(json.dumps([sysconfig.get_path('include'), bool(sysconfig.get_config_var('Py_GIL_DISABLED'))]))"


class Compiler:
    """zig, its caches, and the headers of the interpreter that the agent ships with."""

    def __init__(self, built: Built) -> None:
        self.built = built
        self.runner = Runner()

    @cached_property
    def toolchain(self) -> Toolchain:
        return open_toolchain(self.built.step("toolchain/env").parent, self.built.cache / "zig")

    @cached_property
    def headers(self) -> Headers:
        """The parts of them that the launcher reads are the same on every system."""
        said = subprocess.run(
            [self.built.base, "-c", _HEADERS], capture_output=True, text=True, check=True
        ).stdout
        folder, free = json.loads(said)
        return Headers(folder=Path(folder), defines=("Py_GIL_DISABLED",) if free else ())

    @property
    def python(self) -> str:
        return ".".join(str(self.built.manifest["tools"]["python"]).split(".")[:2])

    def launcher(self, target: str, into: Path) -> Path:
        """The launcher without a payload for another system."""
        sys.stderr.write(f"compiling the launcher for {target}; the first time takes minutes ...\n")
        known = parse_target(target)
        objects = compile_launcher(
            self.toolchain, known, python=self.python, headers=self.headers, into=into / target,
            runner=self.runner,
        )  # fmt: skip
        return link_launcher(
            self.toolchain, known, objects=objects, output=into / target / f"launcher{known.suffix}",
            runner=self.runner,
        )  # fmt: skip

    def exec_unpacker(self, tree: Path, into: Path) -> Path:
        """designs/exec_unpacker.c for the unpacked archive whose executable is ``tree``: static, for no C library."""
        program = into / "exec-unpacker"
        target = parse_target("linux-amd64-musl")
        self.runner.run(
            [self.toolchain.zig, "cc", "-target", target.zig, "-static", "-Os", "-s", f'-DTREE="{tree.parent}"',
             f'-DPROGRAM="{tree.name}"', HERE / "designs" / "exec_unpacker.c", "-o", program],
            name="the other design", env=self.toolchain.environment(into / "zig"), timeout=1800.0,
        )  # fmt: skip
        return program
