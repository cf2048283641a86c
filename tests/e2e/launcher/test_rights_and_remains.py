"""Rights that a program must not lend, and what it must not keep: found by reading the launcher line by line."""

from __future__ import annotations

import tarfile
from pathlib import Path

import pytest

from support.launcher import EXECUTABLE, ORDINARY, OTHER, ROOT_USER, World, refused, usual_environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

KEY = "0123456789abcdef" * 2
IN_VAR_TMP = f"/var/tmp/ferryman-{ORDINARY}"
SUM_OF_OWN_PAGES = """
import sys
own = total = 0
for line in open('/proc/self/smaps'):
    if line.split()[0].count('-') == 1 and not line.startswith(('Rss', 'Pss')) and line.split()[0][0] in '0123456789abcdef':
        own = line.rstrip().endswith(sys.executable)
    elif own and line.startswith('Rss:'):
        total += int(line.split()[1])
print(total)
"""


def interpreter(**more: str) -> dict[str, str]:
    """An environment in which the program is a plain interpreter."""
    return usual_environment(FERRYMAN_INTERPRETER="1", **more)


@pytest.mark.parametrize(("code", "status"), [("-1", 255), ("-5", 251), ("256", 0), ("'no'", 1)])
@pytest.mark.parametrize("way", [("-c", "import sys; sys.exit({})"), ("-m", "leaves")])
def test_exit_code_below_zero(world: World, way: tuple[str, str], code: str, status: int) -> None:
    """A negative exit code is the program's own, and no failure to start it."""
    world.place("/srv/home/leaves.py", f"import sys; sys.exit({code})".encode(), 0o644)
    ran = world.run(way[0], way[1].format(code), env=interpreter(), cwd=b"/srv/home")
    assert ran.code == status
    assert ran.said == ("no\n" if code == "'no'" else "")


def test_payload_is_no_part_of_the_memory(world: World) -> None:
    """After the start that unpacked, the executable's own pages are those of the launcher's code: not 10 MB of payload."""
    sizes = [int(world.run("-c", SUM_OF_OWN_PAGES, env=interpreter()).out) for _ in range(2)]
    assert world.at(EXECUTABLE).stat().st_size > 4_000_000
    assert 0 < max(sizes) < 400, sizes  # kB


@pytest.mark.parametrize("mapping", ["--map-root-user", "--map-current-user"])
def test_a_stranger_is_not_the_root_outside(world: World, mapping: str) -> None:
    """In a user namespace every unmapped user has one number: in /var/tmp that may be anybody, and is not believed."""
    through = ("unshare", "--user", mapping, "--")
    if world.run(through=(*through, "true"), program="").code:
        pytest.skip("ordinary users may not make user namespaces here")
    world.sh("chmod 000 /srv/home; chown 0:0 /srv/home")  # no HOME to unpack to
    number = 0 if "root" in mapping else ORDINARY
    world.folder(f"/var/tmp/ferryman-{number}", user=OTHER, mode=0o755)

    tree = world.tree(through=through)

    assert tree.startswith(f"/tmp/ferryman-{number}/")
    assert world.everything("/var/tmp") == [f"/var/tmp/ferryman-{number}"]


def test_a_tree_of_ones_own_gets_no_rights(world: World, archive: Path) -> None:
    """A set-uid launcher beside a tree that its caller may write to starts nothing of it."""
    with tarfile.open(archive) as tar:
        tar.extractall(world.at("/srv"), filter="data")
    (name,) = (path.name for path in world.at("/srv").iterdir() if path.name.startswith("oneself-"))
    program = f"/srv/{name}/oneself"
    world.sh(f"chown -R {ORDINARY} /srv/{name}; chown 0:0 {program}; chmod 4755 {program}")

    refused(world.run("report", program=program), 73, "belongs to another user")
    world.sh(f"chown -R 0:0 /srv/{name}; chmod 4755 {program}")
    assert world.run("works", program=program).code == 0


def test_leftovers_of_other_versions_go(world: World) -> None:
    """A killed start of a version that nobody has any more: its draft and its lock go with the next pruning."""
    assert world.run("works").code == 0
    home = "/srv/home/.cache/ferryman/oneself"
    world.sh(
        f"mkdir {home}/.{KEY}.1; touch {home}/.{KEY}.1/file {home}/{KEY}.lock; chown -R {ORDINARY} {home}"
    )

    assert world.run("--ferryman-cache", "prune", "9999").code == 0

    assert [path for path in world.everything(home) if KEY in path] == []
    assert len(world.trees(home)) == 1
    assert world.run("works").code == 0


def test_a_service_without_home_loads_no_user_database(world: World) -> None:
    """Root unpacks machine-wide; the user database, and the libraries that read it, are not even looked at."""
    show = "print([line.split()[-1] for line in open('/proc/self/maps') if 'nss' in line])"
    ran = world.run("-c", show, env={"FERRYMAN_INTERPRETER": "1", "PATH": "/usr/bin:/bin"}, user=ROOT_USER)
    assert ran.out == b"[]\n", ran
    assert world.trees("/var/cache")
