"""The Python of a runner's place, and the environment of build tools that is made for it without starting it.

Nothing is installed inside: uv unpacks the wheels of the target here, by hash, and a virtual environment is a folder with
a text file and a way to its interpreter. So there is no network in the place, no variable of pip's to leak into it, and no
minute of pip in an emulated processor.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from ferryman_build.cache import digest
from ferryman_build.cmd import Runner, environment
from ferryman_build.collect.environment import tool_requirements
from ferryman_build.errors import BuildStepError, ResolutionError, ToolMissingError
from ferryman_build.inspect.elf import read_elf
from ferryman_build.interpreter import Interpreter
from ferryman_build.locking import Lock, packages_for, requirements_text
from ferryman_build.runners.base import Place, Purpose, RunnerKind
from ferryman_build.settings import OLDEST_PYTHON
from ferryman_build.targets import Target

OWN = "_ferryman"  # of the folder below a place's working directory that is ours
_PROBE_SECONDS = 120.0
_INSTALL_SECONDS = 1800.0
_MOST_STEPS = 200  # of a path with links in it; more are a circle
# CPython for Windows has the starter of virtual environments among its modules.
_STARTER = Path("Lib") / "venv" / "scripts" / "nt" / "python.exe"


class ForeignInterpreter(Interpreter, frozen=True, kw_only=True):
    """A Python of the target. ``path`` and ``libpython`` are paths of this machine, for whoever copies from it.

    ``spelled`` is what the place calls the interpreter, ``windows`` whether its paths are Windows'. ``floor`` is the least
    that its programs need of a system, by what its own library asks for ({"glibc": "2.35"}): a promise below that cannot be
    kept.
    """

    spelled: str
    windows: bool
    floor: dict[str, str] = msgspec.field(default_factory=dict)


class _Facts(msgspec.Struct, frozen=True):
    version: str
    build: str
    implementation: str
    tag: str
    magic: str
    windows: bool
    prefix: str
    library: str


def inside(name: str) -> Path:
    """The path of a script in collect/inside."""
    return Path(str(resources.files("ferryman_build").joinpath(f"collect/inside/{name}")))


def run_in_place(
    place: Place, words: list[str | Path], *, name: str, cwd: Path, env: dict[str, str], folders: tuple[Path, ...],
    seconds: float, runner: Runner, advice: str = "", failure: type[BuildStepError | ToolMissingError] = BuildStepError,
) -> str:  # fmt: skip
    """Run a program of the target to its end; what it said. The name of the place is in every message.

    Raises:
        BuildStepError: or ``failure``: it failed, or took longer than ``seconds`` and was ended with its group.
    """
    command = place.command(words, cwd=cwd, env=env, folders=folders)
    done = runner.run(
        command.words, name=f"{name} ({place.label})", cwd=command.cwd, env=command.env, timeout=seconds,
        failure=failure, advice=advice,
    )  # fmt: skip
    return done.output


def probe_foreign(place: Place, work: Path, runner: Runner) -> ForeignInterpreter:
    """What the Python of ``place`` is; ``work`` is a folder to run it in.

    Raises:
        ToolMissingError: there is none, it does not run, it is too old or no CPython, or it has no shared library.
    """
    if place.python is None:
        raise ToolMissingError(
            f"The place {place.label} has no Python of the target.",
            advice="`ferryman doctor` says how the runner gets one.",
        )
    said = run_in_place(
        place, [place.python, "-I", "-S", "-c", inside("foreign_probe.py").read_text(encoding="utf-8")],
        name="probe-python", cwd=work, env=tool_variables(place, work, windows=place.python.suffix == ".exe"),
        folders=(work,), seconds=_PROBE_SECONDS, runner=runner, failure=ToolMissingError,
        advice="Set the runner up again: `ferryman runners setup`.",
    )  # fmt: skip
    try:
        facts = msgspec.json.decode(said.strip().splitlines()[-1], type=_Facts)
    except (IndexError, msgspec.DecodeError):
        raise ToolMissingError(
            f"{place.python} of the place {place.label} does not answer as a Python does.",
            advice="Set the runner up again: `ferryman runners setup`.", details=said.splitlines()[-5:],
        ) from None  # fmt: skip
    shutil.rmtree(work / OWN, ignore_errors=True)
    _refuse(facts, place)
    library = real_file(place.unspell(facts.library), place.root) if facts.library else None
    return ForeignInterpreter(
        path=place.python, version=facts.version, tag=facts.tag, identity=f"{facts.build} {place.python}",
        libpython=library, spelled=place.spell(place.python), bytecode=bytes.fromhex(facts.magic),
        windows=facts.windows, floor=_floor(library),
    )  # fmt: skip


def _floor(library: Path | None) -> dict[str, str]:
    """What a shared library asks of the C library; {} for none, and for what is no library of Linux."""
    if library is None:
        return {}
    try:
        with library.open("rb") as file:
            found = read_elf(library.name, file).floor
    except (OSError, ValueError):
        return {}  # the inspect step says so
    return {name: reason.version for name, reason in found.items()}


class _Remembered(msgspec.Struct, frozen=True):
    """A probe's answer, and what the interpreter's file was like then: size in bytes, time in ns."""

    python: dict[str, Any]
    file: tuple[int, int]


def known_foreign(
    kind: RunnerKind, target: Target, floor: Mapping[str, str], work: Path, cache: Path, runner: Runner
) -> ForeignInterpreter:
    """The Python in which ``kind`` builds for ``target``: as remembered in ``cache`` while it is the same file, or probed.

    Args:
        floor: the promise, as for opening a place.
        work: a folder for the place, where one has to be opened.
        cache: a folder of kept answers.

    Raises:
        ToolMissingError: ``kind`` is not ready, or see :func:`probe_foreign`.
    """
    root = getattr(kind, "python_root", None)
    question = [
        kind.name,
        target.id,
        kind.ready(target, Purpose.BUILD, floor).found,
        sorted(floor.items()),
        str(root),
    ]
    record = cache / f"foreign-{digest(question)}.json"
    try:
        kept = msgspec.json.decode(record.read_bytes(), type=_Remembered)
        python = msgspec.convert(kept.python, ForeignInterpreter, dec_hook=lambda kind, value: kind(value))
        if _file_of(python.path) == kept.file:
            return python
    except (OSError, msgspec.MsgspecError):
        pass  # never asked, or not to be read any more
    with kind.open(target, Purpose.BUILD, floor, work, runner) as place:
        python = probe_foreign(place, work, runner)
    cache.mkdir(parents=True, exist_ok=True)
    facts = msgspec.to_builtins(python, enc_hook=str)
    draft = record.with_suffix(f".{os.getpid()}")
    draft.write_bytes(msgspec.json.encode(_Remembered(facts, _file_of(python.path))))
    draft.replace(record)
    return python


def _file_of(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def real_file(path: Path, root: Path | None) -> Path:
    """The file that a path below ``root`` leads to, its links read as programs inside do: absolute ones start at ``root``.

    Outside of ``root``, and where there is no such file, the path stays as it is.
    """
    if root is None or not path.is_relative_to(root):
        return path
    place, waiting = root, list(reversed(path.relative_to(root).parts))
    for _ in range(_MOST_STEPS):
        if not waiting:
            return place
        part = waiting.pop()
        if part == "..":
            place = place.parent if place != root else root
            continue
        place /= part
        if place.is_symlink():
            target = place.readlink()
            place = root if target.is_absolute() else place.parent
            waiting += reversed([part for part in target.parts if part != "/"])
    return path


def _refuse(facts: _Facts, place: Place) -> None:
    oldest = ".".join(map(str, OLDEST_PYTHON))
    problem = ""
    if facts.implementation != "cpython":
        problem = f"is {facts.implementation}, and only CPython can be frozen"
    elif tuple(map(int, facts.version.split(".")[:2])) < OLDEST_PYTHON:
        problem = f"is {facts.version}, and the oldest that can be frozen is {oldest}"
    elif not facts.windows and not facts.library:
        problem = "has no shared library (libpython), which a frozen program needs"
    if problem:
        raise ToolMissingError(
            f"The Python of the place {place.label} {problem}.",
            advice='Choose another userland or Python for it, or set collector = "standalone" for this target.',
        )


def require_same_bytecode(python: ForeignInterpreter, compiler: Interpreter) -> None:
    """The Python of this machine compiles for the target; both must agree on what bytecode is.

    Raises:
        ToolMissingError: they do not.
    """
    if compiler.bytecode != python.bytecode:
        raise ToolMissingError(
            f"Modules are compiled by Python {compiler.version} ({compiler.path}), and the target's is {python.version}.",
            advice=f"Build with --python {python.short} (`uv python install {python.short}` gets one).",
        )


def foreign_requirements(lock: Lock, target: Target, python: str) -> tuple[str, tuple[str, ...]]:
    """(requirements with hashes of project and tools for ``target``, names of the project's own).

    Raises:
        ResolutionError: a package has no wheel for the target.
    """
    packages = packages_for(lock, target, python)
    names = tuple(package.name for package in packages)
    return requirements_text(packages, target, python) + tool_requirements(names), names


def make_foreign_environment(
    into: Path,
    python: ForeignInterpreter,
    compiler: Interpreter,
    target: Target,
    requirements: str,
    runner: Runner,
) -> Path:
    """Create ``into``/env with ``requirements`` (text with hashes, see :func:`foreign_requirements`) from wheels only.

    ``compiler`` is the Python of this machine that has the target's bytecode.

    Raises:
        ResolutionError: something could not be downloaded, its hash is another one, or uv does not know the target.
        ToolMissingError: see :func:`require_same_bytecode`.
    """
    import uv

    if not target.uv_platform:
        raise ResolutionError(
            f"Wheels for {target} cannot be chosen from here.",
            advice=f'Set collector = "standalone" for {target}.',
        )
    require_same_bytecode(python, compiler)
    env = into / "env"
    site = _make_venv(env, python)
    listed = into / "requirements.txt"
    listed.write_text(requirements, encoding="utf-8")
    runner.run(
        [uv.find_uv_bin(), "pip", "install", "--quiet", "--no-config", "--python", compiler.path, "--python-platform",
         target.uv_platform, "--python-version", python.version, "--target", site, "--require-hashes", "--no-deps",
         "--only-binary", ":all:", "--compile-bytecode", "--link-mode", "copy", "-r", listed],
        name=f"install ({target})", failure=ResolutionError, timeout=_INSTALL_SECONDS,
        advice="Look at the named distribution; `ferryman plan` says which wheels are missing, and `ferryman lock` "
        "writes the lock anew.", env=environment({"UV_PYTHON_DOWNLOADS": "never"}),
    )  # fmt: skip
    for beside in ("bin", "Scripts"):  # commands of a prefix that is not this one
        shutil.rmtree(site / beside, ignore_errors=True)
    return env


def _make_venv(env: Path, python: ForeignInterpreter) -> Path:
    """The folders of a virtual environment, and its site-packages."""
    site = env / ("Lib" if python.windows else f"lib/python{python.short}") / "site-packages"
    site.mkdir(parents=True)
    home, _, name = python.spelled.replace("\\", "/").rpartition("/")
    if python.windows:
        home = python.spelled.rpartition("\\")[0]
        starter = python.path.parent / _STARTER
        if not starter.is_file():
            raise ToolMissingError(
                f"{python.path.parent} has no {_STARTER.as_posix()}, which starts virtual environments.",
                advice="Use a whole CPython for Windows, not the embeddable one.",
            )
        (env / "Scripts").mkdir()
        shutil.copyfile(starter, env / "Scripts" / "python.exe")
    else:
        (env / "bin").mkdir()
        (env / "bin" / "python").symlink_to(f"{home}/{name}")
    (env / "pyvenv.cfg").write_text(
        f"home = {home}\ninclude-system-site-packages = false\nversion = {python.version}\n", encoding="utf-8"
    )
    return site


def foreign_python(env: Path, python: ForeignInterpreter) -> Path:
    """The interpreter of an environment that :func:`make_foreign_environment` made."""
    return env / ("Scripts/python.exe" if python.windows else "bin/python")


def own_folder(work: Path, name: str) -> Path:
    """A folder for what the tools need beside the program's files: its name is nothing that a program imports."""
    made = work / OWN / name
    made.mkdir(parents=True, exist_ok=True)
    return made


def tool_variables(place: Place, work: Path, *, windows: bool) -> dict[str, str]:
    """The whole environment of a build tool in the place: nothing of this machine's, and folders below ``work``."""
    tmp, home = own_folder(work, "tmp"), own_folder(work, "home")
    # No bytecode is written: not into a runtime that others use, and what it needs of its own comes compiled.
    fixed = {"PYTHONHASHSEED": "0", "PYTHONUTF8": "1", "PYTHONNOUSERSITE": "1", "PYTHONDONTWRITEBYTECODE": "1",
             "SOURCE_DATE_EPOCH": "315532800"}  # fmt: skip
    spelled = {name: place.spell(tmp) for name in (("TEMP", "TMP") if windows else ("TMPDIR",))}
    if windows:
        return {**fixed, **spelled}
    return {**fixed, **spelled, "HOME": place.spell(home), "LC_ALL": "C.UTF-8",
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}  # fmt: skip
