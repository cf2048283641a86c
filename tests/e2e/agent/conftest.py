"""What the agent's journeys share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from e2e.clean_rootfs.rootfs import UnavailableError
from support.systemd_machine import Machine


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A root file system with a real systemd that has come up, and the agent in it."""
    made = Machine(tmp_path_factory.mktemp("machine"))
    try:
        made.boot()
    except UnavailableError as reason:
        pytest.skip(f"LOUD: no real systemd here, so nothing of this file was shown: {reason}")
    yield made
    made.off()
