"""What the allocator is told: in processes of their own, because it cannot be told to forget it."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest

from watchkeeper import native

ROOT = Path(__file__).resolve().parents[3]
GLIBC = sys.platform == "linux" and platform.libc_ver()[0] == "glibc"
AFTER_ONE_LARGE_BLOCK = """
import os
from watchkeeper.native import give_memory_back

if os.environ["TELL"] == "1":
    assert give_memory_back()

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

large = bytes(20_000_000)  # one large answer, which raises glibc's threshold when it goes
del large
before = resident()
blocks, kept = [], []
for _ in range(100):
    blocks.append(b"x" * 500_000)
    kept.append(b"x" * 100_000)  # what stays lies between what goes
del blocks
print(resident() - before - 100 * 100_000)
"""


def left(tell: bool) -> int:
    """Bytes that stay with the process of 50 MB that it has freed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "agent_src"), "TELL": str(int(tell))}
    environment = {name: value for name, value in environment.items() if not name.startswith("MALLOC_")}
    done = subprocess.run(
        [sys.executable, "-c", AFTER_ONE_LARGE_BLOCK],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout)


@pytest.mark.skipif(not (native.EXTENSION and GLIBC), reason="glibc's setting, made by the extension")
def test_what_is_freed_goes_back() -> None:
    """Without it nearly all of what lay between things that stay is kept; with it nearly nothing."""
    assert left(tell=False) > 40_000_000
    assert left(tell=True) < 5_000_000


def test_the_twin_has_no_such_setting() -> None:
    """It says so, and nothing changes."""
    command = [
        sys.executable,
        "-c",
        "from watchkeeper.native import give_memory_back; print(give_memory_back())",
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "agent_src"), "WATCHKEEPER_NATIVE": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"
