"""A dist/ folder in milliseconds: a manifest as `ferryman build` writes it, about files that hold a few bytes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from ferryman_build.artifacts import (
    Artifact,
    Kind,
    Manifest,
    Material,
    Needs,
    ProjectInfo,
    Smoke,
    SmokeResult,
    Source,
)
from ferryman_build.checksums import sums_text
from ferryman_build.manifest import MANIFEST, SUMS, manifest_bytes

TARGETS = ("linux-amd64", "linux-arm64", "windows-amd64")
EPOCH = 1_790_000_000
COMMIT = "3f" * 20
MATERIALS = (
    Material(name="dependencies", uri="ferryman.lock.txt", sha256="1c" * 32),
    Material(name="runtime", uri="https://example.org/cpython-3.11.9.tar.gz", sha256="2d" * 32),
)


def file_name(name: str, version: str, target: str, kind: Kind) -> str:
    suffix = {Kind.ARCHIVE: ".zip" if target.startswith("windows") else ".tar.gz", Kind.PYZ: ".pyz",
              Kind.EXECUTABLE: ".exe" if target.startswith("windows") else ""}  # fmt: skip
    return f"{name}-{version}-{target}{suffix[kind]}"


def make_dist(
    folder: Path,
    version: str = "1.0.0",
    *,
    name: str = "lantern",
    targets: Sequence[str] = TARGETS,
    kinds: Sequence[Kind] = (Kind.ARCHIVE, Kind.EXECUTABLE),
    contents: Mapping[str, bytes] | None = None,
    sbom: Callable[[str, str, str], bytes] | None = None,
) -> Manifest:
    """Fill ``folder``.

    ``contents`` maps file names to bytes, which otherwise repeat the name and the version; ``sbom`` makes the document
    beside each artifact from name, version and target.
    """
    folder.mkdir(parents=True, exist_ok=True)
    artifacts = []
    for target in targets:
        for kind in kinds:
            path = file_name(name, version, target, kind)
            data = (contents or {}).get(path, f"{path}\n".encode() * 40)
            (folder / path).write_bytes(data)
            (folder / path).chmod(0o644 if kind is Kind.ARCHIVE else 0o755)
            beside, document = (f"{path}.cdx.json", sbom(name, version, target)) if sbom else ("", b"")
            if beside:
                (folder / beside).write_bytes(document)
            floor = {"glibc": "2.17"} if target.startswith("linux") else {"windows": "10.0"}
            artifacts.append(
                Artifact(
                    kind=kind, target=target, path=path, size=len(data), sha256=hashlib.sha256(data).hexdigest(),
                    collector="standalone", bundler="ferryman", python="3.11.9", files=600, seconds=1.5,
                    needs=Needs(floor=floor), promise=floor,
                    materials=MATERIALS, smoke=SmokeResult(status=Smoke.PASSED, runner="native"),
                    sbom=beside, sbom_sha256=hashlib.sha256(document).hexdigest() if beside else "",
                )
            )  # fmt: skip
    manifest = Manifest(
        project=ProjectInfo(name=name, version=version),
        source=Source(commit=COMMIT, digest="ab" * 32, epoch=EPOCH),
        tools={"python": "3.11.9", "zig": "0.17.1"},
        artifacts=tuple(artifacts),
    )
    (folder / SUMS).write_text(
        sums_text(row for one in artifacts for row in one.files_and_sums), encoding="utf-8"
    )
    (folder / MANIFEST).write_bytes(manifest_bytes(manifest))
    return manifest
