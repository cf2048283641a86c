"""The standalone collector: a tree from an interpreter distribution and wheels, for any target, with nothing of it run.

    distribution (runtimes/) ─┐
    site-packages of target  ─┼─▶ entries: modules, extension modules, the libraries that they need, data ─▶ tree.assemble
    the project's wheel, data ┘

There is no analysis of imports: a tree has all of the standard library less the parts that
resources/runtime_parts.toml names, and all of each locked dependency. Files lie where the launcher looks for them, which
is where PyInstaller's trees have them: modules at the top, the standard library's extension modules in
python3.X/lib-dynload (on Windows at the top), libraries at the top.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec

from ferryman_build.collect.analysis import Analysis, Entry, EntryKind, Origin, Origins
from ferryman_build.collect.standalone_parts import Cut, covers, cut
from ferryman_build.collect.standalone_site import (
    Site,
    entries_below,
    entry_of,
    files_below,
    module_name,
    read_site,
)
from ferryman_build.runtimes.distribution import Distribution
from ferryman_build.runtimes.libraries import library_files, of_c_library, read_file, real_path
from ferryman_build.targets import Os, Target

_INSTALLED = ("site-packages", "dist-packages")
LICENCE = "LICENSE-Python.txt"
"""Where a tree has the interpreter's licence, and in the folder those of the libraries that came with it."""
LICENCES = "LICENSES-Python"
_LICENCES = ("LICENSE.txt", "LICENSE")


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What a standalone tree is made of.

    Args:
        distribution: the interpreter, from :func:`ferryman_build.runtimes.prepared.prepare`.
        target: what it is for.
        site: the folder in which :func:`ferryman_build.wrap.pyz.install_site_packages` installed the dependencies.
        app: the unpacked wheel of the project.
        project: the project's folder.
        data: (absolute source below ``project``, folder of the tree) of each file that `data` names.
        exclude_modules: dotted names that are left out with everything below them.
        keep_modules: dotted names that the program imports or wants: parts of the runtime that have one are kept.
        keep_parts: parts of the runtime that are kept by name.
        origin: who made the distribution, for the manifest.
    """

    distribution: Distribution
    target: Target
    site: Path
    app: Path
    project: Path
    data: tuple[tuple[str, str], ...] = ()
    exclude_modules: tuple[str, ...] = ()
    keep_modules: tuple[str, ...] = ()
    keep_parts: tuple[str, ...] = ()
    origin: str = ""

    def origins(self, env: Path, work: Path) -> Origins:
        """Where the entries' sources lie; ``env`` has the tools that compile and patch."""
        return Origins(
            app=self.app,
            env=env,
            work=work,
            project=self.project,
            runtime=self.distribution.root,
            site=self.site,
        )


def collect(request: Request) -> Analysis:
    """The entries of the whole tree but the launcher and what it reads.

    Where two would lie at the same place, the standard library goes before the project, and that before a dependency,
    as on sys.path.

    Raises:
        ConfigError: keep-parts names what is no part.
    """
    gone = cut(request.keep_parts, request.keep_modules)
    sites = [_site(request, request.app, Origin.APP), _site(request, request.site, Origin.SITE)]
    packages = [*sites[0].entries, *_without(sites[1].entries, request.exclude_modules, sites[1].paths)]
    shelf = _Shelf(request.distribution, request.target)
    own = {posixpath.basename(entry.dest).lower() for entry in packages if entry.kind is EntryKind.NATIVE}
    shelf.take_for(_natives_of(request, packages), own)
    runtime = [
        *_without(_stdlib(request.distribution, gone), request.exclude_modules),
        *_extensions(request, gone, shelf),
        *_kept_data(request, gone),
        *_licences(request.distribution),
    ]
    installed = _without(_installed(request.distribution, gone), request.exclude_modules)
    found = _joined([runtime, packages, _project_data(request), shelf.entries(), installed])
    return Analysis(
        entries=tuple(sorted(found.values())), hooks=(), missing=tuple(sorted(shelf.missing)),
        notes=(*(note for site in sites for note in site.notes), *_notes(shelf)),
        paths=tuple(dict.fromkeys(path for site in sites for path in site.paths)),
        tools={"cpython": " ".join(filter(None, (request.distribution.version, request.origin)))},
    )  # fmt: skip


def _site(request: Request, root: Path, origin: Origin) -> Site:
    magic, windows = request.distribution.magic, request.target.os is Os.WINDOWS
    return read_site(root, origin, magic=magic, windows=windows)


def _joined(groups: Iterable[Iterable[Entry]]) -> dict[str, Entry]:
    """By place; an earlier group goes before a later one."""
    found: dict[str, Entry] = {}
    for group in groups:
        for entry in group:
            found.setdefault(entry.dest, entry)
    return found


def _stdlib(distribution: Distribution, gone: Cut) -> Iterator[Entry]:
    root = distribution.root
    inner = posixpath.relpath(distribution.extensions, distribution.stdlib)
    for path in files_below(root, distribution.stdlib, gone.stdlib):
        if path == "LICENSE.txt" or path.startswith((f"{inner}/", *(f"{folder}/" for folder in _INSTALLED))):
            continue
        entry = entry_of(root / distribution.stdlib, path, Origin.RUNTIME, distribution.magic)
        source = real_path(root, f"{distribution.stdlib}/{path}")
        if entry is not None and source:
            yield msgspec.structs.replace(entry, path=source)


def _installed(distribution: Distribution, gone: Cut) -> Iterator[Entry]:
    """What somebody installed into the distribution, where that part is kept: at the top, as on sys.path."""
    for folder in _INSTALLED if "site-packages" not in gone.names else ():
        place = f"{distribution.stdlib}/{folder}"
        if (distribution.root / place).is_dir():
            for entry in entries_below(distribution.root / place, Origin.RUNTIME):
                yield msgspec.structs.replace(entry, path=f"{place}/{entry.path}")


def _extensions(request: Request, gone: Cut, shelf: _Shelf) -> Iterator[Entry]:
    distribution = request.distribution
    top = "" if request.target.os is Os.WINDOWS else f"python{distribution.short}/lib-dynload/"
    for path in sorted(distribution.needed):
        name = posixpath.basename(path)
        if (
            posixpath.dirname(path) != distribution.extensions
            or gone.native.fullmatch(name)
            or name.endswith(".dll")
        ):
            continue
        if covers(request.exclude_modules, name.split(".", maxsplit=1)[0]):
            continue
        if shelf.take(name, distribution.needed[path]):
            yield Entry(f"{top}{name}", EntryKind.NATIVE, Origin.RUNTIME, path)


def _kept_data(request: Request, gone: Cut) -> Iterator[Entry]:
    """What the kept parts have outside of the standard library."""
    prefix = request.distribution.root / request.distribution.prefix
    for glob in gone.data:
        for folder in sorted(path for path in prefix.glob(glob) if path.is_dir()):
            place = folder.relative_to(prefix).as_posix()
            for path in files_below(folder):
                source = (folder / path).relative_to(request.distribution.root).as_posix()
                yield Entry(f"{place}/{path}", EntryKind.DATA, Origin.RUNTIME, source)


def _natives_of(request: Request, packages: Iterable[Entry]) -> Iterator[tuple[str, ...]]:
    """What the native files of the packages need, one tuple per file."""
    roots = {Origin.APP: request.app, Origin.SITE: request.site}
    for entry in packages:
        if entry.kind is EntryKind.NATIVE:
            native = read_file(roots[entry.origin], entry.path)
            if native is not None and native.loadable:
                yield native.needed


def _project_data(request: Request) -> Iterator[Entry]:
    for source, folder in request.data:
        path = Path(source).relative_to(request.project).as_posix()
        dest = posixpath.normpath(posixpath.join(folder, posixpath.basename(path)))
        yield Entry(dest, EntryKind.DATA, Origin.PROJECT, path)


def _without(
    entries: Iterable[Entry], excluded: tuple[str, ...], paths: tuple[str, ...] = ()
) -> Iterator[Entry]:
    """Less the modules that are excluded, and whatever lies in the folder of a package that is.

    A module below one of ``paths`` is known by its name from there, too.
    """
    tops = ("", *(f"{path}/" for path in paths))
    folders = tuple(f"{top}{name.replace('.', '/')}/" for top in tops for name in excluded)
    for entry in entries:
        code = entry.kind in (EntryKind.MODULE, EntryKind.NATIVE) or entry.dest.endswith(".pyc")
        names = (module_name(entry.dest.removeprefix(top)) for top in tops if entry.dest.startswith(top))
        if not entry.dest.startswith(folders) and not (
            code and any(covers(excluded, name) for name in names)
        ):
            yield entry


def _licences(distribution: Distribution) -> Iterator[Entry]:
    """The interpreter's licence, and those of the libraries in it where its makers have put them beside it."""
    root, prefix = distribution.root, distribution.prefix
    for name in (f"{distribution.stdlib}/LICENSE.txt", *(posixpath.join(prefix, name) for name in _LICENCES)):
        source = real_path(root, name)
        if source and (root / source).is_file():
            yield Entry(LICENCE, EntryKind.DATA, Origin.RUNTIME, source)
            break
    folder = posixpath.join(prefix, "licenses")
    if (root / folder).is_dir():
        for path in files_below(root, folder):
            yield Entry(f"{LICENCES}/{path}", EntryKind.DATA, Origin.RUNTIME, f"{folder}/{path}")


def _notes(shelf: _Shelf) -> Iterator[str]:
    for module, library in sorted(shelf.missing.items()):
        yield f"{module} is left out: it needs {library}, which the runtime does not have"


class _Shelf:
    """The shared libraries of a runtime, of which a tree gets those that something in it needs."""

    def __init__(self, distribution: Distribution, target: Target) -> None:
        self.missing: dict[str, str] = {}
        self._distribution = distribution
        self._linux = target.os is Os.LINUX
        self._there = library_files(distribution.root, distribution.libraries)
        self._taken: dict[str, str] = {}
        self._needed: dict[str, tuple[str, ...]] = dict(distribution.needed)
        self.take(distribution.library, [distribution.library_name])
        if target.os is Os.WINDOWS:
            self.take("python3.dll", ["python3.dll"])  # wheels with the stable ABI name it

    def entries(self) -> Iterator[Entry]:
        """What was taken, at the top of the tree, each under the name by which it is needed."""
        for name, path in self._taken.items():
            yield Entry(name, EntryKind.NATIVE, Origin.RUNTIME, path)

    def take(self, user: str, needed: Iterable[str]) -> bool:
        """Take what ``user`` needs, with what that needs; false, and nothing is taken, when the runtime lacks one."""
        taken = dict(self._taken)
        lacking = self._close(needed, taken)
        if lacking:
            self.missing[user.split(".", maxsplit=1)[0]] = lacking
            return False
        self._taken = taken
        return True

    def take_for(self, natives: Iterable[tuple[str, ...]], own: set[str]) -> None:
        """Take what the packages' libraries need and the runtime has; whatever else they need is theirs or the system's."""
        for needed in natives:
            for name in needed:
                if posixpath.basename(name).lower() not in own:
                    taken = dict(self._taken)
                    if not self._close([name], taken):
                        self._taken = taken

    def _close(self, needed: Iterable[str], taken: dict[str, str]) -> str:
        """Add ``needed`` and all that follows to ``taken``; the name of one that is nowhere, or ""."""
        waiting = list(needed)
        while waiting:
            name = posixpath.basename(waiting.pop())
            if of_c_library(name):
                continue
            row = self._there.get(name.lower())
            if row is None:
                if self._linux:
                    return name
                continue  # of Windows or macOS itself, as far as anybody can tell
            file, path = row
            if file not in taken:
                taken[file] = path
                waiting += self._needs(path)
        return ""

    def _needs(self, path: str) -> tuple[str, ...]:
        if path not in self._needed:
            native = read_file(self._distribution.root, path)
            self._needed[path] = native.needed if native is not None else ()
        return self._needed[path]
