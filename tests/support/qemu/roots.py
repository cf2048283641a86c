"""Root filesystems of other machines and other Debian releases, and programs started in them.

mmdebstrap unpacks packages and configures none ("extract"), so that nothing of the other machine runs meanwhile: that
takes seconds, and a C library alone is enough for a launcher. Kept as a tar in the cache.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e.clean_rootfs.rootfs import SUITE, Mirror, UnavailableError, host_mirrors, require_tools

ENTER = Path(__file__).with_name("enter.py")
PERSON = 1000  # an ordinary user's number; no file in the root names this user
HOME = "/home/person"
MERGED_USR = Path("/usr/share/mmdebstrap/hooks/merged-usr")


@dataclass(frozen=True)
class Recipe:
    """What a root is made of: Debian's word for the machine, packages (with what they depend on), the release."""

    machine: str
    packages: tuple[str, ...]
    suite: str = SUITE

    @property
    def name(self) -> str:
        """Of the tar; changes with the packages."""
        packages = hashlib.sha256(",".join(self.packages).encode()).hexdigest()[:8]
        return f"{self.suite}-{self.machine}-{packages}.tar"


def tarball(recipe: Recipe, cache: Path) -> Path:
    """The root as a tar, made once.

    Raises:
        UnavailableError: this host cannot make it; the text says why.
    """
    ready = cache / recipe.name
    if ready.exists():
        return ready
    require_tools()
    cache.mkdir(parents=True, exist_ok=True)
    beside = ready.with_suffix(f".{os.getpid()}.tar")
    hooks = [f"--hook-dir={MERGED_USR}"] if MERGED_USR.is_dir() else []
    done = subprocess.run(
        ["mmdebstrap", "--variant=extract", "--mode=root", "--skip=check/qemu", *hooks, f"--architectures={recipe.machine}",
         f"--include={','.join(recipe.packages)}", recipe.suite, str(beside),
         *(mirror.line() for mirror in _mirrors(recipe.suite))],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        beside.unlink(missing_ok=True)
        raise UnavailableError("mmdebstrap failed:\n" + "\n".join(done.stderr.splitlines()[-15:]))
    beside.replace(ready)
    return ready


def _mirrors(suite: str) -> list[Mirror]:
    """The archive that the host uses, asked for that release alone.

    Nothing of these roots is shipped, and mirrors are often half way through the updates of rarer machines.
    """
    return [Mirror(mirror.uri, suite, mirror.component) for mirror in host_mirrors() if mirror.suite == SUITE]


@dataclass(frozen=True)
class ForeignRoot:
    """An unpacked root in which programs are started, each with mounts of its own that end with it."""

    path: Path

    @classmethod
    def unpack(cls, recipe: Recipe, cache: Path, path: Path) -> ForeignRoot:
        """Make the root at ``path``, with a folder for a person in it."""
        with tarfile.open(tarball(recipe, cache)) as archive:
            # The tree is one we made, and device nodes and absolute links belong in it.
            archive.extractall(path, filter="fully_trusted")
        root = cls(path)
        for name in ("proc", "dev/shm", "root"):
            (path / name).mkdir(parents=True, exist_ok=True)
        for name in ("tmp", "var/tmp"):
            (path / name).mkdir(parents=True, exist_ok=True)
            (path / name).chmod(0o1777)
        root.folder(HOME, owner=PERSON, mode=0o700)
        return root

    def inside(self, path: str) -> Path:
        """Where the host sees an absolute path of the inside."""
        return self.path / path.lstrip("/")

    def folder(self, path: str, *, owner: int = 0, mode: int = 0o755) -> Path:
        """A new folder."""
        made = self.inside(path)
        made.mkdir(parents=True)
        os.chown(made, owner, owner)
        made.chmod(mode)
        return made

    def place(self, source: Path, path: str) -> None:
        """Copy a file or a folder of the host to ``path``."""
        target = self.inside(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True)
        else:
            shutil.copy(source, target)

    def popen(
        self,
        words: Sequence[str],
        *,
        program: str = "",
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        user: int = PERSON,
        mounts: Iterable[Sequence[str]] = (),
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start ``words`` inside; the process is the program itself. ``program`` is given where argv[0] lies.

        ``env`` is the whole environment; without it, HOME, PATH and a UTF-8 locale. ``mounts`` are words for mount(8),
        where ``{root}`` stands for this root.
        """
        usual = {"HOME": HOME if user else "/root", "PATH": "/usr/bin:/usr/sbin", "LANG": "C.UTF-8"}
        request = {
            "root": str(self.path), "mounts": [list(mount) for mount in mounts], "cwd": cwd, "user": user,
            "program": program or words[0], "words": list(words), "env": usual if env is None else dict(env),
        }  # fmt: skip
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(
            ["unshare", "--mount", sys.executable, "-I", str(ENTER), json.dumps(request)],
            text=True,
            errors="surrogateescape",
            **(streams | options),
        )

    def run(self, words: Sequence[str], *, timeout: float = 120, **options: Any) -> Ended:
        """Start ``words`` inside and wait for the end; see popen."""
        process = self.popen(words, **options)
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            process.kill()
            process.wait()
        return Ended(process.returncode, out, err)


@dataclass(frozen=True)
class Ended:
    """How a program ended, and what it said."""

    code: int
    out: str
    err: str

    def report(self) -> Any:
        """The JSON that it printed; fails with what it said instead."""
        assert self.code == 0, f"exit code {self.code}\n{self.out}{self.err}"
        return json.loads(self.out)
