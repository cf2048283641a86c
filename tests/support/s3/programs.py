"""The programs of locks/stores.txt, in an environment of their own under .cache/, made when it is first asked for."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
LOCK = ROOT / "locks" / "stores.txt"


def program(name: str) -> Path:
    """A program of the lock; skips when it cannot be installed here."""
    key = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:12]
    home = ROOT / ".cache" / "stores" / key
    if not home.exists():
        draft = home.with_name(f"{key}.{os.getpid()}")
        try:
            _uv("venv", "--quiet", "--python", sys.executable, str(draft))
            _uv(
                "pip", "install", "--quiet", "--require-hashes", "--no-deps", "--only-binary=:all:",
                "--python", str(draft / "bin" / "python"), "-r", str(LOCK),
            )  # fmt: skip
            draft.rename(home)
        except (subprocess.CalledProcessError, OSError) as error:
            pytest.skip(f"{name} cannot be installed here: {getattr(error, 'stderr', '') or error}")
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    return home / "bin" / name


def _uv(*words: str) -> None:
    subprocess.run([sys.executable, "-m", "uv", *words], check=True, capture_output=True, text=True)
