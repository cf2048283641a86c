"""Putting products into dist/: all of them or none.

Rules:

1. Every product is copied to a hidden name beside its place first; only when all copies are there, and nothing but
   files is in their way, is the first one renamed. A full disk or Ctrl-C leaves dist/ as it was.
2. The manifest is renamed into place last. A file that it does not list was not delivered. Until then the old files keep
   a hidden name; a run that dies in between, even by kill -9, is undone here or by the next one.
3. Artifacts of an earlier build of the same project, version and source stay listed (one machine may build target after
   target). Those of another source are taken out of the manifest, and their files removed, but only files that the old
   manifest lists with the very content that they have.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from ferryman_build.artifacts import Artifact, Kind, Manifest
from ferryman_build.cache import file_digest
from ferryman_build.checkout import draft_copy, drafts_removed_on_error, replace_all, undo_dead_run
from ferryman_build.checksums import sums_text
from ferryman_build.errors import ConfigError, ManifestError
from ferryman_build.manifest import manifest_bytes, read_manifest

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"


def deliver(manifest: Manifest, files: Mapping[str, Path], dist: Path) -> tuple[Manifest, tuple[str, ...]]:
    """Put ``files`` (name in dist/ → product) and ``manifest`` into ``dist``.

    Returns the manifest as written, and the names of the files removed by rule 3.

    Raises:
        SpaceError: no space left; dist/ is as it was.
        ConfigError: a folder has the name of a product; dist/ is as it was.
    """
    dist.mkdir(parents=True, exist_ok=True)
    _refuse_folders(dist, (*files, SUMS, MANIFEST))
    undo_dead_run(dist / MANIFEST)
    earlier = _earlier(dist)
    whole = _joined(manifest, earlier, dist)
    stale = _stale(earlier, whole, dist)
    executables = {artifact.path for artifact in whole.artifacts if artifact.kind is not Kind.ARCHIVE}
    with drafts_removed_on_error() as drafts:  # rule 1
        for name, product in files.items():
            target, executable = dist / name, name in executables
            if not _same(target, product, executable):
                drafts.append((draft_copy(product.read_bytes(), target, executable), target))
        drafts.append((draft_copy(sums_text(_sums(whole)).encode(), dist / SUMS, False), dist / SUMS))
        drafts.append((draft_copy(manifest_bytes(whole), dist / MANIFEST, False), dist / MANIFEST))
        replace_all(drafts)  # rule 2: the manifest is the last one
    for name in stale:
        (dist / name).unlink(missing_ok=True)
    return whole, stale


def _refuse_folders(dist: Path, names: Iterable[str]) -> None:
    for name in names:
        if (dist / name).is_dir():
            raise ConfigError(
                f"{dist / name} is a folder, and a product is to have that name.",
                advice="Move it away, or build elsewhere with --dist.",
            )


def _earlier(dist: Path) -> Manifest | None:
    try:
        return read_manifest(dist / MANIFEST)
    except (FileNotFoundError, ManifestError):
        return None  # what cannot be read lists nothing, and so nothing of it is removed


def _joined(manifest: Manifest, earlier: Manifest | None, dist: Path) -> Manifest:
    if earlier is None or not _same_source(earlier, manifest):
        return manifest
    new = {(artifact.target, artifact.kind) for artifact in manifest.artifacts}
    kept = (old for old in earlier.artifacts if (old.target, old.kind) not in new and _intact(old, dist))
    artifacts = sorted((*manifest.artifacts, *kept), key=lambda artifact: (artifact.target, artifact.kind))
    return Manifest(
        project=manifest.project, source=manifest.source, tools={**earlier.tools, **manifest.tools},
        artifacts=tuple(artifacts),
    )  # fmt: skip


def _same_source(one: Manifest, other: Manifest) -> bool:
    return (one.project, one.source.digest) == (other.project, other.source.digest)


def _stale(earlier: Manifest | None, whole: Manifest, dist: Path) -> tuple[str, ...]:
    listed = {name for name, _ in _sums(whole)}
    old = _sums(earlier) if earlier else ()
    return tuple(name for name, sums in old if name not in listed and _is(dist / name, sums))


def _intact(artifact: Artifact, dist: Path) -> bool:
    """Whether the artifact and what lies beside it are there as they were listed."""
    path = dist / artifact.path
    sized = path.is_file() and path.stat().st_size == artifact.size
    return sized and all(_is(dist / name, sums) for name, sums in artifact.files_and_sums)


def _is(path: Path, sha256: str) -> bool:
    return path.is_file() and file_digest(path) == sha256


def _same(target: Path, product: Path, executable: bool) -> bool:
    if target.is_symlink() or not target.is_file() or target.stat().st_size != product.stat().st_size:
        return False
    if os.name != "nt" and stat.S_IMODE(target.stat().st_mode) != (0o755 if executable else 0o644):
        return False
    return file_digest(target) == file_digest(product)


def _sums(manifest: Manifest) -> Sequence[tuple[str, str]]:
    return [row for artifact in manifest.artifacts for row in artifact.files_and_sums]
