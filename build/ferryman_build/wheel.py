"""The agent's own wheel: built from a copy of the source by its own backend, and unpacked for the collectors.

The wheel is the hub (docs/adr/0004): every form that ships is made from it and never from the source tree.
"""

from __future__ import annotations

import shutil
import zipfile
from email.parser import HeaderParser
from pathlib import Path, PurePosixPath

import msgspec

from ferryman_build.cmd import Runner, environment
from ferryman_build.collect.environment import canonical
from ferryman_build.errors import BuildStepError
from ferryman_build.interpreter import Interpreter
from ferryman_build.source import source_files

# Backends' helpers that ask git for the version: for them the copy would have no history.
_ASKS_GIT = ("setuptools-scm", "setuptools-git", "hatch-vcs", "versioningit", "vcs-versioning", "dunamai", "pbr",
             "versioneer", "poetry-dynamic-versioning", "uv-dynamic-versioning")  # fmt: skip


class Wheel(msgspec.Struct, frozen=True):
    """A built wheel: its file, its unpacked modules, name and version from its METADATA, its tags."""

    path: Path
    app: Path
    name: str
    version: str
    tag: str


def build_wheel(root: Path, build_requires: tuple[str, ...], pins: str, python: Interpreter, epoch: int, into: Path,
                runner: Runner) -> None:  # fmt: skip
    """Build the wheel of the project at ``root`` into ``into`` and unpack it to ``into``/app.

    Args:
        build_requires: `[build-system] requires`.
        pins: requirements with hashes that the backend is installed from.
        epoch: SOURCE_DATE_EPOCH for the backend.

    Raises:
        BuildStepError: the backend failed; a missing compiler is named in the advice.
    """
    import uv

    wants_history = asks_git(build_requires)
    # A project below the top of its checkout is built in place: in a copy git would miss the files beside it.
    in_place = wants_history and not (root / ".git").is_dir()
    source = root if in_place else _copy(root, into / "source")
    if wants_history and not in_place:
        (source / ".git").write_text(f"gitdir: {root / '.git'}\n", encoding="utf-8")
    pinned = into / "backend.txt"
    pinned.write_text(pins, encoding="utf-8")
    try:
        runner.run(
            [uv.find_uv_bin(), "build", "--wheel", "--no-config", "--quiet", "--python", python.path, "--build-constraints",
             pinned, "--out-dir", into, source],
            name="wheel", advice=_ADVICE,
            env=environment({
                "SOURCE_DATE_EPOCH": str(epoch), "UV_NO_PROGRESS": "1",
                "GIT_OPTIONAL_LOCKS": "0",  # looking at the history writes nothing into it
            }),
        )  # fmt: skip
    finally:
        if not in_place:
            shutil.rmtree(into / "source", ignore_errors=True)
            shutil.rmtree(into / "out", ignore_errors=True)
    for litter in into.glob(".gitignore"):
        litter.unlink()
    unpack_wheel(_only_wheel(into), into / "app")


def asks_git(build_requires: tuple[str, ...]) -> bool:
    """Whether the backend takes the version from git, so that it needs the checkout and a new tag changes the wheel."""
    return any(canonical(required).startswith(_ASKS_GIT) for required in build_requires)


_ADVICE = (
    "The project's own build backend failed. If it compiles an extension it needs a C compiler (Debian: "
    "`apt-get install gcc python3-dev`); otherwise run `python -m build --wheel` in the project and mend what it says."
)


def read_wheel(folder: Path) -> Wheel:
    """The wheel that :func:`build_wheel` left in ``folder``."""
    path = _only_wheel(folder)
    app = folder / "app"
    metadata = app / f"{'-'.join(path.stem.split('-')[:2])}.dist-info" / "METADATA"
    headers = HeaderParser().parsestr(metadata.read_text(encoding="utf-8"))
    return Wheel(path, app, headers["Name"], headers["Version"], "-".join(path.stem.split("-")[-3:]))


def _only_wheel(folder: Path) -> Path:
    found = sorted(folder.glob("*.whl"))
    if len(found) != 1:
        raise BuildStepError(
            f"The project's backend made {len(found)} wheels, and one is needed.",
            advice="Look at [build-system].",
        )
    return found[0]


def _copy(root: Path, into: Path) -> Path:
    """Source files alone: no build/ left from an earlier run gets into the wheel, and none is left in the checkout."""
    for path in source_files(root):
        target = into / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target, follow_symlinks=False)
    return into


def unpack_wheel(wheel: Path, into: Path) -> None:
    """Install the wheel's modules, as PyPA's binary distribution format says: purelib and platlib join the root."""
    with zipfile.ZipFile(wheel) as archive:
        for member in archive.infolist():
            parts = PurePosixPath(member.filename).parts
            if member.is_dir() or ".." in parts or parts[0] == "/":
                continue
            if parts[0].endswith(".data"):
                if len(parts) < 3 or parts[1] not in ("purelib", "platlib"):
                    continue  # scripts, headers and data files belong to an installation
                parts = parts[2:]
            target = into.joinpath(*parts)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(member))
            if member.external_attr >> 16 & 0o111:
                target.chmod(0o755)
