"""The steps that make products: archive and executable from the tree, the .pyz from wheels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import msgspec

from ferryman_build.locking import packages_for, requirements_text
from ferryman_build.pipeline import Step
from ferryman_build.steps.job import TargetJob
from ferryman_build.steps.launchers import objects, toolchain
from ferryman_build.steps.sboms import PYZ_SBOM, common_inputs, pyz_describer
from ferryman_build.steps.trees import bootloader_inputs, data_digests, groups, project_data, scripts
from ferryman_build.ui import human_size
from ferryman_build.wrap.archive import write_archive
from ferryman_build.wrap.bundle import FerrymanOneFile, PyInstallerOneFile
from ferryman_build.wrap.payload import PayloadInfo
from ferryman_build.wrap.pyz import PyzJob, install_site_packages, write_pyz


def _archive_inputs(job: TargetJob) -> Mapping[str, object]:
    return {"tree": job.made("tree"), "stem": job.stem, "epoch": job.source.epoch, "form": job.target.archive,
            "level": job.settings.compress_level}  # fmt: skip


def _archive(job: TargetJob, into: Path) -> str:
    path = into / f"{job.stem}.{job.target.archive}"
    write_archive(job.tree, job.target.archive, job.stem, job.source.epoch, job.settings.compress_level, path)
    return human_size(path.stat().st_size)


def _bootloader_executable_inputs(job: TargetJob) -> Mapping[str, object]:
    return {**bootloader_inputs(job), "tree": job.made("tree"), "stem": job.stem,
            "level": job.settings.compress_level}  # fmt: skip


def _bootloader_executable(job: TargetJob, into: Path) -> str:
    output = into / f"{job.stem}{job.target.suffix}"
    PyInstallerOneFile(
        tree=job.tree, scripts=scripts(job, into),
        optimize=job.settings.optimize, libpython=job.library,
        env=job.folder("env") / "env", blobs=job.blobs.root, level=job.settings.compress_level, work=into,
    ).write(output, job.runner)  # fmt: skip
    (into / "program.py").unlink()
    return f"{human_size(output.stat().st_size)}, {job.settings.bundle}"


def _executable_inputs(job: TargetJob) -> Mapping[str, object]:
    return {"tree": job.made("tree"), "objects": job.made("objects"), "target": job.target.zig, "stem": job.stem,
            "version": job.wheel.version, "level": job.settings.payload_level, "days": job.settings.cache_days}  # fmt: skip


def _executable(job: TargetJob, into: Path) -> str:
    output = into / f"{job.stem}{job.target.suffix}"
    info = PayloadInfo(
        name=job.project.executable, version=job.wheel.version, keep_days=job.settings.cache_days
    )
    FerrymanOneFile(
        tree=job.tree, groups=groups(job), info=info, level=job.settings.payload_level, target=job.target,
        toolchain=toolchain(job), objects=objects(job), blobs=job.blobs, work=into,
    ).write(output, job.runner)  # fmt: skip
    return f"{human_size(output.stat().st_size)}, {job.settings.bundle}"


def _site_requirements(job: TargetJob) -> str:
    return requirements_text(packages_for(job.lock, job.target, job.full_python), job.target, job.python)


def _site_inputs(job: TargetJob) -> Mapping[str, object]:
    return {"requirements": _site_requirements(job), "python": job.python, "tags": job.target.wheel_tags,
            "tools": job.results["tools"].key}  # fmt: skip


def _site(job: TargetJob, into: Path) -> str:
    tools = job.folder("tools") / "env"
    install_site_packages(_site_requirements(job), job.target, job.python, tools, into, job.runner)
    return f"{len(packages_for(job.lock, job.target, job.full_python))} wheels"


def _pyz_inputs(job: TargetJob) -> Mapping[str, object]:
    return {"site": job.made("site"), "wheel": job.made("wheel"), "entry": job.project.entry_point, "stem": job.stem,
            "epoch": job.source.epoch, "python": job.python, "tools": job.results["tools"].key,
            "data": data_digests(job), "target": msgspec.to_builtins(job.target), "days": job.settings.cache_days,
            "interpreter": job.settings.interpreter, "sbom": common_inputs(job)}  # fmt: skip


def _pyz(job: TargetJob, into: Path) -> str:
    path = into / f"{job.stem}.pyz"
    pyz = PyzJob(
        site=job.folder("site") / "site", app=job.folder("wheel") / "app", data=project_data(job),
        entry_point=job.project.entry_point, python=job.python, epoch=job.source.epoch,
        env=job.folder("tools") / "env", output=path, target=job.target, name=job.project.executable,
        version=job.wheel.version, cache_days=job.settings.cache_days, interpreter=job.settings.interpreter,
        sbom_option=job.settings.sbom_option,
    )  # fmt: skip
    sbom = write_pyz(pyz, job.runner, pyz_describer(job))
    (into / PYZ_SBOM).write_bytes(sbom)
    return human_size(path.stat().st_size)


ARCHIVE = Step(name="archive", after=("tree",), inputs=_archive_inputs, run=_archive)
EXECUTABLE = Step(name="executable", after=("tree", "objects"), inputs=_executable_inputs, run=_executable)
BOOTLOADER_EXECUTABLE = Step(
    name="executable", after=("tree",), inputs=_bootloader_executable_inputs, run=_bootloader_executable
)
SITE = Step(name="site", after=("tools",), inputs=_site_inputs, run=_site)
PYZ = Step(name="pyz", after=("wheel", "site"), inputs=_pyz_inputs, run=_pyz)
