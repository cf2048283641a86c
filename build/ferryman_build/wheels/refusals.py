"""What cannot be compiled for another platform from here, and what to do instead."""

from __future__ import annotations

import tomllib
from pathlib import Path

from packaging.requirements import Requirement

from ferryman_build.collect.environment import canonical
from ferryman_build.errors import BuildStepError
from ferryman_build.wheels.compiler import host_can

CURE = (
    "Build its wheels on each platform, for instance with cibuildwheel in CI, and name the folder that they are in: "
    '`wheels = "FOLDER"` in [tool.ferryman], or --wheels FOLDER.'
)
_SETUPTOOLS = ("setuptools.build_meta", "setuptools.build_meta:__legacy__", "setuptools")
# Distributions of [build-system] requires that bring a build of their own, and why that one stays on its machine.
_STAY_HERE = {
    "numpy": "numpy's headers describe the machine that numpy was built for",
    "setuptools-rust": "Rust's standard library for the target is not here",
    "scikit-build": "CMake looks for compiler and Python by its own rules",
    "cmake": "CMake looks for compiler and Python by its own rules",
    "meson": "meson looks for compiler and Python by its own rules",
    "torch": "torch's headers describe the machine that torch was built for",
}


def why_not_here(root: Path, build_requires: tuple[str, ...]) -> str:
    """Why the wheel of the project at ``root`` cannot be compiled for another platform here.

    "" when nothing is known against it. For plans: nothing is built.
    """
    if not host_can():
        return "on Windows, Python's own build tools start no compiler for another platform"
    backend, path = backend_of(root)
    if backend not in _SETUPTOOLS and not path:
        return f"only setuptools can be told to compile for another platform, and the project is built by {backend}"
    for required in build_requires:
        name = canonical(Requirement(required).name)
        if name in _STAY_HERE:
            return f"the build needs {name}, and {_STAY_HERE[name]}"
    return ""


def refuse_backend(root: Path, build_requires: tuple[str, ...], target: str) -> None:
    """Stop before anything is installed.

    Raises:
        BuildStepError: :func:`why_not_here` has a reason.
    """
    reason = why_not_here(root, build_requires)
    if reason:
        raise BuildStepError(
            f"The wheel for {target} cannot be built on this machine: {reason}.", advice=CURE
        )


def backend_of(root: Path) -> tuple[str, tuple[str, ...]]:
    """(object with the hooks, folders of the project that it is looked for in), as PEP 517 has them."""
    try:
        text = (root / "pyproject.toml").read_text(encoding="utf-8")
    except FileNotFoundError:
        text = ""
    table = tomllib.loads(text).get("build-system", {})
    return table.get("build-backend", "setuptools.build_meta:__legacy__"), tuple(
        table.get("backend-path", ())
    )
