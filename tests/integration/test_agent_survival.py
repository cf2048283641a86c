"""What must be survived, and what has to hold afterwards. docs/agent/survival.md has the whole list; here is what others do not show."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import ROOT, Agent

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="they look into /proc")
SLEEPER = ["sleep", "86400"]
STRAY = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        print("stray", os.getpid(), flush=True)
        time.sleep(86400)
    os._exit(0)
os.wait()
time.sleep(86400)
"""


class World:
    """Agents that share a state directory; nothing that they have started outlives the test."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.state = folder, folder / "state"
        self.agents: list[Agent] = []

    def agent(self, config: dict[str, Any]) -> Agent:
        folder = self.folder / f"agent{len(self.agents)}"
        folder.mkdir()
        self.agents.append(Agent(folder, config, "--state-dir", str(self.state)))
        return self.agents[-1]

    def killed(self, agent: Agent) -> None:
        agent.process.kill()
        agent.process.wait(10)

    def left(self) -> list[int]:
        """Processes that agents of this test have started, at any remove."""
        mark, found = f"SURVIVAL={self.folder}".encode(), []
        for folder in Path("/proc").iterdir():
            with contextlib.suppress(OSError):
                if folder.name.isdigit() and mark in (folder / "environ").read_bytes().split(b"\0"):
                    state = (folder / "stat").read_text().rpartition(")")[2].split()[0]
                    found += [int(folder.name)] if state not in ("Z", "X") else []
        return found


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("SURVIVAL", str(tmp_path))
    made = World(tmp_path)
    yield made
    for agent in made.agents:
        if agent.process.poll() is None:
            agent.send(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                agent.process.wait(5)
        made.killed(agent)
    for pid in made.left():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def ends(world: World, limit: float = 10.0) -> bool:
    """Whether nothing is left soon."""
    deadline = time.monotonic() + limit
    while world.left() and time.monotonic() < deadline:
        time.sleep(0.02)
    return not world.left()


def said_pid(agent: Agent, word: str) -> int:
    return int(agent.message(f"{word} ")["message"].split()[1])


def test_commands_of_checks_and_jobs_do_not_outlive_the_agent(world: World) -> None:
    """kill -9 of the agent: a check that never returns, a job and a condition end, however deaf they are to TERM."""
    deaf = ["sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done"]
    agent = world.agent({
        "checks": {"never": {"type": "exec", "command": deaf, "period": "60s", "timeout": "50s", "splay": 0}},
        "jobs": {"long": {"command": deaf, "every": "60s", "at_start": True, "grace": "300ms"}},
        "services": {"app": {"command": SLEEPER, "condition": deaf}},
    })  # fmt: skip
    agent.wait(lambda: sum("while :" in command for command in commands(world)) == 3, "all three of them")
    for _ in range(5):  # W4: until its loop has come around a few times
        agent.get("/livez")
    world.killed(agent)
    assert ends(world), commands(world)


def commands(world: World) -> list[str]:
    found = []
    for pid in world.left():
        with contextlib.suppress(OSError):
            found.append(Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "))
    return found


def test_a_service_that_failed_is_still_failed_after_a_kill(world: World) -> None:
    """`no`: it is not started again by the next agent, and /status does not call it finished; who ended well is."""
    services = {
        "bad": {"command": ["sh", "-c", "exit 5"], "policy": "no", "critical": True},
        "good": {"command": ["true"], "policy": "no"},
    }
    first = world.agent({"services": services})
    first.wait(lambda: first.service("bad")["state"] == "failed", "the failure")
    first.wait(lambda: first.service("good")["state"] == "finished", "the end")
    world.killed(first)
    second = world.agent({"services": services, "agent": {"ready_when": "checks"}})
    second.message("started", exactly=True)
    found = second.service("bad")
    assert (found["state"], found["instance"], found["last_exit"]) == ("failed", 1, "exit status 5")
    assert second.service("good")["state"] == "finished"
    assert second.get("/readyz") == (503, "critical service bad is failed\n")
    assert second.end() == 0


def test_strays_of_a_killed_agent_are_ended_before_their_service_starts(world: World) -> None:
    """A child that has forked twice is in no group that the warden knows: the next agent finds it by its mark, and ends it."""
    services = {
        "app": {"command": [sys.executable, "-u", "-c", STRAY], "follow_orphans": True, "stop_grace": "2s"}
    }
    first = world.agent({"services": services})
    stray, pid = said_pid(first, "stray"), first.running()["pid"]
    world.killed(first)
    first_gone = time.monotonic() + 10
    while alive(pid) and time.monotonic() < first_gone:
        time.sleep(0.02)
    assert alive(stray)
    second = world.agent({"services": services})
    new = second.running(after=pid)
    assert not alive(stray)
    assert new["instance"] == 2
    assert said_pid(second, "stray") != stray
    assert second.end() == 0
    assert ends(world)


def test_what_a_full_disk_did_not_take_is_written_when_there_is_room(world: World) -> None:
    """Otherwise the next agent believes an old file, and starts a second process beside the one that goes on."""
    services = {"app": {"command": SLEEPER, "on_agent_death": "adopt", "backoff": {"initial": "50ms"}}}
    first = world.agent({"services": services})
    old = first.running()["pid"]
    soft, hard = resource.prlimit(first.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(first.process.pid, resource.RLIMIT_FSIZE, (0, hard))
    os.kill(old, signal.SIGKILL)
    pid = first.running(after=old)["pid"]
    resource.prlimit(first.process.pid, resource.RLIMIT_FSIZE, (soft, hard))
    file = world.state / "services" / "app.json"
    first.wait(lambda: json.loads(file.read_bytes())["pid"] == pid, "the new number on disk")
    world.killed(first)
    second = world.agent({"services": services})
    found = second.running()
    assert (found["pid"], found["adopted"], found["restarts"]) == (pid, True, 1)
    assert second.end() == 0
    assert ends(world)


def test_two_agents_with_services_of_the_same_name(world: World) -> None:
    """An agent that looks for strays takes nothing from another one on the same machine, not even by a common name."""
    first = world.agent({"services": {"app": {"command": SLEEPER}}})
    pid = first.running()["pid"]
    world.state = world.folder / "another"
    strays = {"command": [sys.executable, "-u", "-c", STRAY], "follow_orphans": True}
    second = world.agent({"services": {"app": strays}})
    stray = said_pid(second, "stray")
    second.running()
    assert second.end() == 0
    assert not alive(stray)
    found = first.service()
    assert (found["pid"], found["restarts"]) == (pid, 0)
    assert first.end() == 0


UNWATCHED = """
import asyncio, errno, os
from watchkeeper import system

def none_left(pid, flags=0):
    raise OSError(errno.EMFILE, "Too many open files")

async def main():
    there_are, os.pidfd_open = os.pidfd_open, none_left
    one = await asyncio.create_subprocess_exec("sh", "-c", "sleep 0.1; exit 7")
    os.pidfd_open = there_are
    other = await asyncio.create_subprocess_exec("sh", "-c", "exit 8")
    print(await one.wait(), await other.wait())

system.watch_children_by_pidfd()
asyncio.run(main())
"""


def test_a_child_that_has_no_descriptor_is_not_lost() -> None:
    """EMFILE between the start of a program and the descriptor that tells of its end: it is started, and its end is known."""
    command = [sys.executable, "-W", "error", "-X", "dev", "-c", UNWATCHED]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "agent_src")}
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout == "7 8\n"
    )


ZOMBIES = """
import os, signal, time
for _ in range(40):
    if os.fork() == 0:
        os._exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("zombies", os.getpid(), flush=True)
time.sleep(86400)
"""


def test_zombies_hold_up_neither_a_stop_nor_a_restart(world: World) -> None:
    """Children that nobody collects, of a service that is deaf as well: killed after its grace, and started again at once."""
    service = {
        "command": [sys.executable, "-u", "-c", ZOMBIES],
        "stop_grace": "200ms",
        "backoff": {"initial": "50ms"},
    }
    agent = world.agent({"services": {"app": service}})
    pid = said_pid(agent, "zombies")
    assert len(children(pid)) == 40
    os.kill(pid, signal.SIGKILL)
    new = agent.running(after=pid)["pid"]
    agent.wait(lambda: len(children(new)) == 40, "the zombies of the second one")
    begin = time.monotonic()
    assert agent.end() == 0
    assert (
        time.monotonic() - begin < 5
    )  # its grace and what an agent's end takes, and no patience for the dead
    assert ends(world)


def children(pid: int) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return []


def test_a_check_that_never_returns_costs_its_deadline(world: World) -> None:
    """Deaf, and with children of its own: failed after its timeout, nothing of it is left, and another check keeps its pace."""
    never = ["sh", "-c", "trap '' TERM; (trap '' TERM; sleep 86400) & sleep 86400"]
    usual = {"type": "exec", "period": "300ms", "failure_threshold": 1, "splay": 0}
    agent = world.agent({
        "checks": {
            "never": {**usual, "command": never, "timeout": "200ms"},
            "good": {**usual, "command": ["true"], "timeout": "10s"},
        }
    })  # fmt: skip

    def looks(name: str, word: str) -> int:
        start = f'watchkeeper_check_runs_total{{check="{name}",outcome="{word}"}} '
        lines = [line for line in agent.get("/metrics")[1].splitlines() if line.startswith(start)]
        return int(float(lines[0].rpartition(" ")[2])) if lines else 0

    agent.wait(
        lambda: looks("never", "unreachable") + looks("never", "failed") >= 5, "five looks that never return"
    )
    assert looks("good", "ok") >= 3
    state = {check["name"]: check["state"] for check in agent.status()["checks"]}
    assert state == {"never": "failure", "good": "success"}
    assert sum("sleep" in command for command in commands(world)) <= 4  # those of the look that is under way
    assert agent.end() == 0
    assert ends(world)
