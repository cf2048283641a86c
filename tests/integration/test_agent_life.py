"""The agent's life as a process: the service manager, process 1, too few files, a clock that jumps, threads that hang."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import ROOT, Agent

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
QUIET: dict[str, Any] = {"collectors": {}}


class Run:
    """The agent, started in a way of its own."""

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any] | Path,
        *options: str,
        env: dict[str, str] | None = None,
        before: str = "",
        limits: Callable[[], None] | None = None,
    ) -> None:
        self.file = config if isinstance(config, Path) else folder / "agent.json"
        if not isinstance(config, Path):
            self.file.write_text(json.dumps(QUIET | config))
        self.log = folder / "agent.log"
        program = f"{before}\nfrom watchkeeper.cli import main\nmain()"
        command = [
            sys.executable,
            *(() if limits else ("-W", "error")),
            "-c",
            program,
            "run",
            "--config",
            str(self.file),
        ]
        with self.log.open("wb") as stream:
            self.process = subprocess.Popen(
                [*command, "--listen", "127.0.0.1:0", *options],
                stderr=stream,
                env={**os.environ, "PYTHONPATH": str(ROOT / "agent_src"), **(env or {})},
                preexec_fn=limits,  # noqa: PLW1509 - the tests have one thread here, and a limit is all that it sets
            )

    lines = Agent.lines
    message = Agent.message
    wait = Agent.wait
    url = Agent.url
    get = Agent.get
    status = Agent.status
    service = Agent.service
    running = Agent.running

    def end(self, number: int = signal.SIGTERM, limit: float = 20.0) -> int:
        self.process.send_signal(number)
        return self.process.wait(limit)


Start = Callable[..., Any]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    runs: list[Run] = []

    def begin(config: dict[str, Any] | Path, *options: str, **how: Any) -> Run:
        folder = tmp_path / f"agent{len(runs)}"
        folder.mkdir()
        runs.append(Run(folder, config, *options, **how))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.process.send_signal(signal.SIGTERM)
            run.process.wait(30)


class Manager:
    """systemd's end of the socket."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(self.path)
        self._socket.settimeout(20)

    def heard(self, *, without: str = "WATCHDOG=1") -> list[str]:
        """The next message that is another one."""
        while True:
            lines = self._socket.recv(4096).decode().splitlines()
            if lines != [without]:
                return lines

    def timeout(self, seconds: float) -> None:
        self._socket.settimeout(seconds)

    def forget(self) -> None:
        """What was sent so far."""
        self.timeout(0.01)
        with contextlib.suppress(TimeoutError):
            while True:
                self._socket.recv(4096)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    made = Manager(tmp_path / "notify.sock")
    yield made
    made.close()


def test_what_the_service_manager_hears(start: Start, manager: Manager) -> None:
    """READY after the first round, RELOADING and READY around a reload, good or bad, STOPPING; children inherit nothing."""
    show = [
        sys.executable,
        "-c",
        "import os, time; print('NOTIFY_SOCKET' in os.environ, flush=True); time.sleep(600)",
    ]
    agent = start(
        {"services": {"app": {"command": show}}},
        env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000"},
    )
    assert manager.heard()[0] == "READY=1"
    agent.message("started")
    agent.message("False")
    for content, said in (({}, "configuration 2"), ({"nonsense": 1}, "the newest was refused")):
        agent.file.write_text(json.dumps(QUIET | content))
        agent.process.send_signal(signal.SIGHUP)
        reloading = manager.heard()
        while reloading[0] != "RELOADING=1":  # the file may have been looked at before the signal
            reloading = manager.heard()
        assert reloading[1].startswith("MONOTONIC_USEC=")
        ready = manager.heard()
        assert (ready[0], said in ready[1]) == ("READY=1", True)
    assert manager.heard(without="") == ["WATCHDOG=1"]
    assert agent.end() == 0
    while (said_last := manager.heard())[0] != "STOPPING=1":
        pass
    assert said_last[1] == "STATUS=Stopping on SIGTERM"
    assert manager.heard()[0].startswith("EXTEND_TIMEOUT_USEC=")


def test_an_agent_that_stands_still_feeds_no_watchdog(start: Start, manager: Manager) -> None:
    """While the loop is kept by somebody, nothing comes; that is what the watchdog is for."""
    agent = start({}, env={"NOTIFY_SOCKET": manager.path, "WATCHDOG_USEC": "200000"})
    manager.heard()
    agent.process.send_signal(signal.SIGSTOP)
    manager.forget()
    manager.timeout(0.6)
    with pytest.raises(TimeoutError):
        manager.heard()
    agent.process.send_signal(signal.SIGCONT)
    manager.timeout(20)
    assert manager.heard(without="") == ["WATCHDOG=1"]


DAEMON = textwrap.dedent(
    """
    import os, time
    for _ in range(5):
        if os.fork() == 0:
            if os.fork() == 0:
                os.setsid()
                time.sleep(0.2)
                os._exit(0)
            os._exit(0)
        os.wait()
    print("daemons are away", flush=True)
    time.sleep(600)
    """
)


def test_as_process_1_it_reaps_orphans(start: Start) -> None:
    """--init: what daemonizes itself and ends is collected by the parent; asyncio's own children are not stolen."""
    agent = start({"services": {"app": {"command": [sys.executable, "-c", DAEMON]}}}, "--init")
    agent.message("daemons are away")
    parent = agent.process.pid
    agent.wait(lambda: len(children(parent)) == 1, "the end of the daemons")
    [inner] = children(parent)
    assert inner == agent.status()["pid"]
    assert agent.end() == 0
    assert agent.lines()[-1]["message"] == "stopped"


def children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, 137), (signal.SIGINT, 0)])
def test_process_1_ends_as_the_agent_does(start: Start, number: int, code: int) -> None:
    """Its exit code, or 128 + the signal that ended it."""
    agent = start({}, "--init")
    agent.message("started")
    os.kill(children(agent.process.pid)[0], number)
    assert agent.process.wait(20) == code


def test_the_agent_does_not_outlive_process_1(start: Start) -> None:
    """Killed, the parent takes the agent along, in order: it gets SIGTERM."""
    agent = start({}, "--init")
    agent.message("started")
    agent.process.kill()
    agent.process.wait(20)
    deadline = time.monotonic() + 20
    while agent.lines()[-1]["message"] != "stopped":
        assert time.monotonic() < deadline, agent.log.read_text()
        time.sleep(0.02)


def low() -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (6, 6))


def test_too_few_files_for_a_start(start: Start) -> None:
    """One sentence, what to do, and exit code 11; no traceback."""
    agent = start({}, limits=low)
    assert agent.process.wait(20) == 11
    assert agent.log.read_text().splitlines()[-2:] == [
        "watchkeeper: this process may open no more files",
        "  Raise the limit: `ulimit -n`, or LimitNOFILE= of the unit.",
    ]


def test_too_few_files_later(start: Start) -> None:
    """Checks fail and say why, nothing crashes for good, and all is well again once there are files."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        check = {
            "type": "tcp",
            "address": address,
            "period": "100ms",
            "timeout": "5s",
            "failure_threshold": 1,
        }
        agent = start({"checks": {"c": check}})

        def looks() -> int:
            return good_looks(agent)

        agent.wait(looks, "the first success")
        before = resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE)
        used = len(list(Path(f"/proc/{agent.process.pid}/fd").iterdir()))
        resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, (used, before[1]))
        socket.create_connection(("127.0.0.1", int(agent.url.rpartition(":")[2]))).close()
        assert agent.message("no connection can be accepted")["level"] == "WARNING"
        resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, before)
        seen = looks()
        agent.wait(lambda: looks() > seen + 3, "the check to go on")
    assert "task_crashes_total{" not in agent.get("/metrics")[1]
    assert agent.end() == 0


def good_looks(agent: Any) -> int:
    """How many looks of check c have succeeded."""
    found = agent.get("/metrics")[1].splitlines()
    lines = [each for each in found if 'check_runs_total{check="c"' in each and 'outcome="ok"' in each]
    return int(float(lines[0].rpartition(" ")[2])) if lines else 0


JUMPING = textwrap.dedent(
    """
    import time
    _time, _ns = time.time, time.time_ns
    def _jump():
        return (0, 86400 * 400, -86400 * 400)[int(time.monotonic() * 20) % 3]
    time.time = lambda: _time() + _jump()
    time.time_ns = lambda: _ns() + _jump() * 10**9
    """
)


def test_a_clock_that_jumps(start: Start) -> None:
    """Years forth and back, twenty times a second: checks keep their period, backoff its length, the stop its limit."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        check = {"type": "tcp", "address": address, "period": "100ms", "timeout": "2s"}
        crash = [sys.executable, "-c", "raise SystemExit(1)"]
        services = {
            "app": {"command": SLEEPER},
            "crash": {"command": crash, "backoff": {"initial": "400ms", "factor": 1, "jitter": 0}},
        }
        agent = start({"checks": {"c": check}, "services": services}, before=JUMPING)
        pid = agent.running()["pid"]

        def looks() -> int:
            return good_looks(agent)

        agent.wait(lambda: looks() >= 5, "five looks")
        before, begun = looks(), time.monotonic()
        agent.wait(lambda: looks() >= before + 20, "twenty more")
        took = time.monotonic() - begun
        assert looks() - before <= took / 0.1 + 5
        assert agent.running()["pid"] == pid
        agent.wait(lambda: agent.service("crash")["restarts"] >= 3, "three restarts")
        waits = [
            line["restart_in"] for line in agent.lines() if line["message"].startswith("service crash ended")
        ]
        assert all(0 < wait <= 0.4 for wait in waits)
        assert agent.end() == 0


def test_a_file_system_that_hangs_does_not_keep_the_agent(start: Start, tmp_path: Path) -> None:
    """A configuration that is a pipe nobody writes to: the agent hears SIGTERM, and ends without the thread that reads."""
    pipe = tmp_path / "pipe.yaml"
    os.mkfifo(pipe)
    agent = start(pipe)

    def opened() -> int:
        """The other end: it can be had once somebody has come to read."""
        try:
            return os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
        except OSError:
            return 0

    writing = agent.wait(opened, "the thread that reads")
    try:
        assert agent.end(limit=20) == 0
    finally:
        os.close(writing)
    [line] = [each for each in agent.lines() if "left behind" in each["message"]]
    assert any("read" in place.rpartition(" ")[2] for place in line["threads"].values()), line
