"""The agent as a process: real children, real signals, loopback only."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import ROOT, Start

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = textwrap.dedent(
    """
    import os, signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(signal.SIGTERM, "
                              "signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"])
    print("grandchild", child.pid, flush=True)
    time.sleep(600)
    """
)


def alive(pid: int) -> bool:
    """Whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def one(command: list[str], **fields: Any) -> dict[str, Any]:
    """A configuration with one service called app."""
    return {"services": {"app": {"command": command, **fields}}}


def test_killed_child_is_restarted_with_growing_backoff(start: Start) -> None:
    """kill -9 of a service: its end is noticed at once, and each restart waits twice as long as the one before."""
    agent = start(one(SLEEPER, backoff={"initial": "200ms", "jitter": 0}))
    pids: list[int] = []
    for _ in range(3):
        found = agent.running(after=pids[-1] if pids else None)
        pids.append(found["pid"])
        os.kill(found["pid"], signal.SIGKILL)
    agent.running(after=pids[-1])
    ended = [line for line in agent.lines() if line["message"] == "service app ended: signal SIGKILL"]
    assert [line["retry_count"] for line in ended] == [1, 2, 3]
    for line, planned in zip(ended, (0.2, 0.4, 0.8), strict=True):
        assert line["error_class"] == "SERVICE_EXITED"
        # The backoff counts from the end of the process; that little is missing says that the end was seen at once.
        assert planned - 0.15 < line["restart_in"] <= planned
    assert agent.service()["restarts"] == 3
    assert 'watchkeeper_service_restarts_total{service="app"} 3.0' in agent.get("/metrics")[1]


def test_sigterm_drains(start: Start) -> None:
    """SIGTERM: readiness falls while services still stop, they get TERM, and the agent exits 0."""
    slow = (
        "import signal, sys, time\n"
        "def end(*_):\n    print('ending', flush=True); time.sleep(0.7); sys.exit(0)\n"
        "signal.signal(signal.SIGTERM, end)\nprint('up', flush=True)\ntime.sleep(600)"
    )
    agent = start(one([sys.executable, "-c", slow]))
    agent.message("up")
    assert agent.get("/readyz") == (200, "ok\n")
    agent.send(signal.SIGTERM)
    agent.message("ending")
    assert agent.get("/readyz") == (503, "the agent is draining\n")
    assert agent.get("/livez")[0] == 200
    assert agent.process.wait(10) == 0
    assert agent.messages()[-1] == "stopped"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_signals(start: Start, number: int) -> None:
    """Both signals stop in order, and leave no child."""
    agent = start(one(SLEEPER))
    pid = agent.running()["pid"]
    assert agent.end(number) == 0
    assert not alive(pid)


def test_deaf_child_is_killed_with_its_group(start: Start) -> None:
    """A service that ignores TERM, and what it has started, are killed after the grace."""
    agent = start(one([sys.executable, "-c", STUBBORN], stop_grace="300ms"))
    agent.message("deaf")
    grandchild = int(agent.message("grandchild")["message"].split()[1])
    pid = agent.running()["pid"]
    begun = time.monotonic()
    assert agent.end() == 0
    assert 0.3 <= time.monotonic() - begun < 5
    assert not alive(pid)
    assert not alive(grandchild)
    assert any(line.get("error_class") == "SERVICE_STOP_TIMEOUT" for line in agent.lines())


def test_group_of_a_killed_leader_is_ended_before_the_restart(start: Start) -> None:
    """What a killed service has left behind is ended first: it may hold the port."""
    agent = start(one([sys.executable, "-c", STUBBORN], stop_grace="200ms", backoff={"initial": "10ms"}))
    agent.message("deaf")
    grandchild = int(agent.message("grandchild")["message"].split()[1])
    pid = agent.running()["pid"]
    os.kill(pid, signal.SIGKILL)
    agent.running(after=pid)
    assert not alive(grandchild)


def test_drain_limit(start: Start) -> None:
    """What outlives the drain limit is killed, and the exit code says so."""
    agent = start(
        {"agent": {"drain_timeout": "600ms"}} | one([sys.executable, "-c", STUBBORN], stop_grace="60s")
    )
    agent.message("deaf")
    grandchild = int(agent.message("grandchild")["message"].split()[1])
    assert agent.end() == 8
    deadline = time.monotonic() + 5
    while alive(grandchild) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(grandchild)


def test_second_signal_aborts(start: Start) -> None:
    """A second signal does not wait for the grace of anybody."""
    agent = start(one([sys.executable, "-c", STUBBORN], stop_grace="60s"))
    agent.message("deaf")
    agent.send(signal.SIGTERM)
    agent.message("is stopped")
    assert agent.end(limit=5) == 130, agent.log.read_text()


def test_good_reload_by_signal(start: Start) -> None:
    """SIGHUP takes a new configuration: what is new starts, what is gone stops, what is unchanged keeps its process."""
    same = {"command": SLEEPER}
    agent = start({"agent": {"reload_interval": "1h"}, "services": {"same": same, "old": same}})
    kept, gone = agent.running("same")["pid"], agent.running("old")["pid"]
    checks = {"c": {"type": "tcp", "address": "127.0.0.1:1"}}
    agent.write(
        {"agent": {"reload_interval": "1h"}, "services": {"same": same | {"checks": checks}, "new": same}}
    )
    agent.send(signal.SIGHUP)
    agent.running("new")
    agent.wait(lambda: not alive(gone), "the end of the removed service")
    assert agent.running("same")["pid"] == kept
    assert agent.service("same")["restarts"] == 0
    agent.wait(lambda: len(agent.status()["services"]) == 2, "the removed service's leaving /status")
    assert agent.status()["config"]["generation"] == 2
    assert 'service="old"' not in agent.get("/metrics")[1]


def test_changed_definition_restarts(start: Start) -> None:
    """A service whose definition changed is restarted at once, without backoff; the file is watched without a signal."""
    agent = start({"agent": {"reload_interval": "50ms"}} | one(SLEEPER, backoff={"initial": "60s"}))
    before = agent.running()["pid"]
    agent.write({"agent": {"reload_interval": "50ms"}} | one(SLEEPER, environment={"A": "b"}))
    agent.running(after=before)
    assert not alive(before)


def test_bad_reload_keeps_the_last_good(start: Start) -> None:
    """A wrong configuration changes nothing; log, /status and /metrics say what is wrong and where."""
    agent = start(one(SLEEPER))
    pid = agent.running()["pid"]
    agent.write("services:\n  app:\n    comand: [x]\n    stop_grace: 5x\n")
    agent.send(signal.SIGHUP)
    line = agent.message("refused")
    assert line["error_class"] == "CONFIG_INVALID"
    assert [problem.removeprefix(str(agent.file)) for problem in line["problems"]] == [
        ':2:3: services.app: the key "command" is missing',
        ':3:5: services.app.comand: unknown key; did you mean "command"?',
        ":4:17: services.app.stop_grace: '5x' is no duration; write seconds as a number, or 500ms, 5s, 2m, 1h30m",
    ]
    status = agent.status()
    assert status["config"]["problems"] == line["problems"]
    assert status["config"]["generation"] == 1
    assert status["services"][0]["pid"] == pid
    metrics = agent.get("/metrics")[1]
    assert 'watchkeeper_config_reloads_total{result="failure"} 1.0' in metrics
    assert "watchkeeper_config_last_reload_successful 0.0" in metrics
    agent.write(one(SLEEPER))
    agent.send(signal.SIGHUP)
    agent.message("configuration unchanged")
    assert agent.status()["config"]["last_reload_error"] is None
    assert agent.service()["pid"] == pid


def test_reload_signals_before_the_start_do_no_harm(start: Start) -> None:
    """A SIGHUP at any moment of the start ends nothing once Python runs the agent's code."""
    agent = start(one(SLEEPER))
    agent.message("configuration in force")
    for _ in range(20):
        agent.send(signal.SIGHUP)
    agent.running()
    assert agent.end() == 0


def test_hanging_checks_delay_nobody(start: Start) -> None:
    """Checks whose target accepts and never answers end at their own deadline; another keeps its period meanwhile."""
    with socket.create_server(("127.0.0.1", 0), backlog=200) as server:
        port = server.getsockname()[1]
        hanging = {"type": "http", "url": f"http://127.0.0.1:{port}/", "timeout": "30s", "period": "100ms"}
        command = {"type": "exec", "command": SLEEPER, "timeout": "30s", "period": "100ms"}
        checks = {f"hang{number}": hanging for number in range(30)} | {"exec": command}
        quick = {"type": "tcp", "address": f"127.0.0.1:{port}", "period": "100ms"}
        agent = start({"checks": checks | {"quick": quick}})
        begun = time.monotonic()

        def runs() -> bool:
            return (
                _value(agent.get("/metrics")[1], 'watchkeeper_check_runs_total{check="quick",outcome="ok"}')
                >= 10
            )

        agent.wait(runs, "ten looks of the quick check")
        assert time.monotonic() - begun < 10
        assert all(check["last_error"] is None for check in agent.status()["checks"])


def _value(metrics: str, series: str) -> float:
    return next(
        (float(line.rpartition(" ")[2]) for line in metrics.splitlines() if line.startswith(series)), 0.0
    )


def test_exec_checks(start: Start) -> None:
    """Exit status 0 passes; another fails with its output, cut; a hang is killed with its group at the deadline."""
    noisy = "import sys; sys.stdout.write('x' * 1000000); sys.exit(3)"
    hang = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'import time; time.sleep(600)', 'WK-MARK'])"
    common = {"type": "exec", "period": "300ms", "failure_threshold": 1, "timeout": "20s"}
    agent = start(
        {
            "checks": {
                "good": {**common, "command": [sys.executable, "-c", "print('fine')"]},
                "noisy": {**common, "command": [sys.executable, "-c", noisy], "output_limit": 100},
                "hang": {
                    **common,
                    "command": [sys.executable, "-c", hang],
                    "timeout": "1s",
                    "period": "60s",
                    "splay": 0,
                },
                "absent": {**common, "command": ["/no/such/program"]},
            }
        }
    )

    def settled() -> dict[str, Any] | None:
        found = {check["name"]: check for check in agent.status()["checks"]}
        return found if all(check["why"] != "not checked yet" for check in found.values()) else None

    found = agent.wait(settled, "an outcome of every check")
    assert (found["good"]["state"], found["good"]["why"]) == ("success", "fine")
    assert found["noisy"]["why"] == "exit status 3: " + "x" * 100
    assert found["hang"]["why"] == "no answer within 1s"
    assert found["absent"]["why"] == "the program /no/such/program is not there"
    agent.wait(lambda: "WK-MARK" not in _command_lines(), "the end of what the hanging check had started")


def _command_lines() -> str:
    text = ""
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text += file.read_text()
        except OSError:
            continue
    return text


def test_liveness_failure_restarts(start: Start, tmp_path: Path) -> None:
    """A liveness check that fails replaces the process, and says so; a startup check gates it until then."""
    flag = tmp_path / "healthy"
    flag.touch()
    check = [sys.executable, "-c", f"import os, sys; sys.exit(not os.path.exists({str(flag)!r}))"]
    common = {"type": "exec", "command": check, "period": "200ms", "timeout": "10s", "failure_threshold": 2}
    checks = {"up": {**common, "role": "startup"}, "alive": {**common, "role": "liveness"}}
    agent = start(one(SLEEPER, backoff={"initial": "100ms"}, checks=checks))
    before = agent.running()["pid"]
    flag.unlink()
    line = agent.message("service app is stopped")
    assert line["message"] == "service app is stopped: check app/alive (liveness) failed: exit status 1"
    flag.touch()
    agent.running(after=before)
    assert agent.service()["restarts"] >= 1


def test_readyz_follows_readiness_checks_when_asked_to(start: Start) -> None:
    """ready_when: checks lets a failing readiness check through to /readyz."""
    checks = {"c": {"type": "tcp", "address": "127.0.0.1:1", "period": "100ms"}}
    agent = start({"agent": {"ready_when": "checks"}, "checks": checks})
    agent.message("started")
    assert agent.get("/readyz") == (503, "readiness check c does not pass\n")


def test_unstartable_service(start: Start) -> None:
    """A program that is not there is reported and tried again; policy no tries once."""
    config = one(["/no/such/program"], backoff={"initial": "50ms"})
    config["services"]["once"] = {"command": ["/no/such/program"], "policy": "no"}
    agent = start(config)
    agent.wait(lambda: agent.service()["failures_in_a_row"] >= 3, "three attempts")
    line = agent.message("service app cannot be started: the program /no/such/program is not there")
    assert line["error_class"] == "SERVICE_SPAWN_FAILED"
    assert agent.service("once")["state"] == "failed"
    assert agent.end() == 0


def test_output_is_captured(start: Start) -> None:
    """Each line of a service becomes a log line; a longer one is cut and says so; bytes that are no UTF-8 do no harm."""
    program = (
        "import sys, os\n"
        "os.write(1, b'one\\ntwo\\r\\n' + b'y' * 300 + b'\\n\\xff\\n')\n"
        "os.write(2, b'err without newline')"
    )
    agent = start(one([sys.executable, "-c", program], policy="no", line_limit=100))
    agent.message("err without newline")
    agent.message("service app ended")
    lines = [line for line in agent.lines() if line["logger"] == "watchkeeper.output.app"]
    out = [line["message"] for line in lines if line["stream"] == "stdout"]
    assert out == ["one", "two", "y" * 100, "\ufffd"]
    assert [line.get("truncated") for line in lines if line["message"].startswith("y")] == [True]
    agent.wait(lambda: agent.service()["state"] == "finished", "the end")


def test_start_with_the_last_good_configuration(start: Start, tmp_path: Path) -> None:
    """With a state directory, a wrong file at the start does not keep the agent from its services. A wrong path does."""
    state = str(tmp_path / "state")
    first = start(one(SLEEPER), "--state-dir", state)
    first.running()
    assert first.end() == 0
    first.write({"services": {"app": {"comand": ["x"]}}})
    second = start({}, "--config", str(first.file), "--state-dir", state)
    second.running()
    assert second.status()["config"]["from_last_good"] is True
    assert len(second.status()["config"]["problems"]) == 2
    assert second.end() == 0
    third = start({}, "--config", f"{first.file}x.yaml", "--state-dir", state)
    assert third.process.wait(20) == 4
    assert f"there is no file {first.file}x.yaml" in third.log.read_text()


def test_port_in_use(start: Start) -> None:
    """A taken port: one sentence, what to do, exit code 5, and no service was started."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        agent = start(one(SLEEPER), "--listen", address)
        assert agent.process.wait(20) == 5
    text = agent.log.read_text()
    assert f"watchkeeper: the address {address} is taken by another program\n" in text
    assert "  Stop that program, or choose another port with --listen HOST:PORT.\n" in text
    assert "Traceback" not in text
    assert "service app started" not in text


def test_wrong_configuration_at_the_start(start: Start) -> None:
    """Without a last good copy there is nothing to run: exit code 3, and every problem with its position."""
    agent = start({"services": {"app": {}}})
    assert agent.process.wait(20) == 3
    assert f'{agent.file}:1:15: services.app: the key "command" is missing' in agent.log.read_text()


def test_unusable_state_directory(start: Start, tmp_path: Path) -> None:
    """A state directory that is a file: exit code 7."""
    blocked = tmp_path / "file"
    blocked.touch()
    agent = start(one(SLEEPER), "--state-dir", str(blocked))
    assert agent.process.wait(20) == 7
    assert f"the state directory {blocked} cannot be written" in agent.log.read_text()


def test_status_command(start: Start) -> None:
    """`watchkeeper status` prints the table of a running agent, and --json its answer."""
    agent = start(one(SLEEPER))
    pid = agent.running()["pid"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "agent_src")}
    command = [sys.executable, "-m", "watchkeeper", "status", "--url", agent.url]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout
    header, row = answer.splitlines()[2:4]
    assert header.split() == ["SERVICE", "STATE", "READY", "PID", "RESTARTS", "NEXT", "TRY", "WHY"]
    assert row.split()[:5] == ["app", "running", "yes", str(pid), "0"]
    plain = subprocess.run(
        [*command, "--json"], capture_output=True, text=True, check=True, env=environment
    ).stdout
    assert json.loads(plain)["services"][0]["pid"] == pid


def test_metrics_are_a_valid_exposition(start: Start) -> None:
    """Every family that the documentation names is there, and prometheus_client's own parser reads it."""
    from prometheus_client.parser import text_string_to_metric_families

    agent = start({"checks": {"c": {"type": "tcp", "address": "127.0.0.1:1"}}} | one(SLEEPER))
    agent.running()
    families = {family.name for family in text_string_to_metric_families(agent.get("/metrics")[1])}
    assert families >= {
        "watchkeeper_build_info",
        "watchkeeper_check_success",
        "watchkeeper_check_runs",
        "watchkeeper_check_duration_seconds",
        "watchkeeper_service_state",
        "watchkeeper_service_restarts",
        "watchkeeper_config_reloads",
        "watchkeeper_config_last_reload_success_timestamp_seconds",
        "watchkeeper_loop_lag_seconds",
        "watchkeeper_tasks_alive",
        "watchkeeper_queue_depth",
        "process_cpu_seconds",
        "process_resident_memory_bytes",
    }


def test_log_lines_have_their_keys(start: Start) -> None:
    """Every line is JSON with timestamp, level, service, logger and message; the time is RFC 3339 in UTC with milliseconds."""
    agent = start(one(SLEEPER))
    agent.running()
    for _ in range(5):
        agent.get("/livez")
    assert agent.end() == 0
    for line in agent.lines():
        assert list(line)[:5] == ["timestamp", "level", "service", "logger", "message"]
        assert time.strptime(line["timestamp"][:19], "%Y-%m-%dT%H:%M:%S")
        assert line["timestamp"][19] == "."
        assert line["timestamp"].endswith("Z")
        assert len(line["timestamp"]) == 24
    assert not any("livez" in message for message in agent.messages())
