"""A version's folder in milliseconds: every file that a release has, signed, about artifacts of a few bytes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from ferryman_build.artifacts import Kind, Manifest
from ferryman_build.checksums import sums_text
from ferryman_build.manifest import MANIFEST, SUMS
from ferryman_release.model import ARTIFACTS, RELEASE, Asset, AssetKind, Release, to_json
from ferryman_release.provenance import envelope, statement
from ferryman_release.signing import MinisignKey, MinisignSecret, minisign_sign
from ferryman_release.store.base import content_type
from support.dist_factory import EPOCH, TARGETS, make_dist
from support.release_keys import signer

REPOSITORY = "https://github.com/harbour/lantern"
_KINDS = {MANIFEST: AssetKind.MANIFEST, SUMS: AssetKind.CHECKSUMS}
_SUFFIXES = {
    ".minisig": AssetKind.SIGNATURE, ".intoto.json": AssetKind.PROVENANCE, ".sigstore.json": AssetKind.PROVENANCE,
    ".cdx.json": AssetKind.SBOM,
}  # fmt: skip


class ReleaseFolder(msgspec.Struct, frozen=True, kw_only=True):
    """``path`` is <prefix>/artifacts/<name>/<version>; ``names`` are the artifacts' file names."""

    prefix: Path
    path: Path
    manifest: Manifest
    release: Release

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(artifact.path for artifact in self.manifest.artifacts)


def make_release_folder(
    prefix: Path,
    version: str = "1.0.0",
    *,
    name: str = "lantern",
    targets: Sequence[str] = TARGETS[:2],
    kinds: Sequence[Kind] = (Kind.ARCHIVE, Kind.EXECUTABLE),
    contents: Mapping[str, bytes] | None = None,
    sboms: bool = True,
    more: Mapping[str, bytes] | None = None,
    minisign: str = "minisign",
    provenance: str = "provenance",
) -> ReleaseFolder:
    """Fill <prefix>/artifacts/<name>/<version>.

    Args:
        contents: artifact → bytes, as in :func:`make_dist`.
        more: further files of the version, such as bundles.
        minisign, provenance: names of the keys that sign (support.release_keys); those of `make_keys` by default.
    """
    path = prefix / ARTIFACTS / name / version
    manifest = make_dist(
        path,
        version,
        name=name,
        targets=targets,
        kinds=kinds,
        contents=contents,
        sbom=sbom if sboms else None,
    )
    for artifact in manifest.artifacts:
        signed = envelope(statement(manifest, artifact, repository=REPOSITORY), [signer(provenance)])
        (path / f"{artifact.path}.intoto.json").write_bytes(signed)
    for file, data in (more or {}).items():
        (path / file).write_bytes(data)
    sign_sums(path, name, version, minisign)
    release = Release(
        project=manifest.project, source=manifest.source, released=moment(),
        assets=tuple(_asset(path, one) for one in sorted(file.name for file in path.iterdir())),
        artifacts=manifest.artifacts,
    )  # fmt: skip
    (path / RELEASE).write_bytes(to_json(release))
    return ReleaseFolder(prefix=prefix, path=path, manifest=manifest, release=release)


def sign_sums(path: Path, name: str, version: str, key: str = "minisign") -> None:
    """SHA256SUMS over all files of the folder, and its signature."""
    left_out = {SUMS, f"{SUMS}.minisig", RELEASE}
    files = {file.name: file.read_bytes() for file in path.iterdir() if file.name not in left_out}
    sums = sums_text((file, hashlib.sha256(data).hexdigest()) for file, data in files.items()).encode()
    (path / SUMS).write_bytes(sums)
    secret = MinisignSecret(minisign_key(key), signer(key))
    comment = f"timestamp:{EPOCH}\tfile:{SUMS}\tname:{name}\tversion:{version}"
    signature = minisign_sign(sums, secret, trusted_comment=comment, untrusted_comment="a test")
    (path / f"{SUMS}.minisig").write_bytes(signature)


def minisign_key(key: str = "minisign") -> MinisignKey:
    return MinisignKey.of(bytes.fromhex(signer(key).public_key.keyval["public"]))


def moment() -> str:
    return datetime.fromtimestamp(EPOCH, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def sbom(name: str, version: str, target: str) -> bytes:
    """As small as a document of CycloneDX can be that is about something."""
    document: dict[str, Any] = {
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {
            "component": {"type": "application", "name": name, "version": version, "bom-ref": "application"},
            "properties": [{"name": "ferryman:target", "value": target}],
        },
        "components": [{"type": "platform", "name": "cpython", "version": "3.11.9", "bom-ref": "cpython"}],
    }  # fmt: skip
    return json.dumps(document, indent=1).encode() + b"\n"


def _asset(folder: Path, name: str) -> Asset:
    data = (folder / name).read_bytes()
    suffix = next((one for one in _SUFFIXES if name.endswith(one)), "")
    return Asset(
        path=name, kind=_KINDS.get(name) or _SUFFIXES.get(suffix, AssetKind.ARTIFACT), size=len(data),
        sha256=hashlib.sha256(data).hexdigest(), about=name.removesuffix(suffix) if suffix else "",
        media_type=content_type(name),
    )  # fmt: skip
