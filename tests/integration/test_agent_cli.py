"""The command line in a real bash, and against the real agent."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.agent_process import ROOT, Agent
from watchkeeper.client.completions import script
from watchkeeper.commands import parser

SLEEPER = [sys.executable, "-c", "import time; time.sleep(600)"]
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    """An agent with a service that runs and one that cannot be started; its socket is in its state directory."""
    folder = tmp_path / "agent"
    folder.mkdir()
    services = {
        "web": {"command": SLEEPER},
        "broken": {"command": ["/no/such/program"], "backoff": {"initial": "60s"}},
    }
    started = Agent(folder, {"services": services, "collectors": {}}, "--state-dir", str(tmp_path / "state"))
    started.running("web")
    yield started
    if started.process.poll() is None:
        started.send(signal.SIGTERM)
        started.process.wait(20)


@pytest.fixture
def ask(tmp_path: Path) -> Command:
    """A command, to its end, as a person would write it; it finds the socket by itself."""

    def run(*words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT / "agent_src"),
            "STATE_DIRECTORY": str(tmp_path / "state"),
        }
        command = [sys.executable, "-W", "error", "-m", "watchkeeper", *words]
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=60
        )
        assert done.returncode == code, done
        return done

    return run


def test_what_the_agent_sees(agent: Agent, ask: Command) -> None:
    """status, names, explain and events agree with each other, and say why."""
    rows = {line.split()[0]: line for line in ask("status").stdout.splitlines()[3:5]}
    assert "running" in rows["web"]
    assert "backoff" in rows["broken"]
    assert {"service/web", "service/broken"} <= set(ask("names").stdout.split())
    assert ask("names", "service").stdout.split() == ["broken", "web"]
    text = ask("explain", "broken").stdout
    assert text.startswith("service broken: backoff\n")
    assert "the program /no/such/program is not there" in text
    assert (
        '  command             ["/no/such/program"]' in text
        or "/no/such/program" in text.partition("wanted:")[2]
    )
    found = json.loads(ask("explain", "service/web", "--json").stdout)
    assert (found["desired"]["command"], found["order"]) == (SLEEPER, None)
    assert "service/web  running" in ask("events", "web").stdout


def test_orders_are_carried_out(agent: Agent, ask: Command) -> None:
    """restart changes the process, stop holds over a reload, start ends it; each waits until it is so."""
    before = agent.service("web")["pid"]
    assert ask("restart", "web", "--wait").stdout.startswith("web: running, pid ")
    assert agent.service("web")["pid"] != before
    assert ask("stop", "web", "--wait").stdout == "web: stopped\n"
    ask("reload")
    assert agent.service("web")["state"] == "stopped"
    assert "order" in ask("explain", "web").stdout
    assert ask("start", "web", "--wait").stdout.startswith("web: running, pid ")
    missing = ask("restart", "wep", code=9)
    assert 'did you mean "web"?' in missing.stderr


def test_a_reload_says_what_became_of_it(agent: Agent, ask: Command) -> None:
    """In force, unchanged, or every problem with exit code 3."""
    assert ask("reload").stdout.startswith("unchanged: generation 1")
    agent.write({"services": {}, "collectors": {}})
    assert ask("reload").stdout == "in force: generation 2\n"
    agent.write("services: {a: {comand: [x]}}\n")
    refused = ask("reload", code=3)
    assert "services.a.comand: unknown key" in refused.stderr


def test_the_log_as_it_comes(agent: Agent, ask: Command, tmp_path: Path) -> None:
    """logs -f tells what is there, then what comes, until the agent ends."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT / "agent_src"),
        "STATE_DIRECTORY": str(tmp_path / "state"),
    }
    command = [sys.executable, "-m", "watchkeeper", "logs", "-f", "web"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as follower:
        assert follower.stdout is not None
        assert "service web started" in follower.stdout.readline()
        ask("restart", "web")
        assert "an operator has restarted it" in "".join(follower.stdout.readline() for _ in range(2))
        agent.end()
        follower.communicate(timeout=20)
        assert follower.returncode == 0
    ask("log-level", "debug", code=6)


def test_the_level_changes_while_it_runs(agent: Agent, ask: Command) -> None:
    """And a reload that does not change it leaves it so."""
    assert ask("log-level", "error").stdout == "the log level is error now\n"
    lines = len(agent.lines())
    ask("restart", "web", "--wait")
    ask("reload")
    assert [line["message"] for line in agent.lines()[lines:] if line["level"] == "INFO"] == []


def complete(tmp_path: Path, line: str) -> list[str]:
    """What bash offers at the end of a line; a `watchkeeper` stands by that knows two services."""
    program = tmp_path / "watchkeeper"
    program.write_text(
        '#!/bin/sh\n[ "$1" = names ] && [ "$2" = service ] && printf "web\\nworker\\n" || echo service/web\n'
    )
    program.chmod(0o755)
    completions = tmp_path / "completions.bash"
    completions.write_text(script("bash", parser()))
    words = line.split(" ")
    arrays = " ".join(shlex.quote(word) for word in words)
    ask = (
        f"PATH={tmp_path}:$PATH; source {completions}; COMP_WORDS=({arrays}); COMP_CWORD={len(words) - 1}; "
        'complete -p watchkeeper >/dev/null && _watchkeeper && printf "%s\\n" "${COMPREPLY[@]}"'
    )
    bash = "/bin/bash"
    done = subprocess.run(
        [bash, "--norc", "-c", ask], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout.split()


@pytest.mark.skipif(not Path("/bin/bash").exists(), reason="there is no bash")
@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("watchkeeper st", ["status", "start", "stop"]),
        ("watchkeeper --v", ["--version"]),
        ("watchkeeper log-level de", ["debug"]),
        ("watchkeeper run --log-level w", ["warning"]),
        ("watchkeeper run --con", ["--config"]),
        ("watchkeeper restart w", ["web", "worker"]),
        ("watchkeeper restart wo", ["worker"]),
        ("watchkeeper explain s", ["service/web"]),
        ("watchkeeper check-config comp", ["completions.bash"]),
        ("watchkeeper run --config watch", ["watchkeeper"]),
        ("watchkeeper status --url x", []),
        ("watchkeeper version x", []),
    ],
)
def test_in_a_real_bash(tmp_path: Path, line: str, offered: list[str]) -> None:
    """Commands, options, values, files, and the names that the running agent tells."""
    assert complete(tmp_path, line) == offered
