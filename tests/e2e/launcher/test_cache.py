"""The cache over time: trees of other versions, power cuts, cleaners, pruning, and what `--ferryman-cache` says."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from support.launcher import ORDINARY, World, finish, refused, usual_environment

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PROGRAM = "/srv/home/.cache/ferryman/oneself"
USAGE = 64
OLD = 400 * 24 * 60 * 60
ANOTHER_BOOT = "ferryman 1\nboot 00000000-0000-4000-8000-000000000000\n"


def contents(world: World, tree: str) -> dict[str, str]:
    """Every file of a tree, but for the marker: path → hash, or what a link says."""
    base = world.at(tree)
    return {
        str(path.relative_to(base)): str(path.readlink())
        if path.is_symlink()
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in base.rglob("*")
        if (path.is_symlink() or path.is_file()) and path.name != ".ferryman"
    }


def unpacked(world: World, **how: Any) -> str:
    """The tree after a start."""
    return str(PurePosixPath(world.tree(**how)).parent)


def marker(world: World, tree: str) -> Path:
    return world.at(f"{tree}/.ferryman")


def mark(world: World, tree: str, text: str | bytes) -> None:
    """Write a marker as the user would."""
    path = marker(world, tree)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    os.chown(path, ORDINARY, ORDINARY)


def age(world: World, tree: str, seconds: int = OLD) -> None:
    then = time.time() - seconds
    os.utime(marker(world, tree), (then, then))


# --- markers and power cuts -------------------------------------------------------------------------------------------

MARKERS: dict[str, bytes] = {
    "empty": b"",
    "newer": b"ferryman 2\nof another kind\n",
    "older": b"ferryman 0\n",
    "cut off": b"ferryman 1\nbo",
    "binary": bytes(range(256)),
    "large": b"x" * 1_000_000,
    "another boot": ANOTHER_BOOT.encode(),
    "no boot": b"ferryman 1\nboot \n",
}


@pytest.mark.parametrize("name", MARKERS)
def test_markers_of_others(world: World, name: str) -> None:
    """A marker that this launcher did not write, or only half: every file is compared, and what is wrong is mended."""
    tree = unpacked(world)
    right = contents(world, tree)
    world.at(f"{tree}/_internal/_ferryman/main.pyc").write_bytes(b"wrong")
    mark(world, tree, MARKERS[name])

    assert unpacked(world) == tree
    assert contents(world, tree) == right
    assert marker(world, tree).read_bytes().startswith(b"ferryman 1\n")
    assert world.strays() == []


def test_marker_missing(world: World) -> None:
    """Without a marker a tree is not believed; nor is a folder that somebody made by hand."""
    tree = unpacked(world)
    right = contents(world, tree)
    world.sh(f"rm -rf {tree}; mkdir -p {tree}/_internal/_ferryman; touch {tree}/_internal/oneself")
    world.sh(f"echo planted > {tree}/_internal/_ferryman/main.pyc; chown -R {ORDINARY}:{ORDINARY} {PROGRAM}")

    assert unpacked(world) == tree
    assert contents(world, tree) == right


LOSSES: dict[str, str] = {
    "truncated": "for f in {main} {library} {native}; do truncate -s 1000 $f; done",
    "emptied": "for f in {main} {library} {native}; do truncate -s 0 $f; done",
    "zeroed": "for f in {main} {library}; do dd if=/dev/zero of=$f bs=512 count=1 conv=notrunc 2>/dev/null; done",
    "one byte": "printf X | dd of={library} bs=1 seek=100000 conv=notrunc 2>/dev/null",
    "deleted": "rm {main} {library} {native}",
    "a folder in place of a file": "rm {main}; mkdir {main}; chown 12345:12345 {main}",
    "a folder gone": "rm -rf {package}",
    "a file in place of a folder": "rm -rf {package}; touch {package}; chown 12345:12345 {package}",
    "a link in place of a file": "rm {main}; ln -s /etc/passwd {main}",
    "the launch file": "rm {folder}/launch",
    "everything": "rm -rf {tree}/_internal",
}


@pytest.mark.parametrize("name", LOSSES)
def test_after_a_power_cut(world: World, name: str) -> None:
    """What did not reach the disk before the machine went down (the marker is of another boot) is found and mended.

    The start after that, in yet another boot, finds nothing wrong and seals the tree, which is believed from then on.
    """
    tree = unpacked(world)
    right = contents(world, tree)
    native = next(
        path for path in sorted(right) if re.search(r"lib-dynload/.*\.so$|_(?:ssl|ctypes).*\.so$", path)
    )
    library = next(path for path in sorted(right) if "libpython" in path)
    package = str(PurePosixPath(next(path for path in right if path.endswith("oneself/report.pyc"))).parent)
    folder = f"{tree}/_internal/_ferryman"
    names = {
        "main": f"{folder}/main.pyc", "library": f"{tree}/{library}", "native": f"{tree}/{native}",
        "folder": folder, "tree": tree, "package": f"{tree}/{package}",
    }  # fmt: skip
    world.sh(LOSSES[name].format(**names))
    mark(world, tree, ANOTHER_BOOT)

    assert unpacked(world) == tree
    assert contents(world, tree) == right
    assert world.strays() == []
    mark(world, tree, ANOTHER_BOOT)
    assert unpacked(world) == tree
    assert marker(world, tree).read_text() == "ferryman 1\nsealed\n"
    assert world.works()


BOOT_ID = "/proc/sys/kernel/random/boot_id"


def test_power_cuts_of_a_real_disk(make_world: Callable[..., World]) -> None:
    """A disk image is copied while the file system holds back what was written: what is on the disk when power goes.

    The copy is mounted in what the kernel says is another boot; the program starts from it, and every file is right.
    """
    if not shutil.which("mkfs.ext4"):
        pytest.skip("mkfs.ext4 (e2fsprogs) is not here")
    world = make_world(
        f"mkdir /srv/disk /srv/copy; echo first > /srv/boot; mount --bind /srv/boot {BOOT_ID}\n"
        "truncate -s 200M /srv/disk/img; mkfs.ext4 -q /srv/disk/img; mount -o loop /srv/disk/img /srv/home\n"
        f"chown {ORDINARY} /srv/home; sync -f /srv/home"
    )
    tree = unpacked(world)
    assert marker(world, tree).read_text() == "ferryman 1\nboot first\n"
    right, states = contents(world, tree), []
    for seconds in (0, 2, 5):
        time.sleep(seconds)
        world.sh(
            "echo first > /srv/boot; cp --sparse=always /srv/disk/img /srv/disk/cut; mount -o loop /srv/disk/cut /srv/copy"
        )
        there = tree.replace("/srv/home/", "/srv/copy/")
        states.append(contents(world, there) if world.at(there).exists() else {})
        world.sh(f"echo second-{seconds} > /srv/boot")

        assert unpacked(world, env=usual_environment(HOME="/srv/copy")) == there
        assert contents(world, there) == right
        assert world.strays() == ["/srv/boot", "/srv/disk/cut", "/srv/disk/img"]
        world.sh("umount /srv/copy")

    assert [state for state in states if state != right], (
        "no cut lost anything: they came too late to show anything"
    )


def test_a_tree_is_believed_during_its_boot(world: World) -> None:
    """Within a boot no file is compared: who damages his own tree by hand runs the damage, until `warm` mends it."""
    tree = unpacked(world)
    right = contents(world, tree)
    words = f"{tree}/_internal/" + next(path for path in right if path.endswith("words.txt")).removeprefix(
        "_internal/"
    )
    world.at(words).write_text("changed by hand\n")
    assert world.run("imports").json["resource"] == "changed by hand"

    warm = world.run("--ferryman-cache", "warm")

    assert warm.code == 0
    assert b"1 files were wrong and are mended" in warm.out
    assert contents(world, tree) == right


def test_running_programs_are_not_disturbed_by_mending(world: World) -> None:
    """A start that mends a tree leaves what runs from it alone."""
    tree = unpacked(world)
    with running(world) as process:
        mark(world, tree, ANOTHER_BOOT)
        world.sh(f"truncate -s 10 {tree}/_internal/_ferryman/main.pyc")
        assert world.works()
        assert goes_on(process)


def test_mended_by_one_of_many(world: World) -> None:
    """Thirty starts at once after a power cut: all succeed, and the tree is whole."""
    tree = unpacked(world)
    right = contents(world, tree)
    world.sh(f"find {tree} -name '*.pyc' | xargs truncate -s 7")
    mark(world, tree, ANOTHER_BOOT)

    runs = [finish(process, timeout=200) for process in [world.start("report") for _ in range(30)]]

    assert [ran for ran in runs if ran.code or ran.err] == []
    assert contents(world, tree) == right
    assert world.strays() == []


@pytest.mark.parametrize("damaged", [False, True], ids=["whole", "damaged"])
def test_read_only_tree_of_another_boot(world: World, damaged: bool) -> None:
    """Where nothing can be mended every start compares: a whole tree is used by everybody, a damaged one by nobody."""
    tree = unpacked(world, user=0)
    marker(world, tree).write_text(ANOTHER_BOOT)
    if damaged:
        world.sh(f"truncate -s 10 {tree}/_internal/_ferryman/main.pyc")
    world.sh("mount -o remount,ro /var/cache")

    for _ in range(2):
        assert (unpacked(world) == tree) is not damaged
        assert (unpacked(world, user=0) == tree) is not damaged


UNFIT: dict[str, tuple[str, str, int]] = {
    "a newer format": ("sed -i 's/^format 1/format 2/' {launch}", "format", 70),
    "another Python": ("sed -i 's/^python .*/python 3.2/' {launch}", "3.2", 70),
    "no launch file": ("rm {launch}", "launch", 70),
    "an empty launch file": ("truncate -s 0 {launch}", "launch", 70),
    "half a launch file": ("sed -i '4,$d' {launch}", "incomplete", 70),
    "no libpython": ("rm {tree}/_internal/libpython*", "libpython", 69),
    "no library at all": ("printf x | tee {tree}/_internal/libpython*", "libpython", 69),
    "no standard library": (
        "rm -r {tree}/_internal/encodings {tree}/_internal/base_library.zip || true",
        "",
        70,
    ),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_tree_that_does_not_fit(world: World, name: str) -> None:
    """A tree that was damaged by hand so that nothing can start from it: a message, and `warm` mends it."""
    damage, word, code = UNFIT[name]
    tree = unpacked(world)
    world.sh(damage.format(tree=tree, launch=f"{tree}/_internal/_ferryman/launch"))

    ran = world.run("report")
    assert (ran.code, ran.out) == (code, b"")
    assert word in ran.said
    assert b"mended" in world.run("--ferryman-cache", "warm").out
    assert unpacked(world) == tree


def test_the_interpreter_can_be_switched_off(world: World) -> None:
    """A tree that says `interpreter 0` starts its program, whatever FERRYMAN_INTERPRETER says."""
    tree = unpacked(world)
    env = usual_environment(FERRYMAN_INTERPRETER="1")
    assert world.run("-c", "print(1)", env=env).out == b"1\n"
    world.sh(f"sed -i 's/^interpreter 1/interpreter 0/' {tree}/_internal/_ferryman/launch")

    assert world.run("return-words", "3", env=env).code == 3


OVERLAY = """
mkdir /srv/layers; mount -t tmpfs t /srv/layers; mkdir /srv/layers/image /srv/layers/upper /srv/layers/work
cp -a /var/cache/. /srv/layers/image
mount -t overlay o -o lowerdir=/srv/layers/image,upperdir=/srv/layers/upper,workdir=/srv/layers/work /var/cache
"""


def test_in_an_image_of_a_container(world: World) -> None:
    """A tree that was warmed when an image was built, below a layer that may be written to: used, and mended if need be."""
    tree = world.run("--ferryman-cache", "warm", user=0).out.decode().strip()
    right = contents(world, tree)
    world.sh(OVERLAY)

    assert unpacked(world) == unpacked(world, user=0) == tree
    assert [path for path in world.everything("/srv/layers/upper") if "_internal" in path] == []
    world.sh(f"truncate -s 3 {tree}/_internal/_ferryman/main.pyc; echo > {tree}/.ferryman")
    assert unpacked(world, user=0) == unpacked(world) == tree
    assert contents(world, tree) == right
    world.sh(f"rm -r {tree}")
    assert unpacked(world, user=0) == tree
    assert contents(world, tree) == right


# --- cleaners ---------------------------------------------------------------------------------------------------------

CLEANED: dict[str, str] = {
    "some files": "find {tree}/_internal -name '*.pyc' | head -n 40 | xargs rm",
    "the marker": "rm {tree}/.ferryman",
    "native libraries": "find {tree} -name '*.so*' | xargs rm",
    "all files, the folders stay": "find {tree} -type f -o -type l | xargs rm",
    "truncated": "find {tree} -name '*.pyc' | head -n 3 | xargs truncate -s 1",
    "the tree": "rm -r {tree}",
    "everything": "rm -r /var/tmp/*",
    "the lock": "rm {tree}.lock",
}


@pytest.mark.parametrize("name", CLEANED)
def test_cleaners_of_var_tmp(world: World, name: str) -> None:
    """What a tmp cleaner removes from the last resort is there again at the next start."""
    env = usual_environment(HOME="/nowhere")
    tree = unpacked(world, env=env)
    assert tree.startswith("/var/tmp/")
    right = contents(world, tree)
    world.sh(CLEANED[name].format(tree=tree))

    assert unpacked(world, env=env) == tree
    assert contents(world, tree) == right
    assert world.strays() == []


def test_cleaner_while_it_runs(world: World) -> None:
    """A running program holds a lock on its tree's folder, which systemd-tmpfiles respects."""
    env = usual_environment(HOME="/nowhere")
    tree = unpacked(world, env=env)
    with running(world, env=env):
        held = subprocess.run(["flock", "--nonblock", world.at(tree), "true"], check=False)
        assert held.returncode == 1
    assert subprocess.run(["flock", "--nonblock", world.at(tree), "true"], check=False).returncode == 0


# --- pruning ----------------------------------------------------------------------------------------------------------


@contextmanager
def running(world: World, act: str = "settle", **how: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs until the block ends."""
    process = world.start(act, stdin=subprocess.PIPE, **how)
    assert process.stdout
    assert process.stdout.readline()
    yield process
    finish(process, b"\n\n")


def goes_on(process: subprocess.Popen[bytes]) -> bool:
    """The program imports, now, what it had not imported before."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(b"\n")
    process.stdin.flush()
    return process.stdout.readline() == b'"3/2"\n'


def older(world: World, tree: str, name: str) -> str:
    """Make the tree one of another version, whose last start is long ago, and forget the own one."""
    other = f"{PROGRAM}/{name * 32}"
    world.at(tree).rename(world.at(other))
    world.sh(f"mv {tree}.lock {other}.lock || true")
    age(world, other)
    return other


def test_old_trees_go(world: World) -> None:
    """A first start removes trees of the same program that were not started for longer than the limit, and their locks."""
    tree = unpacked(world)
    world.sh(f"cp -a {tree} {PROGRAM}/{'b' * 32}")
    old = older(world, tree, "a")

    world.works()

    assert set(world.trees()) == {tree, f"{PROGRAM}/{'b' * 32}"}
    assert not world.at(f"{old}.lock").exists()
    assert world.strays() == []


def test_a_daily_start_prunes_and_counts_as_use(world: World) -> None:
    """The first start of a day marks the tree as used and looks for old ones."""
    tree = unpacked(world)
    world.sh(f"cp -a {tree} {PROGRAM}/{'a' * 32}")
    age(world, f"{PROGRAM}/{'a' * 32}")
    age(world, tree, 2 * 24 * 60 * 60)

    world.works()

    assert world.trees() == [tree]
    assert time.time() - marker(world, tree).stat().st_mtime < 3600


@pytest.mark.parametrize("act", ["settle", "close-all"])
def test_running_trees_stay(world: World, act: str) -> None:
    """However old: a tree that a process runs from stays, also when that process closed every descriptor that it had."""
    tree = unpacked(world)
    with running(world, act) as process:
        old = older(world, tree, "a")
        world.works()
        assert b"nothing to remove" in world.run("--ferryman-cache", "prune", "365").out
        assert old in world.trees()
        # The folder has another name now than the process knows.
        world.sh(f"rm -rf {tree}; mv {old} {tree}")
        assert goes_on(process)


def test_running_trees_stay_behind_links(world: World) -> None:
    """The same where ~/.cache is a link: the kernel names what is mapped by another path than the environment does."""
    world.folder("/srv/home/disk", mode=0o755)
    world.sh(f"ln -s /srv/home/disk /srv/home/.cache; chown -h {ORDINARY} /srv/home/.cache")
    world.works()
    (tree,) = world.trees()
    with running(world, "close-all") as process:
        assert world.run("--ferryman-cache", "prune", "0").out == b"nothing to remove\n"
        assert world.trees() == [tree]
        assert goes_on(process)


def test_a_child_keeps_the_tree(world: World) -> None:
    """A worker that outlives who started it keeps the tree as well."""
    tree = unpacked(world)
    with running(world, "hold-forked") as process:
        os.kill(process.pid, 9)
        process.wait()
        age(world, tree)
        assert b"removed" not in world.run("--ferryman-cache", "prune", "365").out
        assert world.trees() == [tree]


def test_what_is_not_ours_is_not_touched(world: World) -> None:
    """Pruning touches trees of the same program and nothing else: no other program's, no file that happens to lie there."""
    tree = unpacked(world)
    other = "/srv/home/.cache/ferryman/another/" + "c" * 32
    world.sh(
        f"mkdir -p {other}; cp -a {tree} {PROGRAM}/{'d' * 31}; cp -a {tree} {PROGRAM}/backup; touch {PROGRAM}/notes"
    )
    world.sh(f"cp -a {tree}/. {other}; ln -s {other} {PROGRAM}/{'e' * 32}; mkdir {PROGRAM}/.hidden")
    world.sh(
        f"chown -R {ORDINARY} /srv/home; find {PROGRAM} {other} -name .ferryman | xargs touch -d 2001-01-01"
    )
    before = world.sh(f"find /srv/home/.cache -not -path '{tree}*' | sort")

    assert world.run("--ferryman-cache", "prune", "0").code == 0

    left = world.sh(f"find /srv/home/.cache -not -path '{tree}*' | sort")
    assert left == before


def test_pruning_while_others_start(world: World) -> None:
    """Forty starts while everything that does not run is removed again and again: all succeed."""
    world.works()
    starts = []
    for number in range(40):
        starts.append(world.start("report"))
        if number % 3 == 0:
            assert world.run("--ferryman-cache", "prune", "0").code == 0
    runs = [finish(process, timeout=200) for process in starts]

    assert [ran for ran in runs if ran.code or ran.err] == []
    world.works()
    assert world.strays() == []


def test_drafts_of_other_versions_go(world: World) -> None:
    """What a killed first start of another version left, and that version will never tidy up, goes with the old trees."""
    tree = unpacked(world)
    draft = f"{PROGRAM}/.{'a' * 32}.0123456789abcdef"
    world.sh(f"mkdir {draft}; touch {draft}/file {PROGRAM}/{'a' * 32}.lock; chown -R {ORDINARY} {PROGRAM}")
    age(world, tree, 2 * 24 * 60 * 60)

    world.works()

    assert not world.at(draft).exists()


# --- the command ------------------------------------------------------------------------------------------------------


def test_command_path(world: World) -> None:
    """`path` says where the tree is, and unpacks it if need be."""
    ran = world.run("--ferryman-cache", "path")
    assert (ran.code, ran.err) == (0, b"")

    assert world.trees() == [ran.out.decode().rstrip("\n")]
    assert unpacked(world) == world.trees()[0]


def test_command_list(world: World) -> None:
    """`list` names every tree of this program, when it was used last, and which one runs."""
    assert world.run("--ferryman-cache", "list").out == b""
    tree = unpacked(world)
    world.sh(f"cp -a {tree} {PROGRAM}/{'b' * 32}")
    age(world, f"{PROGRAM}/{'b' * 32}")
    with running(world):
        lines = sorted(world.run("--ferryman-cache", "list").out.decode().splitlines())

    assert len(lines) == 2
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d +unused +{PROGRAM}/b{{32}}", lines[0])
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d +running +{tree} +\(this executable's\)", lines[1])


def test_command_prune(world: World) -> None:
    """`prune` keeps to the built-in limit, `prune DAYS` to that, and 0 leaves only what runs."""
    tree = unpacked(world)
    world.sh(f"cp -a {tree} {PROGRAM}/{'b' * 32}")
    age(world, f"{PROGRAM}/{'b' * 32}", 3 * 24 * 60 * 60)

    assert world.run("--ferryman-cache", "prune").out == b"nothing to remove\n"
    assert world.run("--ferryman-cache", "prune", "2").out.decode() == f"removed {PROGRAM}/{'b' * 32}\n"
    with running(world):
        assert world.run("--ferryman-cache", "prune", "0").out == b"nothing to remove\n"
    assert world.run("--ferryman-cache", "prune", "0").out.decode() == f"removed {tree}\n"
    assert world.trees() == []
    assert world.works()


WRONG: dict[str, list[str | bytes]] = {
    "nothing": [],
    "unknown": ["nonsense"],
    "empty": [""],
    "no text": [b"\xff\xfe"],
    "one too many": ["path", "x"],
    "list with a number": ["list", "3"],
    "no number": ["prune", "soon"],
    "negative": ["prune", "-1"],
    "empty number": ["prune", ""],
    "huge": ["prune", "99999999999999999999"],
    "two numbers": ["prune", "1", "2"],
}


@pytest.mark.parametrize("name", WRONG)
def test_command_used_wrongly(world: World, name: str) -> None:
    """Code 64 and a message that says what there is; nothing is unpacked and nothing removed."""
    refused(world.run("--ferryman-cache", *WRONG[name]), USAGE, "ne")
    assert world.trees() == []


def test_the_command_is_the_first_argument(world: World) -> None:
    """Anywhere else the word belongs to the program."""
    seen = world.run("report", "--ferryman-cache", "path").json

    assert seen["argv"][1:] == ["'report'", "'--ferryman-cache'", "'path'"]


def test_another_user_cannot_hinder_a_start(world: World) -> None:
    """A user who holds a lock on root's tree for ever delays others by seconds and no longer."""
    tree = unpacked(world, user=0)
    holder = subprocess.Popen(
        ["flock", "--exclusive", "/proc/self/fd/0", "sleep", "60"], stdin=os.open(world.at(tree), os.O_RDONLY)
    )
    try:
        begin = time.monotonic()
        assert unpacked(world) == tree
        assert time.monotonic() - begin < 20
    finally:
        holder.kill()
        holder.wait()
