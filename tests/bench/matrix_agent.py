"""The agent in a folder of its own, and what a `ferryman build` of it says about its steps."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from table import ROOT

sys.path[:0] = [str(ROOT / "build"), str(ROOT / "tests")]

from e2e.clean_rootfs.rootfs import UnavailableError  # noqa: E402 - the path is made first
from e2e.matrix import machine  # noqa: E402
from support.ferryman import environment  # noqa: E402

__all__ = ["Agent", "Run", "machine", "prepared"]

_STEP = re.compile(r"✓ (?P<target>\S+) +(?P<step>\S+) +(?P<seconds>[\d.]+) s")
_counter = itertools.count()


def prepared() -> Mapping[str, str]:
    """Runtimes and runners, which no figure contains; the variables that `ferryman` finds them by."""
    try:
        env = machine.variables(machine.runtimes(_say))
        machine.set_up(_say)
    except UnavailableError as reason:
        raise SystemExit(f"This bench runs programs of {', '.join(machine.RUN_HERE)}: {reason}") from reason
    return env


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


@dataclass(frozen=True, kw_only=True)
class Run:
    """Seconds of a whole command on the clock, and of each step that really ran, by (target, step)."""

    wall: float
    steps: Mapping[tuple[str, str], float]
    said: str

    def seconds(self, target: str, names: Iterable[str]) -> float:
        """Of these steps together; one that did not run ends the bench, because it would be fast and worth nothing."""
        missing = [name for name in names if (target, name) not in self.steps]
        if missing:
            raise SystemExit(
                f"{', '.join(missing)} of {target} did not run, so there is nothing to time:\n{self.said}"
            )
        return sum(self.steps[target, name] for name in names)


class Agent:
    """A copy of the default project with an out/ and a dist/ of its own."""

    def __init__(self, work: Path, env: Mapping[str, str]) -> None:
        self.work, self.env = work, env
        self.project, self.out = work / "agent", work / "out"
        ignored = shutil.ignore_patterns("*.egg-info", "__pycache__", "build")
        shutil.copytree(ROOT / "agent_src", self.project, ignore=ignored)

    def command(self, name: str, *words: str, out: Path | None = None) -> list[str]:
        """`ferryman NAME WORDS` on this project."""
        places = ["--project", str(self.project), "--out", str(out or self.out)]
        places += ["--dist", str(self.work / "dist")] if name == "build" else []
        return [sys.executable, "-m", "ferryman_build", name, "--plain", *places, *words]

    def build(self, *words: str) -> Run:
        """Run it to its end."""
        return self.run(self.command("build", *words))

    def run(self, command: list[str], **variables: str) -> Run:
        """Time a command of :meth:`command`."""
        began = time.perf_counter()
        done = subprocess.run(
            command, env=environment({**self.env, **variables}), stdin=subprocess.DEVNULL, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        wall = time.perf_counter() - began
        if done.returncode:
            raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stderr}")
        found = _STEP.finditer(done.stderr)
        steps = {(one["target"], one["step"]): float(one["seconds"]) for one in found}
        return Run(wall=wall, steps=steps, said=done.stderr)

    def forget_blobs(self) -> None:
        """Compiled modules and stripped libraries that earlier builds of this project have left."""
        shutil.rmtree(self.out / "cache" / "blobs", ignore_errors=True)

    def edit(self) -> None:
        """Change one line of a module: a statement, so that the bytecode differs and not only the file."""
        path = next(self.project.glob("*/cli.py"))
        text = re.sub(r"\n_EDITED = \d+\n$", "\n", path.read_text(encoding="utf-8"))
        path.write_text(f"{text}_EDITED = {next(_counter)}\n", encoding="utf-8")

    def depend_on(self, requirement: str) -> None:
        """One dependency more than the agent has, in the place of the one of the last call."""
        path = self.project / "pyproject.toml"
        text = re.sub(r"\n  \"[^\"]+\",  # the bench's\n", "\n", path.read_text(encoding="utf-8"))
        head, mark, rest = text.partition("\ndependencies = [\n")
        assert mark, "the agent's dependencies are not where they were"
        path.write_text(f'{head}{mark}  "{requirement}",  # the bench\'s\n{rest}', encoding="utf-8")

    def until_the_tree(self) -> None:
        """Try no more than ``--version``: where only steps before the trial are timed, it takes most of the minutes."""
        path = self.project / "pyproject.toml"
        head, mark, _ = path.read_text(encoding="utf-8").partition("[tool.ferryman.smoke]\n")
        assert mark, "the agent's smoke test is not where it was"
        path.write_text(f'{head}{mark}commands = [["--version"]]\n', encoding="utf-8")
