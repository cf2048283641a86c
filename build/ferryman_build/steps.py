"""The pipeline on one screen, and what each step does for one target.

wheel ──┬─▶ analyse ─▶ launcher ─▶ tree ─┬─▶ archive ────▶ smoke archive
env ────┘                                ├─▶ executable ─▶ smoke executable
                                         └─▶ inspect
tools ─▶ site ─▶ pyz (with the wheel) ─┬─▶ smoke pyz
                                       └─▶ inspect pyz
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from ferryman_build import smoke
from ferryman_build.artifacts import Kind, Needs, SmokeResult, Source
from ferryman_build.cache import Blobs, digest, file_digest
from ferryman_build.cmd import Runner
from ferryman_build.collect import environment, imports
from ferryman_build.collect import pyinstaller as collector
from ferryman_build.collect.analysis import Analysis, Entry, Origins
from ferryman_build.data_files import data_files
from ferryman_build.errors import SmokeError
from ferryman_build.inspect import floor_problems, needs_of_pyz, survey_tree
from ferryman_build.interpreter import Interpreter
from ferryman_build.locking import Lock, packages_for, requirements_text
from ferryman_build.pipeline import Finished, Step
from ferryman_build.project import Project
from ferryman_build.settings import Settings
from ferryman_build.targets import Target
from ferryman_build.tree import Recipe, Tree, TreeFile, assemble, read_tree
from ferryman_build.ui import human_size
from ferryman_build.wheel import Wheel, build_wheel, read_wheel
from ferryman_build.wrap.archive import write_archive
from ferryman_build.wrap.bundle import BUNDLERS, BundleJob
from ferryman_build.wrap.pyz import PyzJob, install_site_packages, write_pyz


@dataclass(kw_only=True)
class TargetJob:
    """One target of one build: what is given, and the results that the pipeline fills in."""

    target: Target
    host: Target
    kinds: tuple[Kind, ...]
    project: Project
    settings: Settings
    source: Source
    interpreter: Interpreter
    lock: Lock
    build_lock: Lock
    build_requires: tuple[str, ...]
    blobs: Blobs
    runner: Runner
    results: dict[str, Finished] = field(default_factory=dict)

    @property
    def label(self) -> str:
        return self.target.id

    def folder(self, step: str) -> Path:
        """The result folder of a step that has run."""
        found = self.results[step].folder
        assert found is not None, step
        return found

    def made(self, step: str) -> str:
        """Digest of what a step produced; goes into the keys of later steps."""
        result = self.results[step].result
        assert result is not None, step
        return result.digest

    @property
    def wheel(self) -> Wheel:
        return read_wheel(self.folder("wheel"))

    @property
    def python(self) -> str:
        """X.Y."""
        return self.interpreter.short

    @property
    def stem(self) -> str:
        """The file name of every artifact less its suffix."""
        return f"{self.project.executable}-{self.wheel.version}-{self.target}"

    @property
    def origins(self) -> Origins:
        return Origins(
            app=self.folder("wheel") / "app",
            env=self.folder("env") / "env",
            work=self.folder("analyse"),
            project=self.project.root,
        )

    @property
    def analysis(self) -> Analysis:
        return msgspec.json.decode((self.folder("analyse") / "analysis.json").read_bytes(), type=Analysis)

    @property
    def tree(self) -> Tree:
        files = msgspec.json.decode(
            (self.folder("tree") / "tree.json").read_bytes(), type=tuple[TreeFile, ...]
        )
        return Tree(root=self.folder("tree") / "tree", executable=self.program, files=files)

    @property
    def program(self) -> str:
        """File name of the executable."""
        return f"{self.project.executable}{self.target.suffix}"


# --- wheel ------------------------------------------------------------------------------------------------------------


def _wheel_inputs(job: TargetJob) -> Mapping[str, object]:
    return {"source": job.source.digest, "epoch": job.source.epoch, "python": job.interpreter.identity,
            "backend": job.build_lock.digest}  # fmt: skip


def _wheel(job: TargetJob, into: Path) -> str:
    pins = requirements_text(packages_for(job.build_lock, job.host, job.interpreter.version))
    build_wheel(
        job.project.root, job.build_requires, pins, job.interpreter, job.source.epoch, into, job.runner
    )
    return read_wheel(into).path.name


# --- environment ------------------------------------------------------------------------------------------------------


def _host_requirements(job: TargetJob) -> tuple[str, tuple[str, ...]]:
    packages = packages_for(job.lock, job.host, job.interpreter.version)
    names = tuple(package.name for package in packages)
    return requirements_text(packages) + environment.tool_requirements(names), names


def _env_inputs(job: TargetJob) -> Mapping[str, object]:
    return {"requirements": _host_requirements(job)[0], "python": job.interpreter.identity,
            "path": str(job.interpreter.path)}  # fmt: skip


def _env(job: TargetJob, into: Path) -> str:
    requirements, names = _host_requirements(job)
    environment.make_environment(into, job.interpreter, requirements, job.runner)
    return f"{len(names)} locked dependencies, PyInstaller {environment.tool_version('pyinstaller')}"


def _tools_inputs(job: TargetJob) -> Mapping[str, object]:
    return {
        "lock": environment.tools_lock(),
        "python": job.interpreter.identity,
        "path": str(job.interpreter.path),
    }


def _tools(job: TargetJob, into: Path) -> str:
    environment.make_environment(into, job.interpreter, environment.tool_requirements(()), job.runner)
    return f"shiv {environment.tool_version('shiv')}"


# --- analyse ----------------------------------------------------------------------------------------------------------


def _own_modules(job: TargetJob) -> list[Path]:
    return sorted((job.folder("wheel") / "app").rglob("*.py"))


def _data_files(job: TargetJob) -> tuple[tuple[str, str], ...]:
    """(absolute source, folder in the tree) of every file that `data` names."""
    return tuple(
        (str(source), place.parent.as_posix())
        for row in job.settings.data
        for source, place in data_files(job.project.root, row)
    )


def _data_places(job: TargetJob) -> list[tuple[str, str]]:
    """The same with sources relative to the project: where the checkout lies makes no difference."""
    return [(os.path.relpath(source, job.project.root), into) for source, into in _data_files(job)]


def _data_digests(job: TargetJob) -> list[tuple[str, str]]:
    """(path in the tree, digest) of each of them."""
    return [(f"{into}/{Path(source).name}", file_digest(Path(source))) for source, into in _data_files(job)]


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


def _excluded(job: TargetJob) -> tuple[str, ...]:
    imported = {name for path in _own_modules(job) for name in imports.imported_modules(path)}
    by_default = collector.exclusions({*imported, *job.settings.hidden_imports}, job.settings.keep_modules)
    _, names = _host_requirements(job)
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
        "excluded": _excluded(job), "hidden": job.settings.hidden_imports, "plugins": job.settings.plugins,
        "collect": [job.settings.collect_data, job.settings.collect_submodules], "metadata": job.settings.metadata, "data": _data_places(job), "optimize": job.settings.optimize,
        "spec": file_digest(collector.inside("analyse.spec")), "libpython": str(job.interpreter.libpython),
        "hooks": file_digest(Path(str(collector.inside("../../resources/runtime_hooks.toml")))),
    }  # fmt: skip


def _analyse(job: TargetJob, into: Path) -> str:
    script = into / "_ferryman_program.py"  # not a name that the program may import
    script.write_text(collector.entry_script(job.project.entry_point), encoding="utf-8")
    _, names = _host_requirements(job)
    request = collector.Request(
        script=str(script), app=str(job.folder("wheel") / "app"), answer=str(into / "answer.json"),
        libpython=str(job.interpreter.libpython or ""), optimize=job.settings.optimize,
        hidden_imports=job.settings.hidden_imports, plugins=job.settings.plugins, excludes=_excluded(job),
        distributions=tuple(sorted({job.wheel.name, *names, *job.settings.metadata})),
        data=(*_data_files(job), *_own_data(job)), collect_data=job.settings.collect_data,
        collect_submodules=job.settings.collect_submodules,
    )  # fmt: skip
    origins = Origins(
        app=job.folder("wheel") / "app", env=job.folder("env") / "env", work=into, project=job.project.root
    )
    analysis = collector.analyse(request, origins, into, job.runner)
    (into / "analysis.json").write_bytes(msgspec.json.encode(analysis))
    return f"{len(analysis.entries)} files, {len(analysis.missing)} optional modules not found"


# --- launcher and tree ------------------------------------------------------------------------------------------------


def _scripts(job: TargetJob, into: Path) -> tuple[tuple[str, str], ...]:
    """boot.py, the hooks that run at start, the program: (name, path), in that order."""
    program = into / "program.py"
    program.write_text(collector.entry_script(job.project.entry_point), encoding="utf-8")
    hooks = ((hook.dest, str(job.origins.source(hook))) for hook in job.analysis.hooks)
    return ("boot", str(collector.inside("boot.py"))), *hooks, (job.project.executable, str(program))


def _launcher_inputs(job: TargetJob) -> Mapping[str, object]:
    return {
        "hooks": [_source_digest(job, hook) for hook in job.analysis.hooks], "entry": job.project.entry_point,
        "name": job.project.executable, "env": job.results["env"].key, "optimize": job.settings.optimize,
        "boot": file_digest(collector.inside("boot.py")), "pack": file_digest(collector.inside("pack.py")),
        "libpython": collector.library_name(job.interpreter, job.target),
    }  # fmt: skip


def _source_digest(job: TargetJob, entry: Entry) -> list[str]:
    return [entry.dest, file_digest(job.origins.source(entry))]


def _launcher(job: TargetJob, into: Path) -> str:
    request = collector.PackRequest(
        kind="tree", scripts=_scripts(job, into), files=(), optimize=job.settings.optimize,
        libpython=collector.library_name(job.interpreter, job.target), contents=collector.CONTENTS,
        level=9, blobs=str(job.blobs.root), output=str(into / job.program),
    )  # fmt: skip
    collector.pack(request, job.folder("env") / "env", into, job.runner)
    (into / "program.py").unlink()
    return f"PyInstaller's bootloader {environment.tool_version('pyinstaller')}"


def _tree_inputs(job: TargetJob) -> Mapping[str, object]:
    return {
        "analysis": job.results["analyse"].key, "wheel": job.made("wheel"), "launcher": job.made("launcher"),
        "data": _data_digests(job), "optimize": job.settings.optimize, "strip": job.settings.strip, "tag": job.interpreter.tag,
        "compile": file_digest(collector.inside("compile.py")),
    }  # fmt: skip


def _tree(job: TargetJob, into: Path) -> str:
    recipe = Recipe(optimize=job.settings.optimize, strip=job.settings.strip, tag=job.interpreter.tag)
    root = into / "tree"
    root.mkdir()
    assemble(
        job.analysis, job.origins, job.folder("launcher") / job.program, root, recipe, job.blobs, job.runner
    )
    tree = read_tree(root, job.program)
    (into / "tree.json").write_bytes(msgspec.json.encode(tree.files))
    return f"{len(tree.files)} files, {human_size(tree.size)}"


# --- wrappings --------------------------------------------------------------------------------------------------------


def _archive_inputs(job: TargetJob) -> Mapping[str, object]:
    return {"tree": job.made("tree"), "stem": job.stem, "epoch": job.source.epoch, "form": job.target.archive,
            "level": job.settings.compress_level}  # fmt: skip


def _archive(job: TargetJob, into: Path) -> str:
    path = into / f"{job.stem}.{job.target.archive}"
    write_archive(job.tree, job.target.archive, job.stem, job.source.epoch, job.settings.compress_level, path)
    return human_size(path.stat().st_size)


def _executable_inputs(job: TargetJob) -> Mapping[str, object]:
    return {**_launcher_inputs(job), "tree": job.made("tree"), "stem": job.stem, "bundle": job.settings.bundle,
            "level": job.settings.compress_level}  # fmt: skip


def _executable(job: TargetJob, into: Path) -> str:
    output = into / f"{job.stem}{job.target.suffix}"
    bundle = BundleJob(
        tree=job.tree, scripts=_scripts(job, into),
        optimize=job.settings.optimize, libpython=collector.library_name(job.interpreter, job.target),
        env=job.folder("env") / "env", blobs=job.blobs.root, level=job.settings.compress_level, output=output, work=into,
    )  # fmt: skip
    BUNDLERS[job.settings.bundle].write(bundle, job.runner)
    (into / "program.py").unlink()
    return f"{human_size(output.stat().st_size)}, {job.settings.bundle}"


# --- pyz --------------------------------------------------------------------------------------------------------------


def _site_requirements(job: TargetJob) -> str:
    return requirements_text(
        packages_for(job.lock, job.target, job.interpreter.version), job.target, job.python
    )


def _site_inputs(job: TargetJob) -> Mapping[str, object]:
    return {"requirements": _site_requirements(job), "python": job.python, "tags": job.target.wheel_tags,
            "tools": job.results["tools"].key}  # fmt: skip


def _site(job: TargetJob, into: Path) -> str:
    tools = job.folder("tools") / "env"
    install_site_packages(_site_requirements(job), job.target, job.python, tools, into, job.runner)
    return f"{len(packages_for(job.lock, job.target, job.interpreter.version))} wheels"


def _pyz_inputs(job: TargetJob) -> Mapping[str, object]:
    return {"site": job.made("site"), "wheel": job.made("wheel"), "entry": job.project.entry_point, "stem": job.stem,
            "epoch": job.source.epoch, "python": job.python, "tools": job.results["tools"].key,
            "data": _data_digests(job)}  # fmt: skip


def _pyz(job: TargetJob, into: Path) -> str:
    path = into / f"{job.stem}.pyz"
    pyz = PyzJob(
        site=job.folder("site") / "site", app=job.folder("wheel") / "app", data=_data_files(job),
        entry_point=job.project.entry_point, python=job.python, epoch=job.source.epoch,
        env=job.folder("tools") / "env", output=path,
    )  # fmt: skip
    write_pyz(pyz, job.runner)
    return human_size(path.stat().st_size)


# --- inspect and smoke ------------------------------------------------------------------------------------------------


def _inspect(job: TargetJob, into: Path) -> str:
    survey = survey_tree(job.folder("tree") / "tree", job.target)
    notes = [*floor_problems(survey.needs, job.target, survey.reasons), *survey.warnings]
    (into / "notes.json").write_bytes(msgspec.json.encode(notes))
    return _keep(survey.needs, into)


def _inspect_pyz(job: TargetJob, into: Path) -> str:
    return _keep(needs_of_pyz(artifact_path(job, Kind.PYZ), f"=={job.python}.*", job.target.wheel_tags), into)


def _keep(found: Needs, into: Path) -> str:
    (into / "needs.json").write_bytes(msgspec.json.encode(found))
    return ", ".join(f"{name} {version}" for name, version in found.floor.items()) or "no native code"


def needs(job: TargetJob, kind: Kind) -> Needs:
    """What the artifact of ``kind`` needs, as the inspect steps measured it."""
    step = "inspect-pyz" if kind is Kind.PYZ else "inspect"
    found = msgspec.json.decode((job.folder(step) / "needs.json").read_bytes(), type=Needs)
    if kind is Kind.EXECUTABLE:
        runtime = BUNDLERS[job.settings.bundle].runtime_needs
        return msgspec.structs.replace(found, runtime=(*found.runtime, *runtime))
    return found


def notes(job: TargetJob) -> list[str]:
    """What a person should look at in the tree: floors that are above the target's, search paths of this machine."""
    if "inspect" not in job.results:
        return []
    return msgspec.json.decode((job.folder("inspect") / "notes.json").read_bytes(), type=list[str])


def artifact_path(job: TargetJob, kind: Kind) -> Path:
    """The file that the wrap step of ``kind`` made."""
    suffix = {Kind.ARCHIVE: f".{job.target.archive}", Kind.EXECUTABLE: job.target.suffix, Kind.PYZ: ".pyz"}[
        kind
    ]
    return job.folder(kind.value) / f"{job.stem}{suffix}"


def _smoke_step(kind: Kind) -> Step:
    def inputs(job: TargetJob) -> Mapping[str, object]:
        # The commands may read files of the project, so its whole source takes part.
        return {"artifact": job.made(kind.value), "settings": digest(job.settings.smoke), "host": job.host.id,
                "source": job.source.digest, "python": str(job.interpreter.path)}  # fmt: skip

    def run(job: TargetJob, into: Path) -> str:
        result = smoke.smoke_artifact(
            artifact_path(job, kind), kind, job.target, job.project, host=job.host, runner=job.runner,
            python=job.interpreter.path, work=into,
            needs_exec_tmp=kind is Kind.EXECUTABLE and BUNDLERS[job.settings.bundle].needs_exec_tmp,
        )  # fmt: skip
        try:
            smoke.raise_for_failure(result, f"{job.stem} ({kind})", job.runner.log_dir)
        except SmokeError as error:
            error.advice = imports.cure(error.details, _excluded(job)) or error.advice
            raise
        (into / "smoke.json").write_bytes(msgspec.json.encode(result))
        return result.reason or f"{len(result.checks)} checks passed"

    return Step(name=f"smoke-{kind}", after=(kind.value,), inputs=inputs, run=run)


def smoke_result(job: TargetJob, kind: Kind) -> SmokeResult:
    """What the smoke step of ``kind`` saw."""
    path = job.folder(f"smoke-{kind}") / "smoke.json"
    return msgspec.json.decode(path.read_bytes(), type=SmokeResult)


# --- the pipeline -----------------------------------------------------------------------------------------------------

_FROM_TREE = (Kind.ARCHIVE, Kind.EXECUTABLE)

# (kinds that need it, step), in the order in which steps are offered to free workers.
STEPS: tuple[tuple[tuple[Kind, ...], Step], ...] = (
    (tuple(Kind), Step(name="wheel", inputs=_wheel_inputs, run=_wheel)),
    (_FROM_TREE, Step(name="env", inputs=_env_inputs, run=_env)),
    (_FROM_TREE, Step(name="analyse", after=("wheel", "env"), inputs=_analyse_inputs, run=_analyse)),
    ((Kind.PYZ,), Step(name="tools", inputs=_tools_inputs, run=_tools)),
    ((Kind.PYZ,), Step(name="site", after=("tools",), inputs=_site_inputs, run=_site)),
    (_FROM_TREE, Step(name="launcher", after=("analyse",), inputs=_launcher_inputs, run=_launcher)),
    (_FROM_TREE, Step(name="tree", after=("launcher",), inputs=_tree_inputs, run=_tree)),
    (
        (Kind.EXECUTABLE,),
        Step(name="executable", after=("tree",), inputs=_executable_inputs, run=_executable),
    ),
    ((Kind.ARCHIVE,), Step(name="archive", after=("tree",), inputs=_archive_inputs, run=_archive)),
    ((Kind.PYZ,), Step(name="pyz", after=("wheel", "site"), inputs=_pyz_inputs, run=_pyz)),
    (
        _FROM_TREE,
        Step(name="inspect", after=("tree",), inputs=lambda job: {"tree": job.made("tree")}, run=_inspect),
    ),
    (
        (Kind.PYZ,),
        Step(
            name="inspect-pyz",
            after=("pyz",),
            inputs=lambda job: {"pyz": job.made("pyz"), "tags": job.target.wheel_tags},
            run=_inspect_pyz,
        ),
    ),
    *(((kind,), _smoke_step(kind)) for kind in Kind),
)


def steps_for(kinds: tuple[Kind, ...]) -> tuple[Step, ...]:
    """The steps that ``kinds`` need, in order."""
    return tuple(step for needed_by, step in STEPS if set(needed_by) & set(kinds))
