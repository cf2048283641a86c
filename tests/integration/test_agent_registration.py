"""Registration and discovery with the real agent: a Consul of the tests, real children, loopback only."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import Agent, Start
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


def test_ttl_follows_readiness_and_drain_deregisters(
    tmp_path: Path, consul: ConsulServer, start: Start
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
    status = agent.wait(
        lambda: (found := agent.shown("registration", "app"))["state"] and found, "a registration in /status"
    )
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


def test_a_consul_that_forgets_is_told_again(tmp_path: Path, consul: ConsulServer, start: Start) -> None:
    """After Consul's agent was started without its data, the service is there again within a third of the TTL."""
    agent = start({"services": {"app": service(tmp_path)}, "registrations": {"app": registration(consul)}})
    agent.wait(
        lambda: consul.status("user-service-1").get("user-service-1:ready") == "passing", "a passing check"
    )
    consul.forget()
    agent.wait(
        lambda: consul.status("user-service-1").get("user-service-1:ready") == "passing", "the service again"
    )
    assert agent.message("registration app was lost and is made again")["error_class"] == "REGISTRY_FAILED"
    status = agent.wait(
        lambda: (found := agent.shown("registration", "app"))["state"] and found, "a registration in /status"
    )
    assert (status["state"], status["details"]["losses"]) == ("registered", 1)
    assert 'watchkeeper_registration_losses_total{registration="app"} 1' in agent.get("/metrics")[1]


def test_consul_is_down_slow_and_back(tmp_path: Path, consul: ConsulServer, start: Start) -> None:
    """Errors, torn answers and silence in turn: the service runs on, /status says why, and in the end it is registered."""
    consul.break_down(status=500)
    short = {"url": consul.url, "timeout": "500ms"}
    config = {
        "services": {"app": service(tmp_path)},
        "registrations": {"app": registration(consul, server=short)},
    }
    agent = start(config)
    status = agent.wait(
        lambda: (found := agent.shown("registration", "app"))["state"] == "retrying" and found,
        "a registration that is tried again",
    )
    assert "HTTP 500: rpc error: No cluster leader" in status["last_error"]
    consul.break_down(torn_after=0)
    agent.wait(lambda: "HTTP 500" not in agent.shown("registration", "app")["last_error"], "another error")
    consul.break_down(delay=1.0)
    agent.wait(lambda: "in time" in str(agent.shown("registration", "app")["last_error"]), "a timeout")
    assert agent.service()["state"] == "running"
    consul.break_down()
    agent.wait(
        lambda: consul.status("user-service-1").get("user-service-1:ready") == "passing", "a passing check"
    )
    agent.wait(lambda: agent.shown("registration", "app")["state"] == "registered", "a good word in /status")


def test_a_killed_agent_is_taken_out_by_consul(tmp_path: Path, start: Start) -> None:
    """Nobody renews after kill -9: the TTL runs out, the check is critical, and after a while Consul removes the service."""
    with consul_server() as consul:
        more = {"ttl": "1s", "deregister_critical_after": "60s"}
        config = {
            "services": {"app": service(tmp_path)},
            "registrations": {"app": registration(consul, **more)},
        }
        agent = start(config)
        check = "user-service-1:ready"
        agent.wait(lambda: consul.status("user-service-1").get(check) == "passing", "a passing check")
        agent.end(signal.SIGKILL)
        deadline = time.monotonic() + 20
        while consul.status("user-service-1") != {"user-service-1:ready": "critical"}:
            assert time.monotonic() < deadline, consul.history
            time.sleep(0.02)
        consul.hurry(100)
        while consul.service("user-service-1"):
            assert time.monotonic() < deadline, consul.history
            time.sleep(0.02)
        assert consul.history[-2:] == ["user-service-1:ready critical", "reap user-service-1"]


def test_http_probe_and_deregistration(tmp_path: Path, consul: ConsulServer, start: Start) -> None:
    """Consul asks /health itself; with `deregister` a service that is not ready is not there at all."""
    config: dict[str, Any] = {"services": {"app": service(tmp_path)}}
    agent = start(config)
    port = agent.wait(lambda: (tmp_path / "port").exists() and (tmp_path / "port").read_text(), "a port")
    probe = {"type": "http", "url": f"http://127.0.0.1:{port}/health", "interval": "100ms"}
    more = {
        "ttl": 0,
        "probe": probe,
        "port": int(port),
        "when_not_ready": "deregister",
        "look_interval": "200ms",
    }
    agent.write({**config, "registrations": {"app": registration(consul, **more)}})
    agent.wait(
        lambda: consul.status("user-service-1") == {"user-service-1:probe": "passing"}, "a passing probe"
    )
    (tmp_path / "sick").touch()
    agent.wait(lambda: consul.service("user-service-1") is None, "a service that is gone")
    assert agent.shown("registration", "app")["state"] == "waiting"
    (tmp_path / "sick").unlink()
    agent.wait(
        lambda: consul.status("user-service-1") == {"user-service-1:probe": "passing"}, "a passing probe"
    )
    consul.forget()
    agent.wait(lambda: consul.service("user-service-1"), "a service that is registered again")
    agent.write({**config, "registrations": {"app": registration(consul, **more, tags=["v2"])}})
    agent.wait(
        lambda: (consul.service("user-service-1") or {}).get("Tags") == ["v2"], "a changed registration"
    )
    agent.write({**config, "registrations": {"app": registration(consul, **{**more, "id": "other"})}})
    agent.wait(
        lambda: consul.service("other") and not consul.service("user-service-1"), "a registration that moved"
    )
    agent.write(config)
    agent.wait(lambda: consul.service("other") is None, "a registration that is gone")
    assert agent.shown("registration", "app")["state"] is None
    pid = agent.service()["pid"]
    assert agent.service()["restarts"] == 0
    assert pid is not None


def test_a_file_of_targets(tmp_path: Path, start: Start) -> None:
    """There while the service is ready, put right when somebody changes it, gone when the agent ends."""
    path = tmp_path / "targets.json"
    entry = {"type": "file", "service": "app", "address": "127.0.0.1", "port": 80, "path": str(path)}
    config = {
        "services": {"app": service(tmp_path)},
        "registrations": {"f": {**entry, "look_interval": "100ms"}},
    }
    agent = start(config)
    agent.wait(path.exists, "a file of targets")
    written = path.read_text()
    assert json.loads(written)[0]["targets"] == ["127.0.0.1:80"]
    path.write_text("[]")
    agent.wait(lambda: path.exists() and path.read_text() == written, "the right file again")
    (tmp_path / "sick").touch()
    agent.wait(lambda: not path.exists(), "a file that is gone")
    (tmp_path / "sick").unlink()
    agent.wait(path.exists, "the file again")
    assert agent.end() == 0
    assert not path.exists()


def test_discovery_keeps_what_it_knows(tmp_path: Path, consul: ConsulServer, start: Start) -> None:
    """What one agent announces another part of it finds; when Consul is gone the instances stay, and are called stale."""
    found = {
        "type": "consul",
        "service": "user-service",
        "server": {"url": consul.url, "timeout": "500ms"},
        "wait": "2s",
        "churn_interval": "10ms",
    }
    config = {
        "services": {"app": service(tmp_path)},
        "registrations": {"app": registration(consul)},
        "discovery": {"users": found},
    }
    agent = start(config)

    def instances() -> list[str]:
        return list(agent.shown("discovery", "users")["details"].get("instances", []))

    agent.wait(lambda: instances() == ["127.0.0.1:8080"], "an instance")
    (tmp_path / "sick").touch()
    agent.wait(lambda: instances() == [], "no instance")
    (tmp_path / "sick").unlink()
    agent.wait(lambda: instances() == ["127.0.0.1:8080"], "an instance again")
    consul.stop()
    status = agent.wait(
        lambda: (found := agent.shown("discovery", "users"))["state"] == "stale" and found,
        "staleness",
    )
    assert status["details"]["instances"] == ["127.0.0.1:8080"]
    metrics = agent.get("/metrics")[1]
    assert 'watchkeeper_discovery_stale{discovery="users"} 1' in metrics
    assert 'watchkeeper_discovery_instances{discovery="users"} 1' in metrics
    consul.start()
    agent.wait(lambda: agent.shown("discovery", "users")["state"] == "current", "answers again")


CHECK = "checks: {{{name}: {{type: tcp, address: '127.0.0.1:1', period: 60}}}}"


def checks(agent: Agent) -> list[str]:
    return sorted(each["name"] for each in agent.status()["checks"])


def source(consul: ConsulServer, **more: Any) -> dict[str, Any]:
    server = {"url": consul.url, "timeout": "500ms"}
    return {"type": "consul", "prefix": "w/", "server": server, "churn_interval": "10ms", **more}


def test_configuration_from_consul(tmp_path: Path, consul: ConsulServer, start: Start) -> None:
    """Keys come, change and go while the agent runs; nonsense changes nothing; an index that goes back loses nothing."""
    consul.put("w/a.yaml", CHECK.format(name="a"))
    consul.put("w/readme", "not a document")
    agent = start({"sources": {"s": source(consul, wait="1s")}})
    agent.wait(lambda: checks(agent) == ["a"], "a check")
    consul.put("w/b.json", json.dumps({"checks": {"b": {"type": "tcp", "address": "127.0.0.1:1"}}}))
    agent.wait(lambda: checks(agent) == ["a", "b"], "two checks")
    consul.put("w/a.yaml", "checks: {a: {type: nonsense}}")
    agent.wait(lambda: agent.shown("source", "s")["state"] == "refused", "a refusal")
    assert "consul:w/a.yaml" in str(agent.shown("source", "s")["last_error"])
    assert checks(agent) == ["a", "b"]
    consul.delete("w/a.yaml")
    agent.wait(lambda: checks(agent) == ["b"], "one check")
    consul.go_back()
    consul.put("w/c.toml", "[checks.c]\ntype = 'tcp'\naddress = '127.0.0.1:1'\n")
    agent.wait(lambda: checks(agent) == ["b", "c"], "a check after the index went back")
    reloads = agent.status()["config"]["generation"]
    for _number in range(5):
        consul.touch()
    consul.break_down(index="0")
    consul.put("w/d.yaml", CHECK.format(name="d"))
    agent.wait(lambda: checks(agent) == ["b", "c", "d"], "a check in spite of an index of 0")
    assert agent.status()["config"]["generation"] == reloads + 1, "an answer is no change"


def test_consul_is_gone_at_the_start(tmp_path: Path, consul: ConsulServer, start: Start) -> None:
    """The copy of what Consul said last is in force until it answers again; all keys gone is no answer."""
    consul.put("w/a.yaml", CHECK.format(name="a"))
    state = ("--state-dir", str(tmp_path / "state"))
    agent = start({"sources": {"s": source(consul)}}, *state)
    agent.wait(lambda: checks(agent) == ["a"], "a check")
    assert agent.end() == 0
    consul.stop()
    agent = start({"sources": {"s": source(consul)}}, *state)
    agent.wait(lambda: checks(agent) == ["a"], "the check of before")
    agent.wait(lambda: agent.shown("source", "s")["state"] == "failing", "a failing source")
    consul.start()
    consul.put("w/b.yaml", CHECK.format(name="b"))
    agent.wait(lambda: checks(agent) == ["a", "b"], "what Consul says now")
    consul.delete("w/a.yaml")
    consul.delete("w/b.yaml")
    agent.wait(lambda: "no document under w/" in str(agent.shown("source", "s")["last_error"]), "an error")
    assert checks(agent) == ["a", "b"] or checks(agent) == ["b"]


def test_a_token_is_needed_and_never_shown(tmp_path: Path, start: Start) -> None:
    """Without it Consul refuses, and that is what /status says; the token is nowhere in the log, /status or /metrics."""
    secret = tmp_path / "token"
    secret.write_text("very-secret-token\n")
    with consul_server(token="very-secret-token") as consul:
        consul.put("w/a.yaml", CHECK.format(name="a"))
        agent = start({"sources": {"s": source(consul)}})
        agent.wait(lambda: "HTTP 403" in str(agent.shown("source", "s")["last_error"]), "a refusal")
        server = {"url": consul.url, "token": f"${{file:{secret}}}"}
        agent.write({"sources": {"s": source(consul, server=server)}})
        agent.wait(lambda: checks(agent) == ["a"], "a check")
        shown_everywhere = agent.get("/status")[1] + agent.get("/metrics")[1] + agent.log.read_text()
        assert "very-secret-token" not in shown_everywhere
