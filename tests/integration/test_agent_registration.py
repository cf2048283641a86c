"""Registration and discovery with the real agent: a Consul of the tests, real children, loopback only."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import Agent
from support.consul_server import ConsulServer, consul_server

pytestmark = pytest.mark.integration

WEB = """
import http.server, os, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503 if os.path.exists("sick") else 200)
        self.end_headers()
    def log_message(self, *args): pass
server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
with open("port.new", "w") as stream:
    stream.write(str(server.server_address[1]))
os.replace("port.new", "port")
server.serve_forever()
"""


def service(folder: Path, **check: Any) -> dict[str, Any]:
    """A small web server whose readiness a file decides: it is ready while there is no file `sick`."""
    ready = [sys.executable, "-c", "import os, sys; sys.exit(os.path.exists('sick'))"]
    return {
        "command": [sys.executable, "-c", WEB],
        "working_directory": str(folder),
        "checks": {
            "ready": {
                "type": "exec",
                "command": ready,
                "working_directory": str(folder),
                "period": 0.1,
                "timeout": 5,
                "failure_threshold": 1,
            }
        },
    }


@pytest.fixture
def consul() -> Iterator[ConsulServer]:
    with consul_server() as server:
        yield server


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Agent]]:
    started: list[Agent] = []

    def run(config: dict[str, Any], *options: str) -> Agent:
        agent = Agent(tmp_path, config, *options)
        started.append(agent)
        return agent

    yield run
    for agent in started:
        agent.process.kill()
        agent.process.wait()


def registration(consul: ConsulServer, **more: Any) -> dict[str, Any]:
    return {
        "type": "consul",
        "service": "app",
        "name": "user-service",
        "id": "user-service-1",
        "address": "127.0.0.1",
        "port": 8080,
        "server": {"url": consul.url},
        "ttl": "3s",
        **more,
    }


def shown(agent: Agent, kind: str, name: str) -> dict[str, Any] | None:
    """What /status says about a key."""
    found: list[dict[str, Any]] = agent.status()["objects"]
    return next((each for each in found if (each["kind"], each["name"]) == (kind, name)), None)


def test_ttl_follows_readiness_and_drain_deregisters(
    tmp_path: Path, consul: ConsulServer, start: Callable[..., Agent]
) -> None:
    """Registered when it is ready or not, critical while not, withdrawn before the service is stopped."""
    agent = start({"services": {"app": service(tmp_path)}, "registrations": {"app": registration(consul)}})
    check = "user-service-1:ready"
    agent.wait(lambda: consul.status("user-service-1").get(check) == "passing", "a passing check")
    found = consul.service("user-service-1")
    assert found is not None
    assert (found["Name"], found["Address"], found["Port"]) == ("user-service", "127.0.0.1", 8080)
    (tmp_path / "sick").touch()
    agent.wait(lambda: consul.status("user-service-1")[check] == "critical", "a critical check")
    status = agent.wait(lambda: shown(agent, "registration", "app"), "a registration in /status")
    assert status["state"] == "critical"
    assert "readiness check app/ready does not pass" in status["why"]
    (tmp_path / "sick").unlink()
    agent.wait(lambda: consul.status("user-service-1")[check] == "passing", "a passing check again")
    assert agent.end() == 0
    assert consul.service("user-service-1") is None
    assert consul.history[-1] == "deregister user-service-1"
    messages = agent.messages()
    withdrawn = next(at for at, text in enumerate(messages) if "registration app is withdrawn" in text)
    stopped = next(at for at, text in enumerate(messages) if "service app is stopped" in text)
    assert withdrawn < stopped
