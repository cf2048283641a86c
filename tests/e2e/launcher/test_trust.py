"""Whose folders are believed: nobody but root and the user may be able to change what runs.

Each test plants something as another user would, and sees that the program runs from the next place, that it never uses
what was planted, and that nothing of it was changed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import PurePosixPath

import pytest

from support.launcher import (
    EXECUTABLE,
    ORDINARY,
    OTHER,
    ROOT_USER,
    World,
    refused,
    usual_environment,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MakeWorld = Callable[..., World]
IN_VAR_TMP = f"/var/tmp/ferryman-{ORDINARY}/oneself/"
MACHINE_WIDE = "/var/cache/ferryman/oneself/"
# Below HOME; KEY is the tree itself.
COMPONENTS = (".", ".cache", ".cache/ferryman", ".cache/ferryman/oneself", ".cache/ferryman/oneself/KEY")


@pytest.fixture
def key(world: World) -> str:
    """The tree's name, learnt by a start in a world that is then empty again, but for a copy in /srv/whole."""
    tree = PurePosixPath(world.tree()).parent
    world.sh(f"cp -a {tree} /srv/whole; rm -rf /srv/home/.cache")
    return tree.name


def component(key: str, below: str) -> str:
    return str(PurePosixPath("/srv/home") / below.replace("KEY", key))


def folders(world: World, key: str, path: str) -> None:
    """The user's own folders down to ``path``, and a whole tree of the user's own at the end."""
    for below in COMPONENTS[1:4]:
        world.folder(component(key, below), mode=0o755)
    world.sh(f"cp -a /srv/whole {component(key, COMPONENTS[4])}")
    assert world.at(path).exists()


def passed_over(world: World) -> None:
    """Two starts run from the next place."""
    for _ in range(2):
        assert world.tree().startswith(IN_VAR_TMP)


PLANTED: dict[str, str] = {
    "of another user": f"chown {OTHER}:{OTHER} {{path}}",
    "of another user, open to all": f"chown {OTHER}:{OTHER} {{path}}; chmod 777 {{path}}",
    "open to all": "chmod 777 {path}",
    "open to a group": "chmod 775 {path}; chgrp 54321 {path}",
    "a link of another user's into his folder": (
        f"rm -rf {{path}}; cp -a /srv/whole /srv/other/tree; chmod 755 /srv/other; chown -Rh {OTHER} /srv/other;"
        f" ln -s /srv/other/tree {{path}}; chown -h {OTHER} {{path}}"
    ),
    "the user's link into a folder of another user": (
        f"rm -rf {{path}}; cp -a /srv/whole /srv/other/tree; chmod 755 /srv/other; chown -Rh {OTHER} /srv/other;"
        f" ln -s /srv/other {{path}}; chown -h {ORDINARY} {{path}}"
    ),
}


@pytest.mark.parametrize("name", PLANTED)
@pytest.mark.parametrize("below", COMPONENTS)
def test_every_component_counts(world: World, key: str, below: str, name: str) -> None:
    """A component that another user owns, may write to, or has led elsewhere by a link: the place is passed over.

    What lies there stays as it was.
    """
    path = component(key, below)
    folders(world, key, path)
    world.sh(PLANTED[name].format(path=path))
    before = world.sh("find /srv/home/ /srv/other/ -printf '%p %u %m %T@ %s %l\\n' | sort")

    passed_over(world)

    assert world.sh("find /srv/home/ /srv/other/ -printf '%p %u %m %T@ %s %l\\n' | sort") == before


def test_links_of_ones_own(world: World, key: str) -> None:
    """A user who moved ~/.cache to a larger disk with a link of his own is served from there."""
    world.folder("/srv/home/disk", mode=0o755)
    world.sh(f"ln -s /srv/home/disk /srv/home/.cache; chown -h {ORDINARY} /srv/home/.cache")

    assert world.tree() == f"/srv/home/disk/ferryman/oneself/{key}/_internal" or world.tree().startswith(
        "/srv/home/.cache/ferryman/oneself/"
    )
    assert world.trees("/srv/home") == [f"/srv/home/disk/ferryman/oneself/{key}"]


@pytest.mark.parametrize("planted", ["folder", "open folder", "link", "link to nothing", "file"])
def test_squatters_in_sticky_folders(world: World, key: str, planted: str) -> None:
    """/var/tmp is open to all: whoever was there first with our name gets nothing of ours.

    With both places taken the message says so.
    """
    lines = {
        "folder": "mkdir -m 755 {path}; cp -a /srv/whole {path}/oneself",
        "open folder": "mkdir -m 777 {path}; mkdir -m 777 {path}/oneself; cp -a /srv/whole {path}/oneself/"
        + key,
        "link": "ln -s /srv/other {path}",
        "link to nothing": "ln -s /srv/other/nothing {path}",
        "file": "touch {path}",
    }[planted] + f"; chown -Rh {OTHER} {{path}}"
    env = usual_environment(HOME="/nowhere")
    world.sh(lines.format(path=f"/var/tmp/ferryman-{ORDINARY}"))
    assert world.tree(env=env).startswith(f"/tmp/ferryman-{ORDINARY}/oneself/")

    world.sh("rm -rf /tmp/*")
    world.sh(lines.format(path=f"/tmp/ferryman-{ORDINARY}"))
    refused(world.run("report", env=env), 73, f"/var/tmp/ferryman-{ORDINARY}", f"/tmp/ferryman-{ORDINARY}")
    assert world.everything("/srv/other") == []


def test_machine_wide_of_another_user(world: World, key: str) -> None:
    """A machine-wide folder that is not root's is believed by nobody, root included."""
    world.sh(
        f"mkdir -p {MACHINE_WIDE}; cp -a /srv/whole {MACHINE_WIDE}{key}; chown -R {OTHER} /var/cache/ferryman"
    )

    assert world.tree().startswith("/srv/home/.cache/")
    assert not world.tree(user=ROOT_USER).startswith("/var/cache")


def test_a_tree_among_roots_folders(world: World, key: str) -> None:
    """A tree of an ordinary user's inside root's folders (restored by a careless backup) is not believed."""
    world.sh(f"mkdir -p {MACHINE_WIDE}; cp -a /srv/whole {MACHINE_WIDE}{key}")

    assert world.tree(user=OTHER, env=usual_environment(HOME="/srv/other")).startswith("/srv/other/.cache/")


def test_root_believes_no_users_folder(world: World, key: str) -> None:
    """Root does not run what an ordinary user may write, not even when told to (sudo with the user's variables)."""
    for variable in ("FERRYMAN_CACHE", "XDG_CACHE_HOME", "HOME", "TMPDIR", "CACHE_DIRECTORY"):
        env = {variable: "/srv/home"}
        ran = world.run("report", user=ROOT_USER, env=env)
        if variable == "FERRYMAN_CACHE":
            refused(ran, 73, "/srv/home", "belongs to another user")
        else:
            assert ran.json["tree"].startswith(f"'{MACHINE_WIDE}")
    assert world.everything("/srv/home") == []


def test_what_is_unpacked_is_the_users_own(world: World) -> None:
    """Folders are 0700 and files not for others to write, under any umask, so that the next start believes them."""
    for umask in (0o000, 0o002, 0o022, 0o077, 0o007):
        world.sh("rm -rf /srv/home/.cache")
        tree = world.tree(before=lambda umask=umask: os.umask(umask))
        assert tree.startswith("/srv/home/.cache/"), oct(umask)
        assert world.tree() == tree
        for line in world.sh("find /srv/home/.cache -not -type l -printf '%m %p\\n'").splitlines():
            assert not int(line.split()[0], 8) & 0o022, line


# --- raised rights ----------------------------------------------------------------------------------------------------

EVIL = {
    "HOME": "/srv/home",
    "FERRYMAN_CACHE": "/srv/home/mine",
    "XDG_CACHE_HOME": "/srv/home/mine",
    "TMPDIR": "/srv/home/mine",
    "FERRYMAN_INTERPRETER": "1",
    "PYTHONPATH": "/srv/home/mine",
}


def test_set_uid(world: World) -> None:
    """A set-uid executable believes nothing that its caller says: machine-wide, and never an interpreter."""
    world.folder("/srv/home/mine")
    world.at(EXECUTABLE).chmod(0o4755)

    seen = world.works(env=EVIL)

    assert seen["tree"].startswith(f"'{MACHINE_WIDE}")
    assert world.everything("/srv/home") == ["/srv/home/mine"]
    assert world.run("works", env=EVIL).code == 0


def test_file_capabilities(world: World) -> None:
    """With file capabilities an ordinary user's program takes root's tree and no other; without one it says so."""
    if not shutil.which("setcap"):
        pytest.skip("setcap (libcap2-bin) is not here")
    world.sh(f"setcap cap_net_bind_service+ep {EXECUTABLE}")

    refused(world.run("report", env=EVIL), 73, "/var/cache/ferryman")
    assert world.everything("/srv/home") == []

    assert world.run("--ferryman-cache", "warm", user=ROOT_USER).code == 0
    assert world.works(env=EVIL)["tree"].startswith(f"'{MACHINE_WIDE}")
    assert world.run("works", env=EVIL).code == 0
