"""Starting a .pyz for real: by any Python that is here, with any cache, twice, at once, killed and damaged."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from support import pyz_archive

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="modes, links and signals as POSIX has them")

PROGRAM = """
import os, subprocess, sys, multiprocessing

def square(number):
    return number * number

def main():
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    if word == "sleep":
        print("up", flush=True)
        import time
        time.sleep(60)
    if word == "spawn":
        with multiprocessing.get_context("spawn").Pool(2) as pool:
            print(pool.map(square, [1, 2, 3]))
    if word == "child":
        print(subprocess.run([sys.executable, "-c", "print(40 + 2)"], capture_output=True, text=True).stdout)
    if word == "code":
        return int(sys.argv[2])
    print("argv", sys.argv)
    print("file", __file__)
    print("cached", main.__code__.co_filename)
    print("first", sys.path[1])
"""
FILES = {"lamp.py": PROGRAM, "extra.pth": "import sys; sys.lamp_pth = 1\n", "data/x.txt": "x"}


@dataclass
class Lamp:
    """The archive and its cache."""

    path: Path
    home: Path
    env: dict[str, str] = field(default_factory=dict)

    def run(
        self, *words: str, python: str = sys.executable, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [python, str(self.path), *words], env={**self.env, **(env or {})}, capture_output=True, text=True,
            timeout=60, check=False, cwd=self.home,
        )  # fmt: skip

    @property
    def program(self) -> Path:
        return self.home / "cache" / "lamp.pyz"

    @property
    def tree(self) -> Path:
        (found,) = (path for path in self.program.iterdir() if len(path.name) == 32)
        return found


@pytest.fixture
def lamp(tmp_path: Path) -> Iterator[Lamp]:
    folder = tmp_path / "a folder é"
    folder.mkdir()
    env = {"FERRYMAN_CACHE": str(folder / "cache"), "HOME": str(folder), "PATH": os.environ["PATH"]}
    yield Lamp(pyz_archive.write(folder / "lamp.pyz", FILES), folder, env)
    for path in [folder, *folder.rglob("*")]:
        if path.is_dir():
            path.chmod(0o755)


# --- the wrong Python -----------------------------------------------------------------------------------------------------


def other_pythons() -> list[str]:
    """Every CPython of another version that this machine has, and PyPy."""
    home = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    found = [str(path) for path in sorted(home.glob("versions/*/bin/python"))]
    names = ["python2.7", *(f"python3.{minor}" for minor in range(4, 20)), "pypy", "pypy3"]
    direct = os.pathsep.join(
        folder for folder in os.environ["PATH"].split(os.pathsep) if Path(folder) != home / "shims"
    )
    found += [path for name in names if (path := shutil.which(name, path=direct))]
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    probe = "import sys; print('%d.%d' % tuple(sys.version_info[:2]))"
    return [
        path
        for path in dict.fromkeys(found)
        if subprocess.run([path, "-c", probe], capture_output=True, text=True, check=False).stdout.strip()
        != here
    ]


def test_every_other_python_here_gets_one_sentence(lamp: Lamp) -> None:
    """From 2.7 on: what it is, what is needed, what to type; exit code 69; nothing is unpacked."""
    pythons = other_pythons()
    if not pythons:
        pytest.skip("no other Python on this machine")
    for python in pythons:
        done = lamp.run(python=python)

        assert (done.returncode, done.stdout) == (69, ""), done
        assert done.stderr.startswith(f"lamp: it needs CPython {pyz_archive.HERE} and this is ")
        assert done.stderr.count("\n") == 1
    assert not lamp.program.exists()


@pytest.mark.parametrize(
    ("needs", "words"),
    [
        ({"system": "windows", "target": "windows-amd64"}, "built for Windows (windows-amd64)"),
        ({"native": 1, "machines": ("sparc",)}, "for sparc"),
        ({"native": 1, "libc": "musl"}, "need musl"),
        ({"native": 1, "floor": {"glibc": "9.9"}}, "glibc 9.9 or newer"),
        ({"native": 1, "free": 1}, "free-threaded"),
    ],
)
def test_the_wrong_platform_gets_one_sentence(lamp: Lamp, needs: Mapping[str, object], words: str) -> None:
    """With the real facts of this machine: exit code 69, one line, nothing unpacked."""
    if sys.platform != "linux" and ("libc" in needs or "floor" in needs):
        pytest.skip("Linux has these")
    pyz_archive.write(lamp.path, FILES, **needs)
    done = lamp.run()

    assert done.returncode == 69, done
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert not lamp.program.exists()


# --- starting -------------------------------------------------------------------------------------------------------------


def test_start(lamp: Lamp) -> None:
    """First and later start alike: arguments, own modules first, bytecode at hand, .pth obeyed, exit code."""
    for _ in range(2):
        done = lamp.run("a b", "c")
        lines = dict(line.split(" ", 1) for line in done.stdout.splitlines())

        assert done.returncode == 0, done
        assert lines["argv"] == str([str(lamp.path), "a b", "c"])
        assert Path(lines["file"]) == lamp.tree / "site-packages" / "lamp.py"
        assert done.stderr == ""
    assert lamp.run("code", "7").returncode == 7
    assert list((lamp.tree / "site-packages" / "__pycache__").glob("lamp.*.pyc"))
    assert (lamp.tree / "site-packages" / "data" / "x.txt").read_text() == "x"


def test_started_by_its_first_line(lamp: Lamp) -> None:
    """`./lamp.pyz`, from a folder that nothing can be written to."""
    python = shutil.which(f"python{pyz_archive.HERE}")
    if python is None:
        pytest.skip("no such python on PATH")
    place = lamp.home / "read only"
    place.mkdir()
    shutil.copy(lamp.path, place / "lamp.pyz")
    place.chmod(0o555)
    done = subprocess.run(
        ["./lamp.pyz"], cwd=place, env=lamp.env, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done
    assert "argv ['./lamp.pyz']" in done.stdout
    assert [path.name for path in place.iterdir()] == ["lamp.pyz"]


def test_workers_and_children(lamp: Lamp) -> None:
    """multiprocessing's spawned workers find the program's modules; sys.executable is a plain Python."""
    assert "[1, 4, 9]" in lamp.run("spawn").stdout
    assert "42" in lamp.run("child").stdout


@pytest.mark.parametrize(
    ("words", "wanted"),
    [(["-c", "import lamp; print(lamp.square(4))"], "16"), (["-m", "lamp"], "")],
)
def test_plain_interpreter(lamp: Lamp, words: list[str], wanted: str) -> None:
    """FERRYMAN_INTERPRETER=1 makes it a Python over its own modules, unless it was built without."""
    done = lamp.run(*words, env={"FERRYMAN_INTERPRETER": "1"})
    assert (done.returncode, done.stdout.strip()) == (0, wanted), done

    pyz_archive.write(lamp.path, FILES, interpreter=0)
    assert "argv" in lamp.run(*words, env={"FERRYMAN_INTERPRETER": "1"}).stdout


def test_many_at_once(lamp: Lamp) -> None:
    """Starts at the same time unpack one tree, and leave no draft."""
    with ThreadPoolExecutor(6) as pool:
        done = list(pool.map(lambda _: lamp.run(), range(6)))

    assert [one.returncode for one in done] == [0] * 6
    assert sorted(path.name for path in lamp.program.iterdir()) == sorted(
        [lamp.tree.name, f"{lamp.tree.name}.lock", ".pruned"]
    )


# --- the cache ------------------------------------------------------------------------------------------------------------


def test_a_killed_start_leaves_a_draft_that_the_next_one_removes(lamp: Lamp) -> None:
    """Half a tree never has the tree's name."""
    lamp.run()
    key = lamp.tree.name
    shutil.rmtree(lamp.tree)
    draft = lamp.program / f".{key}.abcdefgh"
    (draft / "site-packages").mkdir(parents=True)

    assert lamp.run().returncode == 0
    assert not draft.exists()


def damage(tree: Path) -> None:
    (tree / "site-packages" / "lamp.py").write_text("raise SystemExit('changed')")
    for path in (tree / "site-packages" / "__pycache__").iterdir():
        path.write_bytes(b"")


def test_after_a_restart_of_the_machine_the_tree_is_compared(lamp: Lamp) -> None:
    """The marker of another boot: files and bytecode that a power cut has emptied are written again; then it is sealed."""
    lamp.run()
    marker = lamp.tree / ".ferryman"
    if "boot" not in marker.read_text():
        pytest.skip("this machine has no identity of its boot")
    for state, sealed in (("boot earlier", False), ("boot earlier", True)):
        if not sealed:
            damage(lamp.tree)
        lines = marker.read_text().splitlines()
        marker.write_text("\n".join([lines[0], state, *lines[2:], ""]))
        done = lamp.run()

        assert done.returncode == 0, done
        assert ("sealed" in marker.read_text()) is sealed


def test_warm_mends_and_seals(lamp: Lamp) -> None:
    """What a person asks for after a disk has failed."""
    lamp.run()
    damage(lamp.tree)
    done = lamp.run("--ferryman-cache", "warm")

    assert (done.returncode, done.stdout) == (0, f"{lamp.tree}\nwhat was wrong in it is mended\n"), done
    assert "sealed" in (lamp.tree / ".ferryman").read_text()
    assert lamp.run().returncode == 0


def test_a_damaged_archive(lamp: Lamp) -> None:
    """A byte that changed on the way: exit code 65, a sentence, and no half tree."""
    content = bytearray(lamp.path.read_bytes())
    with zipfile.ZipFile(lamp.path) as archive:
        info = archive.getinfo("site-packages/lamp.py")
    content[info.header_offset + 30 + len(info.filename) + 40] ^= 0xFF
    lamp.path.write_bytes(content)
    done = lamp.run()

    assert done.returncode == 65, done
    assert done.stderr.startswith("lamp: ")
    assert "is damaged" in done.stderr
    assert "Traceback" not in done.stderr
    assert {path.suffix for path in lamp.program.iterdir()} == {".lock"}


@pytest.mark.parametrize(
    ("cache", "words"), [("/proc/nothing", "/proc/nothing"), ("relative", "not an absolute path")]
)
def test_no_place(lamp: Lamp, cache: str, words: str) -> None:
    """No place to unpack to: each with its reason, exit code 73, and what to do."""
    done = lamp.run(env={"FERRYMAN_CACHE": cache})

    assert done.returncode == 73, done
    assert "there is no place to unpack it to" in done.stderr
    assert words in done.stderr
    assert "Set FERRYMAN_CACHE" in done.stderr


def test_a_place_that_others_may_change_is_not_used(lamp: Lamp) -> None:
    """A folder for all is no place, and neither is a tree in it."""
    place = lamp.home / "cache"
    place.mkdir()
    place.chmod(0o777)
    done = lamp.run()

    assert done.returncode == 73
    assert "other users may write to" in done.stderr


def age(path: Path, days: int) -> None:
    then = time.time() - days * 24 * 3600
    os.utime(path / ".ferryman" if path.is_dir() else path, (then, then))


def aged(lamp: Lamp, days: int) -> list[Path]:
    """Trees of three versions that were started last ``days`` ago; the fourth is made by the next start."""
    trees = []
    for version in range(3):
        pyz_archive.write(lamp.path, {**FILES, "version.txt": str(version)})
        lamp.run()
        trees += [path for path in lamp.program.iterdir() if len(path.name) == 32 and path not in trees]
    for tree in trees:
        age(tree, days)
    age(lamp.program / ".pruned", 2)
    pyz_archive.write(lamp.path, {**FILES, "version.txt": "now"})
    return trees


@pytest.mark.parametrize(("days", "kept"), [(29, True), (31, False)])
def test_a_start_prunes_what_nobody_has_used(lamp: Lamp, days: int, kept: bool) -> None:
    """Other versions of the same program, once they are as old as the build says; another program's are left alone."""
    trees = aged(lamp, days)
    other = lamp.program.with_name("torch.pyz") / ("0" * 32)
    shutil.copytree(trees[0], other)
    lamp.run()

    assert [tree.exists() for tree in trees] == [kept] * 3
    assert [tree.with_name(f"{tree.name}.lock").exists() for tree in trees] == [kept] * 3
    assert lamp.tree.exists() if not kept else True
    assert other.exists()


def test_a_tree_that_runs_is_not_pruned(lamp: Lamp) -> None:
    """However old: a process holds it. When that has ended, it goes."""
    lamp.run()
    tree = lamp.tree
    with subprocess.Popen(
        [sys.executable, str(lamp.path), "sleep"], env=lamp.env, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        age(tree, 99)
        listed = lamp.run("--ferryman-cache", "list").stdout
        assert "running" in listed
        assert lamp.run("--ferryman-cache", "prune", "1").stdout == "nothing to remove\n"
        running.send_signal(signal.SIGKILL)
    assert lamp.run("--ferryman-cache", "prune", "1").stdout == f"removed {tree}\n"
    assert not tree.exists()


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_daemon_that_has_closed_its_descriptors_is_not_pruned(lamp: Lamp) -> None:
    """It holds no lock any more, and is known by a library that it has mapped."""
    program = """
import mmap, os, sys, time
def main():
    library = open(os.path.join(os.path.dirname(__file__), "lib.so"), "rb")
    mapped = mmap.mmap(library.fileno(), 0, prot=mmap.PROT_READ)
    os.closerange(3, 256)
    print("up", flush=True)
    time.sleep(60)
"""
    pyz_archive.write(lamp.path, {"lamp.py": program, "lib.so": b"x" * 5000})
    with subprocess.Popen(
        [sys.executable, str(lamp.path)], env=lamp.env, stdout=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        age(lamp.tree, 99)
        assert lamp.run("--ferryman-cache", "prune", "1").stdout == "nothing to remove\n"
        running.send_signal(signal.SIGKILL)
    assert "removed" in lamp.run("--ferryman-cache", "prune", "1").stdout


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["path"], 0, "lamp.pyz"),
        (["list"], 0, ""),
        (["prune", "soon"], 64, "is not a number of days"),
        ([], 64, "Say one of: path, list, prune [DAYS]"),
        (["melt"], 64, "does not know 'melt'"),
        (["path", "now"], 64, "does not know"),
    ],
)
def test_questions(lamp: Lamp, words: list[str], code: int, said: str) -> None:
    """The launcher's words, with its exit codes."""
    done = lamp.run("--ferryman-cache", *words)

    assert done.returncode == code, done
    assert said in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_path_that_the_terminal_cannot_express(lamp: Lamp) -> None:
    """What a script asks for is the path's bytes, whatever the encoding of the output."""
    done = subprocess.run(
        [sys.executable, str(lamp.path), "--ferryman-cache", "path"],
        env={**lamp.env, "PYTHONIOENCODING": "ascii"}, capture_output=True, check=False,
    )  # fmt: skip

    assert done.stdout == os.fsencode(lamp.tree) + b"\n", done


def test_without_pruning_by_day(lamp: Lamp) -> None:
    """`cache-days = 0`: kept for ever, unless somebody names a number."""
    pyz_archive.write(lamp.path, FILES, days=0)
    lamp.run()
    age(lamp.tree, 999)

    assert lamp.run().returncode == 0
    assert "for ever" in lamp.run("--ferryman-cache", "prune").stderr
    assert "removed" in lamp.run("--ferryman-cache", "prune", "0").stdout
