"""The host interpreter that a tree is made from, and its shared library.

PyInstaller's bootloader (and any launcher) loads CPython as a shared library. Debian and Ubuntu link their python3
statically and put libpython into a package of its own, which a machine with python3 and python3-venv does not have.
There Ferryman fetches exactly the package that belongs to the installed python3 (same version, checked by apt with
the distribution's keys) into its own cache; no root rights are needed and the system stays as it is.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import msgspec

from ferryman_build.cmd import Runner, environment
from ferryman_build.errors import ToolMissingError
from ferryman_build.inspect.elf import read_elf
from ferryman_build.settings import OLDEST_PYTHON

_BY_HAND = "Install it by hand as root (`apt-get install %s`), or name another interpreter with --python."
_HEADER = Path("cpython") / "initconfig.h"
_HEADERS_PROBE = """
import json, sys, sysconfig
var = sysconfig.get_config_var
print(json.dumps({
    "folders": [sysconfig.get_path("include"), sysconfig.get_path("platinclude"), var("INCLUDEPY") or ""],
    "free": bool(var("Py_GIL_DISABLED")),
}))
"""
_PROBE = """
import json, os, platform, sys, sysconfig
var = sysconfig.get_config_var
print(json.dumps({
    "path": os.path.realpath(sys.executable), "version": platform.python_version(), "build": sys.version,
    "implementation": sys.implementation.name, "tag": sys.implementation.cache_tag, "prefix": sys.base_prefix,
    "shared": var("INSTSONAME") or var("LDLIBRARY") or "", "libdir": var("LIBDIR") or "",
    "multiarch": var("MULTIARCH") or "", "magic": __import__("importlib.util").util.MAGIC_NUMBER.hex(), "enabled": bool(var("Py_ENABLE_SHARED")), "windows": os.name == "nt",
}))
"""


class Interpreter(msgspec.Struct, frozen=True, kw_only=True):
    """A CPython on this machine. ``libpython`` is the shared library, or None on Windows where the bootloader finds it.

    ``identity`` changes whenever another build of Python is installed under the same path; ``bytecode`` are the first
    four bytes of its bytecode files.
    """

    path: Path
    version: str
    tag: str
    identity: str
    libpython: Path | None
    bytecode: bytes = b""

    @property
    def short(self) -> str:
        """X.Y."""
        return ".".join(self.version.split(".")[:2])


class Headers(msgspec.Struct, frozen=True, kw_only=True):
    """CPython's own headers: the folder that holds ``cpython/initconfig.h``, and what its build defines.

    A free-threaded build defines Py_GIL_DISABLED, and its PyConfig has one field more.
    """

    folder: Path
    defines: tuple[str, ...] = ()


class _HeaderFacts(msgspec.Struct, frozen=True):
    folders: tuple[str, ...]
    free: bool


class _Facts(msgspec.Struct, frozen=True):
    path: str
    version: str
    build: str
    implementation: str
    tag: str
    prefix: str
    shared: str
    libdir: str
    multiarch: str
    enabled: bool
    windows: bool
    magic: str = ""


def find_interpreter(
    wanted: str, runner: Runner, cache: Path, say: Callable[[str], None] = print
) -> Interpreter:
    """The interpreter that ``wanted`` names: "" (the one running Ferryman), "3.12", or a path.

    Raises:
        ToolMissingError: it is not here, is not CPython, or has no shared library that could be found or fetched.
    """
    path = _locate(wanted, runner)
    facts = _probe(path, runner)
    if facts.implementation != "cpython":
        raise ToolMissingError(
            f"{path} is {facts.implementation}, and only CPython can be frozen.",
            advice="Name a CPython with --python.",
        )
    if tuple(map(int, facts.version.split(".")[:2])) < OLDEST_PYTHON:
        raise ToolMissingError(
            f"{path} is Python {facts.version}, and the oldest that can be frozen is {'.'.join(map(str, OLDEST_PYTHON))}.",
            advice="Name a newer one with --python, or with `python` in [tool.ferryman].",
        )
    library = None if facts.windows else _shared_library(facts, runner, cache, say)
    return Interpreter(
        path=Path(facts.path), version=facts.version, tag=facts.tag, identity=facts.build, libpython=library,
        bytecode=bytes.fromhex(facts.magic),
    )  # fmt: skip


def python_floor(wanted: str, runner: Runner) -> dict[str, str]:
    """What the Python that ``wanted`` names needs of its C library ({"glibc": "2.36"}), without fetching anything.

    {} where that cannot be told: no Linux, no such Python, one that is linked in another way.
    """
    try:
        facts = _probe(_locate(wanted, runner), runner)
    except ToolMissingError:
        return {}
    for path in (*_library_places(facts), Path(facts.path)):
        if path.is_file():
            with path.open("rb") as file:
                if not file.read(4).startswith(b"\x7fELF"):
                    return {}
                file.seek(0)
                return {system: reason.version for system, reason in read_elf(path.name, file).floor.items()}
    return {}


def find_headers(
    interpreter: Interpreter, runner: Runner, cache: Path, say: Callable[[str], None] = print
) -> Headers:
    """The headers of ``interpreter``, which only a build of the launcher needs; fetched where libpython would be.

    Raises:
        ToolMissingError: they are not here and could not be fetched.
    """
    asked = runner.run(
        [interpreter.path, "-I", "-S", "-c", _HEADERS_PROBE], name="probe-headers", failure=ToolMissingError,
        advice=f"{interpreter.path} does not run as a Python; correct `python` or --python.",
    )  # fmt: skip
    found = msgspec.json.decode(asked.output.strip().splitlines()[-1], type=_HeaderFacts)
    defines = ("Py_GIL_DISABLED",) if found.free else ()
    for folder in map(Path, filter(None, found.folders)):
        if (folder / _HEADER).is_file():
            return Headers(folder=folder.resolve(), defines=defines)
    if interpreter.path.parent == Path("/usr/bin") and _has_apt():
        return Headers(folder=_fetched_headers(interpreter, runner, cache, say), defines=defines)
    raise ToolMissingError(
        f"{interpreter.path} has no headers ({_HEADER.as_posix()}), which the launcher is compiled with.",
        advice=f"Install them (Fedora: python3-devel; Alpine: python3-dev; Debian: python{interpreter.short}-dev), "
        f'use another interpreter: `uv python install {interpreter.short}` and --python, or set bundle = "pyinstaller".',
    )


def _fetched_headers(
    interpreter: Interpreter, runner: Runner, cache: Path, say: Callable[[str], None]
) -> Path:
    package = f"libpython{interpreter.short}-dev"
    home = _package(interpreter.short, package, "headers", runner, cache, say, interpreter.path)
    for found in sorted(home.glob(f"usr/include/python{interpreter.short}*/{_HEADER.as_posix()}")):
        return found.parent.parent.resolve()
    raise ToolMissingError(
        f"The distribution's package {package} holds no {_HEADER.as_posix()}.",
        advice=f"Install {package} with the package manager, or name another interpreter with --python.",
    )


def _locate(wanted: str, runner: Runner) -> Path:
    ours = Path(getattr(sys, "_base_executable", sys.executable))
    if wanted in ("", ".".join(map(str, sys.version_info[:2]))):
        return ours
    if not re.fullmatch(r"3\.\d+", wanted):
        if Path(wanted).is_file() and os.access(wanted, os.X_OK):
            return Path(wanted)
        raise ToolMissingError(
            f"There is no interpreter at {wanted}.", advice="Correct `python` or --python: 3.12, or a path."
        )
    import uv

    found = runner.run(
        [uv.find_uv_bin(), "python", "find", "--no-project", "--system", "--no-python-downloads", wanted],
        name="find-python", failure=ToolMissingError, env=environment({"PATH": _search_path(wanted)}),
        advice=f"Install Python {wanted} (for example `uv python install {wanted}`), or change `python`.",
    )  # fmt: skip
    return Path(found.output.strip().splitlines()[-1])


def _search_path(wanted: str) -> str:
    """PATH without pyenv's shims, which stand for versions that may not be chosen, but with those versions themselves."""
    home = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    listed = os.environ.get("PATH", os.defpath).split(os.pathsep)
    direct = [folder for folder in listed if Path(folder) != home / "shims"]
    return os.pathsep.join((*direct, *map(str, sorted(home.glob(f"versions/{wanted}.*/bin")))))


def _probe(path: Path, runner: Runner) -> _Facts:
    done = runner.run(
        [path, "-I", "-S", "-c", _PROBE], name="probe-python", failure=ToolMissingError,
        advice=f"{path} does not run as a Python; correct `python` or --python.",
    )  # fmt: skip
    return msgspec.json.decode(done.output.strip().splitlines()[-1], type=_Facts)


def _library_places(facts: _Facts) -> Iterator[Path]:
    """Where the shared library of an interpreter may lie."""
    short = ".".join(facts.version.split(".")[:2])
    names = [facts.shared] if facts.enabled else []
    names += [f"libpython{short}.so.1.0", f"libpython{short}.dylib"]
    folders = (
        facts.libdir,
        f"{facts.prefix}/lib",
        f"{facts.libdir}/{facts.multiarch}",
        f"{facts.prefix}/lib64",
    )
    for folder in filter(None, folders):
        yield from (path for name in names if (path := Path(folder) / name).suffix != ".a")


def _shared_library(facts: _Facts, runner: Runner, cache: Path, say: Callable[[str], None]) -> Path:
    short = ".".join(facts.version.split(".")[:2])
    for found in _library_places(facts):
        if found.is_file():
            return found.resolve()
    if facts.prefix == "/usr" and _has_apt():
        return _from_distribution(facts, f"libpython{short}.so.1.0", runner, cache, say)
    raise ToolMissingError(
        f"{facts.path} has no shared library (libpython{short}), which a frozen program needs.",
        advice=f"Install it (Fedora: python3-libs; Alpine: python3; pyenv: build with --enable-shared), or use "
        f"another interpreter: `uv python install {short}` and --python.",
    )


def _has_apt() -> bool:
    return bool(shutil.which("apt-get") and shutil.which("dpkg-deb"))


def _from_distribution(
    facts: _Facts, library: str, runner: Runner, cache: Path, say: Callable[[str], None]
) -> Path:
    short = ".".join(facts.version.split(".")[:2])
    package = f"libpython{short}"
    home = _package(short, package, "libpython", runner, cache, say, Path(facts.path))
    for found in home.rglob(library):
        return found.resolve()
    raise ToolMissingError(
        f"The distribution's package {package} ({home.name}) holds no {library}.",
        advice=f"Install {package} with the package manager, or name another interpreter with --python.",
    )


def _package(
    short: str,
    package: str,
    shelf: str,
    runner: Runner,
    cache: Path,
    say: Callable[[str], None],
    python: Path,
) -> Path:
    """The content of ``package`` as it belongs to the installed python3: from ``cache``/``shelf``, or fetched."""
    shown = runner.run(
        ["dpkg-query", "-W", "-f", "${Version} ${Architecture}", f"python{short}-minimal"],
        name="dpkg-query", failure=ToolMissingError, advice=f"Install {package} with the package manager.",
    )  # fmt: skip
    version, architecture = shown.output.split()
    home = cache / shelf / re.sub(r"[^A-Za-z0-9.+~-]", "_", f"{short}-{version}-{architecture}")
    if not home.is_dir():
        say(f"{python} comes without {package}; fetching it ({version}) from the distribution")
        _fetch_package(package, version, home, runner)
    return home


def _fetch_package(package: str, version: str, home: Path, runner: Runner) -> None:
    """Download and unpack with apt's lists in a private folder: works for any user and changes nothing outside it."""
    if "\n" in str(home):  # apt and its methods speak in lines: they would ask each other for ever
        raise ToolMissingError(
            "apt cannot download into a folder whose path has a line break.",
            advice="Name another folder with --out.",
        )
    draft = home.with_name(f".draft-{home.name}-{os.getpid()}")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        _download(package, version, draft, runner)
        for archive in _same_release(draft.glob("*.deb"), package, version):
            runner.run(["dpkg-deb", "-x", archive, draft / "root"], name="dpkg-deb", failure=ToolMissingError)
        home.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(home, ignore_errors=True)
        (draft / "root").rename(home)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _download(package: str, version: str, draft: Path, runner: Runner) -> None:
    """The installed version; where the mirror has dropped it for a security update, the update."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (draft / folder).mkdir(parents=True)
    options = [
        f"-oDir::State::Lists={draft}/lists",
        f"-oDir::Cache={draft}/cache",
        "-oAPT::Sandbox::User=root",
    ]

    def apt(*words: str, ok: tuple[int, ...] = (0,)) -> None:
        runner.run(
            ["apt-get", *options, *words], name=f"apt-{words[0]}", cwd=draft, ok=ok,
            env=environment({"DEBIAN_FRONTEND": "noninteractive"}), failure=ToolMissingError, advice=_BY_HAND % package,
        )  # fmt: skip

    apt("update", "-q")
    apt("download", "-q", f"{package}={version}", ok=(0, 100))
    if not list(draft.glob("*.deb")):
        apt("download", "-q", package)


def _same_release(archives: Iterable[Path], package: str, version: str) -> list[Path]:
    """A library of another CPython release than the installed modules would be a program that nobody has tested."""
    upstream = version.rpartition("-")[0]
    found = list(archives)
    other = [path.name for path in found if not path.name.startswith(f"{package}_{upstream}-")]
    if other:
        raise ToolMissingError(
            f"The distribution offers {other[0]} and the installed python3 is {version}.",
            advice="Upgrade python3 (`apt-get upgrade`), or name another interpreter with --python.",
        )
    return found
