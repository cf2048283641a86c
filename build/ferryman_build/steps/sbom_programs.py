"""What a target's job knows of its program, as the SBOM wants it: who brought each file of the tree, or of the .pyz."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from ferryman_build import __version__
from ferryman_build.collect.analysis import Entry, EntryKind, Origin
from ferryman_build.collect.environment import tool_version
from ferryman_build.collect.pyinstaller import CONTENTS
from ferryman_build.locking import packages_for
from ferryman_build.sbom.distributions import (
    NOTHING,
    Distribution,
    Installed,
    read_distribution,
    read_installed,
    with_wheel,
)
from ferryman_build.sbom.packages import Package, owning_packages
from ferryman_build.sbom.program import Compiled, Interpreter, Native, Owner, Program, Shipped, Starter
from ferryman_build.sbom.reading import read_once
from ferryman_build.settings import Bundler
from ferryman_build.steps.job import TargetJob
from ferryman_build.steps.trees import project_data
from ferryman_build.toolchain import read_recipe, zig_lock
from ferryman_build.tree import TreeFile
from ferryman_build.ways import Way
from ferryman_build.wheeltags import compatible_wheels, marker_environment
from ferryman_build.wrap.launch import HOOKS, SBOM
from ferryman_build.wrap.pyz_needs import PACKAGES

_TOP = f"{CONTENTS}/"
_LIBPYTHON = ("libpython3", "python3")


# --- trees ------------------------------------------------------------------------------------------------------------


def tree_program(job: TargetJob, root: Path, files: Sequence[TreeFile]) -> Program:
    """The program whose tree is ``root``; ``files`` are all of its files but the SBOM, which is to be one more."""
    entries = {entry.dest: entry for entry in _entries(job)}
    installed = _installed(job)
    packages = owning_packages(_machine_files(entries.values()))
    shipped = [
        msgspec.structs.replace(
            _of_tree(file, entries.get(file.path.removeprefix(_TOP)), installed, packages),
            native=_native(file, root / file.path, job),
        )
        for file in files
    ]
    return Program(
        application=_application(job), wheels=_with_wheels(job, installed, exact=job.way is Way.STANDALONE), starter=_tree_starter(job),
        files=(*shipped, Shipped(path=f"{_TOP}{SBOM}", sha256="", owner=Owner.STARTER)),
        environment=marker_environment(job.target, job.shipped_python), epoch=job.source.epoch,
        interpreter=_interpreter(job), tools=_tools(job),
        properties=(("ferryman:target", job.target.id), ("ferryman:collector", job.collector)),
    )  # fmt: skip


def _entries(job: TargetJob) -> Iterable[Entry]:
    """Of the analysis, and of the hooks at their place in a tree of the launcher's."""
    yield from job.analysis.entries
    for hook in job.analysis.hooks:
        yield msgspec.structs.replace(hook, dest=f"{HOOKS}/{hook.dest}.pyc")


def _machine_files(entries: Iterable[Entry]) -> list[Path]:
    """Files that a package of a Linux distribution may have brought: libraries, and one module that stands for all."""
    return [
        Path(entry.path)
        for entry in entries
        if entry.origin is Origin.HOST and (entry.kind is EntryKind.NATIVE or entry.dest == "os.pyc")
    ]


def _of_tree(
    file: TreeFile,
    entry: Entry | None,
    installed: Installed,
    packages: Mapping[Path, Package],
) -> Shipped:
    owner, wheel = _owner(entry, installed)
    return Shipped(
        path=file.path, sha256=file.sha256, owner=owner, wheel=wheel,
        link=posixpath.normpath(posixpath.join(posixpath.dirname(file.path), file.link)) if file.link else "",
        package=packages.get(Path(entry.path)) if entry and entry.origin is Origin.HOST else None,
    )  # fmt: skip


def _native(file: TreeFile, place: Path, job: TargetJob) -> Native | None:
    return None if file.link else read_once(posixpath.basename(file.path), place, file.sha256, job.blobs)


def _owner(entry: Entry | None, installed: Installed) -> tuple[Owner, str]:
    """(who brought it, the distribution's name where that is a wheel)."""
    if entry is None:
        return Owner.STARTER, ""  # what the collectors did not name is the launcher and what it reads
    if entry.origin in (Origin.HOST, Origin.RUNTIME):
        library = entry.kind is EntryKind.NATIVE and not _of_interpreter(entry.dest)
        return (Owner.MACHINE if library else Owner.INTERPRETER), ""
    if entry.origin in (Origin.ENV, Origin.SITE):
        return Owner.WHEEL, _wheel_of(entry.path, installed)
    return Owner.APPLICATION, ""


def _of_interpreter(dest: str) -> bool:
    """Whether a native file is CPython's own: an extension module of the standard library, or libpython."""
    name = posixpath.basename(dest)
    return "/lib-dynload/" in dest or name.endswith(".pyd") or name.startswith(_LIBPYTHON)


def _wheel_of(path: str, installed: Installed) -> str:
    """The distribution that lists the file; for one that none lists, the top-level name."""
    found = installed.owners.get(path)
    return (
        found
        or posixpath.normpath(path).partition("site-packages/")[2].partition("/")[0]
        or path.partition("/")[0]
    )


def _installed(job: TargetJob) -> Installed:
    """The dependencies, with files by their path below the origin: an environment, or a folder of packages."""
    if job.way is Way.STANDALONE:
        return read_installed(job.folder("site") / "site")
    env = job.folder("env") / "env"
    sites = [
        place
        for glob in ("lib/python*/site-packages", "Lib/site-packages")
        for place in sorted(env.glob(glob))
    ]
    if not sites:
        return NOTHING
    found = read_installed(sites[0])
    below = sites[0].relative_to(env).as_posix()
    owners = {posixpath.normpath(posixpath.join(below, path)): name for path, name in found.owners.items()}
    return msgspec.structs.replace(found, owners=owners)


def _with_wheels(job: TargetJob, installed: Installed, *, exact: bool) -> dict[str, Distribution]:
    """The distributions, each with the wheel that it came from; of the project's lock, not of the tools'.

    ``exact``: they were installed from the wheels that the plan has chosen; otherwise from any that the lock allows.
    """
    wheels = {
        (package.name, package.version): {
            wheel.filename: wheel.sha256
            for wheel in (compatible_wheels(package, job.target, job.python)[:1] if exact else package.wheels)
            if wheel.pinned and wheel.sha256
        }
        for package in packages_for(job.lock, job.target, job.full_python)
    }
    return {
        name: with_wheel(one, wheels.get((name, one.version), {}))
        for name, one in installed.distributions.items()
    }


def _application(job: TargetJob) -> Distribution:
    (folder,) = (job.folder("wheel") / "app").glob("*.dist-info")
    return read_distribution(folder)


def _interpreter(job: TargetJob) -> Interpreter:
    runtime = job.runtime if job.way is Way.STANDALONE else None
    return Interpreter(
        version=job.shipped_python, origin=job.runtime_origin or " ".join(job.interpreter.identity.split()),
        sha256=runtime.sha256 if runtime else "", licence=runtime.licence if runtime else "",
    )  # fmt: skip


def _tree_starter(job: TargetJob) -> Starter:
    if job.settings.bundle is Bundler.PYINSTALLER:
        return Starter(
            name="pyinstaller-bootloader", version=tool_version("pyinstaller"), purl="pkg:pypi/pyinstaller",
            licence="GPL-2.0-or-later WITH Bootloader-exception",
        )  # fmt: skip
    zstd = read_recipe().zstd
    decoder = Compiled(
        name="zstd", version=zstd.release, licence="BSD-3-Clause OR GPL-2.0-only", cpe="facebook:zstandard",
        says=f"lib/zstd.h in {zstd.distribution} {zstd.version}",
    )  # fmt: skip
    return _own_starter("ferryman-launcher", (decoder,))


def _own_starter(name: str, compiled: tuple[Compiled, ...] = ()) -> Starter:
    return Starter(
        name=name, version=__version__, licence="Apache-2.0", purl=f"pkg:generic/{name}", compiled=compiled
    )


def _tools(job: TargetJob) -> tuple[tuple[str, str], ...]:
    used = () if job.way is Way.STANDALONE else ("pyinstaller", "pyinstaller-hooks-contrib")
    compiler = (
        (("zig", tool_version("ziglang", zig_lock())),) if job.settings.bundle is Bundler.FERRYMAN else ()
    )
    return ("ferryman", __version__), *((name, tool_version(name)) for name in used), *compiler


# --- the .pyz ---------------------------------------------------------------------------------------------------------


def pyz_program(job: TargetJob, members: Sequence[TreeFile]) -> Program:
    """The program whose .pyz has ``members``, the SBOM not yet among them."""
    installed = read_installed(job.folder("site") / "site")
    data = {posixpath.normpath(posixpath.join(into, Path(source).name)) for source, into in project_data(job)}
    shipped = [_of_pyz(file, job, installed, data) for file in members]
    return Program(
        application=_application(job), wheels=_with_wheels(job, installed, exact=True), starter=_own_starter("ferryman-pyz-starter"),
        files=(*shipped, Shipped(path=SBOM, sha256="", owner=Owner.STARTER)),
        environment=marker_environment(job.target, job.full_python), epoch=job.source.epoch,
        tools=(("ferryman", __version__), *((name, tool_version(name)) for name in ("pip", "shiv"))),
        properties=(
            ("ferryman:target", job.target.id), ("ferryman:collector", "pip"), ("ferryman:needs-python", job.python),
        ),
    )  # fmt: skip


def _of_pyz(file: TreeFile, job: TargetJob, installed: Installed, data: Collection[str]) -> Shipped:
    if not file.path.startswith(PACKAGES):
        return Shipped(path=file.path, sha256=file.sha256, owner=Owner.STARTER)
    path = file.path.removeprefix(PACKAGES)
    own = job.folder("wheel") / "app" / path
    if path in data:
        return Shipped(path=file.path, sha256=file.sha256, owner=Owner.APPLICATION)
    if own.is_file():
        native = _native(file, own, job)
        return Shipped(path=file.path, sha256=file.sha256, owner=Owner.APPLICATION, native=native)
    return Shipped(
        path=file.path, sha256=file.sha256, owner=Owner.WHEEL, wheel=_wheel_of(path, installed),
        native=_native(file, job.folder("site") / "site" / path, job),
    )  # fmt: skip
