"""A native wheel for any target, compiled on this machine with `zig cc`.

    backend's environment (pinned) ─▶ inside/backend.py: sysconfig says what the target's Python would say
        └─▶ setuptools ─▶ inside/cc.py as its compiler ─▶ `zig cc -target …` with headers of ours ─▶ finish: names, tags, bytes

Nothing of the target runs, and nothing of it is needed: neither its Python nor its headers, as long as the extension
keeps to the stable ABI.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from ferryman_build.cmd import Runner
from ferryman_build.collect.environment import env_python, make_environment
from ferryman_build.errors import BuildStepError, UsageError
from ferryman_build.interpreter import Headers, Interpreter
from ferryman_build.source import source_files
from ferryman_build.targets import Target, host_target
from ferryman_build.toolchain import Toolchain
from ferryman_build.wheel import asks_git
from ferryman_build.wheels import compiler
from ferryman_build.wheels.finish import finish, is_for_later_pythons
from ferryman_build.wheels.headers import lay_headers
from ferryman_build.wheels.refusals import CURE, backend_of, refuse_backend

_INSIDE = Path(__file__).parent / "inside"
# zig compiles a target's C library at the first link; mingw's takes minutes.
_SECONDS = 1800.0
_ADVICE = (
    "The last lines are the backend's and the compiler's. If the sources ask for something that the target does not "
    f"have, guard it with #if. {CURE}"
)


class _Request(msgspec.Struct, frozen=True, kw_only=True):
    """What inside/backend.py reads."""

    source: str
    backend: str
    path: tuple[str, ...]
    into: str
    platform: str
    suffixes: tuple[str, ...]
    variables: dict[str, object]


def build_cross_wheel(
    root: Path,
    target: Target,
    *,
    python: Interpreter,
    headers: Headers,
    toolchain: Toolchain,
    build_requires: tuple[str, ...],
    pins: str,
    epoch: int,
    into: Path,
    runner: Runner,
    target_headers: Headers | None = None,
) -> Path:
    """Build the wheel of the setuptools project at ``root`` for ``target`` into ``into``: exactly one .whl.

    Equal sources, pins and epoch give equal bytes, wherever they lie and whoever builds.

    Args:
        python: runs the backend; its X.Y is in the name of an extension without the stable ABI.
        headers: of ``python``.
        build_requires: `[build-system] requires`.
        pins: requirements with hashes that the backend is installed from (wheels for this machine).
        epoch: SOURCE_DATE_EPOCH, seconds since 1970.
        target_headers: of the same X.Y for ``target``, from a runtime; needed without the stable ABI alone.

    Raises:
        BuildStepError: the project cannot be built this way, its build failed, or what it made is not for ``target``.
        ResolutionError: the backend could not be installed.
    """
    refuse_backend(root, build_requires, target.id)
    own = target_headers or (headers if _is_host(target) else None)
    into.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".cross-", dir=into) as name:
        work = Path(name).resolve()
        make_environment(work, python, pins, runner)

        def attempt(own: Headers | None, place: Path) -> Path:
            _copy(root, place / "source", with_history=asks_git(build_requires))
            include = lay_headers(headers, own, target, place / "include")
            return _build(target, backend_of(root), python, include, toolchain, epoch, place, runner)

        made = _first_that_fits(attempt, own, target, work)
        return finish(made, target, for_one_python=own is not None, epoch=epoch, into=into)


def _first_that_fits(
    attempt: Callable[[Headers | None, Path], Path], own: Headers | None, target: Target, work: Path
) -> Path:
    """With headers of ours, which make the same file on every machine; with the target's own where those are not enough."""
    if own is None:
        return attempt(None, work / "ours")
    try:
        made = attempt(None, work / "ours")
        if is_for_later_pythons(made, target):
            return made
    except BuildStepError:  # what is wrong with it, if it is not the headers, is said the second time
        pass
    return attempt(own, work / "own")


def _is_host(target: Target) -> bool:
    try:
        return host_target().id == target.id  # its floor may be another
    except UsageError:
        return False


def _copy(root: Path, into: Path, *, with_history: bool) -> None:
    """Source files alone, as wheel.py does it: what an earlier build left is not taken along.

    A backend that asks git for the version finds the history, where the project is the top of its checkout.
    """
    for path in source_files(root):
        place = into / path.relative_to(root)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, place, follow_symlinks=False)
    if with_history and (root / ".git").is_dir():
        (into / ".git").write_text(f"gitdir: {root / '.git'}\n", encoding="utf-8")


def _build(
    target: Target, backend: tuple[str, tuple[str, ...]], python: Interpreter, include: Path, toolchain: Toolchain,
    epoch: int, place: Path, runner: Runner,
) -> Path:  # fmt: skip
    """What the backend made of ``place``/source; all that it is told and writes lies in ``place``, its own Python beside."""
    dist = place / "dist"
    dist.mkdir()
    env = env_python(place.parent / "env")
    told = compiler.compiler(target, python.short, toolchain.zig.resolve(), include, place)
    request = _Request(
        source=str(place / "source"), backend=backend[0], path=backend[1], into=str(dist),
        platform=compiler.host_platform(target), suffixes=compiler.suffixes(target, python.short),
        variables=compiler.variables(target, python.short, include, env),
    )  # fmt: skip
    (place / "cc.json").write_bytes(msgspec.json.encode(told))
    (place / "request.json").write_bytes(msgspec.json.encode(request))
    given = {
        **toolchain.environment(place / "zig"), "SOURCE_DATE_EPOCH": str(epoch), "GIT_OPTIONAL_LOCKS": "0",
        "FERRYMAN_CC": str(place / "cc.json"), "FERRYMAN_REQUEST": str(place / "request.json"),
        "FERRYMAN_TARGET": target.id,
    }  # fmt: skip
    runner.run(
        [env, "-X", "utf8", _INSIDE / "backend.py"], name=f"wheel {target}", cwd=place, env=given,
        timeout=_SECONDS, advice=_ADVICE,
    )  # fmt: skip
    return _only(dist)


def _only(folder: Path) -> Path:
    found = sorted(folder.glob("*.whl"))
    if len(found) != 1:
        raise BuildStepError(
            f"The project's backend made {len(found)} wheels, and one is needed.",
            advice="Look at [build-system].",
        )
    return found[0]
