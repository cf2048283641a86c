"""What the integration tests share: one cache of build steps, and projects to build with it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

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
