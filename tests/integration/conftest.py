"""What the integration tests share: one cache of build steps, projects to build with it, and running agents."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from support.agent_process import Agent, Start
from support.ferryman import Workshop, lantern


@pytest.fixture(scope="session")
def shared_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An out/ for the whole session: each distinct step runs once, as on a developer's machine."""
    return tmp_path_factory.mktemp("shared") / "out"


@pytest.fixture
def make_lantern(tmp_path: Path, shared_out: Path) -> Callable[..., Workshop]:
    """A copy of the second agent; by default below a folder with a space and letters beyond ASCII."""

    def make(name: str = "mes agents é 灯") -> Workshop:
        folder = tmp_path / name
        folder.mkdir()
        return lantern(folder, shared_out)

    return make


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts agents, and ends what is left of them."""
    agents: list[Agent] = []

    def begin(config: dict[str, Any], *options: str) -> Agent:
        folder = tmp_path / f"agent{len(agents)}"
        folder.mkdir()
        agents.append(Agent(folder, config, *options))
        return agents[-1]

    yield begin
    for agent in agents:
        if agent.process.poll() is None:
            agent.send(signal.SIGTERM)
            time.sleep(0.05)
            agent.send(signal.SIGTERM)
            agent.process.wait(10)
