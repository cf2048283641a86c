"""Installed packages of another machine, as entries of a tree: the rules that PyInstaller's analysis has for them.

Every module comes along, and every file that a package may read at run time; what only a compiler or a type checker
reads does not. Of a distribution's metadata the tree has what importlib.metadata is asked for: RECORD and INSTALLER
describe an installation that does not exist.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

from ferryman_build.collect.analysis import Entry, EntryKind, Origin
from ferryman_build.inspect.formats import sniff

METADATA = frozenset({"METADATA", "entry_points.txt", "top_level.txt"})
_LIBRARY = re.compile(r".*\.(so|pyd|dll|dylib)(\.\d+)*")
_NOT_SHIPPED = frozenset(
    {".pyc", ".pyo", ".pyi", ".pyx", ".pxd", ".c", ".h", ".cpp", ".hpp", ".cc", ".a", ".lib", ".pth", ".pdb"}
)
# What `pip install --target` puts beside the packages: for a prefix that a tree does not have.
_BESIDE = frozenset({"bin", "Scripts", "include", "man", "__pycache__"})


def entries_below(root: Path, origin: Origin) -> Iterator[Entry]:
    """Entries of every file below ``root`` (a folder of site-packages), sorted by path."""
    for path in files_below(root):
        top, slash, _ = path.partition("/")
        if slash and top in _BESIDE:
            continue
        if slash and top.endswith((".dist-info", ".egg-info")):
            if path.removeprefix(f"{top}/") in METADATA:
                yield Entry(path, EntryKind.DATA, origin, path)
            continue
        entry = entry_of(root, path, origin)
        if entry is not None:
            yield entry


def entry_of(root: Path, path: str, origin: Origin) -> Entry | None:
    """The entry of one file; None for what is not shipped."""
    name = path.rpartition("/")[2]
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - thousands of files, and a Path is slow to make
    if suffix == ".py" and _importable(path):
        return Entry(f"{path[:-3]}.pyc", EntryKind.MODULE, origin, path)
    if suffix in _NOT_SHIPPED:
        return None
    if _LIBRARY.fullmatch(name.lower()) and is_native(root / path):
        return Entry(path, EntryKind.NATIVE, origin, path)
    return Entry(path, EntryKind.DATA, origin, path)


def _importable(path: str) -> bool:
    """A template with the suffix .py is no module, and may not compile."""
    return all(part.isidentifier() for part in path[:-3].split("/"))


def is_native(path: Path) -> bool:
    """Whether it is code; a linker script called libx.so is not."""
    with path.open("rb") as file:
        return sniff(file) is not None


def files_below(root: Path, folder: str = "", left_out: re.Pattern[str] | None = None) -> Iterator[str]:
    """POSIX paths of all files below ``root``/``folder``, relative to that folder, sorted; no bytecode caches.

    ``left_out`` fits paths (of files or whole folders) that are passed over. Links to files count as files, links to
    folders are not followed.
    """
    yield from _walk(str(root / folder), "", left_out)


def _walk(folder: str, prefix: str, left_out: re.Pattern[str] | None) -> Iterator[str]:
    with os.scandir(folder) as found:
        rows = sorted(found, key=lambda row: row.name)
    for row in rows:
        path = f"{prefix}{row.name}"
        if row.name == "__pycache__" or (left_out is not None and left_out.fullmatch(path)):
            continue
        if row.is_dir(follow_symlinks=False):
            yield from _walk(row.path, f"{path}/", left_out)
        elif row.is_file() or (row.is_symlink() and not row.is_dir()):
            yield path


def pth_files(root: Path) -> list[str]:
    """The .pth files at the top: a plain Python would run or follow them at its start, a tree does not."""
    return sorted(path.name for path in root.glob("*.pth"))


def module_name(dest: str) -> str:
    """The dotted name under which a module or extension module of a tree is imported."""
    stem = dest.rpartition("/")
    return ".".join(filter(None, (*stem[0].split("/"), stem[2].split(".")[0]))).removesuffix(".__init__")
