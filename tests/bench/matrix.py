"""What the matrix promises of speed, each against its peer in the same run.

1. A standalone tree for linux-arm64 takes at most 10 s on two cores, and at most 0.25 times what PyInstaller's way takes for
   the same target in QEMU.
2. After one edited line of the agent, all three targets that can be run here take at most twice the slowest single one.
3. ``plan --all`` for the 12 targets takes at most 20 s cold and at most 2 s warm.

What is timed in 1: the steps that make the tree out of interpreter and wheels, as the build itself says them, of
``ferryman build --target linux-arm64 --kind archive`` with one more dependency than in the round before (another small pure
package each time, the same for both sides), so that none of these steps is served from the cache:

    standalone      site (choose, fetch, unpack wheels), analyse (collect), tree
    PyInstaller     env (the same wheels and PyInstaller's own, in the userland), analyse (in QEMU), tree

*Warm* is what holds for both sides alike: the interpreter is unpacked (runtime, userland), uv has the wheels of all but the
new package, the launcher is linked, and the agent's own wheel is built. *Not warm*, on purpose: compiled modules and stripped
libraries of earlier builds are removed before each round, so each tree is compiled anew. What a developer sees, who keeps
them, is in a row of its own without a promise.

2 counts whole commands, from start to end, three kinds of artifact each with gate and smoke tests; the singles are those of
the same round. 3 counts whole commands: cold is an empty out/ and an empty cache of uv's, with the index at the other end of
the network; warm is the same command once more.

`--only=tree`, `--only=change` or `--only=plan` measures one of them and keeps nothing; `--rounds=1` is quicker, and worth less.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

from matrix_agent import Agent, Run, machine, prepared
from measure import undisturbed
from table import Row, keep, row, show
from timing import pair

ARM = "linux-arm64"
STANDALONE, PYINSTALLER = ("site", "analyse", "tree"), ("env", "analyse", "tree")
TREE_SECONDS, TREE_RATIO = 10.0, 0.25
CHANGE_RATIO = 2.0
PLAN_COLD, PLAN_WARM = 20.0, 2.0
ROUNDS = 3
# Small, pure, without dependencies; each round takes the next, for both sides.
PACKAGES = (
    "six", "colorama", "toml", "iniconfig", "pluggy", "certifi", "wcwidth", "tabulate", "humanize", "pyparsing", "docopt",
    "termcolor",
)  # fmt: skip


def say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


# -- 1: one tree -------------------------------------------------------------------------------------------------------


class Trees:
    """Both ways to linux-arm64, in turn."""

    def __init__(self, work: Path, env: Mapping[str, str]) -> None:
        self.agent = Agent(work, env)
        self.agent.until_the_tree()
        self.packages = iter(PACKAGES)
        for way in ("standalone", "pyinstaller"):
            say(f"building for {ARM} once, {way} ...")
            say(f"  {self._build(way).wall:.1f} s")

    def _build(self, way: str) -> Run:
        return self.agent.build(
            "--target", ARM, "--kind", "archive", "--floor", machine.FLOOR, "--collector", way
        )  # fmt: skip

    def depend(self) -> None:
        self.agent.depend_on(next(self.packages))

    def standalone(self, *, blobs: bool = False) -> float:
        """Seconds of its steps."""
        if not blobs:
            self.agent.forget_blobs()
        return self._build("standalone").seconds(ARM, STANDALONE)

    def pyinstaller(self) -> float:
        """Seconds of its steps."""
        self.agent.forget_blobs()
        return self._build("pyinstaller").seconds(ARM, PYINSTALLER)

    def changed(self, *, blobs: bool) -> float:
        """A standalone tree after a change of the dependencies."""
        self.depend()
        return self.standalone(blobs=blobs)


def trees(work: Path, env: Mapping[str, str], rounds: int) -> Iterator[Row]:
    """The first promise."""
    both = Trees(work, env)
    with undisturbed():  # seconds and no ratio: other work on the machine must not count
        fresh = [both.changed(blobs=False) for _ in range(rounds)]
        kept = [both.changed(blobs=True) for _ in range(rounds)]
    yield row(
        "standalone tree, everything compiled anew (s)",
        statistics.median(fresh),
        TREE_SECONDS,
        _listed(fresh),
    )
    yield row(
        "for information: with what earlier builds compiled", statistics.median(kept), None, _listed(kept)
    )

    def ours() -> float:
        both.depend()  # the pair has the same dependencies
        return both.standalone()

    seen = pair(ours, both.pyinstaller, runs=rounds, warmup=0)
    yield row("standalone tree / PyInstaller in QEMU", seen.ratio, TREE_RATIO,
              f"{seen.ours:.1f} s / {seen.theirs:.1f} s, median of {seen.runs} pairs")  # fmt: skip


def _listed(seconds: list[float]) -> str:
    return f"{' '.join(f'{one:.1f}' for one in sorted(seconds))} s on {os.cpu_count()} cores"


# -- 2: one line -------------------------------------------------------------------------------------------------------


def changes(work: Path, env: Mapping[str, str], rounds: int) -> Iterator[Row]:
    """The second promise."""
    agent = Agent(work, env)

    def after_edit(*targets: str) -> float:
        agent.edit()
        return agent.build("--target", ",".join(targets), "--floor", machine.FLOOR).wall

    say("building for all three once ...")
    say(f"  {after_edit(*machine.RUN_HERE):.1f} s")
    ratios, said = [], []
    for _ in range(rounds):
        single = {target: after_edit(target) for target in machine.RUN_HERE}
        slowest = max(single, key=single.__getitem__)
        everything = after_edit(*machine.RUN_HERE)
        ratios.append(everything / single[slowest])
        parts = ", ".join(f"{target} {seconds:.1f}" for target, seconds in single.items())
        say(f"  one round: {everything:.1f} s for all, {single[slowest]:.1f} s for {slowest}")
        said.append(f"{everything:.1f} s / {slowest} {single[slowest]:.1f} s ({parts})")
    yield row("three targets after one line / the slowest single", statistics.median(ratios), CHANGE_RATIO,
              "; ".join(said))  # fmt: skip


# -- 3: the plan -------------------------------------------------------------------------------------------------------


def plans(work: Path, env: Mapping[str, str], rounds: int) -> Iterator[Row]:
    """The third promise."""
    agent, cold, warm = Agent(work, env), [], []
    for number in range(rounds):
        command = agent.command("plan", "--all", "--json", out=work / f"out-{number}")
        variables = {"UV_CACHE_DIR": str(work / f"uv-{number}")}
        with undisturbed():
            cold.append(agent.run(command, **variables).wall)
            warm.append(agent.run(command, **variables).wall)
    yield row("plan --all, 12 targets, cold (s)", statistics.median(cold), PLAN_COLD, _listed(cold))
    yield row("plan --all, 12 targets, warm (s)", statistics.median(warm), PLAN_WARM, _listed(warm))


PARTS = {"plan": plans, "change": changes, "tree": trees}


def measure(folder: Path, names: list[str], rounds: int) -> Iterator[Row]:
    """The rows of these parts, each in a folder of its own."""
    env = prepared()
    for name in names:
        work = folder / name
        work.mkdir()
        yield from PARTS[name](work, env, rounds)


def main() -> int:
    """Measure, print a table, keep the figures as JSON; 1 when a promise is not kept."""
    parser = argparse.ArgumentParser(description="The matrix: one tree, one line, one plan.")
    parser.add_argument("--only", choices=list(PARTS), help="measure one part and keep nothing")
    parser.add_argument("--rounds", type=int, choices=range(1, 5), default=ROUNDS, help="of everything")
    options = parser.parse_args()
    only, rounds = options.only, max(1, options.rounds)
    began, load = time.time(), os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="ferryman-bench-") as folder:
        rows = show(measure(Path(folder).resolve(), [only] if only else list(PARTS), rounds))
    if only:
        return int(not all(one.held for one in rows))
    more = {
        "rounds": rounds,
        "load": round(load, 1),
        "see": "out/bench/extension.json has the extension's promises",
    }
    return keep("matrix", rows, time.time() - began, more)


if __name__ == "__main__":
    sys.exit(main())
