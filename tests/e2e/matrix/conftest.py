"""Both agents, for every target that can be run here, each from one command."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.clean_rootfs.rootfs import UnavailableError
from e2e.matrix import machine
from e2e.matrix.agents import AGENTS, Built, Machine, workshop


@pytest.fixture(scope="session")
def here() -> Machine:
    """Runtimes and runners; what this machine cannot have skips with the reason."""
    try:
        env = machine.variables(machine.runtimes())
        machine.set_up()
    except UnavailableError as reason:
        pytest.skip(f"NOT RUN: {reason}")
    return Machine(dict(env))


@pytest.fixture(scope="session", params=list(AGENTS))
def agent(request: pytest.FixtureRequest) -> str:
    """The name of one of the two."""
    return str(request.param)


@pytest.fixture(scope="session")
def three(here: Machine, agent: str, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """All three targets that can be run here, from one command."""
    shop = workshop(agent, tmp_path_factory.mktemp(f"{agent} é") / "dist")
    return Built(
        shop, here.run(shop, "build", "--target", ",".join(machine.RUN_HERE), "--floor", machine.FLOOR)
    )


@pytest.fixture(scope="session")
def fourth(here: Machine, agent: str, tmp_path_factory: pytest.TempPathFactory) -> Built:
    """What is built, read, and run nowhere here."""
    shop = workshop(agent, tmp_path_factory.mktemp(f"{agent}-macos") / "dist")
    return Built(shop, here.run(shop, "build", "--target", machine.BUILT_ONLY))


@pytest.fixture
def empty_home(tmp_path: Path) -> Iterator[Path]:
    """A FERRYMAN_HOME without any runner; what took minutes to compile is borrowed."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in ("toolchain", "zig", "runtimes"):
        (machine.home() / name).mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(machine.home() / name)
    yield folder
    assert not (folder / "runners").exists(), "something was set up without being asked for"
