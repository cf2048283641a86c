"""The programs of locks/stores.txt, in an environment of their own under .cache/, made when it is first asked for."""

from __future__ import annotations

import fcntl
import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LOCK = ROOT / "locks" / "stores.txt"


def program(name: str) -> Path:
    """A program of the lock; skips when it cannot be installed here."""
    home = ROOT / ".cache" / "stores" / hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    home.parent.mkdir(parents=True, exist_ok=True)
    with open(home.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (
            home / "whole"
        ).exists():  # scripts name their own place, so it cannot be moved there when it is whole
            try:
                _uv("venv", "--quiet", "--clear", "--python", sys.executable, str(home))
                _uv(
                    "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:",
                    "--python", str(home / "bin" / "python"), "-r", str(LOCK),
                )  # fmt: skip
            except (subprocess.CalledProcessError, OSError) as error:
                pytest.skip(f"{name} cannot be installed here: {getattr(error, 'stderr', '') or error}")
            (home / "whole").touch()
    return home / "bin" / name


def _uv(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "uv", *words], check=True, capture_output=True, text=True)
