"""Units of a real systemd as services of the agent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from support.systemd_machine import Machine

pytestmark = pytest.mark.e2e

CONFIG = "/etc/watchkeeper/watchkeeper.yaml"
DEMO = "[Service]\nExecStart=/bin/sh -c 'echo begun; exec sleep 1000'\n"
SOON = {"initial": "100ms", "jitter": 0}


@pytest.fixture
def agent(machine: Machine) -> Iterator[Machine]:
    """The agent as a service, with a unit beside it that it looks after."""
    machine.write("/etc/systemd/system/demo.service", DEMO)
    configure(machine, demo={})
    machine.write("/etc/systemd/system/watchkeeper.service", machine.run("watchkeeper", "unit", "systemd"))
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "watchkeeper")
    yield machine
    machine.run("systemctl", "stop", "watchkeeper", check=False)
    machine.run("systemctl", "stop", "demo", check=False)
    machine.run("systemctl", "reset-failed", check=False)


def configure(machine: Machine, **units: dict[str, Any]) -> None:
    services = {
        name: {"driver": "systemd", "unit": f"{name}.service", "period": "200ms", "backoff": SOON, **more}
        for name, more in units.items()
    }
    machine.write(CONFIG, json.dumps({"collectors": {}, "services": services}))


def service(machine: Machine, name: str = "demo") -> dict[str, Any]:
    found = json.loads(machine.run("watchkeeper", "status", "--json"))
    return next((each for each in found["services"] if each["name"] == name), {"state": "none"})


def running(machine: Machine, after: int | None = None) -> dict[str, Any]:
    def find() -> dict[str, Any] | None:
        found = service(machine)
        return found if found["state"] == "running" and found["pid"] not in (None, after) else None

    found: dict[str, Any] = machine.wait(find, "the unit")
    return found


def pid_of(machine: Machine) -> int:
    return int(machine.show("demo", "MainPID")["MainPID"])


def test_a_unit_that_ends_is_started_again(agent: Machine) -> None:
    """Started with the agent, and again after its end; how it ended is systemd's word."""
    first = running(agent)
    assert first["pid"] == pid_of(agent)
    agent.run("systemctl", "kill", "--signal=KILL", "demo")
    second = running(agent, after=first["pid"])
    assert (second["restarts"], second["pid"]) == (1, pid_of(agent))
    assert second["last_exit"] == "systemd calls it failed: signal"


def test_systemds_own_limit_of_starts_does_not_hold_it_up(agent: Machine) -> None:
    """After more starts than systemd allows in ten seconds it is still started: the agent decides how often."""
    pid = None
    for _ in range(7):
        pid = running(agent, after=pid)["pid"]
        agent.run("systemctl", "kill", "--signal=KILL", "demo")
    running(agent, after=pid)


def test_an_operator_stops_and_starts_it(agent: Machine) -> None:
    """A stop of the agent's holds; what systemctl stops behind its back is started again."""
    running(agent)
    agent.run("watchkeeper", "stop", "demo")
    agent.wait(lambda: agent.show("demo", "ActiveState")["ActiveState"] == "inactive", "the stop")
    agent.run("watchkeeper", "start", "demo")
    pid = running(agent)["pid"]
    agent.run("systemctl", "stop", "demo")
    running(agent, after=pid)


def test_it_outlives_the_agent_and_is_found_again(agent: Machine) -> None:
    """`on_agent_stop: leave`, the default for units: neither a stop nor a start of the agent touches it."""
    pid = running(agent)["pid"]
    agent.run("systemctl", "restart", "watchkeeper")
    found = running(agent)
    assert (found["pid"], found["adopted"]) == (pid, True)
    configure(agent)
    agent.run("systemctl", "reload", "watchkeeper")
    agent.wait(lambda: service(agent)["state"] == "none", "the removal")
    assert pid_of(agent) == pid


def test_a_unit_that_is_not_there(agent: Machine) -> None:
    """systemd's own sentence, and a later try."""
    configure(agent, demo={}, nothere={})
    agent.run("systemctl", "reload", "watchkeeper")
    agent.wait(lambda: service(agent, "nothere").get("failures_in_a_row", 0) > 1, "two tries")
    assert "nothere.service not found" in service(agent, "nothere")["last_exit"]
