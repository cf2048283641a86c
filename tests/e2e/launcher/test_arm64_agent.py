"""The agent that ships by default, built on linux-arm64 by the command line of this repository, and run there.

Everything runs under QEMU, zig and PyInstaller too, which takes a quarter of an hour, so it is asked for with
ARM64_BUILD=1.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from e2e.clean_rootfs.rootfs import CERTIFICATES, Root, UnavailableError
from support.ferryman import ROOT
from support.qemu.emulation import emulated
from support.qemu.roots import ForeignRoot, Recipe

CACHE = ROOT / ".cache" / "rootfs"
BUILDER = Recipe(
    "arm64",
    ("python3", "python3-venv", "libpython3.11-dev", "ca-certificates", "coreutils", "bash", "libc-bin"),
)
BARE = Recipe("arm64", ("libc6",))
CHECKOUT = "/srv/ferryman"
BUILD = (
    "ldconfig",
    "python3 -m venv /opt/tools",
    "/opt/tools/bin/pip install -q --require-hashes -r locks/ferryman.txt",
    "/opt/tools/bin/pip install -q --no-deps --no-build-isolation -e .",
    "/opt/tools/bin/ferryman build --kind executable --plain",
)

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.network,
    pytest.mark.timeout(3000),
    pytest.mark.skipif(
        "ARM64_BUILD" not in os.environ, reason="set ARM64_BUILD=1: it takes a quarter of an hour"
    ),
]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """For two roots, which are not kept."""
    try:
        with emulated("arm64", CACHE):
            yield tmp_path
    except UnavailableError as reason:
        pytest.skip(str(reason))
    finally:
        shutil.rmtree(tmp_path, ignore_errors=True)


def test_the_agent_is_built_and_runs(folder: Path) -> None:
    """Its smoke tests pass where it was built, and it starts on a machine that has nothing but a C library."""
    dist = build(folder)
    (row,) = json.loads((dist / "manifest.json").read_text(encoding="utf-8"))["artifacts"]
    assert (row["target"], row["kind"]) == ("linux-arm64", "executable")
    assert row["smoke"]["status"] == "passed"
    bare = ForeignRoot.unpack(BARE, CACHE, folder / "bare")
    bare.place(dist / row["path"], "/srv/agent")
    bare.place(ROOT / "agent_src/examples", "/srv/examples")
    first, later = bare.run(["/srv/agent", "--version"]), bare.run(["/srv/agent", "--version"])
    assert (first.code, first.out, first.err) == (0, later.out, "")
    assert later.out.strip()
    checked = bare.run(["/srv/agent", "check-config", "/srv/examples/demo.yaml"])
    assert checked.code == 0, checked


def build(folder: Path) -> Path:
    """dist/ after a build of what is committed here, inside a root of that machine."""
    path = ForeignRoot.unpack(BUILDER, CACHE, folder / "builder").path
    committed = subprocess.run(["git", "archive", "HEAD"], cwd=ROOT, capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(committed)) as archive:
        archive.extractall(path / CHECKOUT.lstrip("/"), filter="data")
    root = Root(path)
    root.copy_in("/etc/resolv.conf", "/etc/hosts", CERTIFICATES)
    for command in BUILD:
        root.run(["bash", "-c", command], user="root", cwd=CHECKOUT).check()
    return path / CHECKOUT.lstrip("/") / "dist"
