"""The agent as people get it: what `ferryman build` makes of it on this machine, made once and kept in out/bench/agent."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
KEPT = ROOT / "out" / "bench" / "agent"


def build() -> dict[str, Path]:
    """The products by their kinds: "executable", "archive", "pyz". Only what has changed since is made again.

    Raises:
        RuntimeError: it cannot be built; what the build says.
    """
    KEPT.mkdir(parents=True, exist_ok=True)
    command = [
        sys.executable, "-m", "ferryman_build", "build", "--plain", "--project", str(ROOT / "agent_src"),
        "--out", str(KEPT / "out"), "--dist", str(KEPT / "dist"),
    ]  # fmt: skip
    with (KEPT / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # a bench may want it at the same time
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=1800
        )
        if done.returncode:
            raise RuntimeError(f"ferryman build ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        manifest = json.loads((KEPT / "dist" / "manifest.json").read_text("utf-8"))
    return {each["kind"]: KEPT / "dist" / each["path"] for each in manifest["artifacts"]}


def unpacked(archive: Path, into: Path) -> Path:
    """The executable in the tree that an archive has."""
    with tarfile.open(archive) as content:
        content.extraction_filter = getattr(tarfile, "data_filter", None)  # Debian 12's Python has none
        content.extractall(into)
    return next(path for path in into.glob("*/*") if path.is_file())
