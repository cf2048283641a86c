"""What interrupts a first start: kill -9 at any moment, signals, errors of the disk in the middle, forty-nine others."""

from __future__ import annotations

import fcntl
import json
import re
import shutil
import signal
import subprocess
import time

import psutil
import pytest

from support.launcher import EXECUTABLE, ORDINARY, Ran, Watch, World, eventually, finish, refused

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

STEPS = 48
CACHE = "/srv/home/.cache"
PROGRAM = f"{CACHE}/ferryman/oneself"


def forget(world: World) -> None:
    """An empty cache again."""
    shutil.rmtree(world.at(CACHE), ignore_errors=True)


def length(world: World) -> float:
    """Seconds of a first start; the middle one of three."""
    seconds = []
    for _ in range(3):
        forget(world)
        begin = time.monotonic()
        world.works()
        seconds.append(time.monotonic() - begin)
    return sorted(seconds)[1]


def is_whole(world: World) -> None:
    """A start works, nothing but the tree is left, and every file in it has the content that it should have."""
    world.works()
    assert len(world.trees()) == 1
    assert world.strays() == []
    warm = world.run("--ferryman-cache", "warm")
    assert (warm.code, warm.err) == (0, b"")
    assert b"mended" not in warm.out


def drafts(world: World) -> list[str]:
    """Trees that are being unpacked, or were."""
    return [path for path in world.everything() if re.search(r"/oneself/\.[^/]+$", path)]


def interrupted(world: World, delay: float, number: int) -> Ran:
    """A first start that gets a signal after so many seconds."""
    forget(world)
    process = world.start("report")
    time.sleep(delay)
    process.send_signal(number)
    return finish(process)


def test_kill_at_any_moment(world: World) -> None:
    """kill -9 after 48 delays from 0 to the length of a first start: the next start works and tidies up."""
    whole, ends, left = length(world), [], 0
    for step in range(STEPS + 1):
        ends.append(interrupted(world, whole * step / STEPS, signal.SIGKILL).code)
        left += bool(drafts(world))
        is_whole(world)

    assert ends.count(-signal.SIGKILL) >= STEPS // 4
    assert left >= 3, "no kill hit the unpacking: the ladder shows nothing"


# Each system call that changes something on the disk, and the occurrence at which the process is killed.
MOMENTS = [
    *[("mkdir", number) for number in (1, 2, 3, 4, 5, 8, 20)],
    *[("write", number) for number in (1, 2, 10, 100, 300)],
    *[("openat", number) for number in (10, 40, 200)],
    *[("rename", number) for number in (1, 2)],
    *[("flock", number) for number in (1, 2, 3)],
    *[("fchmod", number) for number in (1, 50)],
    *[("symlink", 1), ("close", 30), ("munmap", 5)],
]


@pytest.fixture
def strace(world: World) -> World:
    """A world in which strace may interfere with a program."""
    if not shutil.which("strace") or world.run("report", through=("strace", "-o", "/dev/null")).code:
        pytest.skip("strace, which makes a chosen system call fail, does not work here")
    forget(world)
    return world


def at_call(world: World, call: str, number: int | str, what: str, *words: str) -> Ran:
    """Run under strace, which does ``what`` to that occurrence of a system call."""
    inject = f"inject={call}:{what}:when={number}"
    return world.run(*(words or ("report",)), through=("strace", "-o", "/dev/null", "-e", inject))


def test_kill_at_every_change(strace: World) -> None:
    """kill -9 at the very system calls that make folders, files, the marker and the tree's name."""
    killed = set()
    for call, number in MOMENTS:
        forget(strace)
        if at_call(strace, call, number, "signal=SIGKILL").code == -signal.SIGKILL:
            killed.add((call, number))
        is_whole(strace)

    assert {("mkdir", 1), ("rename", 1), ("rename", 2), ("flock", 1), ("write", 100)} <= killed


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_signals_while_unpacking(world: World, name: str) -> None:
    """The process ends by the signal itself, and removes what it had begun."""
    number = getattr(signal, f"SIG{name}")
    whole, ends = length(world), []
    for step in range(STEPS // 2):
        ran = interrupted(world, whole * step / (STEPS // 2), number)
        ends.append(ran.code)
        assert ran.code in (-number, 0), ran
        assert drafts(world) == []
        if ran.code and not world.trees():
            assert ran.out == b""
    is_whole(world)

    assert ends.count(-number) >= 4


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP"])
def test_signal_in_the_middle(strace: World, name: str) -> None:
    """A signal that arrives exactly while a file is being written: by that signal, no draft, no tree, no word."""
    ran = at_call(strace, "write", 100, f"signal=SIG{name}")

    assert ran == Ran(code=-getattr(signal, f"SIG{name}"), out=b"", err=b"")
    assert (drafts(strace), strace.trees()) == ([], [])
    is_whole(strace)


def test_interrupt_while_the_interpreter_starts(strace: World) -> None:
    """SIGINT while CPython opens its standard streams: by that signal, without a word of its; ignored, it stays so."""
    strace.works()
    inject = ("strace", "-o", "/dev/null", "-P", "/dev/null", "-e", "inject=lseek:signal=SIGINT:when=1", "--")

    assert strace.run("report", through=inject) == Ran(code=-signal.SIGINT, out=b"", err=b"")
    assert strace.run("report", through=inject, ignore=(signal.SIGINT,)).code == 0


def test_signals_that_are_ignored_do_not_stop_it(world: World) -> None:
    """SIGINT in the middle of the unpacking, while it is ignored: the start goes on."""
    whole = length(world)
    for step in range(8):
        forget(world)
        process = world.start("report", ignore=(signal.SIGINT,))
        time.sleep(whole * (step + 1) / 10)
        process.send_signal(signal.SIGINT)
        assert finish(process).code == 0
    is_whole(world)


@pytest.mark.parametrize("name", ["TERM", "INT", "HUP", "KILL"])
def test_signals_while_another_one_unpacks(world: World, name: str) -> None:
    """A start that waits for another one's unpacking ends at once when it is told to."""
    tree = world.tree().removesuffix("/_internal")
    world.sh(f"rm -r {tree}")
    with open(world.at(f"{tree}.lock"), "rb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        process = world.start("report")
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(getattr(signal, f"SIG{name}"))
        assert finish(process, timeout=5).code == -getattr(signal, f"SIG{name}")
    is_whole(world)


@pytest.mark.parametrize("name", ["TERM", "INT"])
def test_signal_to_process_1_while_unpacking(world: World, name: str) -> None:
    """The first process of a container has no default actions: it tidies up and ends with the code that a shell counts."""
    number = getattr(signal, f"SIG{name}")
    process = world.start(
        "report",
        user=0,
        through=("unshare", "--pid", "--fork", "--kill-child", "nice", "-n", "19"),
        program=EXECUTABLE,
    )
    eventually(lambda: [path for path in world.everything("/var/cache") if "/oneself/." in path])
    (first,) = psutil.Process(process.pid).children()
    first.send_signal(number)

    assert finish(process).code == 128 + number
    assert (drafts(world), world.trees()) == ([], [])


ERRORS = [
    ("write", "100", "ENOSPC"),
    ("write", "30..31", "EDQUOT"),
    ("write", "5", "EIO"),
    ("mkdir", "9", "ENOSPC"),
    ("mkdir", "9", "EMLINK"),
    ("openat", "100", "EDQUOT"),
    ("fchmod", "3", "EPERM"),
    ("rename", "1", "EIO"),
    ("rename", "2", "EIO"),
    ("close", "60", "EDQUOT"),
    ("symlink", "1", "EPERM"),
]


@pytest.mark.parametrize(("call", "number", "error"), ERRORS, ids=str)
def test_errors_of_the_disk(strace: World, call: str, number: str, error: str) -> None:
    """An error in the middle leads to the next place, never to half a tree, and never to leftovers."""
    ran = at_call(strace, call, number, f"error={error}")

    assert ran.code in (0, 73), ran
    if ran.code:
        assert "FERRYMAN_CACHE" in ran.said
    else:
        assert ran.err == b""
        assert json.loads(ran.out)["tree"].strip("'").removesuffix("/_internal") in strace.trees()
    assert drafts(strace) == []
    for tree in strace.trees():
        warm = strace.run("--ferryman-cache", "warm", env={"FERRYMAN_CACHE": tree.partition("/oneself/")[0]})
        assert (warm.code, b"mended" in warm.out) == (0, False), warm


def test_all_places_out_of_quota(strace: World) -> None:
    """EDQUOT wherever it writes: code 73, a message, nothing left."""
    ran = at_call(strace, "write", "2..4", "error=EDQUOT")

    refused(ran, 73, "Disk quota exceeded", "FERRYMAN_CACHE")
    assert (drafts(strace), strace.trees()) == ([], [])


STARTS = 50


def test_fifty_first_starts_at_once(world: World) -> None:
    """Fifty processes start cold: all succeed, one unpacks, all use its tree."""
    world.folder(f"{CACHE}", mode=0o700)
    world.folder(f"{CACHE}/ferryman", mode=0o700)
    world.folder(PROGRAM, mode=0o700)
    with Watch(world.at(PROGRAM)) as watch:
        processes = [world.start("report") for _ in range(STARTS)]
        runs = [finish(process, timeout=300) for process in processes]

    assert [ran for ran in runs if ran.code or ran.err] == []
    assert len({ran.json["tree"] for ran in runs}) == 1
    assert len([name for name in watch.created if name.startswith(".")]) == 1
    assert world.strays() == []


def test_fifty_first_starts_and_kills(world: World) -> None:
    """Fifty at once, every third of which is killed on the way: the others succeed."""
    whole = length(world)
    forget(world)
    processes = [world.start("report") for _ in range(STARTS)]
    for number, process in enumerate(processes[::3]):
        time.sleep(whole / 20)
        if process.poll() is None:
            process.kill()
        assert number < STARTS
    runs = [finish(process, timeout=300) for process in processes]

    others = [ran for index, ran in enumerate(runs) if index % 3]
    assert [ran for ran in others if ran.code or ran.err] == []
    is_whole(world)


def test_two_users_at_once(world: World) -> None:
    """Each user has a tree of its own, and neither waits for the other."""
    homes = {ORDINARY: "/srv/home", 12346: "/srv/other"}
    processes = [
        world.start("report", user=user, env={"HOME": home}) for user, home in homes.items() for _ in range(5)
    ]
    trees = {finish(process).json["tree"] for process in processes}

    assert len(trees) == 2
    assert len(world.trees()) == 2


def test_executable_replaced_while_it_starts(world: World) -> None:
    """An update that renames a new file over the running one: what was started goes on as what it was."""
    process = world.start("report")
    new = world.place("/srv/bin/new")
    world.at(new).rename(world.at(EXECUTABLE))

    assert finish(process).code == 0
    is_whole(world)
