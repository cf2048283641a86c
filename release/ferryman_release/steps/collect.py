"""The artifacts of dist/, gathered in the release's own folder: what happens to dist/ later makes no difference."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from ferryman_build.artifacts import Artifact, Manifest
from ferryman_build.manifest import MANIFEST, SUMS, read_manifest
from ferryman_build.ui import human_size
from ferryman_release.errors import PreflightError
from ferryman_release.job import Job
from ferryman_release.model import FILE_NAME, RELEASE, VERSION, AssetKind

_OWN = (MANIFEST, SUMS, f"{SUMS}.minisig", RELEASE)  # names that the release gives itself


def run(job: Job) -> str:
    """Read the manifest and take over every file that it lists.

    Raises:
        PreflightError: there is no manifest or no artifact, a file is missing, or a name cannot be published.
        ManifestError: the manifest is broken.
    """
    path = job.options.dist / MANIFEST
    try:
        manifest = read_manifest(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PreflightError(
            f"There is no {MANIFEST} in {job.options.dist}.",
            advice="Build first (`ferryman build`), or name the folder with --dist.",
        ) from error
    _check(job.options.dist, manifest)
    job.manifest = manifest
    job.open_run()
    for artifact in manifest.artifacts:
        take_over(job.options.dist / artifact.path, job.files / artifact.path)
        job.add(artifact.path, AssetKind.ARTIFACT, media_type=_media_type(artifact.path))
    take_over(path, job.files / MANIFEST)
    job.add(MANIFEST, AssetKind.MANIFEST)
    size = sum(artifact.size for artifact in manifest.artifacts)
    return f"{len(manifest.artifacts)} artifacts, {human_size(size)}"


def _media_type(path: str) -> str:
    from ferryman_release.store.base import content_type

    return content_type(path)


def _check(dist: Path, manifest: Manifest) -> None:
    if wrong := [*_problems(dist, manifest)]:
        raise PreflightError(
            f"{dist} cannot be released.", advice="Build it again, whole, and release that.", details=wrong
        )


def _problems(dist: Path, manifest: Manifest) -> Iterator[str]:
    version = manifest.project.version
    if VERSION.fullmatch(version) is None:
        yield f"{version!r} cannot be a part of a URL"
    if not manifest.artifacts:
        yield "the manifest lists no artifact"
    for artifact in manifest.artifacts:
        yield from _artifact_problems(dist, artifact)


def _artifact_problems(dist: Path, artifact: Artifact) -> Iterator[str]:
    if not (dist / artifact.path).is_file():
        yield f"{artifact.path} is listed and not there"
    for name in filter(None, (artifact.path, artifact.sbom)):
        if "/" in name:
            yield f"{name} lies in a folder"
        elif FILE_NAME.fullmatch(name) is None:
            yield f"{name} cannot be a part of a URL: letters, digits and .+!_~- can, a letter or digit first"
        elif name in _OWN:
            yield f"{name} is the name of a file that a release has of itself"


def take_over(source: Path, target: Path) -> None:
    """A second name for the file where the file system has hard links, else a copy; one that is there already stays."""
    source = source.resolve()  # of a symbolic link the file that it leads to
    if target.exists() and target.samefile(source):
        return
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
