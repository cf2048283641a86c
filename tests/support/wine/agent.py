"""The agent on a Windows of Wine's: CPython for Windows, the wheels of the agent's dependencies, and its sources."""

from __future__ import annotations

import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from uv import find_uv_bin

from e2e.clean_rootfs.rootfs import UnavailableError
from support.ferryman import ROOT
from support.launcher import Ran
from support.wine.cpython import cpython
from support.wine.prefix import Terminal, Windows, alone

DEPENDENCIES = ("aiohttp", "msgspec", "prometheus-client", "psutil", "PyYAML")
_LEAVE_OUT = shutil.ignore_patterns("__pycache__", "test", "idlelib", "tkinter", "turtledemo")


@dataclass(frozen=True)
class WindowsAgent:
    r"""An installation in a folder of drive C:."""

    machine: Windows
    home: Path

    @property
    def python(self) -> Path:
        return self.home / "python" / "python.exe"

    def at(self, name: str) -> str:
        r"""C:\… of a file of the installation."""
        return self.machine.path(self.home / name)

    def write(self, name: str, text: str) -> str:
        r"""A file of the installation; its C:\…."""
        (self.home / name).write_text(text, encoding="utf-8")
        return self.at(name)

    def run(self, *words: str) -> Ran:
        """A command of the agent, to its end."""
        return self.machine.run(self.python, "-m", "watchkeeper", *words)

    def on_terminal(self, *words: str) -> tuple[subprocess.Popen[bytes], Terminal]:
        """A command of the agent on a console of its own."""
        return self.machine.start_on_terminal(self.python, "-m", "watchkeeper", *words)

    def service_log(self) -> str:
        """What the service has written."""
        log = self.home / "state" / "service.log"
        return log.read_text(encoding="utf-8") if log.exists() else ""


def install(machine: Windows) -> WindowsAgent:
    """A new installation.

    Raises:
        UnavailableError: the index has no wheels for Windows, or no interpreter.
    """
    home = machine.drive / "watchkeeper"
    shutil.rmtree(home, ignore_errors=True)
    shutil.copytree(cpython(), home / "python", ignore=_LEAVE_OUT)
    shutil.copytree(_wheels(), home / "site", ignore=_LEAVE_OUT)
    shutil.copytree(ROOT / "agent_src" / "watchkeeper", home / "site" / "watchkeeper", ignore=_LEAVE_OUT)
    path = home / "python" / "Lib" / "site-packages" / "watchkeeper.pth"
    path.write_text(machine.path(home / "site") + "\n")
    return WindowsAgent(machine, home)


def _wheels() -> Path:
    with alone("agent-wheels") as folder:
        if not (folder / "ready").exists():
            shutil.rmtree(folder, ignore_errors=True)
            where = [
                "--python-platform",
                "x86_64-pc-windows-msvc",
                "--python-version",
                "3.11",
                "--target",
                str(folder),
            ]
            command = [
                find_uv_bin(),
                "pip",
                "install",
                "--python",
                sys.executable,
                "--only-binary",
                ":all:",
                *where,
            ]
            done = subprocess.run([*command, *DEPENDENCIES], capture_output=True, text=True, check=False)
            if done.returncode:
                raise UnavailableError(f"no wheels for Windows: {done.stderr.strip()[-300:]}")
            (folder / "ready").touch()
        return folder
