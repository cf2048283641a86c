"""What the build half promises of speed and size, each against its peer in the same run.

1. The tree starts (``--version``) in at most 2.0 times ``python3 -I -S -c pass`` of the same interpreter.
2. The archive has at most 0.5 times the size of PyInstaller's own one-file of the same program as it comes.
3. A rebuild with nothing changed takes under 1 s and runs no step.
4. After one edited line in the agent, a rebuild takes at most half of a plain ``pyinstaller`` run of the same program.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from measure import Start, against, undisturbed
from table import ROOT, Row, keep, row, show
from timing import command, pair

_counter = itertools.count()


class Bench:
    """A copy of the agent in a folder of its own, built once; everything is measured on that."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self.project = work / "agent"
        shutil.copytree(
            ROOT / "agent_src",
            self.project,
            ignore=shutil.ignore_patterns("*.egg-info", "__pycache__", "build"),
        )
        self.ferryman = [
            sys.executable, "-m", "ferryman_build", "build", "--plain", "--project", str(self.project),
            "--out", str(work / "out"), "--dist", str(work / "dist"),
        ]  # fmt: skip
        print("building once ...", file=sys.stderr)
        self.say(command(self.ferryman)())
        self.manifest = json.loads((work / "dist" / "manifest.json").read_text(encoding="utf-8"))
        self.env = next((work / "out/cache/env").glob("*/env"))
        self.app = (
            work / "plain" / "app"
        )  # a copy of its own for plain PyInstaller, which gets its edits there
        shutil.copytree(next((work / "out/cache/wheel").glob("*/app")), self.app)
        self.script = next((work / "out/cache/analyse").glob("*/_ferryman_program.py"))

    @staticmethod
    def say(seconds: float) -> None:
        print(f"  {seconds:.1f} s", file=sys.stderr)

    def artifact(self, kind: str) -> Path:
        """The built file of ``kind``."""
        found = next(item for item in self.manifest["artifacts"] if item["kind"] == kind)
        return self.work / "dist" / str(found["path"])

    def tree(self) -> Path:
        """The executable in the unpacked archive."""
        with tarfile.open(self.artifact("archive")) as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Debian 12's Python has none
            archive.extractall(self.work / "unpacked")
        return next(path for path in (self.work / "unpacked").glob("*/*") if path.is_file())

    def pyinstaller(self, *options: str) -> list[str]:
        """A plain PyInstaller run of the same program with the same locked dependencies."""
        return [
            str(self.env / "bin/python"), "-m", "PyInstaller", "--noconfirm", "--name", "plain", "--paths", str(self.app),
            "--workpath", str(self.work / "plain/work"), "--distpath", str(self.work / "plain/dist"),
            "--specpath", str(self.work / "plain"), *options, str(self.script),
        ]  # fmt: skip


def _edit(path: Path) -> None:
    """Change one line of a module: a statement, so that the bytecode differs and not only the file."""
    text = re.sub(r"\n_EDITED = \d+\n$", "\n", path.read_text(encoding="utf-8"))
    path.write_text(f"{text}_EDITED = {next(_counter)}\n", encoding="utf-8")


def measure(work: Path) -> Iterator[Row]:
    """One row per promise: name, value, limit, held, and what was seen."""
    bench = Bench(work)
    tree = bench.tree()
    base = subprocess.run(
        [bench.env / "bin/python", "-c", "import os, sys; print(os.path.realpath(sys.executable))"],
        capture_output=True, text=True, check=True,
    ).stdout.strip()  # fmt: skip
    env = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": str(work)}
    ratio, times = against(
        Start(name="tree", args=[str(tree), "--version"], env=env),
        Start(name="bare", args=[base, "-I", "-S", "-c", "pass"], env=env),
        limit=2.0, least=40, most=200,
    )  # fmt: skip
    yield row("tree --version / bare python", ratio.value, 2.0,
              f"{times.wall('tree') * 1e3:.1f} ms / {times.wall('bare') * 1e3:.1f} ms, median of {ratio.rounds} pairs")  # fmt: skip

    one_file = command(bench.pyinstaller("--onefile"), env={"PYTHONPATH": str(bench.app)})
    print("plain pyinstaller --onefile ...", file=sys.stderr)
    bench.say(one_file())
    plain = (bench.work / "plain/dist/plain").stat().st_size
    archive = bench.artifact("archive").stat().st_size
    yield row("archive / PyInstaller one-file, size", archive / plain, 0.5, f"{archive:,} B / {plain:,} B")
    with undisturbed():  # seconds and no ratio: other work on the machine must not count
        idle = min(command(bench.ferryman)() for _ in range(5))
    output = subprocess.run(bench.ferryman, capture_output=True, text=True, check=True).stderr
    quiet = "no step run" in output
    yield row("rebuild, nothing changed (s)", idle, 1.0, "no step run" if quiet else "A STEP RAN", also=quiet)

    yield _after_edit(bench)


def _after_edit(bench: Bench) -> Row:
    rebuild, plain = (
        command(bench.ferryman),
        command(bench.pyinstaller("--onefile"), env={"PYTHONPATH": str(bench.app)}),
    )

    def ours() -> float:
        _edit(next(bench.project.glob("*/cli.py")))
        return rebuild()

    def theirs() -> float:
        # The same edit where plain PyInstaller reads it; its own caches stay warm, as ours do.
        _edit(next(bench.app.glob("*/cli.py")))
        return plain()

    seen = pair(ours, theirs, runs=3, warmup=1)
    return row("rebuild after one line / plain pyinstaller run", seen.ratio, 0.5,
                f"{seen.ours:.1f} s / {seen.theirs:.1f} s, median of {seen.runs} pairs")  # fmt: skip


def main() -> int:
    """Measure, print a table, keep the figures as JSON; 1 when a promise is not kept."""
    started = time.time()
    with tempfile.TemporaryDirectory(prefix="ferryman-bench-") as folder:
        rows = show(measure(Path(folder)))
    return keep("spine", rows, time.time() - started)


if __name__ == "__main__":
    sys.exit(main())
