"""The project's own wheel: whether it holds machine code, and who can build it for another target.

That is read from the project's files, before anything is built: a plan must be quick, and a machine without a compiler
must be able to make one.
"""

from __future__ import annotations

import re
from pathlib import Path

from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

from ferryman_build.errors import ConfigError
from ferryman_build.plan_facts import OwnWheel
from ferryman_build.project import Project
from ferryman_build.settings import Compiler
from ferryman_build.targets import Target
from ferryman_build.wheels import choose_own_wheel, why_not_here
from ferryman_build.wheels.refusals import backend_of

# Backends whose whole purpose is machine code; of others it is seen whether the project asks for it.
_COMPILING = (
    "maturin",
    "mesonpy",
    "scikit_build_core",
    "skbuild",
    "sipbuild",
    "enscons",
    "cmeel",
    "py_build_cmake",
)
# setup.py is a program; what it says of extensions is seen from its words.
_EXTENSION = re.compile(r"\b(ext_modules|Extension\s*\(|cythonize\s*\(|cffi_modules|rust_extensions)")


def own_wheel(project: Project) -> OwnWheel:
    """What is known of the project's own wheel without building it."""
    prebuilt = tuple(path.name for path in prebuilt_wheels(project))
    if not _is_native(project):
        return OwnWheel(prebuilt=prebuilt)
    obstacle = why_not_here(project.root, project.build_requires)
    if not obstacle and project.settings.compiler is Compiler.SYSTEM:
        obstacle = 'compiler = "system" compiles for this machine alone'
    reason = f"Here it cannot be compiled for another: {obstacle}." if obstacle else ""
    return OwnWheel(native=True, prebuilt=prebuilt, crossable=not obstacle, obstacle=reason)


def _is_native(project: Project) -> bool:
    backend = backend_of(project.root)[0].partition(":")[0]
    if backend.split(".", maxsplit=1)[0] in _COMPILING:
        return True
    if not backend.startswith("setuptools"):
        return False
    table = project.document.table("tool", "setuptools") if project.document else {}
    return bool(table.get("ext-modules")) or bool(_EXTENSION.search(_text(project.root / "setup.py")))


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def prebuilt_wheels(project: Project) -> tuple[Path, ...]:
    """Wheels of the project that somebody else has built: those with its name, and its version if that is known.

    Raises:
        ConfigError: the folder `wheels` is not there, or holds none.
    """
    folder = _folder(project)
    if folder is None:
        return ()
    found = tuple(path for path in sorted(folder.glob("*.whl")) if _is_ours(path.name, project))
    if not found:
        named = f"{project.name} {project.version or ''}".rstrip()
        raise ConfigError(
            f"There is no wheel of {named} in {folder}."
            if folder.is_dir()
            else f"There is no folder {folder}.",
            advice="Name with `wheels` or --wheels the folder into which cibuildwheel (or `nox -s wheels`) has put them.",
        )
    return found


def _is_ours(filename: str, project: Project) -> bool:
    try:
        name, version, _, _ = parse_wheel_filename(filename)
    except InvalidWheelFilename:
        return False
    return name == canonicalize_name(project.name) and project.version in (None, str(version))


def prebuilt_for(project: Project, version: str, target: Target, python: str) -> Path | None:
    """The one among them that an installer would take on ``target``; None when there is none."""
    folder = _folder(project)
    return choose_own_wheel(folder, project.name, version, target, python) if folder else None


def _folder(project: Project) -> Path | None:
    return project.root / project.settings.wheels if project.settings.wheels else None
