"""The agent's C extension for the interpreter that runs the tests, compiled once for each state of its sources."""

from __future__ import annotations

import hashlib
import importlib.machinery
import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import unittest
from functools import cache
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "agent_src" / "native"
CACHE = ROOT / ".cache" / "native"
NAME = "watchkeeper._native"
# What setup.py says; and the warnings, as errors where the compiler is the one that the sources are written with.
FLAGS = ("-std=c11", "-O2", "-g0", "-fPIC", "-fvisibility=hidden", "-pthread")
WARNINGS = (
    "-Wall",
    "-Wextra",
    "-Wconversion",
    "-Wshadow",
    "-Wvla",
    *(["-Werror"] if sys.platform == "linux" else []),
)


def compiler() -> str | None:
    """The C compiler of this machine."""
    return shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")


@cache
def built(*flags: str, include: str = "") -> Path:
    """The compiled extension; a test that asks for it where there is no compiler is skipped.

    Args:
        flags: beside the usual ones, for instance "-fsanitize=address".
        include: the folder of Python.h, where it is not this interpreter's.
    """
    used = compiler()
    include = include or sysconfig.get_path("include")
    if used is None or os.name == "nt" or not Path(include, "Python.h").exists():
        raise unittest.SkipTest("there is no C compiler, or no Python.h, on this machine")
    sources = sorted(SOURCES.glob("*.[ch]"))
    digest = hashlib.sha256(repr([used, include, flags, sys.platform]).encode())
    for path in sources:
        digest.update(path.read_bytes())
    made = CACHE / digest.hexdigest()[:16] / "_native.abi3.so"
    if not made.exists():
        made.parent.mkdir(parents=True, exist_ok=True)
        draft = made.with_name(f"{os.getpid()}.so")
        undefined = ["-undefined", "dynamic_lookup"] if sys.platform == "darwin" else []
        command = [used, *FLAGS, *WARNINGS, *flags, "-shared", *undefined, f"-I{include}", "-o", str(draft)]
        subprocess.run([*command, *(str(path) for path in sources if path.suffix == ".c")], check=True)
        draft.replace(made)
    return made


def load(path: Path) -> ModuleType:
    """A module of its own from the file at ``path``, however often it is asked for."""
    loader = importlib.machinery.ExtensionFileLoader(NAME, str(path))
    spec = importlib.util.spec_from_file_location(NAME, path, loader=loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


@cache
def extension() -> ModuleType:
    """The extension, built from the sources as they are now."""
    return load(built())
