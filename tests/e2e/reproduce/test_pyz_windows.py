"""A .pyz on Windows: a real CPython for Windows, under Wine, which is not Windows (docs/windows.md)."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.clean_rootfs.rootfs import UnavailableError
from support import pyz_archive
from support.launcher import Ran
from support.wine.cpython import cpython
from support.wine.prefix import Windows, windows

pytestmark = pytest.mark.e2e

PROGRAM = """
import multiprocessing, sys, time

def square(number):
    return number * number

def main():
    if sys.argv[1:] == ["sleep"]:
        print("up", flush=True)
        time.sleep(60)
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        print(pool.map(square, [1, 2, 3]), ascii(__file__))
    return 7
"""
WINDOWS = {
    "system": "windows",
    "target": "windows-amd64",
    "machines": ("amd64", "x86_64"),
    "libc": "",
    "python": (3, 11),
}


@dataclass(frozen=True)
class Desk:
    """A folder on the drive with archives in it, and the interpreter that runs them."""

    machine: Windows
    python: Path
    folder: Path

    def run(self, archive: Path, *words: str, cache: str = "cache") -> Ran:
        env = {"FERRYMAN_CACHE": self.machine.path(self.folder / cache)}
        return self.machine.run(self.python, self.machine.path(archive), *words, env=env)

    def write(self, name: str, **needs: object) -> Path:
        return pyz_archive.write(self.folder / name, {"lamp.py": PROGRAM}, **{**WINDOWS, **needs})


@pytest.fixture(scope="module")
def desk() -> Iterator[Desk]:
    try:
        python = cpython() / "python.exe"
        with windows() as machine:
            folder = machine.drive / "pyz 灯塔"
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            yield Desk(machine, python, folder)
            shutil.rmtree(folder)
    except UnavailableError as missing:
        pytest.skip(str(missing))


def text(ran: Ran) -> str:
    return (ran.out + ran.err).decode("utf-8", "replace")


def test_start_twice(desk: Desk) -> None:
    """Unpacked once, used twice; spawned workers find the program; its exit code is the archive's."""
    archive = desk.write("the lamp.pyz")
    for _ in range(2):
        done = desk.run(archive)

        assert done.code == 7, text(done)
        assert "[1, 4, 9]" in text(done)
    (tree,) = (path for path in (desk.folder / "cache" / "lamp.pyz").iterdir() if path.is_dir())
    assert (tree / "site-packages" / "__pycache__" / "lamp.cpython-311.pyc").is_file()


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        ({"system": "linux", "target": "linux-amd64"}, "built for Linux (linux-amd64) and this is Windows"),
        ({"python": (3, 12)}, "it needs CPython 3.12 and this is CPython 3.11"),
        ({"native": 1, "machines": ("arm64",)}, "its libraries are for arm64"),
        ({"native": 1, "floor": {"windows": "99.0"}}, "Windows 99.0 or newer"),
    ],
)
def test_the_wrong_machine(desk: Desk, needs: dict[str, object], words: str) -> None:
    """One sentence, exit code 69."""
    done = desk.run(desk.write("wrong.pyz", **needs))

    assert done.code == 69, text(done)
    assert words in text(done)
    assert "Traceback" not in text(done)


def test_cache_commands(desk: Desk) -> None:
    """warm replaces the marker of a tree that it holds; what runs is not pruned, what has ended is."""
    archive = desk.write("cared.pyz")
    warm = desk.run(archive, "--ferryman-cache", "warm", cache="own")
    assert warm.code == 0, text(warm)
    (tree,) = (path for path in (desk.folder / "own" / "lamp.pyz").iterdir() if path.is_dir())
    assert "sealed" in (tree / ".ferryman").read_text()

    env = {"FERRYMAN_CACHE": desk.machine.path(desk.folder / "own")}
    running = desk.machine.start(desk.python, desk.machine.path(archive), "sleep", env=env)
    assert running.stdout is not None
    try:
        assert running.stdout.readline().strip() == b"up"
        kept = desk.run(archive, "--ferryman-cache", "prune", "0", cache="own")
        assert "nothing to remove" in text(kept)
        assert "running" in text(desk.run(archive, "--ferryman-cache", "list", cache="own"))
    finally:
        running.kill()
        running.communicate()
    time.sleep(0.5)
    assert "removed" in text(desk.run(archive, "--ferryman-cache", "prune", "0", cache="own"))
    assert not tree.exists()


def test_no_place(desk: Desk) -> None:
    """Exit code 73, with the reason."""
    (desk.folder / "a file").write_text("x")
    done = desk.run(desk.write("homeless.pyz"), cache="a file")

    assert done.code == 73, text(done)
    assert "there is no place to unpack it to" in text(done)
