"""Installed packages of another machine, as entries of a tree: the rules that PyInstaller's analysis has for them.

Every module comes along, and every file that a package may read at run time; what only a compiler or a type checker
reads does not. Of a distribution's metadata the tree has what importlib.metadata is asked for, and the licences: RECORD and
INSTALLER describe an installation that does not exist.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ferryman_build.collect.analysis import Entry, EntryKind, Origin
from ferryman_build.inspect.formats import sniff

METADATA = frozenset({"METADATA", "entry_points.txt", "top_level.txt"})
_LICENCE = re.compile(r"(licen[cs]e|copying|copyright|notice|authors)", re.IGNORECASE)
_LIBRARY = re.compile(r".*\.(so|pyd|dll|dylib)(\.\d+)*")
_NOT_SHIPPED = frozenset(
    {".pyc", ".pyo", ".pyi", ".pyx", ".pxd", ".c", ".h", ".cpp", ".hpp", ".cc", ".a", ".lib", ".pth", ".pdb"}
)
# What `pip install --target` puts beside the packages: for a prefix that a tree does not have.
_BESIDE = frozenset({"bin", "Scripts", "include", "man", "__pycache__"})
# Folders whose libraries an installer moves, or a .pth file's code makes known to the loader: pywin32 looks for its own
# along sys.path in a frozen program, and Windows in the top of the tree.
_FOR_THE_TOP = frozenset({"pywin32_system32"})


class Site(msgspec.Struct, frozen=True, kw_only=True):
    """What a folder of installed packages gives a tree: see :class:`ferryman_build.collect.analysis.Analysis`."""

    entries: tuple[Entry, ...]
    paths: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_site(root: Path, origin: Origin, *, magic: bytes, windows: bool) -> Site:
    """The packages in ``root``.

    Args:
        root: a folder of site-packages.
        origin: what it is to the tree.
        magic: the first four bytes of the bytecode that the tree runs; a module that has no source has to have it.
        windows: whether it is for Windows.
    """
    paths, notes = _followed(root, windows=windows)
    files = tuple(files_below(root))
    entries = tuple(_to_the_top(_entries(root, files, origin, magic), windows=windows))
    return Site(entries=entries, paths=paths, notes=(*notes, *_foreign_bytecode(root, files, magic)))


def _to_the_top(entries: Iterator[Entry], *, windows: bool) -> Iterator[Entry]:
    for entry in entries:
        top, slash, name = entry.dest.rpartition("/")
        if windows and slash and top in _FOR_THE_TOP and entry.kind is EntryKind.NATIVE:
            yield msgspec.structs.replace(entry, dest=name)
        else:
            yield entry


def _foreign_bytecode(root: Path, files: Iterable[str], magic: bytes) -> Iterator[str]:
    for path in files:
        if path.endswith(".pyc") and _is_lone(root, path) and _magic(root, path) != magic:
            yield f"{path} is left out: it has no source, and is bytecode of another Python"


def _followed(root: Path, *, windows: bool) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(places, notes) of the .pth files at the top, by name, as Python's site module reads them.

    A line with a place of this folder is followed; one with code is not run.
    """
    places: dict[str, None] = {}
    notes: list[str] = []
    for file in sorted(root.glob("*.pth")):
        for line in file.read_text(encoding="utf-8-sig", errors="replace").splitlines():
            word = line.strip()
            if not word or word.startswith("#"):
                continue
            place = posixpath.normpath(word.replace("\\", "/") if windows else word)
            if word.startswith(("import ", "import\t")):
                notes.append(
                    f"{file.name} is not followed where it says `{word[:60]}`: a tree runs no code of .pth files"
                )
            elif place.startswith(("/", "../")) or place == ".." or ":" in place:
                notes.append(
                    f"{file.name} is not followed where it says {word[:60]!r}: that is not in the tree"
                )
            elif place != "." and (there := _there(root, place, windows=windows)):
                places[there] = None
    return tuple(places), tuple(notes)


def _there(root: Path, place: str, *, windows: bool) -> str:
    """``place`` as the disk spells it; "" when it is not there, which Python passes over."""
    if not windows:
        return place if (root / place).exists() else ""
    found: list[str] = []
    for part in place.split("/"):
        folder = root.joinpath(*found)
        names = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
        found.append(next((name for name in names if name.lower() == part.lower()), ""))
        if not found[-1]:
            return ""
    return "/".join(found)


def entries_below(root: Path, origin: Origin) -> Iterator[Entry]:
    """Entries of every file below ``root`` (a folder of site-packages), sorted by path; nothing of .pth files."""
    yield from _entries(root, files_below(root), origin, b"")


def _entries(root: Path, files: Iterable[str], origin: Origin, magic: bytes) -> Iterator[Entry]:
    for path in files:
        top, slash, rest = path.partition("/")
        if slash and top in _BESIDE:
            continue
        if slash and top.endswith((".dist-info", ".egg-info")):
            if rest in METADATA or _LICENCE.match(rest):
                yield Entry(path, EntryKind.DATA, origin, path)
            continue
        entry = entry_of(root, path, origin, magic)
        if entry is not None:
            yield entry


def entry_of(root: Path, path: str, origin: Origin, magic: bytes = b"") -> Entry | None:
    """The entry of one file; None for what is not shipped."""
    name = path.rpartition("/")[2]
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - thousands of files, and a Path is slow to make
    if suffix == ".py" and _importable(path):
        return Entry(f"{path[:-3]}.pyc", EntryKind.MODULE, origin, path)
    if suffix in _NOT_SHIPPED and not _READ_ALL_THE_SAME.get(suffix, _never)(root, path, magic):
        return None
    if _LIBRARY.fullmatch(name.lower()) and is_native(root / path):
        return Entry(path, EntryKind.NATIVE, origin, path)
    return Entry(path, EntryKind.DATA, origin, path)


def _never(root: Path, path: str, magic: bytes) -> bool:
    del root, path, magic
    return False


def _is_read_stub(root: Path, path: str, magic: bytes) -> bool:
    """A stub from which lazy_loader learns what a package has, or one that a type checker in the tree reads."""
    del magic
    if "typeshed" in path.split("/"):
        return True
    try:
        return b"attach_stub" in (root / path[:-1]).read_bytes()
    except OSError:
        return False


def _is_lone_bytecode(root: Path, path: str, magic: bytes) -> bool:
    """A module without its source, of the Python that the tree has."""
    return _is_lone(root, path) and _magic(root, path) == magic


def _is_lone(root: Path, path: str) -> bool:
    return _importable(path[:-1]) and not (root / path[:-1]).exists()


def _magic(root: Path, path: str) -> bytes:
    with (root / path).open("rb") as file:
        return file.read(4)


_READ_ALL_THE_SAME = {".pyi": _is_read_stub, ".pyc": _is_lone_bytecode}


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


def module_name(dest: str) -> str:
    """The dotted name under which a module or extension module of a tree is imported."""
    stem = dest.rpartition("/")
    return ".".join(filter(None, (*stem[0].split("/"), stem[2].split(".")[0]))).removesuffix(".__init__")
