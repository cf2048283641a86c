"""`nox -s bench -- agent_restart`: from SIGKILL of a supervised process to the new one, beside supervisord and monit.

The process tells its start to a pipe: a shell that says its number, and then sleeps. Measured is from the kill to that word,
so the start of the shell is in every figure. Each supervisor is told to start again as soon as it can: the agent with a
backoff of 1 ms, supervisord with startsecs=0, monit with a cycle of one second, which is the shortest it has. supervisord and
monit are Debian's, unpacked and not installed; where they cannot be had the row says so.

Promise: 50 ms and the backoff for the agent, half of what supervisord takes at most.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import statistics
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from table import ROOT, Row, keep, row, show

sys.path.insert(0, str(ROOT / "tests"))

import pytest

from support.debian import unpacked

ROUNDS, SLOW_ROUNDS = 40, 8
LIMIT = 0.050
BACKOFF = 0.001
PATIENCE = 30.0
SYSTEM_PYTHON = "/usr/bin/python3"


@dataclass
class Peer:
    """A supervisor that looks after the process in a folder of its own."""

    name: str
    begin: Callable[[Path, list[str]], list[str]]
    rounds: int = ROUNDS


def command(pipe: Path) -> list[str]:
    """The supervised process."""
    return ["/bin/sh", "-c", f"echo $$ > {pipe}; exec sleep 600"]


def agent(folder: Path, words: list[str]) -> list[str]:
    """Ours, from the sources."""
    backoff = {"initial": BACKOFF, "maximum": BACKOFF, "factor": 1, "jitter": 0}
    service = {"command": words, "backoff": backoff, "flap": {"failures": 0}}
    file = folder / "agent.yaml"
    file.write_text(json.dumps({"services": {"app": service}}))
    return [sys.executable, "-m", "watchkeeper", "run", "--config", str(file), "--listen", "127.0.0.1:0"]


def supervisord(folder: Path, words: list[str]) -> list[str]:
    """Debian's, with the Python of the system that it is made for."""
    unpacked("supervisor", "python3-pkg-resources")
    script = folder / "app.sh"
    script.write_text("#!/bin/sh\n" + words[-1] + "\n")
    script.chmod(0o755)
    file = folder / "supervisord.conf"
    file.write_text(
        textwrap.dedent(f"""
        [supervisord]
        nodaemon = true
        user = {os.environ.get("USER", "root") or "root"}
        logfile = {folder}/supervisord.log
        pidfile = {folder}/supervisord.pid
        [program:app]
        command = {script}
        autorestart = true
        startsecs = 0
    """)
    )
    return [SYSTEM_PYTHON, "-m", "supervisor.supervisord", "-c", str(file)]


def monit(folder: Path, words: list[str]) -> list[str]:
    """Debian's."""
    program = unpacked("monit") / "usr/bin/monit"
    pid_file, script = folder / "app.pid", folder / "app.sh"
    script.write_text(
        f"#!/bin/sh\nsetsid /bin/sh -c 'echo $$ > {pid_file}; {words[-1]}' < /dev/null > /dev/null 2>&1 &\n"
    )
    script.chmod(0o755)
    file = folder / "monitrc"
    file.write_text(
        textwrap.dedent(f"""
        set daemon 1
        set pidfile {folder}/monit.pid
        set idfile {folder}/monit.id
        set statefile {folder}/monit.state
        set logfile {folder}/monit.log
        check process app with pidfile {pid_file}
          start program = "{script}"
    """)
    )
    file.chmod(0o600)
    return [str(program), "-I", "-c", str(file)]


PEERS = (
    Peer("watchkeeper", agent),
    Peer("supervisord", supervisord),
    Peer("monit", monit, SLOW_ROUNDS),
)


def environment() -> dict[str, str]:
    """With which all of them are started."""
    package = ROOT / "out/cache/debian/supervisor+python3-pkg-resources/usr/lib/python3/dist-packages"
    return {
        **os.environ,
        "PYTHONPATH": f"{ROOT / 'agent_src'}{os.pathsep}{package}",
        "PYTHONWARNINGS": "ignore",
    }


def measure(peer: Peer) -> list[float]:
    """Seconds from the kill to the new process, one for each round.

    Raises:
        SystemExit: it did not start the process at all.
    """
    with tempfile.TemporaryDirectory(prefix="restart-") as name:
        folder = Path(name)
        pipe = folder / "started"
        os.mkfifo(pipe)
        reader = os.open(pipe, os.O_RDWR)
        words = peer.begin(folder, command(pipe))
        log = (folder / "output").open("wb")
        supervisor = subprocess.Popen(
            words, env=environment(), stdout=log, stderr=log, stdin=subprocess.DEVNULL
        )
        pid = 0
        try:
            pid = started(reader, folder)
            took = []
            for _ in range(peer.rounds):
                time.sleep(0.05)  # nobody is in the middle of the last start any more
                begun = time.perf_counter()
                os.kill(pid, signal.SIGKILL)
                pid = started(reader, folder)
                took.append(time.perf_counter() - begun)
            return took
        finally:
            supervisor.terminate()
            supervisor.wait(20)
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            os.close(reader)
            log.close()


def started(reader: int, folder: Path) -> int:
    """The number of the next process that begins."""
    ready, _, _ = select.select([reader], [], [], PATIENCE)
    if not ready:
        said = (folder / "output").read_text(errors="replace")[-2000:]
        raise SystemExit(f"no process was started within {PATIENCE:g} s:\n{said}")
    return int(os.read(reader, 64).split()[-1])


def rows() -> Iterator[Row]:
    medians: dict[str, float] = {}
    for peer in PEERS:
        try:
            took = sorted(measure(peer))
        except pytest.skip.Exception as reason:
            yield row(f"{peer.name}: not to be had", 0.0, None, str(reason))
            continue
        medians[peer.name] = statistics.median(took)
        slow = took[int(len(took) * 0.95)]
        seen = (
            f"median of {len(took)} in ms; 95 of 100 within {slow * 1000:.1f}, longest {took[-1] * 1000:.1f}"
        )
        limit = (LIMIT + BACKOFF) * 1000 if peer.name == "watchkeeper" else None
        yield row(f"{peer.name}: kill to new process", medians[peer.name] * 1000, limit, seen)
    own = medians["watchkeeper"]
    for name in ("supervisord", "monit"):
        if name in medians:
            yield row(f"watchkeeper / {name}", own / medians[name], 0.5, "ratio of the medians")


def main() -> int:
    begun = time.monotonic()
    return keep("agent_restart", show(rows()), time.monotonic() - begun)


if __name__ == "__main__":
    sys.exit(main())
