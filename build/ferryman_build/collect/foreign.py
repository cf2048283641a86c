"""PyInstaller's analysis of a program for another machine, run by that machine's Python through a runner.

    kind.open(target, BUILD, …) ─▶ Place ─▶ probe_foreign ─▶ make_foreign_environment ─▶ analyse_foreign ─▶ Analysis

The analysis alone runs there. What it found are paths of the place; here they become paths of this machine, so that the
tree is assembled here: modules are compiled by a Python of the same version, search paths are set by this machine's
patchelf (:func:`ferryman_build.tree.assemble` with ``tools``).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import msgspec

from ferryman_build.cmd import Runner
from ferryman_build.collect import pyinstaller as collector
from ferryman_build.collect.analysis import Analysis, Origins
from ferryman_build.collect.foreign_python import (
    OWN,
    ForeignInterpreter,
    foreign_python,
    foreign_requirements,
    inside,
    known_foreign,
    make_foreign_environment,
    own_folder,
    probe_foreign,
    real_file,
    require_same_bytecode,
    run_in_place,
    tool_variables,
)
from ferryman_build.errors import BuildStepError
from ferryman_build.runners.base import Place

__all__ = [
    "ForeignInterpreter", "analyse_foreign", "foreign_python", "foreign_requirements", "known_foreign", "make_foreign_environment",
    "probe_foreign", "require_same_bytecode",
]  # fmt: skip

ANALYSE_SECONDS = 3600.0
_FIRST_WITH_WMI = (3, 12)
# PyInstaller asks objdump one thing, having seen the first four bytes itself: is this an object file?
_STAND_INS = {"objdump": "#!/bin/sh\nexit 0\n"}


def analyse_foreign(
    request: collector.Request, origins: Origins, into: Path, place: Place, python: ForeignInterpreter, runner: Runner,
    *, seconds: float = ANALYSE_SECONDS,
) -> Analysis:  # fmt: skip
    """Run PyInstaller's analysis in ``place``.

    Args:
        request: as for :func:`ferryman_build.collect.pyinstaller.analyse`, with paths of this machine; ``libpython`` is
            that of ``python``.
        origins: ``env`` is what :func:`make_foreign_environment` made; ``app`` the project's wheel for the target.
        into: is kept and holds what the analysis itself made (Origin.WORK).
        place: an open one, with :attr:`~ferryman_build.runners.base.Purpose.BUILD`.
        python: of that place.
        runner: starts it.
        seconds: after which the whole group is ended.

    Raises:
        BuildStepError: PyInstaller failed or did not end; the message names the place.
    """
    spec = into / "analyse.spec"  # the place need not show where Ferryman is installed
    shutil.copyfile(inside("analyse.spec"), spec)
    asked = into / "request.json"
    asked.write_bytes(msgspec.json.encode(_spelled(request, place)))
    folders = tuple(dict.fromkeys((into, origins.env, origins.app, origins.project)))
    run_in_place(
        place,
        [foreign_python(origins.env, python), "-X", "utf8", "-m", "PyInstaller", "--noconfirm", "--clean",
         "--log-level", "INFO", "--workpath", into / "work", "--distpath", into / "unused", spec],
        name="analyse", cwd=into, env=_variables(request, asked, into, place, python), folders=folders, seconds=seconds,
        runner=runner,
        advice="Look at the log: a hidden import that does not exist, a hook that fails, or an entry point that cannot "
        "be imported.",
    )  # fmt: skip
    shutil.rmtree(into / OWN, ignore_errors=True)
    return _read_answer(Path(request.answer), origins, place, python)


def _spelled(request: collector.Request, place: Place) -> collector.Request:
    """The request with every path as the place calls it."""

    def spell(path: str) -> str:
        return place.spell(Path(path)) if path else ""

    return msgspec.structs.replace(
        request, script=spell(request.script), app=spell(request.app), answer=spell(request.answer),
        libpython=spell(request.libpython), data=tuple((spell(source), folder) for source, folder in request.data),
    )  # fmt: skip


def _variables(
    request: collector.Request, asked: Path, into: Path, place: Place, python: ForeignInterpreter
) -> dict[str, str]:
    paths = [Path(request.app)]
    if python.windows and tuple(map(int, python.short.split("."))) >= _FIRST_WITH_WMI:
        paths.append(own_folder(into, "site"))
        shutil.copyfile(inside("foreign_site.py"), paths[-1] / "sitecustomize.py")
    known = tool_variables(place, into, windows=python.windows)
    if not python.windows:
        known["PATH"] = f"{place.spell(_stand_ins(into))}:{known['PATH']}"
    return {
        **known, "FERRYMAN_REQUEST": place.spell(asked), "PYINSTALLER_CONFIG_DIR": place.spell(into / "config"),
        "PYTHONPATH": (";" if python.windows else ":").join(map(place.spell, paths)),
    }  # fmt: skip


def _stand_ins(into: Path) -> Path:
    folder = own_folder(into, "bin")
    for name, text in _STAND_INS.items():
        (folder / name).write_text(text, encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder


# --- the answer -------------------------------------------------------------------------------------------------------


def _read_answer(path: Path, origins: Origins, place: Place, python: ForeignInterpreter) -> Analysis:
    try:
        answer = msgspec.json.decode(path.read_bytes(), type=collector._Answer)
    except (OSError, msgspec.DecodeError) as error:
        raise BuildStepError(
            f"The analysis in the place {place.label} ended without an answer: {error}.",
            advice="Read its log; if the runner was set up long ago, set it up again.",
        ) from error
    notes: list[str] = []
    here = msgspec.structs.replace(
        answer,
        modules=[(name, _here(source, place), code) for name, source, code in answer.modules],
        files=list(_files(answer.files, place, python, notes)),
        scripts=[(name, str(_here(source, place)), code) for name, source, code in answer.scripts],
    )
    analysis = collector._digest_answer(here, origins)
    return msgspec.structs.replace(analysis, notes=(*analysis.notes, *notes))


def _files(
    files: list[tuple[str, str, str]], place: Place, python: ForeignInterpreter, notes: list[str]
) -> Iterator[tuple[str, str, str]]:
    """Each with its place in the tree as a POSIX path and its source here; Wine's own libraries are left out."""
    for dest, source, code in files:
        inside_tree = PureWindowsPath(dest).as_posix() if python.windows else dest
        if code == "SYMLINK":
            yield inside_tree, source, code
            continue
        found = str(_here(source, place))
        if python.windows and place.root and Path(found).is_relative_to(place.root / "drive_c" / "windows"):
            notes.append(f"{inside_tree} is the system's own and was left out: this machine has only Wine's.")
            continue
        yield inside_tree, found, code


def _here(source: str | None, place: Place) -> str | None:
    """The path on this machine; what is no path ("-", nothing) stays as it is."""
    if not source or not (PurePosixPath(source).is_absolute() or PureWindowsPath(source).is_absolute()):
        return source
    return os.fspath(real_file(place.unspell(source), place.root))
