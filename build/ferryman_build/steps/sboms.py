"""The SBOM's place in the steps: what it depends on, and when it is made. What it is made from is in sbom_programs.py.

That module and the libraries that it needs are imported when a document is written: a build with nothing to do writes none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import metadata
from pathlib import Path

from ferryman_build.artifacts import Kind
from ferryman_build.cache import digest, file_digest
from ferryman_build.collect.analysis import EntryKind, Origin
from ferryman_build.collect.pyinstaller import CONTENTS
from ferryman_build.locking import packages_for
from ferryman_build.steps.job import TargetJob
from ferryman_build.tree import TreeFile, read_tree
from ferryman_build.wrap.launch import SBOM

SUFFIX = ".cdx.json"
"""Behind an artifact's name: its SBOM beside it in dist/."""


def common_inputs(job: TargetJob) -> Mapping[str, object]:
    """What every SBOM of a job depends on beside the files: dates, names, the lock's hashes, the writing libraries."""
    pinned = [
        (package.name, package.version, wheel.filename, wheel.sha256)
        for package in packages_for(job.lock, job.target, job.full_python)
        for wheel in package.wheels
        if wheel.pinned
    ]
    return {"epoch": job.source.epoch, "target": job.target.id, "wheels": digest(pinned), "option": job.settings.sbom_option,
            "writers": [metadata.version(name) for name in ("cyclonedx-python-lib", "packageurl-python", "packaging")]}  # fmt: skip


def tree_inputs(job: TargetJob) -> Mapping[str, object]:
    """The same of a tree's: with the interpreter, and the libraries of this machine that are in it."""
    machine = [
        (entry.dest, file_digest(Path(entry.path)) if Path(entry.path).is_file() else "")
        for entry in job.analysis.entries
        if entry.origin is Origin.HOST and entry.kind is EntryKind.NATIVE
    ]
    return {**common_inputs(job), "python": job.shipped_python, "identity": job.interpreter.identity,
            "runtime": job.runtime_origin, "machine": digest(machine)}  # fmt: skip


def write_tree_sbom(job: TargetJob, root: Path) -> None:
    """Put the SBOM of the tree in ``root`` into it; every other file is in its place."""
    from ferryman_build.sbom.cyclonedx import cyclonedx
    from ferryman_build.sbom.inventory import take_inventory
    from ferryman_build.steps.sbom_programs import tree_program

    files = read_tree(root, job.program).files
    path = root / CONTENTS / SBOM
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(cyclonedx(take_inventory(tree_program(job, root, files))))
    path.chmod(0o644)


def pyz_describer(job: TargetJob) -> Callable[[Sequence[TreeFile]], bytes]:
    """What makes the SBOM of the job's .pyz from the members that it has."""

    def describe(members: Sequence[TreeFile]) -> bytes:
        from ferryman_build.sbom.cyclonedx import cyclonedx
        from ferryman_build.sbom.inventory import take_inventory
        from ferryman_build.steps.sbom_programs import pyz_program

        return cyclonedx(take_inventory(pyz_program(job, members)))

    return describe


def sbom_file(job: TargetJob, kind: Kind) -> Path:
    """The SBOM of the artifact of ``kind``, as it is embedded."""
    if kind is Kind.PYZ:
        return job.folder(kind.value) / PYZ_SBOM
    return job.folder("tree") / "tree" / CONTENTS / SBOM


PYZ_SBOM = "sbom.cdx.json"
"""Beside the .pyz in the result of its step."""
