"""A real tree for windows-amd64: CPython 3.11 for Windows, and a program that tells about itself.

Only files are moved about, so this needs no Windows: bytecode is the same on every machine and is compiled by this
interpreter, which must be of the same version.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from e2e.clean_rootfs.rootfs import UnavailableError
from ferryman_build.wrap.launch import Launch, launch_text, main_script
from support.arm64_tree import compile_modules
from support.ferryman import ROOT

PYTHON = (3, 11)
NAME = "tern"
VERSION = "2.0.1"
LAUNCH = Launch(
    name=NAME,
    version=VERSION,
    python="3.11",
    library="python311.dll",
    path=(".",),
    optimize=0,
    interpreter=True,
)
PROGRAM = ROOT / "tests" / "support" / "wine" / "tern"
CONTENTS = "_internal"

# Nothing that a program has a use for at run time.
_LEFT_OUT = frozenset({"__pycache__", "distutils", "ensurepip", "idlelib", "lib2to3", "site-packages", "test", "tests",
                       "tkinter", "turtledemo", "venv"})  # fmt: skip
_LIBRARIES = ("python3.dll", "python311.dll", "vcruntime140.dll", "vcruntime140_1.dll")
_WITHOUT = ("tcl86t.dll", "tk86t.dll", "_tkinter.pyd", "_msi.pyd", "winsound.pyd")


def assemble(python: Path, into: Path) -> Path:
    """Fill the new folder ``into`` with a tree of the CPython for Windows in ``python``, without its launcher.

    Raises:
        UnavailableError: the tests run on another Python.
    """
    if sys.version_info[:2] != PYTHON or sys.implementation.name != "cpython":
        raise UnavailableError("the tree's bytecode is that of CPython 3.11, and the tests run on another")
    contents = into / CONTENTS
    (contents / "_ferryman").mkdir(parents=True)
    (contents / "_ferryman" / "launch").write_bytes(launch_text(LAUNCH).encode())
    library = python / "Lib"
    modules = [(source, source.relative_to(library)) for source in _sources(library)]
    modules += [(source, Path(NAME) / source.name) for source in sorted(PROGRAM.glob("*.py"))]
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "main.py"
        script.write_text(main_script(f"{NAME}.command:main", ()), encoding="utf-8")
        compile_modules([*modules, (script, Path("_ferryman/main.py"))], contents)
    for source in _native(python):
        shutil.copyfile(source, contents / source.name)
    return into


def _sources(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in _LEFT_OUT:
            continue
        if path.is_dir():
            yield from _sources(path)
        elif path.suffix == ".py":
            yield path


def _native(python: Path) -> Iterator[Path]:
    """The interpreter's library, and every extension module with the libraries that lie beside it."""
    for name in _LIBRARIES:
        yield python / name
    for path in sorted((python / "DLLs").iterdir()):
        if path.suffix in (".pyd", ".dll") and path.name not in _WITHOUT:
            yield path
