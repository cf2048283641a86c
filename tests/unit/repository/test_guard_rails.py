"""The guard rails of tests/conftest.py hold, and let through what a unit test needs."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
from typing import Any

import pytest


def connect_outside() -> None:
    with socket.socket() as connection:
        connection.connect(("192.0.2.1", 80))


def look_up() -> None:
    socket.getaddrinfo("example.invalid", 443)


def run_pip() -> None:
    subprocess.run([sys.executable, "-m", "pip", "--version"], check=True)


@pytest.mark.parametrize("act", [connect_outside, look_up, run_pip])
def test_refused(act: Any, guard_rails: Any) -> None:
    """Another machine and a build tool are out of bounds, and a swallowed refusal is remembered."""
    with pytest.raises(AssertionError, match=r"a unit test (opened|looked up|started)"):
        act()

    assert len(guard_rails.refused) == 1
    guard_rails.refused.clear()


@pytest.mark.asyncio
async def test_refused_in_a_coroutine(guard_rails: Any) -> None:
    """The event loop's processes are seen as well."""
    with pytest.raises(AssertionError, match="started uv"):
        await asyncio.create_subprocess_exec("uv", "--version")

    guard_rails.refused.clear()


def test_loopback_is_allowed() -> None:
    """A test may talk to a server of its own."""
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


def test_ordinary_process_is_allowed() -> None:
    """A test may run Python."""
    done = subprocess.run([sys.executable, "-c", "print(123)"], capture_output=True, text=True, check=True)

    assert done.stdout == "123\n"
