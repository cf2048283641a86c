"""What the soak needs of the machine: processes and whose they are, a small disk, limits, and a clock of its own."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import struct
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

HERE = Path(__file__).parent
MARK, SERVICE = b"WATCHKEEPER_SOAK=", b"WATCHKEEPER_SERVICE="
DISK_SIZE = 48 << 20


@dataclass(frozen=True)
class Process:
    """A process that the soak is the reason for; `service` is empty for those of jobs, checks and the agent itself."""

    pid: int
    parent: int
    group: int
    service: str
    command: tuple[str, ...]


def processes(mark: str) -> Iterator[Process]:
    """All that have the mark in their environment; zombies are nobody's business but their parents'."""
    wanted = MARK + mark.encode()
    for folder in Path("/proc").iterdir():
        if not folder.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            environment = (folder / "environ").read_bytes().split(b"\0")
            words = (folder / "stat").read_text(errors="replace").rpartition(")")[2].split()
            if wanted not in environment or words[0] in ("Z", "X"):
                continue
            service = next(
                (each.removeprefix(SERVICE) for each in environment if each.startswith(SERVICE)), b""
            )
            command = (folder / "cmdline").read_bytes().rstrip(b"\0").decode(errors="replace").split("\0")
            yield Process(int(folder.name), int(words[1]), int(words[2]), service.decode(), tuple(command))


def of_user(uid: int) -> list[int]:
    """The processes of a user that nobody else is."""
    found = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and folder.stat().st_uid == uid:
                found.append(int(folder.name))
    return found


BLOCKS = b"watchkeeper_python_blocks "


@dataclass(frozen=True)
class Level:
    """What a process holds."""

    descriptors: int
    threads: int
    rss: float
    """MB."""
    blocks: int
    """Pieces of memory that Python has in use, as the process says itself."""


def level(pid: int, metrics: bytes) -> Level:
    """Of a process that runs, which says that of itself."""
    folder = Path(f"/proc/{pid}")
    pages = int((folder / "statm").read_text().split()[1])
    return Level(
        len(list((folder / "fd").iterdir())),
        len(list((folder / "task").iterdir())),
        pages * resource.getpagesize() / 1e6,
        next(int(float(line.split()[1])) for line in metrics.splitlines() if line.startswith(BLOCKS)),
    )


def least(levels: Iterable[Level]) -> Level:
    """What is held in all of these moments: what one look opens and closes again is not held."""
    found = list(levels)
    return Level(*(min(getattr(each, field.name) for each in found) for field in fields(Level)))


def limit_files(pid: int, spare: int | None) -> None:
    """Let a process open no more than `spare` files beyond the highest that it has; None: as many as it ever could."""
    _, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    if spare is None:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (hard, hard))
        return
    highest = max(int(each.name) for each in Path(f"/proc/{pid}/fd").iterdir())
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (min(hard, highest + 1 + spare), hard))


class Disk:
    """A small file system in memory where that is permitted, else an ordinary folder that cannot be filled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        options = f"size={DISK_SIZE},mode=0755"
        command = ["mount", "-t", "tmpfs", "-o", options, "soak", str(folder)]
        self.real = (
            os.geteuid() == 0
            and shutil.which("mount") is not None
            and not subprocess.run(command, capture_output=True, check=False).returncode
        )

    def fill(self, spare: int) -> None:
        """Leave so many bytes."""
        with (self.folder / "ballast").open("ab", buffering=0) as stream, contextlib.suppress(OSError):
            while True:
                stream.write(b"x" * (1 << 20))
        with contextlib.suppress(OSError), (self.folder / "ballast").open("ab", buffering=0) as stream:
            while stream.write(b"x" * 4096) == 4096:
                pass
        if spare:
            os.truncate(self.folder / "ballast", max(0, (self.folder / "ballast").stat().st_size - spare))

    def free(self) -> None:
        (self.folder / "ballast").unlink(missing_ok=True)

    def close(self) -> None:
        if self.real:
            subprocess.run(["umount", "-l", str(self.folder)], capture_output=True, check=False)


class Clock:
    """The time of day of the agent and its children: the machine's and an offset. `environment` makes a process have it."""

    def __init__(self, folder: Path) -> None:
        self._file, library = folder / "clock", folder / "clock.so"
        self._file.write_bytes(struct.pack("l", 0))
        compiler = shutil.which("cc") or shutil.which("gcc")
        command = [
            str(compiler),
            "-shared",
            "-fPIC",
            "-O1",
            "-o",
            str(library),
            str(HERE / "clock.c"),
            "-ldl",
        ]
        self.real = (
            compiler is not None and not subprocess.run(command, capture_output=True, check=False).returncode
        )
        self.environment = {"LD_PRELOAD": str(library), "SOAK_CLOCK": str(self._file)} if self.real else {}

    def jump(self, seconds: int) -> None:
        """So far from the machine's, from now on."""
        with self._file.open("r+b") as stream:
            stream.write(struct.pack("l", seconds))
