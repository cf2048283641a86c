"""The PyInstaller collector: its analysis and its hooks, run in the isolated environment.

Its bootloader starts the program only where a project asks for that (`bundle = "pyinstaller"`); its module archive, its
base_library.zip, a few of its runtime hooks and its use of strip, objdump and objcopy are never used.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import msgspec

from ferryman_build.cmd import Runner, environment
from ferryman_build.collect.analysis import Analysis, Entry, EntryKind, Origin, Origins
from ferryman_build.collect.environment import env_python, run_inside
from ferryman_build.errors import BuildStepError
from ferryman_build.interpreter import Interpreter
from ferryman_build.targets import Os, Target

CONTENTS = "_internal"


def inside(name: str) -> Path:
    """The path of a script in collect/inside."""
    return Path(str(resources.files("ferryman_build").joinpath(f"collect/inside/{name}")))


def exclusions(imported: Iterable[str], keep: Iterable[str]) -> dict[str, str]:
    """Module → reason, of resources/exclusions.toml less what the project imports or keeps."""
    text = resources.files("ferryman_build").joinpath("resources/exclusions.toml").read_text(encoding="utf-8")
    spared = {*imported, *keep}
    rows = {name: _Exclusion(why=row) if isinstance(row, str) else msgspec.convert(row, _Exclusion)
            for name, row in tomllib.loads(text).items()}  # fmt: skip
    excluded = {name: row.why for name, row in rows.items() if not _spared(name, spared)}
    # What a spared module imports is spared too: tkinter without its native half is a traceback at start.
    while needed := [name for name in excluded if not excluded.keys() >= set(rows[name].used_by)]:
        for name in needed:
            del excluded[name]
    return excluded


class _Exclusion(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="kebab"):
    why: str
    used_by: tuple[str, ...] = ()


def _spared(module: str, spared: set[str]) -> bool:
    return any(name == module or name.startswith(f"{module}.") for name in spared)


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What analyse.spec is told. ``data`` are pairs of absolute source and folder of the tree."""

    script: str
    app: str
    answer: str
    libpython: str
    optimize: int
    hidden_imports: tuple[str, ...]
    plugins: tuple[str, ...]
    collect_data: tuple[str, ...]
    collect_submodules: tuple[str, ...]
    excludes: tuple[str, ...]
    distributions: tuple[str, ...]
    data: tuple[tuple[str, str], ...]


class _Answer(msgspec.Struct, frozen=True):
    modules: list[tuple[str, str | None, str]]
    files: list[tuple[str, str, str]]
    scripts: list[tuple[str, str, str]]
    missing: list[str]
    tools: dict[str, str]


def entry_script(entry_point: str, start: str = "import sys\n") -> str:
    """The program's main script for "module:attribute"; ``start`` is what it begins with.

    Without ``__file__``, a child that multiprocessing spawns does not look for the main script's source.
    """
    module, _, attribute = entry_point.partition(":")
    first = attribute.split(".")[0]
    return f"{start}from {module} import {first}\nsys.exit({attribute}())\n"


def analyse(request: Request, origins: Origins, into: Path, runner: Runner) -> Analysis:
    """Run PyInstaller's analysis; ``into`` is kept and holds what the analysis itself made (Origin.WORK).

    Raises:
        BuildStepError: PyInstaller failed; the advice names the usual causes.
    """
    asked = into / "request.json"
    asked.write_bytes(msgspec.json.encode(request))
    work = into / "work"
    runner.run(
        [env_python(origins.env), "-X", "utf8", "-m", "PyInstaller", "--noconfirm", "--clean", "--log-level", "INFO",
         "--workpath", work, "--distpath", into / "unused", inside("analyse.spec")],
        name="analyse", cwd=into,
        env=environment({
            "FERRYMAN_REQUEST": str(asked), "PYTHONPATH": request.app, "PATH": _tool_path(into),
            "PYINSTALLER_CONFIG_DIR": str(into / "config"), "SOURCE_DATE_EPOCH": "315532800",
        }),
        advice="Look at the log: a hidden import that does not exist, a hook that fails, or an entry point that "
        "cannot be imported.",
    )  # fmt: skip
    answer = msgspec.json.decode(Path(request.answer).read_bytes(), type=_Answer)
    return _digest_answer(answer, origins)


def _tool_path(into: Path) -> str:
    """PATH with a stand-in for objdump at its end.

    On Linux PyInstaller refuses to start without objdump and asks it one thing: is this file an object file? Where
    binutils is missing the stand-in answers from the first four bytes.
    """
    folder = into / "bin"
    folder.mkdir(exist_ok=True)
    stand_in = folder / "objdump"
    stand_in.write_text(
        '#!/bin/sh\n[ "$(head -c 4 "$2" | od -An -c | tr -d " ")" = "177ELF" ]\n', encoding="utf-8"
    )
    stand_in.chmod(0o755)
    return os.pathsep.join((os.environ.get("PATH", os.defpath), str(folder)))


def _digest_answer(answer: _Answer, origins: Origins) -> Analysis:
    entries = [*_modules(answer, origins), *_files(answer, origins)]
    return Analysis(
        entries=tuple(sorted({entry.dest: entry for entry in entries}.values())),
        hooks=tuple(_hooks(answer, origins)), missing=tuple(answer.missing), tools=answer.tools,
    )  # fmt: skip


def _modules(answer: _Answer, origins: Origins) -> Iterable[Entry]:
    for name, source, _ in answer.modules:
        if source in (None, "-"):
            continue  # a namespace package has no file
        stem = name.replace(".", "/") + ("/__init__" if Path(str(source)).stem == "__init__" else "")
        origin, path = origins.classify(str(source))
        yield Entry(f"{stem}.pyc", EntryKind.MODULE, origin, path)


def _files(answer: _Answer, origins: Origins) -> Iterable[Entry]:
    kinds = {"BINARY": EntryKind.NATIVE, "EXTENSION": EntryKind.NATIVE, "SYMLINK": EntryKind.LINK}
    for dest, source, code in answer.files:
        kind = kinds.get(code, EntryKind.DATA)
        place = Path(dest).as_posix()
        if kind is EntryKind.LINK:
            yield Entry(place, kind, Origin.HOST, source)
        else:
            yield Entry(place, kind, *origins.classify(source))


def _hooks(answer: _Answer, origins: Origins) -> Iterable[Entry]:
    """The hooks that run before the program, by resources/runtime_hooks.toml."""
    text = (
        resources.files("ferryman_build").joinpath("resources/runtime_hooks.toml").read_text(encoding="utf-8")
    )
    dropped = tomllib.loads(text)["drop"]
    for name, source, _ in answer.scripts[:-1]:  # the last one is the program
        if name not in dropped:
            yield Entry(name, EntryKind.MODULE, *origins.classify(source))


class PackRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What pack.py is told; ``files`` are (dest, source, "b" | "x" | "n")."""

    kind: str
    scripts: tuple[tuple[str, str], ...]
    files: tuple[tuple[str, str, str], ...]
    optimize: int
    libpython: str
    contents: str
    level: int
    blobs: str
    output: str


def pack(request: PackRequest, env: Path, into: Path, runner: Runner) -> None:
    """Write a PyInstaller executable at ``request.output``."""
    asked = into / "request.json"
    asked.write_bytes(msgspec.json.encode(request))
    run_inside(env, inside("pack.py"), asked, runner, name=f"pack-{request.kind}")
    asked.unlink()


def compile_modules(
    modules: Iterable[tuple[Path, str, Path]], optimize: int, env: Path, into: Path, runner: Runner
) -> None:
    """Compile (source, shown name, destination), all in one process of the target's interpreter.

    A module that does not compile gets no destination; the log names it.
    """
    jobs = [(str(source), shown, str(destination)) for source, shown, destination in modules]
    asked = into / "compile.json"
    asked.write_bytes(msgspec.json.encode({"optimize": optimize, "modules": jobs}))
    run_inside(env, inside("compile.py"), asked, runner, name="compile")
    asked.unlink()


def library_name(interpreter: Interpreter, target: Target) -> str:
    """What the bootloader loads from the tree."""
    if target.os is Os.WINDOWS:
        return f"python{interpreter.short.replace('.', '')}.dll"
    if interpreter.libpython is None:
        raise BuildStepError("The interpreter has no shared library.", advice="See `ferryman doctor`.")
    return interpreter.libpython.name
