"""Every artifact of the default agent, built twice: once in a fresh clone, once as somebody else, somewhere else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.ferryman import ROOT

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(3600)]

# What this machine can build for is asked for by name: FERRYMAN_E2E_TARGETS=host,linux-arm64,windows-amd64.
TARGETS = os.environ.get("FERRYMAN_E2E_TARGETS", "host")


def ferryman(checkout: Path, *words: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(checkout / "build"), "NO_COLOR": "1"}
    return subprocess.run(
        [sys.executable, "-m", "ferryman_build", *words, "--plain"], cwd=checkout, env=env, capture_output=True, text=True,
        check=False,
    )  # fmt: skip


def test_all_kinds_are_the_same_bytes(tmp_path: Path) -> None:
    """Archive, executable and .pyz of each target, and nothing of dist/ changes meanwhile."""
    checkout = tmp_path / "checkout"
    subprocess.run(["git", "clone", "--quiet", ROOT, checkout], check=True)
    built = ferryman(checkout, "build", "--target", TARGETS)
    assert built.returncode == 0, built.stderr
    before = {path.name: path.read_bytes() for path in (checkout / "dist").iterdir()}
    again = ferryman(checkout, "reproduce")

    assert again.returncode == 0, again.stdout + again.stderr
    # SHA256SUMS and the manifest are no artifacts; beside each artifact lies its SBOM, which is in it as well.
    assert again.stdout.count(" same\n") * 2 == len(before) - 2
    assert {path.name: path.read_bytes() for path in (checkout / "dist").iterdir()} == before
