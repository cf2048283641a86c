"""What the matrix needs of the machine: interpreters of other targets, and what runs their programs; made once, then kept.

FERRYMAN_HOME and FERRYMAN_RUNTIMES name other places than .cache/home and .cache/runtimes.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from e2e.clean_rootfs.rootfs import UnavailableError
from ferryman_build.targets import host_target
from support.ferryman import ROOT, environment
from support.runtimes.folder import make

HOST = "linux-amd64"
# Each with the runners that try its artifacts, in the manifest's words.
RUN_HERE = {HOST: "native, rootfs", "linux-arm64": "qemu", "windows-amd64": "wine"}
BUILT_ONLY = "darwin-arm64"
FLOOR = "glibc 2.36"  # what a Python of Debian bookworm needs, the oldest that PyInstaller's analysis runs on
_SETUPS = (
    ("rootfs", "--target", HOST, "--floor", FLOOR),
    ("qemu", "--target", "linux-arm64", "--floor", FLOOR),
    ("wine", "--target", "windows-amd64"),
)
_FAR = 2400  # seconds: a userland from a slow mirror


def home() -> Path:
    """FERRYMAN_HOME of these tests and benches."""
    return Path(os.environ.get("FERRYMAN_HOME") or ROOT / ".cache" / "home")


def runtimes(say: Callable[[str], None] = print) -> Path:
    """The folder of interpreters.

    Raises:
        UnavailableError: this machine can make one of them not.
    """
    if named := os.environ.get("FERRYMAN_RUNTIMES"):
        return Path(named)
    if sys.version_info[:2] != (3, 11):
        raise UnavailableError("the test runtimes are CPython 3.11, and this is another")
    return make([*RUN_HERE, BUILT_ONLY], say=say)


def set_up(say: Callable[[str], None] = print) -> None:
    """Every runner of :data:`RUN_HERE`.

    Raises:
        UnavailableError: one cannot be had here; the message has the reason and the cure.
    """
    if host_target().id != HOST:
        raise UnavailableError(f"the matrix is run on {HOST}, and this machine is {host_target()}")
    for words in _SETUPS:
        say(f"ferryman runners setup {' '.join(words)}")
        done = ferryman("runners", "setup", *words, "--out", str(home() / "matrix-out"))
        if done.returncode:
            raise UnavailableError(f"the runner {words[0]} is not ready: {done.stderr.strip()}")


def variables(runtimes: Path) -> Mapping[str, str]:
    """What a `ferryman` is told that shall find both."""
    return {"FERRYMAN_HOME": str(home()), "FERRYMAN_RUNTIMES": str(runtimes)}


def ferryman(*words: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """`ferryman WORDS` outside of any project."""
    return subprocess.run(
        [sys.executable, "-m", "ferryman_build", *words, "--plain"], cwd="/",
        env=environment({"FERRYMAN_HOME": str(home()), **(env or {})}),
        capture_output=True, text=True, timeout=_FAR, check=False,
    )  # fmt: skip
