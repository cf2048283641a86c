"""One resolution for all targets, and the requirements files that follow from it.

``uv pip compile --universal --format pylock.toml`` (PEP 751) names every package with its marker, and every wheel of it
with its hash: one question to the index covers all rows of targets.toml, those included that uv has no
``--python-platform`` for. Which wheel belongs to which target is decided by :mod:`ferryman_build.wheeltags`.

Answers are cached by the content of the question (dependencies, Python, pins, uv's version, index settings), never by
time: the same question gives the same answer until ``refresh`` is asked for.

The project may commit a requirements file with hashes (``[tool.ferryman] lock``). Then the file decides versions and
hashes, and the index only says how the wheels are called.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import tempfile
import tomllib
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote, urlsplit

import msgspec
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from ferryman_build import uv_messages
from ferryman_build.cache import file_digest
from ferryman_build.cmd import Runner, environment
from ferryman_build.errors import PackageIndexError, ResolutionError, ToolMissingError
from ferryman_build.lockfile import Pin, apply_pins, lock_text, pin_line, read_pins, requirements_text, sealed
from ferryman_build.wheeltags import (
    Lock,
    LockedPackage,
    Wheel,
    compatible_wheels,
    full_python,
    packages_for,
    short_python,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from ferryman_build.targets import Target

__all__ = [
    "Lock", "LockedPackage", "Pin", "Wheel", "compatible_wheels", "lock_text", "packages_for", "read_pins",
    "requirements_text", "resolve", "resolve_alone",
]  # fmt: skip

T = TypeVar("T")

_CACHE_FORMAT = 1  # raised when the meaning of a cached answer changes
_TIME_LIMIT = 300.0  # seconds for one question; uv's own retries end much earlier

# What uv may see beside cmd.PASSED_THROUGH, because it changes what the index answers or how long it is asked.
_UV_SETTINGS = re.compile(
    r"UV_(HTTP_RETRIES|HTTP_TIMEOUT|EXCLUDE_NEWER|INDEX_STRATEGY|PRERELEASE|RESOLUTION|INSECURE_HOST"
    r"|INDEX_[A-Z0-9_]+_(USERNAME|PASSWORD))"
)
_PATIENCE = re.compile(r"UV_(HTTP_RETRIES|HTTP_TIMEOUT|CACHE_DIR|OFFLINE)")  # these change no answer


# --- asking -----------------------------------------------------------------------------------------------------------


def resolve(
    dependencies: Sequence[str],
    python: str,
    *,
    runner: Runner,
    cache: Path,
    constraints: Path | None = None,
    requires_python: str = "",
    refresh: bool = False,
) -> Lock:
    """Every package and wheel that ``dependencies`` (PEP 508) mean for CPython ``python`` on any target.

    Args:
        dependencies: PEP 508 strings.
        python: "3.11" or "3.11.4"; the patch release matters to markers alone.
        runner: starts uv.
        cache: folder of kept answers.
        constraints: the project's lock file; see the head of this module.
        requires_python: the project's own range; ``python`` must be in it.
        refresh: ask although the answer is known.

    Raises:
        ResolutionError: nothing satisfies the dependencies, or they contradict the lock file.
        PackageIndexError: the index gave no usable answer.
        ConfigError: the lock file is not one.
        ToolMissingError: uv is not installed.
    """
    check_python(python, requires_python)
    pins = read_pins(constraints) if constraints else ()
    if not dependencies:
        return sealed(short_python(python), ())

    def ask() -> Lock:
        return _ask(dependencies, python, pins, runner)

    lock = cached(cache, "lock", _question(dependencies, python, pins), ask, Lock, refresh=refresh)
    return apply_pins(lock, pins, constraints) if constraints else lock


def check_python(python: str, requires_python: str) -> None:
    """Raises ResolutionError when CPython ``python`` is not in the project's requires-python."""
    if not SpecifierSet(requires_python).contains(full_python(python), prereleases=True):
        raise ResolutionError(
            f"Python {python} does not satisfy the project's requires-python {requires_python!r}.",
            advice="Choose another Python in [tool.ferryman] python, or widen [project] requires-python.",
        )


def resolve_alone(
    dependencies: Sequence[str],
    python: str,
    target: Target,
    *,
    runner: Runner,
    cache: Path,
    refresh: bool = False,
) -> dict[str, str]:
    """Name and version of each package when ``target`` is asked for alone and from wheels only.

    Empty when there is no such set, or uv has no name for the target.

    Raises:
        PackageIndexError: the index gave no usable answer.
    """
    if not target.uv_platform:
        return {}

    def ask() -> dict[str, str]:
        return _ask_alone(dependencies, python, target, runner)

    question = [*_question(dependencies, python, ()), target.uv_platform]
    return cached(cache, "alone", question, ask, dict[str, str], refresh=refresh)


def _ask(dependencies: Sequence[str], python: str, pins: Sequence[Pin], runner: Runner) -> Lock:
    asked = f"the dependencies on Python {short_python(python)}"
    options = ["--universal", "--format", "pylock.toml"]
    text = ask_uv(dependencies, python, pins, options=options, out="pylock.toml", asked=asked, runner=runner)
    return sealed(short_python(python), read_pylock(text))


def _ask_alone(dependencies: Sequence[str], python: str, target: Target, runner: Runner) -> dict[str, str]:
    options = [
        "--python-platform",
        target.uv_platform,
        "--only-binary",
        ":all:",
        "--no-annotate",
        "--no-header",
    ]
    asked = f"the dependencies on {target}"
    try:
        text = ask_uv(dependencies, python, (), options=options, out="alone.txt", asked=asked, runner=runner)
    except ResolutionError:
        return {}
    lines = (line.partition(";")[0] for line in text.splitlines() if "==" in line)
    return {name.strip(): version.strip() for name, _, version in (line.partition("==") for line in lines)}


def ask_uv(
    dependencies: Sequence[str],
    python: str,
    pins: Sequence[Pin],
    *,
    options: list[str],
    out: str,
    asked: str,
    runner: Runner,
) -> str:
    """One run of ``uv pip compile``; the text of the file it wrote.

    Raises:
        ResolutionError: there is no answer.
        PackageIndexError: the package index gave none.
    """
    with tempfile.TemporaryDirectory(prefix="ferryman-lock-") as folder:
        # A folder of its own: uv would read a pyproject.toml or uv.toml above the working directory, and an output
        # file that exists would sway the answer.
        here = Path(folder)
        (here / "requirements.in").write_text("".join(f"{line}\n" for line in dependencies), encoding="utf-8")
        (here / "pins.txt").write_text("".join(f"{pin_line(pin)}\n" for pin in pins), encoding="utf-8")
        words = [
            _uv(), "pip", "compile", "requirements.in", "--constraints", "pins.txt", "--output-file", out,
            "--python", sys.executable, "--python-version", python, "--quiet", "--no-progress", *options,
        ]  # fmt: skip
        done = runner.run(
            words, name=f"resolve {asked}", cwd=here, env=_environment(), timeout=_TIME_LIMIT, ok=range(-1, 256),
            failure=PackageIndexError, advice="See whether the package index answers.",
        )  # fmt: skip
        if done.returncode != 0:
            raise uv_messages.explain(done.output, asked)
        return (here / out).read_text(encoding="utf-8")


def _uv() -> str:
    try:
        import uv
    except ImportError:
        raise ToolMissingError("uv is not installed.", advice="Run `python -m pip install uv`.") from None
    return uv.find_uv_bin()


def _environment() -> dict[str, str]:
    settings = {name: value for name, value in os.environ.items() if _UV_SETTINGS.fullmatch(name)}
    return environment({**settings, "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"})


# --- remembering ------------------------------------------------------------------------------------------------------


def cached(
    cache: Path, kind: str, question: object, ask: Callable[[], T], shape: type[T], *, refresh: bool
) -> T:
    """The answer kept in ``cache`` for ``question``, else what ``ask`` says; kept as JSON, written beside and renamed."""
    path = cache / f"{kind}-{_digest([_CACHE_FORMAT, kind, question])}.json"
    if not refresh:
        try:
            return msgspec.json.decode(path.read_bytes(), type=shape)
        except (OSError, msgspec.DecodeError):
            pass  # not asked yet, or half a file of a machine that lost its power: ask (again)
    answer = ask()
    cache.mkdir(parents=True, exist_ok=True)
    handle, beside = tempfile.mkstemp(prefix=f".{kind}-", dir=cache)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(msgspec.json.encode(answer))
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    return answer


def _question(dependencies: Sequence[str], python: str, pins: Sequence[Pin]) -> list[object]:
    """Everything that decides an answer. Values of variables may be secret: only the digest is ever stored."""
    env = _environment()
    settings = sorted(
        (name, value)
        for name, value in env.items()
        if name.startswith(("UV_", "PIP_INDEX")) and not _PATIENCE.fullmatch(name)
    )
    files = [path.read_text(encoding="utf-8") for path in _uv_config_files(env) if path.is_file()]
    files += [f"{wheel.name} {file_digest(wheel)}" for wheel in _local_wheels(env)]
    lines = sorted(pin_line(pin) for pin in pins)
    # full_python: markers on the patch release are evaluated for this one
    return [sorted(dependencies), python, full_python(python), lines, metadata.version("uv"), settings, files]


def _local_wheels(env: Mapping[str, str]) -> list[Path]:
    """What the folders in UV_FIND_LINKS hold: a wheel that is put there changes the answer."""
    folders = (Path(place) for place in env.get("UV_FIND_LINKS", "").replace(",", " ").split())
    return [wheel for folder in folders for wheel in sorted(folder.glob("*.whl"))]


def _uv_config_files(env: Mapping[str, str]) -> tuple[Path, ...]:
    """Where uv reads the user's and the system's index settings from."""
    home = Path(env.get("APPDATA") or env.get("XDG_CONFIG_HOME") or Path(env.get("HOME", "~")) / ".config")
    return home / "uv" / "uv.toml", Path("/etc/uv/uv.toml"), Path("/etc/xdg/uv/uv.toml")


def _digest(value: object) -> str:
    return hashlib.sha256(msgspec.json.encode(value)).hexdigest()


# --- reading ----------------------------------------------------------------------------------------------------------


def read_pylock(text: str) -> tuple[LockedPackage, ...]:
    """The packages of a PEP 751 file, by name and version.

    Raises:
        ResolutionError: a package is not identified by an index, so that name and hash cannot stand for it.
    """
    packages = [_package(entry) for entry in tomllib.loads(text).get("packages", ())]
    return tuple(sorted(packages, key=lambda package: (package.name, package.version, package.marker)))


def _package(entry: Mapping[str, Any]) -> LockedPackage:
    foreign = {"vcs", "directory", "archive"} & entry.keys()
    if foreign:
        raise ResolutionError(
            f"The dependency {entry['name']} is named by a URL or a path, which a lock by name and hash cannot hold.",
            advice="Publish it to an index (UV_INDEX names further ones), or put its wheel into UV_FIND_LINKS.",
        )
    sdist = entry.get("sdist")
    return LockedPackage(
        name=canonicalize_name(entry["name"]),
        version=entry["version"],
        marker=entry.get("marker", ""),
        wheels=tuple(sorted(map(_wheel, entry.get("wheels", ())), key=lambda wheel: wheel.filename)),
        sdist=sdist is not None,
        sdist_sha256=sdist["hashes"].get("sha256", "") if sdist else "",
    )


def _wheel(entry: Mapping[str, Any]) -> Wheel:
    source = entry.get("name") or entry.get("url") or entry.get("path", "")
    filename = unquote(urlsplit(source).path.replace("\\", "/").rpartition("/")[2])
    return Wheel(filename=filename, sha256=entry["hashes"].get("sha256", ""), size=entry.get("size", 0))
