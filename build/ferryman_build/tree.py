"""The Tree: a folder that is a complete program for one target. Every form but the .pyz wraps the same one.

    <tree>/<name>            what starts it
    <tree>/_internal/…       interpreter, standard library, dependencies, application: plain files

A tree's content depends on what went in and on nothing else: bytecode is compiled without paths of the build machine
and with unchecked hashes, native libraries lose what the loader never maps, modes are 755 or 644.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

import msgspec

from ferryman_build.cache import Blobs, file_digest
from ferryman_build.cmd import Runner
from ferryman_build.collect.analysis import Analysis, Entry, EntryKind, Origins
from ferryman_build.collect.pyinstaller import CONTENTS, HOOKS, compile_modules
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
    analysis: Analysis,
    origins: Origins,
    launcher: Path,
    root: Path,
    recipe: Recipe,
    blobs: Blobs,
    runner: Runner,
) -> None:
    """Fill the folder ``root`` with the tree that ``analysis`` describes, started by a copy of ``launcher``.

    Raises:
        BuildStepError: a file that the analysis named is gone, or a module of the application does not compile.
    """
    contents = root / CONTENTS
    helpers = [
        msgspec.structs.replace(hook, dest=f"{HOOKS}/{hook.dest}.pyc") for hook in analysis.helper_hooks
    ]
    entries = [*analysis.entries, *helpers]
    compiled = _compile(entries, origins, recipe, blobs, root.parent, runner)
    for entry in entries:
        target = contents / entry.dest
        target.parent.mkdir(parents=True, exist_ok=True)
        _place(entry, origins, target, compiled, recipe, blobs)
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


def _compile(
    entries: Iterable[Entry], origins: Origins, recipe: Recipe, blobs: Blobs, work: Path, runner: Runner
) -> Mapping[str, str]:
    """Compile what no earlier build has compiled; dest → key of its bytecode."""
    keys: dict[str, str] = {}
    modules: dict[str, tuple[Path, str]] = {}
    for entry in entries:
        if entry.kind is EntryKind.MODULE:
            source = _existing(origins.source(entry), entry)
            shown = _shown_name(entry)
            key = _key("pyc", recipe.tag, str(recipe.optimize), shown, file_digest(source))
            keys[entry.dest] = key
            modules[key] = (source, shown)
    missing = {key: modules[key] for key in blobs.missing(modules)}
    if missing:
        jobs = [(source, shown, blobs.path(key)) for key, (source, shown) in missing.items()]
        compile_modules(jobs, recipe.optimize, origins.env, work, runner)
    return keys


def _shown_name(entry: Entry) -> str:
    """What tracebacks call the module: its path in the tree with the source's suffix."""
    return str(PurePosixPath(entry.dest).with_suffix(".py"))


def _place(
    entry: Entry, origins: Origins, target: Path, compiled: Mapping[str, str], recipe: Recipe, blobs: Blobs
) -> None:
    match entry.kind:
        case EntryKind.LINK:
            target.symlink_to(entry.path)
        case EntryKind.MODULE:
            _link(_compiled_file(entry, blobs.path(compiled[entry.dest])), target)
        case EntryKind.NATIVE if recipe.strip:
            _link(_stripped(_existing(origins.source(entry), entry), blobs), target)
        case _:
            source = _existing(origins.source(entry), entry)
            shutil.copyfile(source, target)
            target.chmod(0o755 if source.stat().st_mode & 0o111 and entry.kind is EntryKind.DATA else 0o644)


def _compiled_file(entry: Entry, path: Path) -> Path:
    if not path.exists():
        raise BuildStepError(
            f"{entry.path} does not compile.",
            advice="Mend the syntax error that the log names, or leave the module out with `exclude-modules`.",
        )
    return path


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
