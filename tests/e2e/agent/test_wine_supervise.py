"""Services on Windows, under Wine: processes in job objects, and services of Windows.

What Wine 8 cannot show: CTRL_BREAK reaches nobody in another console group, so that a service is never asked there and ends
by its job after the grace; and what Windows does with nested jobs of older versions.
"""

from __future__ import annotations

import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from e2e.clean_rootfs.rootfs import UnavailableError
from support.wine.agent import WindowsAgent, install
from support.wine.prefix import Terminal, windows

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def machine() -> Iterator[WindowsAgent]:
    try:
        running = windows()
        prefix = running.__enter__()
    except UnavailableError as reason:
        pytest.skip(f"LOUD: no Wine, so nothing of Windows was shown: {reason}")
    try:
        yield install(prefix)
    except UnavailableError as reason:
        pytest.skip(f"LOUD: nothing of Windows was shown: {reason}")
    finally:
        running.__exit__(None, None, None)


class Run:
    """An agent on a console."""

    def __init__(self, machine: WindowsAgent, services: dict[str, Any]) -> None:
        self._machine = machine
        config = {"agent": {"listen": "127.0.0.1:0"}, "collectors": {}, "services": services}
        file = machine.write("supervise.yaml", json.dumps(config))
        self.process, self.terminal = machine.on_terminal("run", "--config", file)
        self.url = ""

    def said(self) -> str:
        return plain(self.terminal)

    def status(self, name: str = "app") -> dict[str, Any]:
        """A service, as the agent sees it; its sockets are this system's."""
        if not self.url:
            found = re.search(r'"message":"listening","address":"([\d.:]+)"', self.said())
            if found is None:
                return {}
            self.url = f"http://{found[1]}"
        with urllib.request.urlopen(f"{self.url}/status", timeout=10) as response:
            services = json.load(response)["services"]
        return next((each for each in services if each["name"] == name), {})

    def running(self, after: int | None = None) -> dict[str, Any]:
        def find() -> Any:
            found = self.status()
            return found if found.get("state") == "running" and found["pid"] != after else None

        return eventually(find, "the service", self)

    def end(self) -> int:
        self.terminal.type(b"\x03")
        return self.process.wait(60)


@pytest.fixture
def start(machine: WindowsAgent) -> Iterator[Callable[[dict[str, Any]], Run]]:
    runs: list[Run] = []

    def begin(services: dict[str, Any]) -> Run:
        runs.append(Run(machine, services))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
            run.process.wait(20)


def plain(terminal: Terminal) -> str:
    return re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]|[\r\n]", b"", terminal.read()).decode(errors="replace")


def eventually(condition: Callable[[], Any], what: str, run: Run | None = None, limit: float = 60.0) -> Any:
    deadline = time.monotonic() + limit
    while not (found := condition()):
        said = "" if run is None else run.said()[-3000:]
        assert time.monotonic() < deadline, f"{what} did not come\n{said}"
        time.sleep(0.1)
    return found


def processes(mark: str) -> list[int]:
    """The processes of this system whose arguments hold a word."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            try:
                line = (folder / "cmdline").read_bytes()
            except OSError:
                continue
            if mark.encode() in line and b"watchkeeper" not in line.split(b"\0")[-2:]:
                found.append(int(folder.name))
    return found


def family(machine: WindowsAgent, mark: str) -> list[str]:
    """A program that starts another one, which would outlive it."""
    inner = f"import time; time.sleep(600)  # {mark}-child"
    outer = (
        f"import subprocess, sys, time  # {mark}-parent\n"
        f"subprocess.Popen([sys.executable, '-c', {inner!r}])\n"
        "time.sleep(600)"
    )
    return [machine.at("python/python.exe"), "-c", outer]


def test_a_process_that_is_killed_is_started_again(machine: WindowsAgent, start: Callable[..., Run]) -> None:
    """With everything that it had started: the job ends before the next one begins."""
    backoff = {"initial": "100ms", "jitter": 0}
    run = start({"app": {"command": family(machine, "mark-one"), "backoff": backoff, "stop_grace": "1s"}})
    first = run.running()
    (child,) = eventually(lambda: processes("mark-one-child"), "the child", run)
    machine.machine.run("taskkill", "/F", "/PID", str(first["pid"]))
    second = run.running(after=first["pid"])
    assert second["restarts"] == 1
    eventually(lambda: child not in processes("mark-one-child"), "the end of the old child", run)
    assert run.end() == 0
    eventually(lambda: not processes("mark-one-child"), "the end of all of them")


def test_a_stop_ends_the_whole_job(machine: WindowsAgent, start: Callable[..., Run]) -> None:
    """After the grace, since nobody is asked under Wine."""
    run = start({"app": {"command": family(machine, "mark-two"), "stop_grace": "1s"}})
    run.running()
    eventually(lambda: processes("mark-two-child"), "the child", run)
    assert run.end() == 0
    eventually(lambda: not processes("mark-two"), "the end of the family")


def test_a_killed_agent_takes_its_services_with_it(machine: WindowsAgent, start: Callable[..., Run]) -> None:
    """KILL_ON_JOB_CLOSE: nothing of the agent runs any more, and Windows ends the job."""
    run = start({"app": {"command": family(machine, "mark-three")}})
    run.running()
    eventually(lambda: processes("mark-three-child"), "the child", run)
    run.process.kill()
    run.process.wait(20)
    eventually(lambda: not processes("mark-three"), "the end of the family")


def test_services_of_windows(machine: WindowsAgent, start: Callable[..., Run]) -> None:
    """One is started, started again when it was stopped by somebody else, and left alone at the end."""
    inner = machine.write("inner.yaml", 'agent: {listen: "127.0.0.1:0"}\ncollectors: {}\n')
    machine.run("service", "uninstall", "--name", "inner")
    words = ("--name", "inner", "--config", inner, "--state-dir", machine.at("inner"))
    assert machine.run("service", "install", *words).code == 0
    try:
        service = {
            "driver": "windows",
            "service": "inner",
            "period": "300ms",
            "backoff": {"initial": "100ms"},
        }
        run = start({"app": service})
        first = run.running()
        stopped = machine.machine.run("net", "stop", "inner")
        assert stopped.code == 0, stopped
        second = eventually(lambda: (found := run.status()).get("restarts") and found, "the restart", run)
        assert second["last_exit"] == "it has stopped"
        run.running()
        assert first["pid"]
        assert run.end() == 0
        assert b"RUNNING" in machine.machine.run("sc", "query", "inner").out
    finally:
        machine.run("service", "stop", "--name", "inner")
        machine.run("service", "uninstall", "--name", "inner")


def test_a_service_of_windows_that_is_not_there(machine: WindowsAgent, start: Callable[..., Run]) -> None:
    """Its own sentence."""
    run = start({"app": {"driver": "windows", "service": "no-such-service"}})
    found = eventually(lambda: (found := run.status()).get("failures_in_a_row") and found, "the failure", run)
    assert "Windows has no service of that name" in found["last_exit"]
    assert run.end() == 0
