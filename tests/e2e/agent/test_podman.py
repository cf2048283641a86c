"""Containers of a real Podman as services of the agent.

The engine runs through `own-cgroup` (support/systemd_machine.py says why) with a store of its own; its one image is made of
busybox here, and nothing is pulled.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import Agent
from support.debian import program

pytestmark = pytest.mark.e2e

IMAGE = "localhost/watchkeeper-test:1"
CONFIG = """
[containers]
cgroups = "disabled"
netns = "host"
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
"""


@dataclass
class Engine:
    """Podman, serving its API at a socket."""

    wrapper: str
    folder: Path

    @property
    def socket(self) -> Path:
        return self.folder / "api.sock"

    @property
    def command(self) -> list[str]:
        places = ["--root", str(self.folder / "root"), "--runroot", str(self.folder / "run")]
        return ["podman", *places, "--storage-driver", "vfs"]

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "CONTAINERS_CONF": str(self.folder / "containers.conf")}

    def podman(self, *words: str) -> str:
        """A command of its own, beside the API."""
        done = subprocess.run(
            [self.wrapper, *self.command, *words],
            capture_output=True, text=True, check=False, env=self.environment, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    def make_image(self) -> None:
        busybox = program("busybox-static", "bin/busybox")
        archive = self.folder / "image.tar"
        with tarfile.open(archive, "w") as tar:
            tar.add(busybox, "bin/busybox")
            for name in ("sh", "sleep", "echo"):
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname, link.mode = tarfile.SYMTYPE, "busybox", 0o777
                tar.addfile(link)
        self.podman("import", str(archive), IMAGE)


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    wrapper = os.environ.get("OWN_CGROUP") or shutil.which("own-cgroup")
    if wrapper is None or shutil.which("podman") is None or os.geteuid() != 0:
        pytest.skip(
            "LOUD: no real engine was asked: that needs root, podman, and own-cgroup in PATH or OWN_CGROUP"
        )
    made = Engine(wrapper, tmp_path_factory.mktemp("podman"))
    (made.folder / "containers.conf").write_text(CONFIG)
    made.make_image()
    words = [made.wrapper, *made.command, "system", "service", "--time=0", f"unix://{made.socket}"]
    with (made.folder / "log").open("wb") as log:
        server = subprocess.Popen(words, env=made.environment, stdout=log, stderr=log, start_new_session=True)
    try:
        until(lambda: answers(made.socket), "the engine", 30)
        yield made
    finally:
        made.podman("rm", "--all", "--force", "--time", "0")
        # The engine alone: the wrapper has to clean up behind it.
        for child in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split():
            os.kill(int(child), signal.SIGTERM)
        server.wait(20)


def answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True


def until(condition: Callable[[], Any], what: str, limit: float = 30.0) -> Any:
    deadline = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < deadline, f"{what} did not come"
        time.sleep(0.05)
    return found


@pytest.fixture
def start(engine: Engine, tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    agents: list[Agent] = []

    def begin(name: str, **more: Any) -> Agent:
        folder = tmp_path / str(len(agents))
        folder.mkdir()
        service = {
            "driver": "container", "socket": str(engine.socket), "image": IMAGE, "command": ["/bin/sleep", "600"],
            "container": f"test-{name}", "backoff": {"initial": "100ms", "jitter": 0}, "stop_grace": "2s", **more,
        }  # fmt: skip
        agents.append(Agent(folder, {"collectors": {}, "services": {"app": service}}))
        return agents[-1]

    yield begin
    for agent in agents:
        if agent.process.poll() is None:
            agent.end()


def inspected(engine: Engine, name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(engine.podman("inspect", f"test-{name}"))[0]
    return found


def test_a_container_that_is_killed_is_started_again(engine: Engine, start: Callable[..., Agent]) -> None:
    """Made with what is configured, seen to end at once, started again, stopped with the agent."""
    agent = start("kept", environment={"A": "b"}, stop="kill")
    first = agent.running()
    assert "A=b" in inspected(engine, "kept")["Config"]["Env"]
    os.kill(first["pid"], signal.SIGKILL)
    second = agent.running(after=first["pid"])
    assert second["restarts"] == 1
    assert second["last_exit"] == "the container has ended: signal SIGKILL"
    assert agent.end() == 0
    assert not inspected(engine, "kept")["State"]["Running"]


def test_grace_and_kill(engine: Engine, start: Callable[..., Agent]) -> None:
    """sleep(1) as the first process of a container takes no notice of TERM: KILL after the grace."""
    agent = start("deaf", stop_grace="500ms")
    agent.running()
    assert agent.end() == 0
    assert agent.message("did not end within its grace")["error_class"] == "SERVICE_STOP_TIMEOUT"
    assert inspected(engine, "deaf")["State"]["ExitCode"] == 137


def test_left_and_taken_over(engine: Engine, start: Callable[..., Agent]) -> None:
    """`on_agent_stop: leave`: the next agent finds it; one with another definition makes another."""
    first = start("left", on_agent_stop="leave", stop="kill")
    pid = first.running()["pid"]
    assert first.end() == 0
    second = start("left", on_agent_stop="leave", stop="kill")
    found = second.running()
    assert (found["pid"], found["adopted"]) == (pid, True)
    assert second.end() == 0
    third = start("left", environment={"NEW": "1"}, stop="kill")
    assert third.running()["pid"] != pid


def test_images_are_not_pulled(engine: Engine, start: Callable[..., Agent]) -> None:
    """One that is not there is a failure with a sentence."""
    agent = start("none", image="localhost/no-such-image:1")
    agent.wait(lambda: agent.service()["failures_in_a_row"], "the failure")
    assert (
        "the image localhost/no-such-image:1 is not there, and is not pulled" in agent.service()["last_exit"]
    )
