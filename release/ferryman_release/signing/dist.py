"""Programs in dist/ that an operating system wants signed: signed in their place, and the manifest with them.

Between `ferryman build` and `ferryman release`, on a machine that has the certificate. dist/ is delivered as a build delivers
it: all at once or not at all. A file whose signature holds already is left alone, so that a second run does nothing.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import msgspec

from ferryman_build.artifacts import Artifact, Kind, Manifest
from ferryman_build.cache import file_digest
from ferryman_build.dist import deliver
from ferryman_build.manifest import MANIFEST, read_manifest
from ferryman_release.errors import PreflightError, VerifyError

SignInto = Callable[[Path, Path], None]
Verify = Callable[[Path], None]


def of_windows(artifact: Artifact) -> bool:
    """A program or an installer that Windows looks at."""
    return artifact.target.startswith("windows-") and artifact.kind is Kind.EXECUTABLE


def of_macos(artifact: Artifact) -> bool:
    """A program that macOS looks at."""
    return artifact.target.startswith("darwin-") and artifact.kind is Kind.EXECUTABLE


def sign_dist(
    dist: Path, which: Callable[[Artifact], bool], sign_into: SignInto, verify: Verify
) -> tuple[str, ...]:
    """Sign those artifacts of ``dist`` that ``which`` names and ``verify`` does not accept yet; the names of them.

    Raises:
        PreflightError: there is no manifest, or a file is not what it says.
        FerrymanError: whatever ``sign_into`` raises; dist/ is as it was.
    """
    try:
        manifest = read_manifest(dist / MANIFEST)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise PreflightError(
            f"There is no {MANIFEST} in {dist}.",
            advice="Build first (`ferryman build`), or name the folder with --dist.",
        ) from error
    wanted = [artifact for artifact in manifest.artifacts if which(artifact)]
    _require_intact(dist, wanted)
    fresh = [artifact for artifact in wanted if not _holds(dist / artifact.path, verify)]
    if not fresh:
        return ()
    with tempfile.TemporaryDirectory(prefix="ferryman-codesign-") as name:
        files = {artifact.path: Path(name) / artifact.path for artifact in fresh}
        for path, signed in files.items():
            sign_into(dist / path, signed)
        deliver(_with(manifest, files), files, dist)
    return tuple(files)


def _require_intact(dist: Path, artifacts: list[Artifact]) -> None:
    wrong = [
        artifact.path
        for artifact in artifacts
        if not (dist / artifact.path).is_file() or file_digest(dist / artifact.path) != artifact.sha256
    ]
    if wrong:
        raise PreflightError(
            f"{dist} is not what its manifest says, so nothing was signed.",
            advice="Build it again: what was not built here is not signed here.",
            details=wrong,
        )


def _holds(path: Path, verify: Verify) -> bool:
    try:
        verify(path)
    except VerifyError:
        return False
    return True


def _with(manifest: Manifest, files: dict[str, Path]) -> Manifest:
    """The manifest with size and digest of what was signed."""
    artifacts = tuple(
        msgspec.structs.replace(one, size=files[one.path].stat().st_size, sha256=file_digest(files[one.path]))
        if one.path in files
        else one
        for one in manifest.artifacts
    )
    return msgspec.structs.replace(manifest, artifacts=artifacts)
