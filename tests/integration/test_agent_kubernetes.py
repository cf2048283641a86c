"""A running agent whose checks are objects of a cluster: the cluster is the tests' own, the agent and the probed port are real."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import Agent
from support.kubernetes_server import KubernetesServer
from watchkeeper.kubernetes import crd

pytestmark = pytest.mark.integration
OWN = "watchkeeper.internal/here"


@pytest.fixture
def cluster() -> Iterator[KubernetesServer]:
    server = KubernetesServer(crd.schema(), token="let me in")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def agent(cluster: KubernetesServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Agent]:
    monkeypatch.setenv("NODE_NAME", "here")
    monkeypatch.setenv("CLUSTER_TOKEN", "let me in")
    source = {"type": "kubernetes", "url": cluster.url, "token": "${env:CLUSTER_TOKEN}"}
    made = Agent(tmp_path, {"sources": {"cluster": source}}, "--state-dir", str(tmp_path / "state"))
    made.message("listening")
    yield made
    made.process.kill()
    made.process.wait()


def eventually(condition: Callable[[], Any], what: str, agent: Agent) -> Any:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.02)
    pytest.fail(f"{what} did not come; the agent wrote:\n{agent.log.read_text()}")


def seen(cluster: KubernetesServer, name: str) -> dict[str, Any]:
    """What this node has written to an object's status."""
    item = cluster.find(name) or {}
    found: dict[str, Any] = item.get("status", {}).get("nodes", {}).get("here", {})
    return found


def test_the_life_of_an_object(cluster: KubernetesServer, agent: Agent) -> None:
    """Made: held, checked, reported. Changed: reported anew. Broken: said. Deleted: the check ends first, then it is let go."""
    with socket.create_server(("127.0.0.1", 0)) as port:
        address = f"127.0.0.1:{port.getsockname()[1]}"
        cluster.apply("db", {"type": "tcp", "address": address, "period": "100ms"})
        cluster.apply("bad", {"type": "tcp", "address": "nowhere", "period": "100ms"})
        eventually(lambda: seen(cluster, "db").get("state") == "success", "success", agent)
    item = cluster.find("db")
    assert item is not None
    assert item["metadata"]["finalizers"] == [OWN]
    eventually(
        lambda: seen(cluster, "bad").get("state") == "invalid", "the verdict about the wrong one", agent
    )
    assert "spec.address" in seen(cluster, "bad")["why"]
    # The port is closed now.
    failure = eventually(
        lambda: seen(cluster, "db").get("state") == "failure" and seen(cluster, "db"), "failure", agent
    )
    assert failure["observedGeneration"] == 1
    cluster.apply("db", {"type": "tcp", "address": address, "period": "200ms"})
    eventually(lambda: seen(cluster, "db").get("observedGeneration") == 2, "the new generation", agent)
    cluster.delete("db")
    eventually(lambda: cluster.find("db") is None, "the end of the object", agent)
    assert all(check["name"] != "default.db" for check in agent.status()["checks"])
    assert agent.end() == 0


def test_a_cluster_that_is_away(cluster: KubernetesServer, agent: Agent, tmp_path: Path) -> None:
    """What it said before stays in force, also for an agent that starts meanwhile; then it goes on."""
    cluster.apply("db", {"type": "tcp", "address": "127.0.0.1:1", "period": "100ms"})
    eventually(lambda: [check["name"] for check in agent.status()["checks"]], "the check", agent)
    eventually(lambda: seen(cluster, "db"), "the status", agent)
    cluster.break_down(status=503)
    cluster.hang_up()
    agent.message("source cluster")
    assert [check["name"] for check in agent.status()["checks"]] == ["default.db"]
    assert agent.end() == 0
    again = Agent(
        tmp_path, json.loads((tmp_path / "agent.yaml").read_text()), "--state-dir", str(tmp_path / "state")
    )
    try:
        eventually(
            lambda: (
                "listening" in again.log.read_text() and [check["name"] for check in again.status()["checks"]]
            ),
            "the copy",
            again,
        )
        cluster.break_down()
        cluster.apply("more", {"type": "tcp", "address": "127.0.0.1:1"})
        eventually(lambda: len(again.status()["checks"]) == 2, "the second check", again)
        assert again.end() == 0
    finally:
        again.process.kill()
        again.process.wait()


def test_many_objects_and_no_flood(cluster: KubernetesServer, agent: Agent) -> None:
    """A status is written when a state changes and not at each look: 30 objects, some 60 writes, then none."""
    for number in range(30):
        cluster.apply(f"c{number}", {"type": "tcp", "address": "127.0.0.1:1", "period": "50ms"})
    eventually(
        lambda: all(seen(cluster, f"c{number}").get("state") == "failure" for number in range(30)),
        "all states",
        agent,
    )
    eventually(
        lambda: all(OWN in cluster.find(f"c{number}")["metadata"]["finalizers"] for number in range(30)),
        "all finalizers",
        agent,
    )  # type: ignore[index]
    before = -1
    while before != len(cluster.patches):  # the last ones are on their way
        before = len(cluster.patches)
        time.sleep(0.5)
    assert before <= 4 * 30
    runs = [check["last_run"] for check in agent.status()["checks"]]
    eventually(
        lambda: all(
            check["last_run"] != old for check, old in zip(agent.status()["checks"], runs, strict=True)
        ),
        "more looks",
        agent,
    )
    assert len(cluster.patches) == before
    assert before <= 30 * 4
    assert agent.end() == 0
