"""Running a real one-file executable: in a world of its own, as whatever user, started in whatever way.

A world is a private mount namespace. /srv, /tmp, /var/tmp and /var/cache are empty memory there, so that a test may fill,
forbid and plant what it likes, sees everything that a start leaves behind, and leaves nothing behind itself.
"""

from __future__ import annotations

import ctypes
import json
import os
import shutil
import signal
import stat
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from support.ferryman import ROOT, Workshop

ONESELF = ROOT / "tests" / "support" / "oneself"
PLAIN = ONESELF / "plain.py"
# A finished executable of tests/support/oneself to test in place of one that is built first.
READY_MADE = "LAUNCHER_EXECUTABLE"

ROOT_USER, ORDINARY, OTHER = 0, 12345, 12346
EXECUTABLE = "/srv/bin/oneself"
HOME = "/srv/home"
MARKER = ".ferryman"
CLONE_NEWNS = 0x00020000

_WORLD = """
set -e
mount -t tmpfs -o mode=755 tmpfs /srv
mount -t tmpfs -o mode=1777 tmpfs /tmp
mount -t tmpfs -o mode=1777 tmpfs /var/tmp
mount -t tmpfs -o mode=755 tmpfs /var/cache
mkdir -m 755 /srv/bin
mkdir -m 700 /srv/home /srv/other
chown {ordinary}:{ordinary} /srv/home
chown {other}:{other} /srv/other
echo ready
exec cat
"""
_libc = ctypes.CDLL(None, use_errno=True)


def plain_python() -> str:
    """The interpreter that "as with plain Python" is measured by: the one that the program was made from."""
    return str(Path(sys.executable).resolve())


def build_oneself(folder: Path, kind: str) -> Path:
    """An artifact of tests/support/oneself, by the real command line; out/ is shared, so a second time is quick."""
    if kind == "executable" and READY_MADE in os.environ:
        return Path(os.environ[READY_MADE])
    project = folder / "oneself"
    shutil.copytree(ONESELF, project, ignore=shutil.ignore_patterns("__pycache__"))
    workshop = Workshop(project=project, out=ROOT / ".cache" / "launcher", dist=folder / "dist")
    for _ in range(60):
        outcome = workshop.run("build", "--kind", kind, timeout=1200)
        if "Another build is using" not in outcome.err:
            break
        time.sleep(10)  # another session of these tests
    assert outcome.code == 0, outcome.err
    return workshop.artifact(kind)


@dataclass(frozen=True, kw_only=True)
class Ran:
    """What one run left."""

    code: int
    out: bytes
    err: bytes

    @property
    def json(self) -> Any:
        """What the program said, after it ended well."""
        assert self.code == 0, self
        return json.loads(self.out)

    @property
    def said(self) -> str:
        """Standard error as text."""
        return self.err.decode("utf-8", "replace")


def finish(process: subprocess.Popen[bytes], typed: bytes | None = None, timeout: float = 60) -> Ran:
    """Wait for a process; one that does not end is killed and fails the test."""
    try:
        out, err = process.communicate(typed, timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return Ran(code=process.returncode, out=out or b"", err=err or b"")


def run_here(words: Sequence[str | bytes | Path], typed: bytes | None = None, **how: Any) -> Ran:
    """Run something in the test's own surroundings."""
    if "stdin" not in how:
        how["stdin"] = subprocess.PIPE if typed is not None else subprocess.DEVNULL
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
    return finish(subprocess.Popen(words, **how), typed)


@dataclass(frozen=True, kw_only=True)
class Starting:
    """What happens between fork and exec, with nothing but system calls: pytest has threads."""

    world: int = -1
    cwd: bytes = b""
    user: int = -1
    ignore: tuple[int, ...] = ()
    shut: tuple[int, ...] = ()
    limits: tuple[tuple[int, int], ...] = ()
    before: Callable[[], object] | None = None

    def __call__(self) -> None:
        """Enter the world, then the folder, then give up the rights."""
        if self.world >= 0 and _libc.setns(self.world, CLONE_NEWNS):
            raise OSError(ctypes.get_errno(), "setns")
        if self.cwd:
            os.chdir(self.cwd)
        if self.before:
            self.before()
        for number in self.ignore:
            signal.signal(number, signal.SIG_IGN)
        if self.user > 0:
            os.setgroups([])
            os.setresgid(self.user, self.user, self.user)
            os.setresuid(self.user, self.user, self.user)
        for number in self.shut:
            os.close(number)


@dataclass(kw_only=True)
class World:
    """``before``: shell lines that run as root once the empty places are mounted."""

    executable: Path
    before: str = ""
    _holder: subprocess.Popen[bytes] | None = None
    _started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    _handle: int = -1

    def __enter__(self) -> Self:
        script = _WORLD.format(ordinary=ORDINARY, other=OTHER)
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"ready\n"
        self._handle = os.open(f"/proc/{self._holder.pid}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        self.place(EXECUTABLE)
        if self.before:
            self.sh(self.before)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            if process.poll() is None:
                process.kill()
                process.communicate()
        if self._handle >= 0:
            os.close(self._handle)
        assert self._holder is not None
        assert self._holder.stdin is not None
        self._holder.stdin.close()
        self._holder.wait(10)
        assert self._holder.stdout is not None
        self._holder.stdout.close()

    # --- looking and planting, from outside ---------------------------------------------------------------------------

    def at(self, path: str | Path) -> Path:
        """Where the test finds what is ``path`` in this world. Absolute links on the way lead out of it."""
        assert self._holder is not None
        return Path(f"/proc/{self._holder.pid}/root{path}")

    def place(self, path: str, data: bytes | None = None, mode: int = 0o755) -> str:
        """Put an executable there: the real one, or these bytes."""
        target = self.at(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if data is None:
            shutil.copyfile(self.executable, target)
        else:
            target.write_bytes(data)
        target.chmod(mode)
        return path

    def folder(self, path: str, user: int = ORDINARY, mode: int = 0o755) -> Path:
        """Make a folder of that user's."""
        made = self.at(path)
        made.mkdir(parents=True, exist_ok=True)
        os.chown(made, user, user)
        made.chmod(mode)
        return made

    def sh(self, lines: str) -> str:
        """Shell lines, as root, in the world."""
        done = subprocess.run(
            ["sh", "-ec", lines],
            preexec_fn=Starting(world=self._handle, cwd=b"/"),
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, (lines, done.stderr)
        return done.stdout.decode()

    def everything(self, *places: str) -> list[str]:
        """Every path below these places (all four without a word), as the world names it."""
        found, folders = [], list(places or ("/srv", "/tmp", "/var/tmp", "/var/cache"))
        while folders:  # os.walk recurses, and there may be two thousand levels
            folder = folders.pop()
            with suppress(FileNotFoundError, NotADirectoryError), os.scandir(self.at(folder)) as entries:
                for entry in entries:
                    found.append(f"{folder}/{entry.name}")
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(found[-1])
        return sorted(found)

    def trees(self, *places: str) -> list[str]:
        """Every folder with a marker in it."""
        return [
            path.removesuffix(f"/{MARKER}")
            for path in self.everything(*places)
            if path.endswith(f"/{MARKER}")
        ]

    def strays(self) -> list[str]:
        """Files, and trees that are not finished: what is neither a tree, nor its lock, nor was there before."""
        trees = self.trees()
        known = {EXECUTABLE, *(f"{tree}.lock" for tree in trees)}
        return [
            path
            for path in self.everything()
            if path not in known
            and not any(path == tree or path.startswith(f"{tree}/") for tree in trees)
            and (not self._is_folder(path) or Path(path).name.startswith("."))
            and Path(path).name != ".cache"
        ]

    def _is_folder(self, path: str) -> bool:
        return stat.S_ISDIR(self.at(path).lstat().st_mode)

    # --- starting -----------------------------------------------------------------------------------------------------

    def start(
        self,
        *words: str | bytes,
        user: int = ORDINARY,
        env: Mapping[str, str] | None = None,
        cwd: str = "/srv",
        program: str = EXECUTABLE,
        argv0: str | None = None,
        through: Sequence[str] = (),
        ignore: tuple[int, ...] = (),
        shut: tuple[int, ...] = (),
        before: Callable[[], object] | None = None,
        **how: Any,
    ) -> subprocess.Popen[bytes]:
        """Start the program in this world.

        ``env`` is everything that it gets; ``through`` are words of a command that execs what stands behind them.
        """
        argv = [*through, program if argv0 is None else argv0, *words]
        starting = Starting(
            world=self._handle, cwd=os.fsencode(cwd), user=user, ignore=ignore, shut=shut, before=before
        )
        how = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        process = subprocess.Popen(
            argv,
            executable=None if through else program,
            env=dict(env) if env is not None else usual_environment(),
            preexec_fn=starting,  # noqa: PLW1509
            **how,
        )
        self._started.append(process)
        return process

    def run(self, *words: str | bytes, typed: bytes | None = None, timeout: float = 60, **how: Any) -> Ran:
        """Start and wait."""
        if typed is not None:
            how["stdin"] = subprocess.PIPE
        return finish(self.start(*words, **how), typed, timeout)

    def works(self, **how: Any) -> dict[str, Any]:
        """A start that says its report; it is the proof that what went before did no lasting harm."""
        ran = self.run("report", **how)
        assert ran.code == 0, ran
        return dict(ran.json)

    def tree(self, **how: Any) -> str:
        """The tree that a start uses."""
        return str(self.works(**how)["tree"]).strip("'")


class Watch:
    """What is created in a folder, or moved into it, between enter and exit; the kernel misses nothing (inotify)."""

    CREATED = 0x100

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.created: list[str] = []
        self._file = -1

    def __enter__(self) -> Self:
        self._file = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        assert _libc.inotify_add_watch(self._file, os.fsencode(self.folder), self.CREATED) >= 0
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(BlockingIOError):
            while data := os.read(self._file, 65536):
                while data:
                    _, _, _, size = struct.unpack("iIII", data[:16])
                    self.created.append(os.fsdecode(data[16 : 16 + size].rstrip(b"\0")))
                    data = data[16 + size :]
        os.close(self._file)


def usual_environment(**more: str) -> dict[str, str]:
    """What an ordinary user's program gets in these tests."""
    return {"HOME": HOME, "PATH": "/usr/local/bin:/usr/bin:/bin", **more}


def refused(ran: Ran, code: int, *words: str) -> None:
    """The program ended with this code and a sentence, and not with a traceback or by a signal."""
    assert ran.code == code, ran
    assert ran.out == b"", ran
    assert ran.said.strip(), "no message"
    assert "Traceback" not in ran.said
    for word in words:
        assert word in ran.said, (word, ran.said)


def eventually(what: Callable[[], Any], seconds: float = 10) -> Any:
    """The first true answer."""
    end = time.monotonic() + seconds
    while not (answer := what()):
        assert time.monotonic() < end, f"nothing in {seconds} s"
        time.sleep(0.005)
    return answer
