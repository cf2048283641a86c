"""Programs that are let go of: nothing is left of them, and nobody complains."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from watchkeeper import system
from watchkeeper.context import Context
from watchkeeper.life.drain import Drain, Endpoints
from watchkeeper.programs import Program, leaving

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")


@pytest.fixture(autouse=True)
def _watcher() -> Iterator[None]:
    """Children are watched as the agent does it, which is said before there is a loop."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        system.watch_children_by_pidfd()
        yield
        asyncio.set_child_watcher(None)


class Ending(Program):
    """Says when it has ended."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()

    def process_exited(self) -> None:
        self.ended.set()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def started(*words: str) -> Ending:
    _, program = await asyncio.get_running_loop().subprocess_exec(
        Ending, *words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    return program


@pytest.mark.parametrize("pause", [0.0, 0.02])
def test_killed_and_let_go(pause: float, caplog: pytest.LogCaptureFixture) -> None:
    """However soon after KILL: asyncio's watcher finds the exit status, each is waited for, and no descriptor is left."""
    with caplog.at_level(logging.DEBUG, "asyncio"):
        asyncio.run(_kill(pause))
    assert [each.getMessage() for each in caplog.records if each.levelno > logging.DEBUG] == []


async def _kill(pause: float) -> None:
    await started("true")  # what asyncio opens once
    await asyncio.sleep(0.05)
    before = descriptors()
    programs = [await started("sleep", "600") for _ in range(20)]
    assert descriptors() > before + 20
    for each in programs:
        assert each.transport is not None
        os.kill(each.transport.get_pid(), 9)
    if pause:
        time.sleep(pause)  # noqa: ASYNC251 - they have ended, and the loop has not heard of it yet
    for each in programs:
        each.let_go()
        each.let_go()
    for each in programs:
        await asyncio.wait_for(each.ended.wait(), 10)
        assert each.transport is not None
        assert each.transport.get_returncode() == -9
    await asyncio.sleep(0.01)
    assert descriptors() == before


def test_a_loop_that_ends_at_once() -> None:
    """The drain waits for whoever was let go of just before; else asyncio says of each transport that nobody closed it."""
    code = "import asyncio; from test_programs import leave; asyncio.run(leave())"
    done = subprocess.run(
        [sys.executable, "-W", "default::ResourceWarning", "-c", code],
        cwd=Path(__file__).parent, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


async def leave() -> None:
    """Let go of one whose end the loop does not know of yet, and end."""
    program = await started("sleep", "600")
    assert program.transport is not None
    os.kill(program.transport.get_pid(), 9)
    program.let_go()
    assert leaving()
    context = cast("Context", SimpleNamespace(observed=SimpleNamespace(processes=tuple)))
    await Drain(context, cast("Endpoints", None)).reap()
    assert not leaving()


def test_let_go_after_its_end() -> None:
    """As the transport's own close."""
    asyncio.run(_end())


async def _end() -> None:
    await started("true")
    await asyncio.sleep(0.05)
    before = descriptors()
    program = await started("true")
    await asyncio.wait_for(program.ended.wait(), 10)
    program.let_go()
    await asyncio.sleep(0.01)
    assert descriptors() == before
