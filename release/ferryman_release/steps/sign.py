"""SHA256SUMS over everything that the version has, its signature, and release.json, which lists all of them."""

from __future__ import annotations

import hashlib

from ferryman_build.checksums import sums_text
from ferryman_build.manifest import SUMS
from ferryman_release.job import Job
from ferryman_release.model import RELEASE, Asset, AssetKind, HistoryEntry, Release, to_json

SIGNATURE = f"{SUMS}.minisig"


def run(job: Job) -> str:
    """Write the three files.

    Raises:
        KeyProblemError: the key is not to be had.
    """
    from ferryman_release.signing.minisign import minisign_sign
    from ferryman_release.signing.roles import minisign_secret

    listed = [asset for asset in job.assets.values() if asset.path not in (SUMS, SIGNATURE)]
    sums = sums_text((asset.path, asset.sha256) for asset in listed).encode("utf-8")
    job.write(SUMS, sums, AssetKind.CHECKSUMS)
    secret = minisign_secret(job.settings, job.place.keys, job.place.secrets, root=job.project.root)
    comment = f"timestamp:{job.manifest.source.epoch}\tfile:{SUMS}\tname:{job.name}\tversion:{job.version}"
    signature = minisign_sign(
        sums, secret, trusted_comment=comment, untrusted_comment=f"signature of {job.label}"
    )
    job.write(SIGNATURE, signature, AssetKind.SIGNATURE, about=SUMS)
    job.release = Release(
        project=job.manifest.project,
        source=job.manifest.source,
        released=job.released,
        assets=tuple(sorted(job.assets.values(), key=lambda asset: asset.path)),
        artifacts=job.manifest.artifacts,
    )
    job.release_content = to_json(job.release)
    return f"{len(listed)} files under one signature"


def release_asset(content: bytes) -> Asset:
    """release.json itself, as the history names it."""
    return Asset(
        path=RELEASE, kind=AssetKind.MANIFEST, size=len(content), sha256=hashlib.sha256(content).hexdigest(),
        media_type="application/json",
    )  # fmt: skip


def entry_asset(entry: HistoryEntry) -> Asset:
    """The same, from a history."""
    return Asset(path=RELEASE, kind=AssetKind.MANIFEST, size=entry.size, sha256=entry.sha256)
