"""`nox -s soak [-- --minutes N] [--seed S] [--executable PATH] [--plan]`: a real agent among everything that goes wrong.

A plan is made from the seed (plan.py), printed, and carried out: dozens of services of every manner, about 150 checks of all
kinds at misbehaving servers, six sources of configuration, outputs, jobs, alerts, registrations, an operator, kill -9, frozen time,
full disks, no descriptors. What has to hold at every moment is watched by watch.py, what has to be so after every storm by
calm.py. Each promise that is not kept is a sentence with its time and the seed. Exit code 0: all were kept.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import random
import resource
import shutil
import signal
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "agent_src"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from soak import plan
from soak.calm import unmet
from soak.faults import End, Faults
from soak.machine import Level, least, level, of_user, processes
from soak.plan import Fault, Round
from soak.watch import Watch
from soak.world import World

BOUND = 25.0
"""Seconds from the end of a storm until everything is as it is wanted; outputs have FINALE."""
END_LIMIT = 25.0
GROWTH = {"descriptors": 12, "threads": 8, "rss": 10.0, "blocks": 25_000}
"""How much more a process may hold in a late calm than in the first one after the last kill: numbers, and MB.

Blocks are some 260,000, and go up and down by the garbage that waits for its collection."""
SAMPLES, SAMPLE_INTERVAL = 6, 0.25
"""How often, and how many seconds apart, it is looked at what is held."""
SAME = 8
"""Sentences that begin alike are said so often."""


class Report:
    """What is printed, and how it ended."""

    def __init__(self, seed: int) -> None:
        self._seed, self._began, self._lock = seed, time.monotonic(), threading.Lock()
        self._alike: dict[str, int] = {}
        self.broken_count = 0

    @property
    def at(self) -> float:
        return time.monotonic() - self._began

    def say(self, sentence: str) -> None:
        with self._lock:
            print(f"{self.at:8.1f} s  {sentence}", flush=True)

    def broken(self, sentence: str) -> None:
        with self._lock:
            self.broken_count += 1
            start = sentence[:40]
            self._alike[start] = self._alike.get(start, 0) + 1
            if self._alike[start] <= SAME:
                print(f"{self.at:8.1f} s  BROKEN (seed {self._seed}): {sentence}", flush=True)


class Soak:
    """One run."""

    def __init__(self, folder: Path, arguments: argparse.Namespace, rounds: list[Round]) -> None:
        self._rounds, self._report = rounds, Report(arguments.seed)
        self._world = World(folder, arguments.executable)
        self._faults = Faults(self._world, arguments.seed, self._report.say, self._report.broken)
        self._watch = Watch(self._world, self._faults.excuses, self._report.say, self._report.broken)
        self._ends: list[tuple[float, Fault, End]] = []
        self._levels: list[tuple[int, Level]] = []
        for name, real in (
            ("a small disk", self._world.disk.real),
            ("a clock", self._world.clock.real),
            ("etcd", self._world.etcd),
        ):
            if not real:
                self._report.say(f"LOUD: this machine has not what {name} needs; those faults do nothing")

    def run(self) -> int:
        agent = self._world.agent
        try:
            agent.start()
            if not agent.wait_until_started(30):
                self._report.broken("the agent did not start")
                return 1
            self._watch.start()
            self._until(plan.WARM_UP)
            for each in self._rounds:
                self._storm(each)
                self._calm(each, last=each is self._rounds[-1])
            self._finish()
        finally:
            self._give_up()
        self._table()
        return 1 if self._report.broken_count else 0

    # -- storms -----------------------------------------------------------------------------------------------------------------

    def _until(self, at: float) -> None:
        """Wait, and end what has to end meanwhile."""
        while self._report.at < at:
            self._end_what_is_over()
            time.sleep(max(0.0, min(0.1, at - self._report.at)))

    def _end_what_is_over(self, *, all_of_them: bool = False) -> None:
        over = [each for each in self._ends if all_of_them or each[0] <= self._report.at]
        for each in over:
            self._ends.remove(each)
            if each[2] is not None:
                each[2]()

    def _storm(self, round_: Round) -> None:
        for fault in round_.faults:
            self._until(fault.at)
            self._report.say(
                f"{fault.what} {fault.how}" + (f" for {fault.seconds:g} s" if fault.seconds else "")
            )
            self._ends.append((self._report.at + fault.seconds, fault, self._faults.begin(fault)))
        self._until(round_.calm_at)

    def _calm(self, round_: Round, *, last: bool) -> None:
        """End everything, and wait until all is as it has to be."""
        self._end_what_is_over(all_of_them=True)
        self._world.settle()
        self._world.agent.write(self._world.configuration())
        self._faults.start_all()
        self._world.agent.order("POST", "/control/reload")
        begin = time.monotonic()
        bound = plan.FINALE if last else BOUND
        left = ["nothing was looked at"]
        while left and time.monotonic() - begin < bound:
            time.sleep(0.5)
            self._faults.start_all()
            left = unmet(self._world, outputs=last)
        for sentence in left:
            self._report.broken(f"{bound:g} s after the storm: {sentence}")
        if not left:
            self._report.say(
                f"calm {round_.number + 1}: all is as it is wanted, {time.monotonic() - begin:.1f} s after the storm"
            )
        self._until(round_.calm_at + plan.CALM - 3)
        self._measure(round_)

    def _level(self) -> Level:
        time.sleep(SAMPLE_INTERVAL)
        return level(self._world.agent.pid, self._world.agent.get("/metrics"))

    def _measure(self, round_: Round) -> None:
        """What the process holds, once it has been calm for a while."""
        if not self._world.agent.alive:
            return
        held = least(self._level() for _ in range(SAMPLES))
        self._levels.append((self._world.agent.pid, held))
        self._report.say(
            f"calm {round_.number + 1}: {held.descriptors} descriptors, {held.threads} threads, {held.rss:.1f} MB, "
            f"{held.blocks} blocks"
        )
        first = next(each for pid, each in self._levels if pid == self._world.agent.pid)
        for name, more in GROWTH.items():
            grown = getattr(held, name) - getattr(first, name)
            if grown > more:
                self._report.broken(
                    f"the agent holds {grown:g} more {name} than in the first calm of its life; {more:g} are allowed"
                )

    # -- the end ----------------------------------------------------------------------------------------------------------------

    def _finish(self) -> None:
        self._faults.excuses.silence()  # from here on it may be gone
        code = self._world.agent.end(END_LIMIT)
        self._watch.stop()
        if code != 0:
            why = "did not end" if code is None else f"ended with {code}"
            self._report.broken(f"the agent {why} within {END_LIMIT:g} s of SIGTERM")
        time.sleep(1)
        left = [(each.pid, each.service, each.command[:3]) for each in processes(self._world.mark)]
        if left:
            self._report.broken(f"{len(left)} processes are left after the end of the agent: {left[:10]}")
        for file in sorted((self._world.disk.folder / "logs").glob("*")):
            data = file.read_bytes()
            self._watch.no_secret(data, str(file.name))
            bad = [line for line in data.splitlines() if not line.startswith(b"{") or not line.endswith(b"}")]
            if bad:
                self._report.broken(f"{len(bad)} lines of {file.name} are not whole: {bad[0][:100]!r}")

    def _give_up(self) -> None:
        """Nothing of it outlives the run, however that ended."""
        if self._world.agent.alive:
            self._world.agent.kill()
        for process in processes(self._world.mark):
            if process.pid != os.getpid():
                _kill(process.pid)
        if self._world.root:
            from soak.cast import BOMB_USER

            for pid in of_user(BOMB_USER):
                _kill(pid)
        self._world.close()

    def _table(self) -> None:
        watch, times = self._watch, sorted(self._watch.livez) or [0.0]
        held = [each for pid, each in self._levels if pid == self._world.agent.pid]
        rows = {
            "faults": ", ".join(f"{name} {count}" for name, count in sorted(self._faults.counts.items())),
            "/livez": f"{len(times)} times, median {statistics.median(times) * 1e3:.1f} ms, longest {times[-1] * 1e3:.0f} ms",
            "scrapes": str(watch.scrapes),
            "log lines": f"{watch.lines}, by class {dict(watch.classes.most_common())}",
            "received": f"{self._world.sinks.lines} lines, {self._world.sinks.spans} spans, {self._world.sinks.alerts} alerts",
            "agents": f"{len(self._world.agent.logs)}",
            "held, first calm of the last agent": str(held[0]) if held else "-",
            "held, last calm": str(held[-1]) if held else "-",
            "promises not kept": str(self._report.broken_count),
        }
        for name, value in rows.items():
            print(f"{name:<36} {value}", flush=True)


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 9)


def main(words: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="soak", description=__doc__.splitlines()[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=None, help="another run with the same plan")
    parser.add_argument("--executable", help="a built agent; by default it runs from its sources")
    parser.add_argument("--plan", action="store_true", help="print the plan, and do nothing")
    parser.add_argument("--keep", action="store_true", help="leave the folder with the logs behind")
    arguments = parser.parse_args(words)
    if arguments.seed is None:
        arguments.seed = random.SystemRandom().randrange(1_000_000)
    if not arguments.plan:
        _alone(words, arguments.seed)
    rounds = plan.make(arguments.seed, arguments.minutes)
    print(f"seed {arguments.seed}, {arguments.minutes:g} minutes, {len(rounds)} rounds", flush=True)
    for each in rounds:
        print("\n".join(f"  {fault}" for fault in each.faults), flush=True)
    if arguments.plan:
        return 0
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))
    logging.getLogger("aiohttp").setLevel(logging.CRITICAL)  # clients that hang up are the point
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what was started is ended all the same
    folder = Path(tempfile.mkdtemp(prefix="soak-"))
    folder.chmod(0o755)
    try:
        code = Soak(folder, arguments, rounds).run()
    finally:
        if arguments.keep:
            print(f"kept in {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    print(
        "all promises were kept"
        if code == 0
        else f"NOT KEPT; again with --seed {arguments.seed} --minutes {arguments.minutes:g}"
    )
    return code


def _alone(words: list[str], seed: int) -> None:
    """Go on in a mount namespace of one's own, where that is permitted: the small disk goes with the run, whatever ends it."""
    unshare = shutil.which("unshare")
    if os.geteuid() != 0 or unshare is None or "SOAK_ALONE" in os.environ:
        return
    os.environ["SOAK_ALONE"] = "1"
    if os.system(f"{unshare} -m true") == 0:
        os.execv(unshare, [unshare, "-m", sys.executable, __file__, *words, "--seed", str(seed)])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
