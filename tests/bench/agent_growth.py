"""`nox -s bench -- agent_growth [--full]`: what the agent holds after reloads and checks without number.

Two runs of an agent from its sources, each with one process from beginning to end:

    reloads   a file that is written anew for each, and a SIGHUP: twenty checks change, one has a name that never was before and takes another one's
              place, an output, an alert, a listener, a job and a collector change; counted are the lines of the log that say
              which generation is in force. 10,000 of them with --full, 2,000 otherwise.
    checks    four hundred of the kind `memory`, which look in the process itself, as often as one may (every 50 ms; slots that are
              missed are left out); counted is watchkeeper_check_runs_total. 1,000,000 of them with --full, 100,000 otherwise.

After a tenth of the work, and a thousand reloads, the agent is warm: its buffers of events and lines are full. From there a hundred looks are taken at what it holds, and the median of the second
half is held against that of the first: tasks may not have grown at all, and the rest by no more than the noise of one run, which is
the constants below.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from table import ROOT, Row, keep, row, show

sys.path.insert(0, str(ROOT / "tests"))
sys.path.insert(0, str(ROOT / "agent_src"))

from support.nginx import free_port, wait_for

RELOADS, CHECKS = 10_000, 1_000_000
SHORT = 10
"""Without --full: a tenth of it."""
WARM = 1000
LOOKS = 100
RSS_LIMIT = 2.0
"""MB between the medians of two halves; 1 KB that every reload left behind would be 4.5 MB in a full run. In 30,000 reloads the
C library's allocator has taken two steps of 1.7 MB, at no fixed time, while what it had given out stayed the same to 0.05 MB."""
BLOCKS_LIMIT = 1500.0
"""Of some 225,000, which go up and down by 3,000 between two collections of garbage; one that every reload left behind would be
4,500 in a full run."""
HANDLES_LIMIT = 1.0
"""Descriptors are one more or less as connections come and go; asyncio makes a thread of its pool when it is needed, the last of
them after thousands of reloads. One that every reload left behind would be 4,500 in a full run."""
SERIES_LIMIT = 8.0
"""A check has some of its series, and a collector its own, only once it has looked: it may have or not when somebody scrapes."""
MEMORY_CHECKS = 400
LIMIT = 3600.0


@dataclass(frozen=True)
class Held:
    """What the process holds; `rss` in MB."""

    blocks: int
    rss: float
    descriptors: int
    threads: int
    tasks: int
    series: int


class Agent:
    """A running agent and a look at it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port = folder, free_port()
        self.file, self.log = folder / "agent.json", folder / "log"
        self._read, self._generation, self._tail = 0, 0, b""

    @contextlib.contextmanager
    def running(self, config: dict[str, Any]) -> Iterator[Agent]:
        self.write(config)
        listen, state = f"127.0.0.1:{self.port}", str(self.folder / "state")
        command = [sys.executable, "-m", "watchkeeper", "run", "--config", str(self.file), "--listen", listen]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "agent_src")}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [*command, "--state-dir", state], env=environment, stdout=log, stderr=log
            )
        try:
            wait_for(self.port)
            yield self
        finally:
            self.process.terminate()
            self.process.wait(30)

    def write(self, config: dict[str, Any]) -> None:
        partial = self.folder / ".partial"
        partial.write_text(json.dumps(config))
        partial.replace(self.file)

    @property
    def generation(self) -> int:
        """The newest that the log says is in force."""
        with self.log.open("rb") as stream:
            stream.seek(self._read)
            data = stream.read()
        self._read += len(data)
        *lines, self._tail = (self._tail + data).split(b"\n")
        for line in lines:
            if b'"configuration in force"' in line:
                self._generation = json.loads(line)["generation"]
        return self._generation

    def metrics(self) -> list[tuple[str, float]]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=30) as answer:
            pairs = (line.rpartition(" ") for line in answer.read().decode().splitlines() if line[0] != "#")
            return [(name, float(value)) for name, _, value in pairs]

    def held(self) -> Held:
        found = self.metrics()
        folder = Path(f"/proc/{self.process.pid}")
        pages = int((folder / "statm").read_text().split()[1])
        return Held(
            int(dict(found)["watchkeeper_python_blocks"]),
            pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
            len(list((folder / "fd").iterdir())),
            len(list((folder / "task").iterdir())),
            int(dict(found)["watchkeeper_tasks_alive"]),
            len(found),
        )


def changing(number: int, folder: Path) -> dict[str, Any]:
    """The configuration number so and so; every one of them changes every kind of thing."""
    small = number % 7
    checks = {
        f"c-{each}": {"type": "memory", "min_available": 1, "period": 3600 + number} for each in range(20)
    }
    checks[f"only-{number}"] = {"type": "memory", "min_available": 1, "period": "100ms"}
    return {
        "agent": {"reload_interval": "10ms"},
        "services": {"app": {"command": ["sleep", "86400"], "critical": bool(number % 2), "checks": {
            "own": {"type": "process", "name": "sleep", "period": 1000 + small}}}},
        "checks": checks,
        "outputs": {"file": {"type": "file", "path": str(folder / f"out{small}.json"), "max_size": "1MiB", "keep": 1}},
        "listeners": {"more": {"address": f"unix:{folder}/more{small}.sock"}},
        "jobs": {"job": {"command": ["true"], "every": 3600 + number}},
        "collectors": {"load": {"interval": 10 + small}},
        "alerts": {"high": {"type": "threshold", "metric": "watchkeeper_queue_depth", "threshold": 1000 + number}},
    }  # fmt: skip


def reload_until(agent: Agent, count: int, at: Callable[[int], None]) -> None:
    """So many reloads, each of which the log has said is in force."""
    for number in range(1, count + 1):
        agent.write(changing(number, agent.folder))
        agent.process.send_signal(signal.SIGHUP)  # nobody waits for the next look
        deadline = time.monotonic() + 30
        while agent.generation <= number:
            if time.monotonic() > deadline or agent.process.poll() is not None:
                raise SystemExit(f"reload {number} did not come into force:\n{agent.log.read_text()[-3000:]}")
            time.sleep(0.001)
        at(number)


def look_until(agent: Agent, count: int, at: Callable[[int], None]) -> None:
    """So many looks, counted by the agent."""
    done, deadline = 0, time.monotonic() + LIMIT
    while done < count:
        if time.monotonic() > deadline:
            raise SystemExit(f"{done} of {count} checks were made within {LIMIT:g} s")
        time.sleep(0.5)
        done = int(
            sum(value for name, value in agent.metrics() if name.startswith("watchkeeper_check_runs_total"))
        )
        at(min(done, count))


@dataclass
class Watch:
    """Takes its looks at even distances in the work, from the moment on in which the agent is warm."""

    agent: Agent
    count: int
    warm: float

    def __post_init__(self) -> None:
        self.looks: list[Held] = []

    def __call__(self, done: int) -> None:
        due = self.warm + len(self.looks) * (self.count - self.warm) / LOOKS
        if done >= due:
            self.looks.append(self.agent.held())

    def rows(self, what: str, seconds: float) -> Iterator[Row]:
        half = len(self.looks) // 2
        said = f"{self.count} {what}, {len(self.looks)} looks, {seconds:.0f} s"
        for name, limit in (
            ("blocks", BLOCKS_LIMIT),
            ("rss", RSS_LIMIT),
            ("descriptors", HANDLES_LIMIT),
            ("threads", HANDLES_LIMIT),
            ("tasks", 0.0),
            ("series", SERIES_LIMIT),
        ):
            first, second = (
                statistics.median(getattr(each, name) for each in part)
                for part in (self.looks[:half], self.looks[half:])
            )
            first_last = f"first {getattr(self.looks[0], name):g}, last {getattr(self.looks[-1], name):g}"
            yield row(
                f"{what}: growth of {name}",
                second - first,
                limit,
                f"{first:g} -> {second:g}; {first_last}; {said}",
            )


def measure(folder: Path, share: int) -> Iterator[Row]:
    for what, count, warm, config, work in (
        ("reloads", max(RELOADS // share, 2 * WARM), WARM, changing, reload_until),
        ("checks", CHECKS // share, CHECKS // share // 10, looking, look_until),
    ):
        place = folder / what
        place.mkdir()
        agent = Agent(place)
        with agent.running(config(0, place)):
            watch, began = Watch(agent, count, warm), time.monotonic()
            work(agent, count, watch)
            yield from watch.rows(what, time.monotonic() - began)


def looking(_number: int, _folder: Path) -> dict[str, Any]:
    check = {"type": "memory", "min_available": 1, "period": 0.05, "timeout": 1}
    return {"checks": {f"m-{number}": check for number in range(MEMORY_CHECKS)}}


def main(arguments: list[str]) -> int:
    """Exit code 1 when anything has grown."""
    began, share = time.monotonic(), 1 if "--full" in arguments else SHORT
    with tempfile.TemporaryDirectory(prefix="growth-") as folder:
        rows = show(measure(Path(folder), share))
    return keep("agent_growth", rows, time.monotonic() - began)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
