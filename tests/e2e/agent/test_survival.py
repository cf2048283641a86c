"""What must be survived and takes longer, or more of the machine: a full file system, a storm of changes, the soak itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from soak.machine import Disk
from support.agent_process import ROOT, Agent

pytestmark = pytest.mark.e2e


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A file system of its own that is small enough to be filled."""
    made = Disk(tmp_path / "disk")
    if not made.real:
        pytest.skip("LOUD: only root may mount the small file system that this fills")
    yield made
    made.close()


def output(agent: Agent) -> dict[str, Any]:
    found: dict[str, Any] = next(each for each in agent.status()["objects"] if each["kind"] == "output")
    return found


def test_a_file_system_that_is_full(tmp_path: Path, disk: Disk) -> None:
    """No byte is left for state, log and the services' own files: all goes on; with room again nothing is missing or torn."""
    log, own = disk.folder / "agent.json", disk.folder / "own.log"
    chatty = {
        "command": ["sh", "-c", "while :; do echo a line; sleep 0.05; done"],
        "log": {"to": "file", "file": str(own)},
    }
    config = {
        "services": {
            "app": {"command": ["sleep", "86400"], "backoff": {"initial": "50ms", "jitter": 0}},
            "chatty": chatty,
        },
        "outputs": {"disk": {"type": "file", "path": str(log)}},
        "jobs": {"tick": {"command": ["true"], "every": "100ms"}},
    }
    agent = Agent(tmp_path, config, "--state-dir", str(disk.folder / "state"))
    try:
        pid = agent.running()["pid"]
        agent.wait(lambda: log.exists() and own.exists(), "both files")
        disk.fill(0)
        os.kill(pid, signal.SIGKILL)
        new = agent.running(after=pid)["pid"]
        agent.wait(lambda: output(agent)["state"] == "failing", "the output to say so", 30)
        assert "No space left" in output(agent)["last_error"]
        assert agent.get("/livez") == (200, "ok\n")
        disk.free()
        agent.wait(lambda: output(agent)["state"] == "writing", "the output's return", 60)
        agent.wait(
            lambda: json.loads((disk.folder / "state" / "services" / "app.json").read_bytes())["pid"] == new,
            "the memory",
        )
        assert agent.end() == 0
        written = [json.loads(line) for line in log.read_text().splitlines()]
        said = [line["message"] for line in agent.lines()]
        assert [line["message"] for line in written] == said[-len(written) :]
        assert set(own.read_text().splitlines()) - {"a line"} <= {
            line
            for line in own.read_text().splitlines()
            if line.startswith("[watchkeeper: ") and line.endswith("are missing here]")
        }
    finally:
        agent.process.kill()
        agent.process.wait()


def test_thousands_of_changes_a_second(tmp_path: Path) -> None:
    """A folder that is rewritten without a pause for ten seconds: /livez answers, and in the end its last word is in force."""
    place = tmp_path / "conf.d"
    place.mkdir()
    last, changes = {"checks": {"last": {"type": "tcp", "address": "127.0.0.1:1"}}}, 0
    ended = threading.Event()

    def rewrite() -> None:
        nonlocal changes
        while not ended.is_set():
            changes += 1
            (place / f"{changes % 3}.json").write_text(
                json.dumps({"checks": {f"c{changes}": last["checks"]["last"]}})
            )

    agent = Agent(tmp_path, {"sources": {"folder": {"type": "file", "path": str(place), "interval": "50ms"}}})
    writer = threading.Thread(target=rewrite)
    try:
        agent.message("started", exactly=True)
        writer.start()
        until, slowest = time.monotonic() + 10, 0.0
        while time.monotonic() < until:
            begin = time.monotonic()
            assert agent.get("/livez") == (200, "ok\n")
            slowest = max(slowest, time.monotonic() - begin)
        ended.set()
        writer.join()
        assert changes > 1000
        assert slowest < 2
        for number in range(3):
            (place / f"{number}.json").write_text("{}" if number else json.dumps(last))
        agent.wait(lambda: [each["name"] for each in agent.status()["checks"]] == ["last"], "the last word")
        assert agent.end() == 0
    finally:
        ended.set()
        agent.process.kill()
        agent.process.wait()


def test_the_plan_of_a_soak_is_its_seed() -> None:
    """The same seed is the same plan; the agent is killed in its first half and lives through the second."""
    command = [sys.executable, "tests/soak/run.py", "--plan", "--minutes", "30", "--seed"]
    once, again, other = (
        subprocess.run([*command, seed], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        for seed in ("7", "7", "8")
    )
    assert once == again != other
    kills = [float(line.split()[0]) for line in once.splitlines() if "kill-agent" in line]
    assert kills
    assert max(kills) < 15 * 60


@pytest.mark.timeout(400)
def test_two_minutes_of_everything() -> None:
    """The soak, short: every promise is kept."""
    command = [sys.executable, "tests/soak/run.py", "--minutes", "2.2", "--seed", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:]
    assert "all promises were kept" in done.stdout
