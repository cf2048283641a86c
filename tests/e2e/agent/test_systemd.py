"""The agent under a real systemd: the unit that it prints, notify-reload, the watchdog, a long stop."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.systemd_machine import Machine

pytestmark = pytest.mark.e2e

CONFIG = "/etc/watchkeeper/watchkeeper.yaml"
UNIT = "/etc/systemd/system/watchkeeper.service"
SLEEPER: dict[str, Any] = {"command": ["sleep", "1000"], "stop_grace": "10s"}
DEAF: dict[str, Any] = {
    "command": ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"],
    "stop_grace": "6s",
}


@pytest.fixture
def agent(machine: Machine) -> Iterator[Machine]:
    """The agent, installed with the unit that it prints and started."""
    configure(machine, app=SLEEPER)
    machine.write(UNIT, machine.run("watchkeeper", "unit", "systemd"))
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "watchkeeper")
    yield machine
    machine.run("systemctl", "kill", "--signal=KILL", "watchkeeper", check=False)
    machine.run("systemctl", "stop", "watchkeeper", check=False)
    machine.run("systemctl", "reset-failed", "watchkeeper", check=False)
    machine.run("rm", "-rf", "/etc/systemd/system/watchkeeper.service.d")


def configure(machine: Machine, drain: str = "30s", **services: Any) -> None:
    machine.write(
        CONFIG, json.dumps({"agent": {"drain_timeout": drain}, "collectors": {}, "services": services})
    )


def override(machine: Machine, *lines: str) -> None:
    """Change the unit, and start the agent anew."""
    text = "\n".join(["[Service]", *lines, ""])
    machine.write("/etc/systemd/system/watchkeeper.service.d/test.conf", text)
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "watchkeeper")


def services(machine: Machine) -> dict[str, dict[str, Any]]:
    """The agent's services, asked through the default socket."""
    found = json.loads(machine.run("watchkeeper", "status", "--json"))
    return {each["name"]: each for each in found["services"]}


def running(machine: Machine, name: str = "app") -> dict[str, Any]:
    def find() -> dict[str, Any] | None:
        each = services(machine).get(name)
        return each if each and each["state"] == "running" else None

    found: dict[str, Any] = machine.wait(find, f"service {name}")
    return found


def test_the_unit_is_one_that_systemd_likes(agent: Machine) -> None:
    """systemd-analyze has nothing to say about it, and the type is the one that waits for a reload."""
    assert agent.run("systemd-analyze", "verify", UNIT, check=False) == ""
    found = agent.show("watchkeeper", "Type", "WatchdogUSec", "KillMode", "Restart", "ActiveState")
    assert found == {
        "Type": "notify-reload",
        "WatchdogUSec": "30s",
        "KillMode": "mixed",
        "Restart": "always",
        "ActiveState": "active",
    }


def test_start_returns_when_the_agent_is_ready(agent: Machine) -> None:
    """READY=1 came after the first round, and the status line says what runs; the socket answers without an option."""
    assert services(agent)["app"]["state"] in ("starting", "running")
    running(agent)
    agent.wait(
        lambda: "1 of 1 services run" in agent.show("watchkeeper", "StatusText")["StatusText"],
        "the status line",
    )


def test_reload_returns_when_the_configuration_is_in_force(agent: Machine) -> None:
    """RELOADING=1 and READY=1: right after `systemctl reload` the new service is known; a wrong file changes nothing."""
    kept = running(agent)["pid"]
    configure(agent, app=SLEEPER, more=SLEEPER)
    agent.run("systemctl", "reload", "watchkeeper")
    assert set(services(agent)) == {"app", "more"}
    agent.write(CONFIG, "services: {app: {comand: [x]}}\n")
    agent.run("systemctl", "reload", "watchkeeper")
    found = agent.show("watchkeeper", "ActiveState", "StatusText")
    assert found["ActiveState"] == "active"
    assert "the newest was refused" in found["StatusText"]
    assert running(agent)["pid"] == kept


def test_an_agent_that_stands_still_is_restarted(agent: Machine) -> None:
    """SIGSTOP: no WATCHDOG=1 comes, systemd ends it and starts it again; its services run again, once."""
    override(agent, "WatchdogSec=2")
    before = running(agent)["pid"]
    main = int(agent.show("watchkeeper", "MainPID")["MainPID"])
    agent.run("kill", "-STOP", str(main))
    agent.wait(lambda: agent.show("watchkeeper", "NRestarts")["NRestarts"] == "1", "the restart", 60)
    agent.wait(
        lambda: agent.show("watchkeeper", "ActiveState")["ActiveState"] == "active", "the new agent", 60
    )
    assert running(agent)["pid"] != before
    assert agent.run("pgrep", "--count", "--full", "--exact", "sleep 1000").strip() == "1"


def test_the_watchdog_is_fed_while_all_is_well(agent: Machine) -> None:
    """Three times the interval, and no restart."""
    override(agent, "WatchdogSec=1")
    main = agent.show("watchkeeper", "MainPID")["MainPID"]
    agent.run("sleep", "3")
    assert agent.show("watchkeeper", "MainPID", "NRestarts") == {"MainPID": main, "NRestarts": "0"}


def test_a_killed_agent_comes_back(agent: Machine) -> None:
    """kill -9: Restart=always, and one process of each service afterwards."""
    running(agent)
    agent.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", "watchkeeper")
    agent.wait(lambda: agent.show("watchkeeper", "NRestarts")["NRestarts"] == "1", "the restart")
    agent.wait(lambda: agent.show("watchkeeper", "ActiveState")["ActiveState"] == "active", "the new agent")
    running(agent)
    assert agent.run("pgrep", "--count", "--full", "--exact", "sleep 1000").strip() == "1"


def test_a_long_stop_gets_its_time(agent: Machine) -> None:
    """A service that needs 6 s, and TimeoutStopSec=2: EXTEND_TIMEOUT_USEC keeps systemd from killing the agent."""
    configure(agent, app=DEAF)
    override(agent, "TimeoutStopSec=2")
    running(agent)
    agent.run("systemctl", "stop", "watchkeeper")
    found = agent.show("watchkeeper", "Result", "ExecMainStatus", "ActiveState")
    assert found == {"Result": "success", "ExecMainStatus": "0", "ActiveState": "inactive"}
    assert "did not end within its grace" in agent.journal()


def test_orders_through_the_socket(agent: Machine) -> None:
    """As root, without an option: the socket says who asks."""
    before = running(agent)["pid"]
    assert agent.run("watchkeeper", "restart", "app", "--wait").startswith("app: running, pid ")
    assert running(agent)["pid"] != before
    assert "an operator has restarted it" in agent.run("watchkeeper", "explain", "app")


def test_a_wrong_configuration_keeps_nothing_from_running(agent: Machine) -> None:
    """ExecStartPre= says what is wrong, with line and column, and the agent starts with the last good one."""
    running(agent)
    agent.run("systemctl", "stop", "watchkeeper")
    agent.write(CONFIG, "services: {app: {comand: [x]}}\n")
    agent.run("systemctl", "start", "watchkeeper")
    assert "watchkeeper.yaml:1:18: services.app.comand: unknown key" in agent.journal()
    assert running(agent)["pid"]


def test_the_machine_is_not_the_host(machine: Machine) -> None:
    """What this file starts is process 1 of a namespace of its own, and its cgroup is no part of the host's services."""
    assert Path(f"/proc/{machine.init}/ns/pid").readlink() != Path("/proc/self/ns/pid").readlink()
    assert machine.run("cat", "/proc/1/comm").strip() == "systemd"
