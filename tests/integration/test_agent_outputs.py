"""Outputs of the log in a running agent."""

from __future__ import annotations

import json
import socket
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import Start

pytestmark = pytest.mark.integration


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_every_line_goes_to_every_output(start: Start, tmp_path: Path) -> None:
    """A file and a syslog server get what standard error gets, the last line before the end included."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(30)
        address = f"127.0.0.1:{server.getsockname()[1]}"
        log = tmp_path / "out" / "agent.json"
        agent = start(
            {
                "outputs": {
                    "disk": {"type": "file", "path": str(log), "flush_interval": "10ms"},
                    "far": {"type": "syslog", "transport": "udp", "address": address},
                }
            }
        )
        agent.message("listening")
        agent.wait(
            lambda: (
                {each["state"] for each in agent.status()["objects"] if each["kind"] == "output"}
                == {"writing"}
            ),
            "outputs",
        )
        assert agent.end() == 0
        own = [line["message"] for line in agent.lines()]
        written = [line["message"] for line in lines(log)]
        assert written == own[-len(written) :]
        assert written[-1] == "stopped"
        assert b"watchkeeper" in server.recv(65536)


def test_an_output_that_changes_loses_nothing(start: Start, tmp_path: Path) -> None:
    """A reload moves the file; between the two files no line is missing, and an output that is taken out is closed."""
    first, second = tmp_path / "first.json", tmp_path / "second.json"
    agent = start(
        {"agent": {"reload_interval": "50ms"}, "outputs": {"disk": {"type": "file", "path": str(first)}}}
    )
    agent.wait(lambda: lines(first), "the first file")
    agent.write(
        {"agent": {"reload_interval": "50ms"}, "outputs": {"disk": {"type": "file", "path": str(second)}}}
    )
    agent.wait(lambda: lines(second) or agent.send(1), "the second file")
    agent.write({"agent": {"reload_interval": "50ms"}})
    agent.wait(
        lambda: not [each for each in agent.status()["objects"] if each["kind"] == "output"],
        "the output's end",
    )
    messages = [line["message"] for line in lines(first) + lines(second)]
    in_force = [message for message in messages if message == "configuration in force"]
    assert len(in_force) >= 2
    assert agent.end() == 0


def test_an_output_that_fails_is_told_of(start: Start, tmp_path: Path) -> None:
    """The agent works on, says so once, and shows why; when the place is there again the lines come."""
    (tmp_path / "folder").write_text("a file stands here")
    log = tmp_path / "folder" / "agent.json"
    agent = start({"outputs": {"disk": {"type": "file", "path": str(log), "flush_interval": "1ms"}}})
    agent.message("output disk fails")

    def output() -> dict[str, Any]:
        keys = agent.status()["objects"]
        return next(each for each in keys if (each["kind"], each["name"]) == ("output", "disk"))

    assert output()["state"] == "failing"
    assert str(log) in output()["why"]
    (tmp_path / "folder").unlink()
    agent.wait(lambda: output()["state"] == "writing", "its recovery", limit=60)
    assert any(line["message"].startswith("output disk fails") for line in lines(log))
    assert agent.end() == 0
