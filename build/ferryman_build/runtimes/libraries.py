"""The shared libraries of a runtime: which there are, what each needs, and which belong to the C library and stay out."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from ferryman_build.inspect.formats import read_native
from ferryman_build.inspect.native import Native
from ferryman_build.runtimes.places import resolve_inside

# They belong to the machine that the program runs on, and a root filesystem has them.
_C_LIBRARY = frozenset({
    "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libresolv.so.2", "libnsl.so.1",
    "libanl.so.1", "libmvec.so.1", "libthread_db.so.1", "libBrokenLocale.so.1", "libc.so",
})  # fmt: skip
_C_LIBRARY_STEMS = ("ld-linux", "ld64.so", "ld-musl-", "libc.musl-", "ld.so")


def of_c_library(name: str) -> bool:
    """Whether a needed library is a part of the C library or its loader."""
    return name in _C_LIBRARY or name.startswith(_C_LIBRARY_STEMS)


def read_file(root: Path, path: str) -> Native | None:
    """The native file at ``path`` of a runtime, links followed inside of it; None for what is none."""
    place = resolve_inside(root, path)
    if place is None or not place.is_file():
        return None
    with place.open("rb") as file:
        return read_native(path, file)


def real_path(root: Path, path: str) -> str:
    """Where a file of the runtime really lies, relative to its root; "" when it is a link to nothing."""
    if not (root / path).is_symlink():
        return path
    place = resolve_inside(root, path)
    return place.relative_to(root).as_posix() if place is not None and place.is_file() else ""


def library_files(root: Path, folders: Iterable[str]) -> Mapping[str, tuple[str, str]]:
    """Lower-case name → (name, real path) of each library in ``folders`` of a runtime; an earlier folder goes first."""
    found: dict[str, tuple[str, str]] = {}
    for folder in folders:
        for path in sorted((root / folder).iterdir()):
            if (path.suffix in (".dll", ".dylib") or ".so" in path.name) and path.name.lower() not in found:
                source = real_path(root, path.relative_to(root).as_posix())
                if source:
                    found[path.name.lower()] = (path.name, source)
    return found


def reachable(root: Path, folders: Iterable[str], natives: Iterable[Native]) -> Iterator[Native]:
    """The libraries of the runtime that ``natives`` need, with what those need."""
    files = library_files(root, folders)
    waiting = [name for native in natives for name in native.needed]
    seen: set[str] = set()
    while waiting:
        name = posixpath.basename(waiting.pop())
        if name.lower() in seen or of_c_library(name) or name.lower() not in files:
            continue
        seen.add(name.lower())
        native = read_file(root, files[name.lower()][1])
        if native is not None and native.loadable:
            waiting += native.needed
            yield native
