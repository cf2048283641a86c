"""install.sh as a person runs it: under a shell of choice, on a machine that has exactly the programs that are named."""

from __future__ import annotations

import itertools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from support.site_factory import Published

SHELLS: dict[str, tuple[str, ...]] = {
    "dash": ("dash",),
    "ash": ("busybox", "ash"),
    "bash": ("bash", "--posix"),
}

# What a small Debian has; busybox has them all as well.
COREUTILS = [
    "cat",
    "chmod",
    "date",
    "dd",
    "df",
    "find",
    "gzip",
    "id",
    "ln",
    "mkdir",
    "mv",
    "readlink",
    "rm",
    "rmdir",
    "sed",
    "sha256sum",
    "sort",
    "tar",
    "tr",
    "uname",
    "wc",
]
VERIFIERS = ("minisign", "openssl", "python3")


def shell_missing(shell: str) -> str:
    """Why a test with that shell cannot run here."""
    return "" if shutil.which(SHELLS[shell][0]) else f"there is no {SHELLS[shell][0]} here"


def need(*programs: str) -> None:
    """Skip a test whose programs are not here."""
    missing = [one for one in programs if shutil.which(one) is None]
    if missing:
        pytest.skip(f"there is no {', no '.join(missing)} here")


def script(path: Path, text: str) -> Path:
    path.unlink(missing_ok=True)  # it may be a link to the real program
    path.write_text("#!/bin/sh\n" + text, encoding="utf-8")
    path.chmod(0o755)
    return path


def _real(name: str) -> str | None:
    """Where a program is; a python3 on the PATH may be a script that looks for others."""
    return os.path.realpath(sys.executable) if name == "python3" else shutil.which(name)


@dataclass(frozen=True)
class Machine:
    """A PATH of its own in ``folder``, a home, and the installer that runs there."""

    folder: Path
    installer: Path
    shell: str = "dash"
    environ: Mapping[str, str] = field(default_factory=dict)
    name: str = "lantern-agent"

    @property
    def programs(self) -> Path:
        return self.folder / "programs"

    @property
    def prefix(self) -> Path:
        return self.folder / "prefix"

    @property
    def lib(self) -> Path:
        return self.prefix / "lib" / self.name

    @property
    def link(self) -> Path:
        return self.prefix / "bin" / "lantern"

    def having(self, *programs: str, coreutils: str = "") -> Machine:
        """With these programs alone; with ``coreutils="busybox"`` the usual ones are busybox's."""
        shutil.rmtree(self.programs, ignore_errors=True)
        self.programs.mkdir(parents=True)
        busybox = shutil.which("busybox") or ""
        for name in COREUTILS:
            found = busybox if coreutils else shutil.which(name)
            assert found, name
            (self.programs / name).symlink_to(found)
        script(self.programs / "sleep", "exit 0\n")  # nobody has to wait for a second attempt
        for name in programs:
            found = busybox if name == "busybox-wget" else _real(name)
            assert found, name
            (self.programs / name.removeprefix("busybox-")).symlink_to(found)
        return self

    def fake(self, name: str, text: str) -> Path:
        """A program of the test's own, instead of the real one."""
        return script(self.programs / name, text)

    def under(self, shell: str) -> Machine:
        return replace(self, shell=shell)

    def command(self, *args: str) -> list[str]:
        head, *rest = SHELLS[self.shell]
        told = any(arg.startswith("--prefix") for arg in args)
        given = args if told else ("--prefix", str(self.prefix), *args)
        return [shutil.which(head) or head, *rest, str(self.installer), *given]

    def env(self) -> dict[str, str]:
        (self.folder / "home").mkdir(exist_ok=True)
        return {
            "PATH": str(self.programs),
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder),
            **self.environ,
        }

    def run(self, *args: str) -> subprocess.CompletedProcess[str]:
        """Run it to its end."""
        return subprocess.run(
            self.command(*args), env=self.env(), capture_output=True, text=True, timeout=120, check=False
        )

    def install(self, *args: str) -> str:
        """Run it, and what it said; it must succeed."""
        done = self.run(*args)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def refuse(self, code: int, *args: str) -> str:
        """Run it, and what it said; it must end with that code."""
        done = self.run(*args)
        assert done.returncode == code, f"{done.returncode}: {done.stdout}{done.stderr}"
        return done.stderr

    def start(self, *args: str) -> subprocess.Popen[str]:
        """Run it in a process group of its own."""
        return subprocess.Popen(
            self.command(*args), env=self.env(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            start_new_session=True,
        )  # fmt: skip

    def says(self) -> str:
        """What the installed program answers; "" without one."""
        if not self.link.exists():
            return ""
        done = subprocess.run([self.link, "--version"], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def versions(self) -> list[str]:
        return sorted(path.name for path in (self.lib / "versions").glob("*"))

    def leftovers(self) -> list[str]:
        """What an installation has no business to leave beside its versions, links and notes."""
        known = {"versions", "current", "previous", ".lock"}
        return sorted(
            path.name
            for path in self.lib.glob("*")
            if path.name not in known and not path.name.startswith(".seen-")
        )


def kill_group(process: subprocess.Popen[str]) -> None:
    """SIGKILL to it and all of its children."""
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


MUTATING: Iterable[str] = ("chmod", "ln", "mkdir", "mv", "rm", "rmdir")


def kill_at(machine: Machine, number: int, commands: Iterable[str] = MUTATING) -> Path:
    """Let the machine's ``number``-th call of one of ``commands`` kill the whole installation instead.

    The returned file counts the calls, so that a test knows when it has seen them all.
    """
    counter = machine.folder / "calls"
    counter.write_text("")
    for name in commands:
        real = (machine.programs / name).resolve()
        machine.fake(
            name,
            f"echo {name} >>'{counter}'\n"
            f"[ \"$({shutil.which('wc')} -l <'{counter}')\" -ne {number} ] || {shutil.which('kill')} -9 0\n"
            f'exec {real} "$@"\n',
        )
    return counter


def climb(machine: Machine, site: Published, tools: Sequence[str], commands: Iterable[str] = MUTATING) -> int:
    """Upgrade from 1.0.0 to 2.0.0, killed before the first, the second ... call of ``commands``; how many there were.

    After each kill the program runs, in one version or the other and never back again, and a rerun finishes and leaves
    both versions and nothing else.
    """
    machine.having(*tools).install()
    site.offer("stable", "2.0.0", site.add_version("2.0.0"))
    whole = machine.folder / "whole"
    shutil.copytree(machine.prefix, whole, symlinks=True)
    seen: list[str] = []
    for number in itertools.count(1):
        shutil.rmtree(machine.prefix)
        shutil.copytree(whole, machine.prefix, symlinks=True)
        counter = kill_at(machine.having(*tools), number, commands)
        running = machine.start()
        said, _ = running.communicate(timeout=60)
        seen.append(machine.says())
        machine.having(*tools).install()
        assert (machine.says(), machine.leftovers()) == ("lantern 2.0.0", [])
        assert machine.versions() == ["1.0.0", "2.0.0"]
        if running.returncode == 0:
            break
        assert len(counter.read_text().splitlines()) == number, said
    assert seen == sorted(seen)
    assert set(seen) == {"lantern 1.0.0", "lantern 2.0.0"}
    return len(seen) - 1
