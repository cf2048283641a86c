"""linux-arm64, really run: a tree and a one-file executable of Debian's CPython for that machine, under QEMU.

Each program is started in a root filesystem of that machine, and the process that is started is the program: its PID,
exit code and signals are what a service manager would see. Where the machine is arm64 itself, nothing is emulated.
"""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from e2e.clean_rootfs.rootfs import UnavailableError
from support import arm64_tree
from support.arm64_tree import NAME
from support.ferryman import ROOT
from support.qemu.emulation import emulated
from support.qemu.launchers import Works
from support.qemu.payloads import pack_tree
from support.qemu.roots import PERSON, Ended, ForeignRoot

ONE_FILE = f"/srv/{NAME}"
IN_TREE = f"/opt/{NAME}/{NAME}"
BOTH = pytest.mark.parametrize("program", [ONE_FILE, IN_TREE], ids=["one file", "tree"])
CACHE = ROOT / ".cache" / "rootfs"
LAUNCHERS = ROOT / ".cache" / "launcher"

pytestmark = [pytest.mark.e2e, pytest.mark.network, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Made:
    """The root with both programs in it, and what they were made from."""

    root: ForeignRoot
    tree: Path
    payload: Path


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    """Both programs, in a root of their machine."""
    folder = tmp_path_factory.mktemp("arm64")
    try:
        with emulated("arm64", CACHE):
            yield make(folder)
    except UnavailableError as reason:
        pytest.skip(str(reason))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def make(folder: Path) -> Made:
    """Assemble the tree, pack it, compile and link both launchers, place everything."""
    root = ForeignRoot.unpack(arm64_tree.RECIPE, CACHE, folder / "root")
    tree = arm64_tree.assemble(root, folder / "tree", ROOT / "tests/support/qemu/heron.py")
    payload = pack_tree(tree, arm64_tree.INFO, NAME, folder / "payload", LAUNCHERS)
    works = Works.open(LAUNCHERS, root.path / arm64_tree.INCLUDE, folder / "works")
    root.place(tree, f"/opt/{NAME}")
    root.place(works.launcher("linux-arm64"), IN_TREE)
    root.place(works.launcher("linux-arm64", payload), ONE_FILE)
    root.place(works.launcher("linux-arm64", payload), f"/srv/鳥 {'long ' * 30}/{NAME}")
    return Made(root, tree, payload)


@dataclass
class Person:
    """Somebody with an empty home, who starts programs and sees what they leave behind."""

    made: Made
    name: str
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def home(self) -> str:
        """Inside."""
        return f"/home/{self.name}"

    @property
    def env(self) -> dict[str, str]:
        """The whole environment."""
        return {"HOME": self.home, "PATH": "/usr/bin", "LANG": "C.UTF-8"}

    @property
    def cache(self) -> Path:
        """Where this person's trees lie, as the host sees it."""
        return self.made.root.inside(f"{self.home}/.cache/ferryman/{NAME}")

    def run(
        self, program: str, /, *words: str, env: Mapping[str, str] | None = None, **options: Any
    ) -> Ended:
        """Start a program and wait for its end."""
        return self.made.root.run([program, *words], env=self.env if env is None else env, **options)

    def popen(self, program: str, /, *words: str, **options: Any) -> subprocess.Popen[str]:
        """Start a program that is ended with the test at the latest."""
        process = self.made.root.popen([program, *words], env=self.env, **options)
        self.started.append(process)
        return process

    def trees(self) -> list[Path]:
        """The trees in the cache, finished or not."""
        return [path for path in self.cache.iterdir() if path.is_dir()] if self.cache.is_dir() else []


@pytest.fixture
def person(made: Made) -> Iterator[Person]:
    """Somebody new."""
    for number in itertools.count():
        if not made.root.inside(f"/home/p{number}").exists():
            break
    someone = Person(made, f"p{number}")
    made.root.folder(someone.home, owner=PERSON, mode=0o700)
    yield someone
    for process in someone.started:
        process.kill()
        process.communicate()
    for place in ("var/tmp", "tmp"):
        shutil.rmtree(made.root.path / place / f"ferryman-{PERSON}", ignore_errors=True)
    shutil.rmtree(made.root.inside(someone.home))


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Until it holds; fails when it never does."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.002)


# ---- a plain start ---------------------------------------------------------------------------------------------------


@BOTH
def test_what_the_program_sees(person: Person, program: str) -> None:
    """The interpreter of the tree, for this machine, as a program of its own: nothing of the host's Python."""
    facts = person.run(program, "report").report()
    contents = facts["meipass"]
    assert contents == (f"/opt/{NAME}/_internal" if program == IN_TREE else f"{tree_of(person)}/_internal")
    assert facts["path"] == [contents, f"{contents}/python3.11/lib-dynload"]
    seen = {key: facts[key] for key in ("machine", "executable", "frozen", "prefix", "main", "environment")}
    assert seen == {"machine": "aarch64", "executable": program, "frozen": True, "prefix": contents,
                    "main": False, "environment": person.env}  # fmt: skip
    assert facts["json"] == f"{contents}/json/__init__.pyc"
    assert {Path(path).parent.name for path in facts["native"].values() if path != "built-in"} == {
        "lib-dynload"
    }
    assert 'File "json/decoder.py", line' in facts["trace"]
    assert facts["encoding"] == "utf-8"


@BOTH
def test_nothing_is_left_for_the_program_to_trip_over(person: Person, program: str) -> None:
    """No descriptor that a child would inherit, no blocked signal, and signals as Python sets them up."""
    facts = person.run(program, "report").report()
    assert facts["descriptors"] == {}
    assert facts["mask"] == []
    # SIGPIPE is ignored by every Python.
    assert facts["signals"] == [True, True, False]


def tree_of(person: Person) -> str:
    """The one tree of the cache, as the inside sees it."""
    (tree,) = person.trees()
    return f"/{tree.relative_to(person.made.root.path)}"


def test_a_later_start_uses_the_first_ones_tree(person: Person) -> None:
    """The tree is unpacked once, equals what was packed, and nothing is written anywhere else."""
    before = everything(person.made.root.path)
    person.run(ONE_FILE, "exit", "0")
    (tree,) = person.trees()
    assert differences(tree, person.made.tree) == []
    after = everything(person.made.root.path)
    new = [path for path in after if path not in before]
    assert [path for path in new if not f"/{path}".startswith(f"{person.home}/.cache/ferryman")] == [
        f"{person.home}/.cache".lstrip("/")
    ]
    again = person.run(ONE_FILE, "report").report()
    assert again["meipass"] == f"{tree_of(person)}/_internal"
    written = {
        path: facts for path, facts in everything(person.made.root.path).items() if after.get(path) != facts
    }
    assert {Path(path).name for path in written} <= {".ferryman", ".pruned"}


def everything(root: Path) -> dict[str, tuple[int, int]]:
    """Path → inode and time of change of content, of every file and folder."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*folders, *files):
            status = os.lstat(f"{folder}/{name}")
            moved = 0 if name in folders else status.st_mtime_ns
            found[os.path.relpath(f"{folder}/{name}", root)] = (status.st_ino, moved)
    return found


def differences(tree: Path, wanted: Path) -> list[str]:
    """Files of two trees that are not the same; the launcher of a tree and the cache's marker do not count."""
    names = {path.relative_to(top) for top in (tree, wanted) for path in top.rglob("*") if not path.is_dir()}
    return [
        str(name)
        for name in sorted(names - {Path(".ferryman")})
        if not ((tree / name).is_file() and (wanted / name).is_file())
        or (tree / name).read_bytes() != (wanted / name).read_bytes()
    ]


@BOTH
@pytest.mark.parametrize(
    ("word", "code", "said"),
    [("0", 0, ""), ("7", 7, ""), ("255", 255, ""), ("text", 1, "a last word"), ("error", 1, 'File "heron.py", line')],
)  # fmt: skip
def test_exit_codes(person: Person, program: str, word: str, code: int, said: str) -> None:
    """As with plain Python; a traceback names source files."""
    ended = person.run(program, "exit", word)
    assert (ended.code, ended.out) == (code, "")
    assert said in ended.err


@BOTH
def test_arguments_and_streams(person: Person, program: str) -> None:
    """Words in any script, and bytes that are no text, arrive; so does what is written to standard input."""
    words = ["report", "", "é 鳥 🐦", "--help", "\udcff"]
    facts = person.run(program, *words).report()
    assert facts["argv"][1:] == words
    process = person.popen(program, "echo", stdin=subprocess.PIPE)
    assert process.communicate("å\n鳥\n", timeout=60) == ("å\n鳥\n", "")


def test_started_in_odd_ways(person: Person) -> None:
    """Through a link, under another argv[0], by a long path in another script: sys.executable is the real file."""
    link = person.made.root.inside(f"{person.home}/a link")
    link.symlink_to(ONE_FILE)
    long = f"/srv/鳥 {'long ' * 30}/{NAME}"
    ways: list[tuple[str, dict[str, Any], str]] = [
        (f"{person.home}/a link", {}, ONE_FILE),
        ("a liar", {"program": ONE_FILE}, ONE_FILE),
        ("/bin/sh", {"program": IN_TREE}, IN_TREE),
        (long, {}, long),
        (f"./{NAME}", {"cwd": "/srv"}, ONE_FILE),
    ]
    for word, options, executable in ways:
        facts = person.run(word, "report", **options).report()
        assert facts["executable"] == executable, word


def test_working_directories(person: Person) -> None:
    """The folder that it was started in stays; one that is gone is no obstacle."""
    assert person.run(ONE_FILE, "report", cwd="/usr/lib").report()["cwd"] == "/usr/lib"
    script = f'cd "$HOME" && mkdir gone && cd gone && rmdir ../gone && exec {ONE_FILE} report'
    assert person.run("/bin/sh", "-c", script).report()["cwd"] is None


# ---- one process -----------------------------------------------------------------------------------------------------


@BOTH
def test_the_process_that_was_started_is_the_program(person: Person, program: str) -> None:
    """One PID from the start to the end, and no child; SIGTERM reaches the program's own handler."""
    process = person.popen(program, "wait")
    assert process.stdout is not None
    assert process.stdout.readline() == f'{{"pid": {process.pid}}}\n'
    assert Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text() == ""
    process.terminate()
    assert process.wait(30) == 3


@BOTH
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP, signal.SIGKILL])
def test_signals_end_it_as_they_end_python(person: Person, program: str, number: signal.Signals) -> None:
    """The process dies of the signal, and whoever waits for it sees that."""
    process = person.popen(program, "wait")
    assert process.stdout is not None
    process.stdout.readline()
    process.send_signal(number)
    _, err = process.communicate(timeout=30)
    assert process.returncode == -number
    assert ("KeyboardInterrupt" in err) == (number == signal.SIGINT)


def test_faulthandler(person: Person) -> None:
    """A crash is told with file names and lines."""
    ended = person.run(ONE_FILE, "crash")
    assert ended.code == -signal.SIGSEGV
    assert "Segmentation fault" in ended.err
    assert 'File "heron.py", line' in ended.err


@BOTH
def test_children(person: Person, program: str) -> None:
    """A child's environment is what the program was given; sys.executable is this program again."""
    env = {**person.env, "LD_LIBRARY_PATH": "/mine", "PYTHONPATH": "/nowhere", "PYTHONHASHSEED": "7"}
    told = person.run(program, "children", env=env).report()
    assert told["here"] == told["child"] == told["again"]["environment"] == env
    assert told["again"]["argv"][1:] == ["report", "again"]
    assert told["again"]["pid"] != told["pid"]
    assert told["exit"] == 7


@BOTH
@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_multiprocessing(person: Person, program: str, method: str) -> None:
    """Workers, and the server that they are forked from, are new processes of this executable."""
    told = person.run(program, "workers", method).report()
    assert told["squares"] == [0, 1, 4, 9, 16, 25]
    assert told["executables"] == [program]
    assert told["pid"] not in told["pids"]


@BOTH
def test_plain_interpreter(person: Person, program: str) -> None:
    """FERRYMAN_INTERPRETER=1 makes it the tree's Python: -c, -m, a script, -V."""
    env = {**person.env, "FERRYMAN_INTERPRETER": "1"}
    script = person.made.root.inside(f"{person.home}/script.py")
    script.write_text("import sys; print(sys.argv[1:], __file__)\n", encoding="utf-8")
    table = {
        ("-c", "import sys, heron; print(sys.argv, hasattr(sys, 'frozen'))", "x"): "['-c', 'x'] False",
        ("-m", "json.tool", "--help"): "usage: ",
        (f"{person.home}/script.py", "é"): f"['é'] {person.home}/script.py",
        ("-V",): "Python 3.11.",
    }
    for words, said in table.items():
        ended = person.run(program, *words, env=env)
        assert (ended.code, ended.err) == (0, "")
        assert ended.out.startswith(said)


# ---- the cache -------------------------------------------------------------------------------------------------------


def test_cache_command(person: Person) -> None:
    """path unpacks, list tells, prune removes; a word that it does not know is 64, and so is any in a tree."""
    ask = "--ferryman-cache"
    path = person.run(ONE_FILE, ask, "path").out.strip()
    assert path == tree_of(person)
    assert path in person.run(ONE_FILE, ask, "list").out
    assert "nothing" in person.run(ONE_FILE, ask, "prune").out
    assert path in person.run(ONE_FILE, ask, "prune", "0").out
    assert person.trees() == []
    assert person.run(ONE_FILE, ask, "list").out == ""
    assert person.run(ONE_FILE, ask, "destroy").code == 64
    assert person.run(IN_TREE, ask, "path").code == 64


def test_a_running_program_keeps_its_tree(person: Person) -> None:
    """prune 0 spares it, and says so by not naming it; after its end it goes."""
    process = person.popen(ONE_FILE, "wait")
    assert process.stdout is not None
    process.stdout.readline()
    assert person.run(ONE_FILE, "--ferryman-cache", "prune", "0").code == 0
    assert len(person.trees()) == 1
    assert "running" in person.run(ONE_FILE, "--ferryman-cache", "list").out
    process.kill()
    process.wait()
    person.run(ONE_FILE, "--ferryman-cache", "prune", "0")
    assert person.trees() == []


def at(person: Person) -> str:
    return f"{{root}}{person.home}"


LAST_RESORT = f"/var/tmp/ferryman-{PERSON}/{NAME}"


@pytest.mark.parametrize("why", ["read-only", "noexec", "no HOME", "empty environment"])
def test_places_that_do_not_do_are_passed_over(person: Person, why: str) -> None:
    """Nowhere at home: the program starts from the last resort, and writes nothing at home."""
    home = at(person)
    mounts: Mapping[str, Sequence[Sequence[str]]] = {
        "read-only": [["--bind", home, home], ["-o", "remount,bind,ro", home]],
        "noexec": [["-t", "tmpfs", "-o", f"noexec,uid={PERSON},mode=700", "tmpfs", home]],
    }
    env = {"no HOME": {"PATH": "/usr/bin"}, "empty environment": {}}.get(why, person.env)
    facts = person.run(ONE_FILE, "report", env=env, mounts=mounts.get(why, ())).report()
    assert facts["meipass"].startswith(LAST_RESORT)
    assert facts["environment"] == env
    assert person.trees() == []


def test_no_place_at_all(person: Person) -> None:
    """One sentence that names the reason, a cure and 73; with FERRYMAN_CACHE that place is the only one."""
    home = at(person)
    noexec = [["-t", "tmpfs", "-o", f"noexec,uid={PERSON},mode=700", "tmpfs", home]]
    ended = person.run(ONE_FILE, "report", env={**person.env, "FERRYMAN_CACHE": person.home}, mounts=noexec)
    assert (ended.code, ended.out) == (73, "")
    assert ended.err.startswith(f"{NAME}: ")
    assert "noexec" in ended.err
    assert person.home in ended.err


def test_a_tree_that_somebody_else_planted(person: Person) -> None:
    """A cache folder of another user is passed over, and nothing in it is run."""
    person.run(ONE_FILE, "exit", "0")
    (tree,) = person.trees()
    os.chown(person.cache.parent, PERSON + 1, PERSON + 1)
    facts = person.run(ONE_FILE, "report").report()
    assert facts["meipass"].startswith(LAST_RESORT)
    assert tree.is_dir()


def test_concurrent_first_starts(person: Person) -> None:
    """Ten at once: every one works, and there is one tree and nothing half done."""
    processes = [person.popen(ONE_FILE, "exit", "0") for _ in range(10)]
    ends = [process.communicate(timeout=300) for process in processes]
    assert [process.returncode for process in processes] == [0] * 10, ends
    (tree,) = person.trees()
    assert differences(tree, person.made.tree) == []
    assert not tree.name.startswith(".")


@pytest.mark.parametrize("files", [0, 1, 100, 300, 500])
def test_killed_while_unpacking(person: Person, files: int) -> None:
    """kill -9 after so many files: the next start works, from a whole tree, and the rest of the first is gone."""
    process = person.popen(ONE_FILE, "exit", "0")
    wait_for(lambda: files <= unpacked(person) or process.poll() is not None)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert unpacked(person) >= files, "it was not unpacking any more"
    assert person.run(ONE_FILE, "exit", "5").code == 5
    (tree,) = person.trees()
    assert differences(tree, person.made.tree) == []


def unpacked(person: Person) -> int:
    """How many files there are of a tree that is being unpacked; -1 without one."""
    drafts = [path for path in person.trees() if path.name.startswith(".")]
    return sum(len(files) for _, _, files in os.walk(drafts[0])) if drafts else -1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopped_while_unpacking(person: Person, number: signal.Signals) -> None:
    """The process dies of the signal and leaves no half of a tree."""
    process = person.popen(ONE_FILE, "exit", "0")
    wait_for(lambda: unpacked(person) >= 20 or process.poll() is not None)
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == -number
    assert person.trees() == []


# ---- damage ----------------------------------------------------------------------------------------------------------


def test_damage_is_refused(person: Person) -> None:
    """A bit of the payload that flipped, wherever it is, and a file that was cut off: 65, and nothing is run."""
    whole = person.made.root.inside(ONE_FILE).read_bytes()
    payload = person.made.payload.read_bytes()
    start = whole.index(payload)
    head = int.from_bytes(payload[12:16], "little")
    places = [0, 9, 30, 50, head - 1, head, len(payload) // 2, len(payload) - 1]
    for place in places:
        damaged = bytearray(whole)
        damaged[start + place] ^= 0x10
        refused(person, bytes(damaged), f"bit at {place}")
    for cut in (start + 40, start + head + 5, start + len(payload) // 2, len(whole) - 30):
        refused(person, whole[:cut], f"cut at {cut}")
    assert person.trees() == []


def refused(person: Person, content: bytes, what: str) -> None:
    program = person.made.root.inside(f"{person.home}/damaged")
    program.write_bytes(content)
    program.chmod(0o755)
    ended = person.run(f"{person.home}/damaged", "report")
    assert (ended.code, ended.out) == (65, ""), (what, ended)
    assert "damaged" in ended.err, what
    assert len(ended.err.splitlines()) <= 2, what


@pytest.mark.parametrize(
    ("missing", "code"), [("libpython3.11.so.1.0", 69), ("_ferryman/launch", 70), ("encodings", 70)]
)
def test_a_tree_with_a_hole(person: Person, missing: str, code: int) -> None:
    """Something of the tree is gone: a sentence and an exit code, never a crash."""
    tree = person.made.root.inside(f"{person.home}/broken")
    shutil.copytree(person.made.root.inside(f"/opt/{NAME}"), tree)
    hole = tree / "_internal" / missing
    shutil.rmtree(hole) if hole.is_dir() else hole.unlink()
    ended = person.run(f"{person.home}/broken/{NAME}", "report")
    assert (ended.code, ended.out) == (code, "")
    assert f"{NAME}: " in ended.err, ended.err
    assert "Traceback" not in ended.err
