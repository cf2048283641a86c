"""The artifacts of dist/, gathered in the release's own folder: what happens to dist/ later makes no difference."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from ferryman_build.manifest import MANIFEST, read_manifest
from ferryman_build.ui import human_size
from ferryman_release.errors import PreflightError
from ferryman_release.job import Job
from ferryman_release.model import VERSION, AssetKind


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
    _check(job.options.dist, [artifact.path for artifact in manifest.artifacts], manifest.project.version)
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


def _check(dist: Path, paths: list[str], version: str) -> None:
    wrong = [f"{path} is listed and not there" for path in paths if not (dist / path).is_file()]
    wrong += [f"{path} lies in a folder" for path in paths if "/" in path]
    if VERSION.fullmatch(version) is None:
        wrong.append(f"{version!r} cannot be a part of a URL")
    if not paths:
        wrong.append("the manifest lists no artifact")
    if wrong:
        raise PreflightError(
            f"{dist} cannot be released.", advice="Build it again, whole, and release that.", details=wrong
        )


def take_over(source: Path, target: Path) -> None:
    """A second name for the file where the file system has hard links, else a copy; one that is there already stays."""
    if target.exists() and target.samefile(source):
        return
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
