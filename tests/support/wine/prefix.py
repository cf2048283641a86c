"""Windows programs, run here: Wine with a drive C: of its own below .cache/wine.

Wine is used as it is installed; where it is not, and this is root on a Debian, apt-get installs it. Wine 8 is no
Windows: what runs here is likely to run there, and nothing more (docs/windows.md).
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PureWindowsPath
from typing import Any

from e2e.clean_rootfs.rootfs import UnavailableError
from support.ferryman import ROOT
from support.launcher import Ran, finish

CACHE = ROOT / ".cache" / "wine"
_PACKAGES = ("wine", "wine64")
_WINDOWS_10 = ("reg", "add", r"HKCU\Software\Wine", "/v", "Version", "/d", "win10", "/f")
# What of the caller's environment a Windows program gets to see; the rest is the test's own.
_PASSED_THROUGH = ("PATH", "HOME", "USER", "LOGNAME")


@dataclass(frozen=True)
class Windows:
    """A folder with a Wine prefix in it."""

    prefix: Path

    @property
    def drive(self) -> Path:
        """C: as the test sees it."""
        return self.prefix / "drive_c"

    def path(self, path: Path) -> str:
        r"""C:\… for what lies on the drive."""
        return str(PureWindowsPath("C:\\", *path.relative_to(self.drive).parts))

    def unix(self, path: str) -> Path:
        r"""The other way around."""
        return self.drive.joinpath(*PureWindowsPath(path).parts[1:])

    def environment(self, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """Everything that a Windows program starts with, less what Windows itself adds."""
        passed = {name: os.environ[name] for name in _PASSED_THROUGH if name in os.environ}
        wine = {"WINEPREFIX": str(self.prefix), "WINEARCH": "win64", "WINEDEBUG": "-all", "LC_ALL": "C.UTF-8"}
        return {**passed, **wine, **(extra or {})}

    def start(
        self,
        program: Path | str,
        *words: str,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        argv0: str = "wine",
    ) -> subprocess.Popen[bytes]:
        """Start a program. All three streams are pipes: with a regular file, Python under Wine does not start."""
        return subprocess.Popen(
            [argv0, str(program), *words],
            executable=shutil.which("wine"),
            env=self.environment(env),
            cwd=cwd or self.drive,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def run(
        self,
        program: Path | str,
        *words: str,
        typed: bytes = b"",
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        timeout: float = 120,
    ) -> Ran:
        """Start a program and wait for its end."""
        return finish(self.start(program, *words, env=env, cwd=cwd), typed, timeout)

    def start_on_terminal(
        self, program: Path, *words: str, env: Mapping[str, str] | None = None
    ) -> tuple[subprocess.Popen[bytes], Terminal]:
        """Start a program on a console of its own."""
        ours, theirs = pty.openpty()
        process = subprocess.Popen(
            ["setsid", "--ctty", "--wait", "wine", str(program), *words],
            env=self.environment(env),
            cwd=self.drive,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        os.close(theirs)
        return process, Terminal(ours)


class Terminal:
    """Our end of a terminal, and all that was written to the other one."""

    def __init__(self, end: int) -> None:
        os.set_blocking(end, False)
        self._end = end
        self._text = bytearray()

    def read(self) -> bytes:
        """What has been written so far."""
        with contextlib.suppress(OSError):  # nothing there now, or nobody on the other side
            self._text.extend(os.read(self._end, 65536))
        return bytes(self._text)

    def type(self, keys: bytes) -> None:
        """Type something."""
        os.write(self._end, keys)

    def close(self) -> None:
        """Hang up."""
        os.close(self._end)


@contextmanager
def alone(name: str) -> Iterator[Path]:
    """A folder of the cache that nobody else fills at the same time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield CACHE / name


@contextmanager
def windows() -> Iterator[Windows]:
    """Wine with a prefix that works; made the first time, which takes some seconds and 700 MB.

    Raises:
        UnavailableError: this host has no Wine and cannot install it.
    """
    with alone("prefix") as prefix:
        _require_wine()
        made = Windows(prefix)
        if not (prefix / "ready").exists():
            _make_prefix(made)
            (prefix / "ready").touch()
    with _kept_running(made):
        yield made


@contextmanager
def _kept_running(made: Windows) -> Iterator[None]:
    """A shell that waits for its standard input.

    Wine's services live as long as there is a program. Those that the first program starts inherit its streams, and
    whoever waits for the end of the output would wait for them: so the first one has none.
    """
    wine = shutil.which("wine") or "wine"
    how: dict[str, Any] = {
        "env": made.environment(),
        "cwd": made.drive,
        "stdout": subprocess.DEVNULL,
        "stderr": subprocess.DEVNULL,
    }
    subprocess.run([wine, "cmd.exe", "/c", "exit"], stdin=subprocess.DEVNULL, check=False, timeout=300, **how)
    with subprocess.Popen([wine, "cmd.exe"], stdin=subprocess.PIPE, **how) as shell:
        time.sleep(0.5)  # it attaches itself to the services before the one above has taken them along
        yield
        shell.communicate()


def _require_wine() -> None:
    if shutil.which("wine"):
        return
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        raise UnavailableError(
            "Wine is not installed, and only root on a Debian can install it: apt-get install wine"
        )
    for words in (("update",), ("install", "--yes", "--no-install-recommends", *_PACKAGES)):
        done = subprocess.run(["apt-get", *words], capture_output=True, text=True, check=False)
    if done.returncode or shutil.which("wine") is None:
        raise UnavailableError(f"apt-get cannot install Wine: {(done.stderr or done.stdout).strip()[-300:]}")


def _make_prefix(made: Windows) -> None:
    """A new prefix that calls itself Windows 10."""
    if made.prefix.exists():
        shutil.rmtree(made.prefix)
    made.prefix.mkdir()
    for words in (("wineboot", "-i"), _WINDOWS_10):
        try:
            ran = made.run(words[0], *words[1:], cwd=made.prefix, timeout=300)
        except subprocess.TimeoutExpired as error:
            raise UnavailableError(f"{words[0]} does not end") from error
        if ran.code:
            raise UnavailableError(f"{' '.join(words)} ended with {ran.code}: {ran.said.strip()[-300:]}")
