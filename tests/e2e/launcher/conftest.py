"""What the tests of the launcher share: one executable, built by the real command line, and worlds to run it in."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from support.launcher import World, build_oneself


@pytest.fixture(scope="session")
def executable(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The one-file executable of tests/support/oneself."""
    if sys.platform != "linux":
        pytest.skip("the survival tests need Linux")
    return build_oneself(tmp_path_factory.mktemp("launcher"), "executable")


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same program as a folder in a .tar.gz."""
    if sys.platform != "linux":
        pytest.skip("the survival tests need Linux")
    return build_oneself(tmp_path_factory.mktemp("archive"), "archive")


@pytest.fixture
def make_world(executable: Path) -> Iterator[Callable[..., World]]:
    """Worlds, all of which end with the test."""
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("a private mount namespace and other users need root and unshare (util-linux)")
    with ExitStack() as stack:
        yield lambda before="": stack.enter_context(World(executable=executable, before=before))


@pytest.fixture
def world(make_world: Callable[..., World]) -> World:
    """An empty world with the executable at /srv/bin/oneself and an ordinary user's HOME at /srv/home."""
    return make_world()
