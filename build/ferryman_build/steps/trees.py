"""The steps that make the tree: what belongs to the program, what starts it, and the folder itself."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from ferryman_build.cache import file_digest
from ferryman_build.collect import environment, foreign, imports
from ferryman_build.collect import pyinstaller as collector
from ferryman_build.collect.analysis import Analysis, Entry, EntryKind, Origin, Origins
from ferryman_build.data_files import data_files
from ferryman_build.pipeline import Step
from ferryman_build.settings import Bundler
from ferryman_build.steps.environments import host_requirements, opened
from ferryman_build.steps.job import TargetJob, read_foreign
from ferryman_build.steps.sboms import tree_inputs, write_tree_sbom
from ferryman_build.tree import Recipe, assemble, read_tree
from ferryman_build.ui import human_size
from ferryman_build.wrap.launch import (
    FOLDER,
    HOOKS,
    MAIN,
    SBOM,
    Launch,
    bootloader_script,
    launch_text,
    main_script,
    search_path,
)
from ferryman_build.wrap.payload_order import group_of


def _own_modules(job: TargetJob) -> list[Path]:
    return sorted((job.folder("wheel") / "app").rglob("*.py"))


def own_imports(job: TargetJob) -> set[str]:
    """Dotted names that the project's own modules import."""
    return {name for path in _own_modules(job) for name in imports.imported_modules(path)}


def project_data(job: TargetJob) -> tuple[tuple[str, str], ...]:
    """(absolute source, folder in the tree) of every file that `data` names."""
    return tuple(
        (str(source), place.parent.as_posix())
        for row in job.settings.data
        for source, place in data_files(job.project.root, row)
    )


def _data_places(job: TargetJob) -> list[tuple[str, str]]:
    """The same with sources relative to the project: where the checkout lies makes no difference."""
    return [(os.path.relpath(source, job.project.root), into) for source, into in project_data(job)]


def data_digests(job: TargetJob) -> list[tuple[str, str]]:
    """(path in the tree, digest) of each of them."""
    return [(f"{into}/{Path(source).name}", file_digest(Path(source))) for source, into in project_data(job)]


# In a wheel's packages, these are code or what code is made from; everything else is data that the package reads.
_NOT_DATA = frozenset({".py", ".pyc", ".pyi", ".pyx", ".pxd", ".c", ".h", ".cpp", ".so", ".pyd", ".dylib"})


def _own_data(job: TargetJob) -> tuple[tuple[str, str], ...]:
    """(absolute source, folder in the tree) of the package data in the project's own wheel."""
    app = job.folder("wheel") / "app"
    return tuple(
        (str(path), path.relative_to(app).parent.as_posix())
        for path in sorted(app.rglob("*"))
        if path.is_file()
        and path.suffix not in _NOT_DATA
        and not path.relative_to(app).parts[0].endswith(".dist-info")
    )


# What a plain Python imports by itself: at its start, for -m, and since 3.13 before it prompts at a terminal.
_INTERPRETER = ("runpy", "site")
_PROMPT = ("_pyrepl.__main__", "rlcompleter")


def hidden_imports(job: TargetJob) -> tuple[str, ...]:
    """Those of the project, and what FERRYMAN_INTERPRETER=1 needs."""
    if not job.settings.interpreter or job.settings.bundle is not Bundler.FERRYMAN:
        return job.settings.hidden_imports
    prompt = _PROMPT if tuple(map(int, job.python.split("."))) >= (3, 13) else ()
    return (*job.settings.hidden_imports, *_INTERPRETER, *prompt)


def excluded_modules(job: TargetJob) -> tuple[str, ...]:
    """What the analysis leaves out: by default, by the project's word, and what only the build tools brought."""
    by_default = collector.exclusions({*own_imports(job), *hidden_imports(job)}, job.settings.keep_modules)
    _, names = host_requirements(job)
    return tuple(sorted({*by_default, *job.settings.exclude_modules, *environment.tool_modules(names)}))


def _analyse_inputs(job: TargetJob) -> Mapping[str, object]:
    app = job.folder("wheel") / "app"
    own = {path.relative_to(app).as_posix(): imports.signature(path) for path in _own_modules(job)}
    other = {
        path.relative_to(app).as_posix(): file_digest(path)
        for path in app.rglob("*")
        if path.is_file() and path.suffix != ".py" and path.name != "RECORD"
    }
    return {
        "env": job.results["env"].key, "own": own, "other": other, "entry": job.project.entry_point,
        "excluded": excluded_modules(job), "hidden": hidden_imports(job), "plugins": job.settings.plugins,
        "collect": [job.settings.collect_data, job.settings.collect_submodules], "metadata": job.settings.metadata, "data": _data_places(job), "optimize": job.settings.optimize,
        "spec": file_digest(collector.inside("analyse.spec")), "libpython": str(job.interpreter.libpython),
        "hooks": file_digest(Path(str(collector.inside("../../resources/runtime_hooks.toml")))),
    }  # fmt: skip


def _request(job: TargetJob, into: Path, names: Iterable[str], libpython: Path | None) -> collector.Request:
    """What PyInstaller is asked; its main script is written into ``into``."""
    script = into / "_ferryman_program.py"  # not a name that the program may import
    script.write_text(collector.entry_script(job.project.entry_point), encoding="utf-8")
    return collector.Request(
        script=str(script), app=str(job.folder("wheel") / "app"), answer=str(into / "answer.json"),
        libpython=str(libpython or ""), optimize=job.settings.optimize,
        hidden_imports=hidden_imports(job), plugins=job.settings.plugins, excludes=excluded_modules(job),
        distributions=tuple(sorted({job.wheel.name, *names, *job.settings.metadata})),
        data=(*project_data(job), *_own_data(job)), collect_data=job.settings.collect_data,
        collect_submodules=job.settings.collect_submodules,
    )  # fmt: skip


def _kept(analysis: Analysis, into: Path) -> str:
    (into / "analysis.json").write_bytes(msgspec.json.encode(analysis))
    return f"{len(analysis.entries)} files, {len(analysis.missing)} optional modules not found"


def _origins(job: TargetJob, into: Path) -> Origins:
    return Origins(
        app=job.folder("wheel") / "app", env=job.folder("env") / "env", work=into, project=job.project.root
    )


def _analyse(job: TargetJob, into: Path) -> str:
    request = _request(job, into, host_requirements(job)[1], job.interpreter.libpython)
    return _kept(collector.analyse(request, _origins(job, into), into, job.runner), into)


def _foreign_analyse(job: TargetJob, into: Path) -> str:
    """The same, by the target's own Python in a runner."""
    python = read_foreign(job.folder("env"))
    _, names = foreign.foreign_requirements(job.lock, job.target, python.version)
    request = _request(job, into, names, python.libpython)
    with opened(job, into) as place:
        analysis = foreign.analyse_foreign(request, _origins(job, into), into, place, python, job.runner)
    return _kept(analysis, into)


def scripts(job: TargetJob, into: Path) -> tuple[tuple[str, str], ...]:
    """What PyInstaller's bootloader runs, as (name, path), in order: boot.py, the hooks, the program."""
    program = into / "program.py"
    text = bootloader_script(job.project.entry_point, job.settings.sbom_option)
    program.write_text(text, encoding="utf-8")
    hooks = ((hook.dest, str(job.origins.source(hook))) for hook in job.analysis.hooks)
    return ("boot", str(collector.inside("boot.py"))), *hooks, (job.project.executable, str(program))


def bootloader_inputs(job: TargetJob) -> Mapping[str, object]:
    """What the bytes of anything that PyInstaller's bootloader starts depend on."""
    return {
        "hooks": [_source_digest(job, hook) for hook in job.analysis.hooks], "entry": job.project.entry_point,
        "sbom-option": job.settings.sbom_option,
        "name": job.project.executable, "env": job.results["env"].key, "optimize": job.settings.optimize,
        "libpython": job.library,
    }  # fmt: skip


def _source_digest(job: TargetJob, entry: Entry) -> list[str]:
    return [entry.dest, file_digest(job.origins.source(entry))]


def _bootloader(job: TargetJob, into: Path) -> str:
    request = collector.PackRequest(
        kind="tree", scripts=scripts(job, into), files=(), optimize=job.settings.optimize,
        libpython=job.library, contents=collector.CONTENTS,
        level=9, blobs=str(job.blobs.root), output=str(into / job.program),
    )  # fmt: skip
    collector.pack(request, job.folder("env") / "env", into, job.runner)
    (into / "program.py").unlink()
    return f"PyInstaller's bootloader {environment.tool_version('pyinstaller')}"


def _launch(job: TargetJob) -> Launch:
    return Launch(
        name=job.project.executable, version=job.wheel.version, python=job.python,
        library=job.library, optimize=job.settings.optimize,
        path=(*search_path((entry.dest for entry in job.analysis.entries), job.python), *job.analysis.paths),
        interpreter=job.settings.interpreter,
    )  # fmt: skip


def _start_entries(job: TargetJob, into: Path) -> list[Entry]:
    """What the launcher reads, and the main script with the hooks that it runs; none for PyInstaller's bootloader."""
    if job.settings.bundle is not Bundler.FERRYMAN:
        return []
    into.mkdir()
    hooks = job.analysis.hooks
    for name, text in (
        ("launch", launch_text(_launch(job))),
        (
            "main.py",
            main_script(job.project.entry_point, (hook.dest for hook in hooks), job.settings.sbom_option),
        ),
    ):
        (into / name).write_text(text, encoding="utf-8", newline="\n")
    return [
        Entry(f"{FOLDER}/launch", EntryKind.DATA, Origin.HOST, str(into / "launch")),
        Entry(MAIN, EntryKind.MODULE, Origin.HOST, str(into / "main.py")),
        *(msgspec.structs.replace(hook, dest=f"{HOOKS}/{hook.dest}.pyc") for hook in hooks),
    ]


def groups(job: TargetJob) -> Mapping[str, str]:
    """Path below the contents → what a payload packs the file together with."""
    own = {path.name.partition(".")[0] for path in (job.folder("wheel") / "app").iterdir()}
    hooks = [
        Entry(f"{HOOKS}/{hook.dest}.pyc", EntryKind.MODULE, Origin.WORK, "") for hook in job.analysis.hooks
    ]
    start = [Entry(dest, EntryKind.DATA, Origin.WORK, "") for dest in (f"{FOLDER}/launch", MAIN, SBOM)]
    return {entry.dest: group_of(entry.dest, entry.kind, entry.origin, own)
            for entry in (*job.analysis.entries, *start, *hooks)}  # fmt: skip


def _tree_inputs(job: TargetJob) -> Mapping[str, object]:
    return {
        "analysis": job.results["analyse"].key, "wheel": job.made("wheel"), "launcher": job.made("launcher"),
        "data": data_digests(job), "optimize": job.settings.optimize, "strip": job.settings.strip, "tag": job.interpreter.tag,
        "bundle": job.settings.bundle, "launch": _launch(job), "sbom": tree_inputs(job),
    }  # fmt: skip


def _tree(job: TargetJob, into: Path) -> str:
    recipe = Recipe(optimize=job.settings.optimize, strip=job.settings.strip, tag=job.interpreter.tag)
    root, start = into / "tree", into / "start"
    root.mkdir()
    entries = [*job.analysis.entries, *_start_entries(job, start)]
    assemble(
        entries, job.origins, job.folder("launcher") / job.program, root, recipe, job.blobs, job.runner, job.tools
    )  # fmt: skip
    shutil.rmtree(start, ignore_errors=True)
    write_tree_sbom(job, root)
    tree = read_tree(root, job.program)
    (into / "tree.json").write_bytes(msgspec.json.encode(tree.files))
    return f"{len(tree.files)} files, {human_size(tree.size)}"


ANALYSE = Step(name="analyse", after=("wheel", "env"), inputs=_analyse_inputs, run=_analyse)
FOREIGN_ANALYSE = Step(name="analyse", after=("wheel", "env"), inputs=_analyse_inputs, run=_foreign_analyse)
BOOTLOADER = Step(name="launcher", after=("analyse",), inputs=bootloader_inputs, run=_bootloader)
TREE = Step(name="tree", after=("analyse", "launcher"), inputs=_tree_inputs, run=_tree)
