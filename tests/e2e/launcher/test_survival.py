"""Where and how a one-file executable may be started: each a real first start in a world of its own."""

from __future__ import annotations

import os
import resource
import shutil
import signal
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from support.launcher import (
    EXECUTABLE,
    HOME,
    ORDINARY,
    ROOT_USER,
    World,
    finish,
    plain_python,
    refused,
    run_here,
    usual_environment,
)

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

MakeWorld = Callable[..., World]
IN_HOME = f"{HOME}/.cache/ferryman/oneself/"
IN_VAR_TMP = f"/var/tmp/ferryman-{ORDINARY}/oneself/"
IN_TMP = f"/tmp/ferryman-{ORDINARY}/oneself/"
MACHINE_WIDE = "/var/cache/ferryman/oneself/"
NO_PLACE = 73
LONG = "长路径 with spaces " * 7 + "é" * 88


def starts_from(world: World, place: str, **how: Any) -> str:
    """Two starts, the first of which unpacks; the tree is below ``place``, whole, and the only thing that is left."""
    tree = world.tree(**how).removesuffix("/_internal")
    assert tree.startswith(place)
    assert world.tree(**how).startswith(tree)
    assert world.trees() == [tree]
    assert world.strays() == []
    return tree


# --- places -----------------------------------------------------------------------------------------------------------

ORDINARY_PLACES: dict[str, tuple[dict[str, str], str, str]] = {
    "HOME": ({}, "", IN_HOME),
    "XDG_CACHE_HOME": ({"XDG_CACHE_HOME": "/srv/home/c"}, "", "/srv/home/c/ferryman/oneself/"),
    "relative XDG_CACHE_HOME": ({"XDG_CACHE_HOME": "c"}, "", IN_HOME),
    "empty XDG_CACHE_HOME": ({"XDG_CACHE_HOME": ""}, "", IN_HOME),
    "CACHE_DIRECTORY of systemd": (
        {"CACHE_DIRECTORY": "/srv/home/svc:/srv/x"},
        "",
        "/srv/home/svc/ferryman/oneself/",
    ),
    "FERRYMAN_CACHE": ({"FERRYMAN_CACHE": "/srv/home/own/place"}, "", "/srv/home/own/place/oneself/"),
    "empty FERRYMAN_CACHE": ({"FERRYMAN_CACHE": ""}, "", IN_HOME),
    "noexec /tmp and /var/tmp": ({}, "for m in /tmp /var/tmp; do mount -o remount,noexec $m; done", IN_HOME),
    "noexec HOME": ({}, "mount -t tmpfs -o noexec,uid=12345,mode=700 t /srv/home", IN_VAR_TMP),
    "noexec HOME and /var/tmp": (
        {},
        "mount -t tmpfs -o noexec,uid=12345 t /srv/home; mount -o remount,noexec /var/tmp",
        IN_TMP,
    ),
    "read-only HOME": ({}, "mount -t tmpfs -o ro,uid=12345,mode=700 t /srv/home", IN_VAR_TMP),
    "HOME of root": ({}, "chown 0:0 /srv/home; chmod 755 /srv/home", IN_VAR_TMP),
    "HOME that may not be entered": ({"HOME": "/srv/other"}, "", IN_VAR_TMP),
    "HOME that is missing": ({"HOME": "/nowhere"}, "", IN_VAR_TMP),
    "HOME that is a file": ({"HOME": EXECUTABLE}, "", IN_VAR_TMP),
    "relative HOME": ({"HOME": "home"}, "", IN_VAR_TMP),
    "HOME=/dev/null": ({"HOME": "/dev/null"}, "", IN_VAR_TMP),
    "HOME of 4000 letters": ({"HOME": "/srv/home/" + "x/" * 1990}, "", IN_VAR_TMP),
    ".cache is a file": ({}, "touch /srv/home/.cache; chown 12345 /srv/home/.cache", IN_VAR_TMP),
    "TMPDIR": (
        {"HOME": "/nowhere", "TMPDIR": "/srv/home"},
        "chmod 0 /var/tmp",
        f"/srv/home/ferryman-{ORDINARY}/oneself/",
    ),
    "HOME by a detour": ({"HOME": "/srv/bin/..//home/./"}, "", IN_HOME),
    "a full HOME": ({}, "mount -t tmpfs -o size=4k,uid=12345,mode=700 t /srv/home", IN_VAR_TMP),
    "a nearly full HOME": ({}, "mount -t tmpfs -o size=4m,uid=12345,mode=700 t /srv/home", IN_VAR_TMP),
    "no inodes in HOME": (
        {},
        "mount -t tmpfs -o nr_inodes=64,uid=12345,mode=700 t /srv/home",
        IN_VAR_TMP,
    ),
}


@pytest.mark.parametrize("name", ORDINARY_PLACES)
def test_places(make_world: MakeWorld, name: str) -> None:
    """A place that is missing, read-only, noexec, full or another user's is passed over for the next one.

    Not a word is said, and no file is left in it.
    """
    env, before, place = ORDINARY_PLACES[name]
    world = make_world(before)
    env = usual_environment(**env)

    first = world.run("report", env=env)
    assert first.err == b""
    known = {"/srv/home/.cache"} if name == ".cache is a file" else set()
    assert set(world.strays()) <= known
    (tree,) = world.trees()
    assert tree.startswith(place)
    assert os.path.normpath(world.tree(env=env)) == f"{tree}/_internal"


def test_no_home_at_all(world: World) -> None:
    """Without HOME, and without an entry in the user database, the tree goes to /var/tmp."""
    starts_from(world, IN_VAR_TMP, env={"PATH": os.defpath})


def test_empty_environment(world: World) -> None:
    """`env -i`: not even PATH; the program sees an environment that is as empty."""
    assert world.works(env={})["environment"] == {}
    starts_from(world, IN_VAR_TMP, env={})


def test_root_uses_the_machine_wide_place(world: World) -> None:
    """Root unpacks to /var/cache, whatever HOME is (sudo keeps it), and everybody else uses that tree."""
    tree = starts_from(world, MACHINE_WIDE, user=ROOT_USER)

    assert world.tree(user=ORDINARY) == f"{tree}/_internal"
    assert world.trees() == [tree]
    assert world.everything("/srv/home") == []


def test_root_with_a_tight_umask(world: World) -> None:
    """A umask of 077 does not make a machine-wide tree that only root can read."""
    tree = world.tree(user=ROOT_USER, before=lambda: os.umask(0o077))

    assert world.tree(user=ORDINARY) == tree


def test_machine_wide_tree_where_nothing_is_writable(make_world: MakeWorld) -> None:
    """A primed machine-wide tree on a read-only file system serves a user for whom no place is left."""
    world = make_world()
    tree = world.run("--ferryman-cache", "warm", user=ROOT_USER).out.decode().splitlines()[0]
    for place in ("/var/cache", "/srv", "/tmp", "/var/tmp"):
        world.sh(f"mount -o remount,ro {place}")

    assert world.tree() == f"{tree}/_internal"


NOWHERE: dict[str, tuple[str, str]] = {
    "read-only": (
        "mount -o remount,ro /tmp; mount -o remount,ro /var/tmp; mount -o remount,ro /srv",
        "ead-only",
    ),
    "noexec": (
        "for m in /tmp /var/tmp /srv/home; do mount -t tmpfs -o noexec,mode=1777 t $m; done",
        "noexec",
    ),
    "full": ("for m in /tmp /var/tmp /srv/home; do mount -t tmpfs -o size=1m,mode=1777 t $m; done", "MB"),
}


@pytest.mark.parametrize("name", NOWHERE)
def test_no_place_at_all(make_world: MakeWorld, name: str) -> None:
    """Code 73 and a message that names every place, why it was passed over, and FERRYMAN_CACHE as the cure."""
    before, word = NOWHERE[name]
    world = make_world(before)
    ran = world.run("report")

    refused(ran, NO_PLACE, "FERRYMAN_CACHE", "/var/tmp", "/var/cache/ferryman", word)
    assert world.trees() == []
    assert world.strays() == []


def test_the_named_place_is_the_only_one(world: World) -> None:
    """Who says FERRYMAN_CACHE means it: when that does not work, nothing else is tried."""
    for place in ("/srv/other/x", "relative/x", "/proc/x", EXECUTABLE):
        refused(world.run("report", env=usual_environment(FERRYMAN_CACHE=place)), NO_PLACE, "FERRYMAN_CACHE")
    assert world.trees() == []


def test_real_disk(make_world: MakeWorld) -> None:
    """On ext4, with as much room as the tree needs and then with too little of it."""
    if not shutil.which("mkfs.ext4"):
        pytest.skip("mkfs.ext4 (e2fsprogs) is not here")
    world = make_world(
        "mkdir /srv/disk; truncate -s 200M /srv/disk/img; mkfs.ext4 -q -m 0 /srv/disk/img; mount -o loop"
        " /srv/disk/img /srv/home && chown 12345 /srv/home && rmdir /srv/home/lost+found"
    )
    tree = world.tree()
    assert tree.startswith(IN_HOME)

    world.sh(
        "rm -rf /srv/home/.cache; dd if=/dev/zero of=/srv/home/filler bs=1M count=180 2>/dev/null || true"
    )

    assert world.tree().startswith(IN_VAR_TMP)
    assert [path for path in world.everything("/srv/home") if "oneself/." in path] == []


# --- ways to start ----------------------------------------------------------------------------------------------------

LIES = ("", "-oneself", "/bin/ls", "./oneself", "../..", "a b", "é灯", "x" * 5000)


@pytest.mark.parametrize("lie", LIES, ids=lambda lie: lie[:12] or "empty")
def test_argv0_may_lie(world: World, lie: str) -> None:
    """What the caller claims to have started does not matter; sys.argv[0] repeats it."""
    seen = world.works(argv0=lie)

    assert seen["executable"] == repr(EXECUTABLE)
    assert seen["argv"] == [ascii(lie), "'report'"]


STARTED_AS: dict[str, tuple[str, str, str]] = {
    "a link": ("ln -s /srv/bin/oneself /srv/agent", "/srv/agent", EXECUTABLE),
    "a link to a link, relative": (
        "ln -s bin/oneself /srv/b; mkdir /srv/d; ln -s ../b /srv/d/a",
        "/srv/d/a",
        EXECUTABLE,
    ),
    "a hard link": ("ln /srv/bin/oneself /srv/bin/agent", "/srv/bin/agent", "/srv/bin/agent"),
    "relative": ("", "bin/oneself", EXECUTABLE),
    "relative, upwards": ("", "../srv/./bin/oneself", EXECUTABLE),
}


@pytest.mark.parametrize("name", STARTED_AS)
def test_started_through(make_world: MakeWorld, name: str) -> None:
    """Links and relative paths lead to the same executable and tree; sys.executable is the file itself."""
    before, program, executable = STARTED_AS[name]
    world = make_world(before)
    seen = world.works(program=program)

    assert seen["executable"] == repr(executable)
    assert seen["argv"][0] == repr(program)


def test_started_by_descriptor(world: World) -> None:
    """What has no path to be started by (fexecve) is found all the same."""
    shell = ("sh", "-c", 'exec 9<"$0"; exec /proc/self/fd/9 report')

    for _ in range(2):
        assert world.works(through=shell)["executable"] == repr(EXECUTABLE)


def test_deleted_working_directory(world: World) -> None:
    """The first start and a later one from a folder that is gone; os.getcwd() fails as with plain Python."""
    for _ in range(2):
        world.folder("/srv/home/gone")
        ran = world.run("folder", cwd="/srv/home/gone", before=Path("/srv/home/gone").rmdir)
        assert ran.json == "FileNotFoundError"


@pytest.mark.parametrize("shut", [(0,), (1,), (2,), (0, 1), (0, 1, 2)], ids=str)
def test_first_start_with_closed_streams(world: World, shut: tuple[int, ...]) -> None:
    """No file of the tree gets the number of a stream: what is written to it would end up there."""
    ran = world.run("streams-to", "/srv/home/seen", shut=shut)
    assert ran.code == 0
    assert "mended" not in world.run("--ferryman-cache", "warm").out.decode()
    assert world.at("/srv/home/seen").read_text().count("null") == len(shut)


def test_full_standard_error(make_world: MakeWorld) -> None:
    """A message that cannot be written changes nothing about the exit code."""
    world = make_world(NOWHERE["full"][0])
    with open("/dev/full", "wb") as full:
        assert world.run("report", stderr=full).code == NO_PLACE
    assert world.run("report", shut=(2,)).code == NO_PLACE


PID_1 = ("unshare", "--pid", "--fork", "--kill-child")


@pytest.mark.parametrize("user", [ORDINARY, ROOT_USER], ids=["ordinary", "root"])
def test_process_1(world: World, user: int) -> None:
    """As the first process of a container: cold and warm."""
    as_user = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", "--")
    for _ in range(2):
        seen = world.works(user=ROOT_USER, through=(*PID_1, "--mount-proc", *as_user), program=EXECUTABLE)
        assert (seen["pid"], seen["parent"], seen["executable"]) == (1, 0, repr(EXECUTABLE))
    assert world.strays() == []


def test_process_1_without_proc(make_world: MakeWorld) -> None:
    """A container without /proc: the executable knows itself by what the kernel was asked to execute."""
    world = make_world("mount -t tmpfs t /proc")
    for program in (EXECUTABLE, "bin/oneself", "./bin/../bin/oneself"):
        seen = world.works(program=program)
        assert seen["executable"] == repr(EXECUTABLE)
    assert world.works(user=ROOT_USER, through=PID_1)["pid"] == 1
    assert len(world.trees()) == 2
    assert world.strays() == []


@pytest.mark.parametrize(
    "mapping", ["--map-root-user", "--map-current-user", ""], ids=lambda word: word or "none"
)
def test_user_namespace(world: World, mapping: str) -> None:
    """A container without root: its root is an ordinary user outside, and whom it does not know is nobody."""
    through = ("unshare", "--user", *([mapping] if mapping else []), "--")
    if world.run(through=(*through, "true"), program="").code:
        pytest.skip("ordinary users may not make user namespaces here")
    for _ in range(2):
        assert world.works(through=through)["executable"] == repr(EXECUTABLE)
    assert len(world.trees()) == 1
    assert world.strays() == []


def test_without_dev(make_world: MakeWorld) -> None:
    """Without /dev: no /dev/urandom and no /dev/null."""
    world = make_world("mount -t tmpfs t /dev")
    starts_from(world, IN_HOME)


@pytest.mark.parametrize("where", ["executable", "cache", "both"])
def test_long_path(world: World, where: str) -> None:
    """200 characters with spaces and Chinese letters, for the executable, the cache, or both."""
    assert len(LONG) == 200
    folder = world.folder(f"/srv/home/{PurePosixPath(LONG[:80])}/{LONG[80:]}")
    inside = f"/srv/home/{LONG[:80]}/{LONG[80:]}"
    assert folder.is_dir()
    env = usual_environment(**({"XDG_CACHE_HOME": inside} if where != "executable" else {}))
    program = world.place(f"{inside}/{LONG[:50]}") if where != "cache" else EXECUTABLE

    seen = world.works(env=env, program=program)
    assert seen["executable"] == ascii(program)
    assert seen["tree"].startswith(ascii(inside if where != "executable" else IN_HOME)[:-1])
    assert world.run("works", env=env, program=program).code == 0


@pytest.mark.parametrize("name", [b"\xff\xfe", b"a\nb", b"%s%n$(x)`y`", b"\xe7\x81\xaf"], ids=ascii)
@pytest.mark.parametrize("locale", ["C", "C.UTF-8"])
def test_strange_names(world: World, name: bytes, locale: str) -> None:
    """Folders whose names are no text, or are text that shells and printf take apart."""
    inside = "/srv/home/" + os.fsdecode(name)
    world.folder(inside)
    program = world.place(f"{inside}/{os.fsdecode(name)}")
    env = usual_environment(XDG_CACHE_HOME=inside, LC_ALL=locale)

    for _ in range(2):
        seen = world.works(env=env, program=program)
        assert seen["executable"] == ascii(program)
        assert seen["tree"].startswith(ascii(inside)[:-1])
    assert world.run("works", env=env, program=program).code == 0


def test_unreadable_executable(world: World) -> None:
    """An executable that may be executed and not read says what is missing, and does not crash."""
    world.at(EXECUTABLE).chmod(0o711)
    ran = world.run("report")

    assert ran.code in (0, 69), ran
    if ran.code:
        refused(ran, 69, "read")


def test_nohup(world: World) -> None:
    """Under nohup SIGHUP stays ignored, in the first start as in later ones."""
    for _ in range(2):
        process = world.start("hold", through=("nohup",))
        assert process.stdout
        process.stdout.readline()
        process.send_signal(signal.SIGHUP)
        process.send_signal(signal.SIGTERM)
        assert finish(process).code == -signal.SIGTERM


def test_ignored_signals_stay_ignored(world: World) -> None:
    """Signals that were ignored at the start (a background job of a shell) stay so, cold and warm, as with plain Python."""
    ignore = (signal.SIGINT, signal.SIGHUP, signal.SIGTERM)

    def ignoring() -> None:
        for number in ignore:
            signal.signal(number, signal.SIG_IGN)

    code = (
        "import signal as s; print([str(s.getsignal(n)) for n in (s.SIGINT, s.SIGPIPE, s.SIGTERM, s.SIGHUP)])"
    )
    plain = run_here([plain_python(), "-c", code], preexec_fn=ignoring).out.decode()
    for _ in range(2):
        seen = world.run("flags", ignore=ignore).json["signals"]
        assert str([seen[name] for name in ("SIGINT", "SIGPIPE", "SIGTERM", "SIGHUP")]) == plain.strip()


# --- limits -----------------------------------------------------------------------------------------------------------

LIMITS: dict[str, tuple[int, int]] = {
    "file size": (resource.RLIMIT_FSIZE, 1 << 20),
    "memory": (resource.RLIMIT_AS, 24 << 20),
    "open files": (resource.RLIMIT_NOFILE, 8),
}


@pytest.mark.parametrize("name", LIMITS)
def test_limits(world: World, name: str) -> None:
    """A first start under a limit that it breaks ends with a message, without leftovers, and a later one works."""
    kind, limit = LIMITS[name]
    ran = world.run("report", before=lambda: resource.setrlimit(kind, (limit, limit)))

    assert ran.code == 0 or (ran.code in (69, 70, NO_PLACE) and ran.said.strip()), ran
    assert [path for path in world.everything() if "/oneself/." in path] == []
    world.works()
    assert world.strays() == []
