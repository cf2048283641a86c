"""The same launcher beside its tree (archives, packages): it starts from wherever the folder lies, and writes nothing."""

from __future__ import annotations

import tarfile
from pathlib import Path
from typing import Any

import pytest

from support.launcher import HOME, ORDINARY, ROOT_USER, World, refused, usual_environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

FOLDER = "/srv/app"
PROGRAM = f"{FOLDER}/oneself"


@pytest.fixture
def unpacked(world: World, archive: Path) -> World:
    """A world with the archive's folder, owned by root, at /srv/app."""
    with tarfile.open(archive) as tar:
        tar.extractall(world.at("/srv"), filter="data")
    (folder,) = (path for path in world.at("/srv").iterdir() if path.name.startswith("oneself-"))
    folder.rename(world.at(FOLDER))
    world.sh(f"chown -R 0:0 {FOLDER}")
    return world


def starts(world: World, program: str, executable: str, **how: Any) -> None:
    """It starts from that tree, and nothing was made anywhere."""
    before = world.everything()
    seen = world.works(program=program, **how)

    assert seen["executable"] == ascii(executable)
    assert seen["tree"] == ascii(f"{executable.rpartition('/')[0]}/_internal")
    assert world.everything() == before


WAYS: dict[str, tuple[str, str]] = {
    "absolute": ("", PROGRAM),
    "relative": ("", "app/oneself"),
    "a link": (f"ln -s {PROGRAM} /srv/agent", "/srv/agent"),
    "a link to the folder": (f"ln -s {FOLDER} /srv/current", "/srv/current/oneself"),
    "read-only": ("mount -o remount,ro /srv", PROGRAM),
    "without /proc": ("mount -t tmpfs t /proc", PROGRAM),
    "nothing is writable": (
        "for m in /srv /tmp /var/tmp /var/cache; do mount -o remount,ro $m; done",
        PROGRAM,
    ),
}


@pytest.mark.parametrize("name", WAYS)
def test_tree_starts(unpacked: World, name: str) -> None:
    """Whatever way leads to it, for an ordinary user and for root, with an environment and without."""
    before, program = WAYS[name]
    unpacked.sh(before)

    starts(unpacked, program, PROGRAM)
    starts(unpacked, program, PROGRAM, env={})
    starts(unpacked, program, PROGRAM, user=ROOT_USER)


def test_tree_may_move(unpacked: World) -> None:
    """The folder may lie anywhere and be moved, and the executable be renamed."""
    place = f"{HOME}/长路径 with spaces {'é' * 60}"
    unpacked.sh(f"mkdir '{place}'; mv {FOLDER} '{place}/x y'; mv '{place}/x y/oneself' '{place}/x y/灯'")
    unpacked.sh(f"chown -R {ORDINARY} '{place}'")

    starts(unpacked, f"{place}/x y/灯", f"{place}/x y/灯")
    assert unpacked.run("works", program=f"{place}/x y/灯").code == 0


def test_tree_has_no_cache(unpacked: World) -> None:
    """`--ferryman-cache` is refused with code 64; the cache's variable changes nothing."""
    refused(unpacked.run("--ferryman-cache", "path", program=PROGRAM), 64, "has no cache")
    starts(unpacked, PROGRAM, PROGRAM, env=usual_environment(FERRYMAN_CACHE="/srv/home/x"))


@pytest.mark.parametrize(
    "lost", ["_internal", "_internal/_ferryman", "_internal/_ferryman/launch", "_internal/_ferryman/main.pyc"]
)
def test_tree_incomplete(unpacked: World, lost: str) -> None:
    """Without what lies beside it the executable says so, with code 70."""
    unpacked.sh(f"mv {FOLDER}/{lost} /srv/lost")

    refused(unpacked.run("report", program=PROGRAM), 70, "_internal")


def test_tree_copied_without_its_folder(unpacked: World) -> None:
    """The usual mistake: the executable alone was copied."""
    unpacked.sh(f"cp {PROGRAM} /srv/bin/alone")

    refused(unpacked.run("report", program="/srv/bin/alone"), 70, "/srv/bin/_internal")


def test_tree_workers_and_interpreter(unpacked: World) -> None:
    """multiprocessing, itself as a child, and the plain interpreter."""
    for method in ("spawn", "forkserver", "fork"):
        assert unpacked.run("pool", method, program=PROGRAM).json == [1, 4, 9]
    assert unpacked.run("itself", program=PROGRAM).json == [True, ["'report'"], True]
    env = usual_environment(FERRYMAN_INTERPRETER="1")
    assert unpacked.run(
        "-c", "import sys; print(sys.executable)", program=PROGRAM, env=env
    ).out == b"%s\n" % (PROGRAM.encode())
