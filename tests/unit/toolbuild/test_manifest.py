"""The manifest: stable bytes, refused when newer or unsafe, joined only when nothing contradicts."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ferryman_build.artifacts import (
    SCHEMA_VERSION,
    Artifact,
    Kind,
    Manifest,
    Needs,
    ProjectInfo,
    Smoke,
    SmokeResult,
    Source,
)
from ferryman_build.checksums import parse_sums
from ferryman_build.errors import ManifestError
from ferryman_build.manifest import (
    manifest_bytes,
    merge,
    merge_dirs,
    parse_manifest,
    read_manifest,
)


def artifact(
    target: str = "linux-amd64", kind: Kind = Kind.ARCHIVE, content: str = "", **more: Any
) -> Artifact:
    data = (content or f"{target} {kind}").encode()
    fields: dict[str, Any] = {
        "kind": kind, "target": target, "path": f"agent-1.0-{target}.{kind}", "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(), "collector": "pyinstaller",
    }  # fmt: skip
    return Artifact(**{**fields, **more})


def manifest(*artifacts: Artifact, **more: Any) -> Manifest:
    fields: dict[str, Any] = {
        "project": ProjectInfo(name="agent", version="1.0"),
        "source": Source(commit="c0ffee", digest="d1", epoch=1700000000),
        "tools": {"python": "3.11.7"},
    }
    return Manifest(artifacts=artifacts, **{**fields, **more})


LINUX, WINDOWS = artifact(), artifact("windows-amd64", Kind.EXECUTABLE)
SBOM = b"what is inside"
DESCRIBED = artifact(sbom=f"{LINUX.path}.cdx.json", sbom_sha256=hashlib.sha256(SBOM).hexdigest())


def filled(folder: Path, whole: Manifest) -> Path:
    """A dist/ folder with the manifest and the files that :func:`artifact` gave digests of."""
    folder.mkdir(parents=True)
    for one in whole.artifacts:
        (folder / one.path).write_bytes(f"{one.target} {one.kind}".encode())
        if one.sbom:
            (folder / one.sbom).write_bytes(SBOM)
    (folder / "manifest.json").write_bytes(manifest_bytes(whole))
    return folder


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Every file's content and inode: a file that was replaced by an equal one counts as changed."""
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_ino)
            for path in folder.rglob("*") if path.is_file()}  # fmt: skip


# --- bytes ---


def test_bytes_are_stable() -> None:
    """The order in which artifacts, tools and floors were found makes no difference; the text is readable."""
    floors = ({"glibc": "2.17", "abi": "1"}, {"abi": "1", "glibc": "2.17"})
    one, other = (msgspec.structs.replace(LINUX, needs=Needs(floor=floor)) for floor in floors)
    first = manifest_bytes(manifest(one, WINDOWS, tools={"uv": "1", "python": "3"}))
    assert first == manifest_bytes(manifest(WINDOWS, other, tools={"python": "3", "uv": "1"}))
    text = first.decode()
    assert text.endswith("}\n")
    assert text.startswith('{\n  "schema-version": 1,\n  "project": {\n    "name": "agent"')
    assert [a["target"] for a in json.loads(text)["artifacts"]] == ["linux-amd64", "windows-amd64"]


def test_round_trip(tmp_path: Path) -> None:
    """What was written is read again."""
    whole = manifest(LINUX, WINDOWS)
    (tmp_path / "manifest.json").write_bytes(manifest_bytes(whole))
    assert read_manifest(tmp_path / "manifest.json") == whole


def _changed(**fields: Any) -> bytes:
    document = json.loads(manifest_bytes(manifest(LINUX)))
    for key, value in fields.items():
        if key == "schema":
            document["schema-version"] = value
        else:
            document["artifacts"][0][key] = value
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_changed(schema=SCHEMA_VERSION + 1), "schema version 2; this Ferryman reads up to 1"),
        (_changed(schema=0), "schema version 0"),
        (b'{"schema-version": 2, "everything": "else"}', "schema version 2"),
        (b"<html>", "not a manifest"),
        (b"", "not a manifest"),
        (b"\xff\xfe", "not a manifest"),
        (b"[]", "not a manifest"),
        (b'{"schema-version": 1}', "not a manifest"),
        (_changed(kind="rpm"), "not a manifest"),
        (_changed(surprise=1), "not a manifest"),
        *((_changed(path=path), "cannot be trusted") for path in (
            "/etc/passwd", "../x", "a/../../x", "", ".", "a\\..\\x", "C:x", "x\0", "./x", "manifest.json", "SHA256SUMS",
        )),
        (_changed(sha256="A" * 64), "cannot be trusted"),
        (_changed(sha256="a" * 63), "cannot be trusted"),
        (_changed(size=-1), "cannot be trusted"),
        *((_changed(**{"sbom": path, "sbom-sha256": "a" * 64}), "cannot be trusted") for path in ("../x", "SHA256SUMS", "a:b")),
        (_changed(**{"sbom": "x.cdx.json", "sbom-sha256": "a"}), "cannot be trusted"),
        (_changed(sbom="x.cdx.json"), "cannot be trusted"),
        (_changed(**{"sbom-sha256": "a" * 64}), "cannot be trusted"),
    ],
)  # fmt: skip
def test_wrong_manifests(content: bytes, message: str) -> None:
    """Each is refused by name, with exit code 12 and a cure; a newer schema is recognised before its content."""
    with pytest.raises(ManifestError, match=message) as caught:
        parse_manifest(content, "dist/manifest.json")
    assert "dist/manifest.json" in str(caught.value)
    assert caught.value.exit_code == 12
    assert caught.value.advice


def test_missing_is_not_wrong(tmp_path: Path) -> None:
    """Callers tell "not built yet" from "damaged"."""
    with pytest.raises(FileNotFoundError):
        read_manifest(tmp_path / "manifest.json")


# --- merge ---


def test_merge() -> None:
    """Artifacts of all; every version of a tool; dirty when one was."""
    whole = merge(
        manifest(WINDOWS, tools={"python": "3.11.9", "uv": "1"}),
        manifest(LINUX, source=Source(commit="c0ffee", digest="d1", epoch=1700000000, dirty=True)),
    )
    assert whole.artifacts == (LINUX, WINDOWS)
    assert whole.tools == {"python": "3.11.9, 3.11.7", "uv": "1"}
    assert whole.source.dirty


def _source(**more: Any) -> Source:
    return Source(**{"commit": "c0ffee", "digest": "d1", "epoch": 1700000000, **more})


@pytest.mark.parametrize(
    ("other", "detail"),
    [
        (manifest(project=ProjectInfo(name="other", version="1.0")), "project: agent and other"),
        (manifest(project=ProjectInfo(name="agent", version="1.1")), "version: 1.0 and 1.1"),
        (manifest(source=_source(commit="beef")), "commit: c0ffee and beef"),
        (manifest(source=_source(commit="")), "commit: c0ffee and none"),
        (manifest(source=_source(digest="d2")), "source digest: d1 and d2"),
        (manifest(source=_source(epoch=1)), "source epoch: 1700000000 and 1"),
        (
            manifest(artifact(content="other bytes")),
            "linux-amd64 archive: agent-1.0-linux-amd64.archive with sha256",
        ),
        (manifest(artifact(path="renamed", content="linux-amd64 archive")), "one file under two names"),
        (manifest(DESCRIBED), "two SBOMs"),
        (
            manifest(artifact("darwin-arm64", sbom=LINUX.path, sbom_sha256="a" * 64)),
            "both linux-amd64 archive and darwin-arm64 archive",
        ),
        (
            manifest(artifact("darwin-arm64", path=LINUX.path)),
            "both linux-amd64 archive and darwin-arm64 archive",
        ),
    ],
)
def test_contradictions(other: Manifest, detail: str) -> None:
    """Each has its line in the details, whichever comes first, and exit code 12."""
    with pytest.raises(ManifestError) as caught:
        merge(manifest(LINUX), manifest(WINDOWS), other)
    assert len(caught.value.details) == 1
    assert detail in caught.value.details[0]
    assert caught.value.exit_code == 12
    with pytest.raises(ManifestError):
        merge(other, manifest(LINUX))


def test_all_contradictions_at_once() -> None:
    """Nobody wants to learn of them one by one."""
    other = manifest(
        artifact(content="x"), project=ProjectInfo(name="agent", version="2"), source=_source(digest="d2")
    )
    with pytest.raises(ManifestError) as caught:
        merge(manifest(LINUX), other)
    assert len(caught.value.details) == 3


def test_contradiction_within_one_manifest() -> None:
    """A single manifest that lists a target's kind twice with different bytes is refused too."""
    with pytest.raises(ManifestError):
        merge(manifest(LINUX, artifact(content="x", path="y")))


@pytest.mark.parametrize(
    ("one", "other", "kept"),
    [
        (Smoke.UNTESTED, Smoke.PASSED, Smoke.PASSED),
        (Smoke.PASSED, Smoke.FAILED, Smoke.FAILED),
        (Smoke.UNTESTED, Smoke.FAILED, Smoke.FAILED),
    ],
)
def test_the_worse_result_is_kept(one: Smoke, other: Smoke, kept: Smoke) -> None:
    """Built here and tested there; a failure somewhere is never hidden by a success elsewhere."""
    both = [
        manifest(msgspec.structs.replace(LINUX, smoke=SmokeResult(status=status))) for status in (one, other)
    ]
    for order in (both, both[::-1]):
        assert [a.smoke.status for a in merge(*order).artifacts] == [kept]


def test_nothing_to_merge() -> None:
    """No manifest at all is an error, not an empty one."""
    with pytest.raises(ManifestError):
        merge()


# --- folders ---


def test_merge_dirs(tmp_path: Path) -> None:
    """Files, modes, SHA256SUMS and the manifest arrive; again and onto a source itself it changes nothing."""
    a, b = filled(tmp_path / "a", manifest(LINUX)), filled(tmp_path / "b", manifest(WINDOWS))
    into = tmp_path / "deep" / "dist"
    whole = merge_dirs([a, b], into)
    assert read_manifest(into / "manifest.json") == whole
    assert sorted(path.name for path in into.iterdir()) == [
        "SHA256SUMS", LINUX.path, WINDOWS.path, "manifest.json",
    ]  # fmt: skip
    assert (into / WINDOWS.path).stat().st_mode & 0o777 == 0o755
    assert (into / LINUX.path).stat().st_mode & 0o777 == 0o644
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "-c", "--quiet", "SHA256SUMS"], cwd=into, check=True)
    before = {name: content for name, (content, _) in snapshot(into).items()}
    merge_dirs([a, b], into)
    merge_dirs([into, a], into)
    assert {name: content for name, (content, _) in snapshot(into).items()} == before


def test_an_sbom_goes_with_its_artifact(tmp_path: Path) -> None:
    """It is copied, listed in SHA256SUMS, cannot be run, and is compared with the manifest like everything else."""
    folder, into = filled(tmp_path / "a", manifest(DESCRIBED)), tmp_path / "dist"
    merge_dirs([folder], into)

    assert (into / DESCRIBED.sbom).read_bytes() == SBOM
    assert (into / DESCRIBED.sbom).stat().st_mode & 0o777 == 0o644
    assert parse_sums((into / "SHA256SUMS").read_text(encoding="utf-8")) == dict(DESCRIBED.files_and_sums)

    (folder / DESCRIBED.sbom).write_bytes(b"something else")
    with pytest.raises(ManifestError) as caught:
        merge_dirs([folder], tmp_path / "other")
    assert caught.value.details == (f"{folder / DESCRIBED.sbom}: another sha256",)


def _corrupt(folder: Path) -> None:
    (folder / LINUX.path).write_bytes(b"linux-amd64 archivE")


def _shorten(folder: Path) -> None:
    (folder / LINUX.path).write_bytes(b"x")


def _remove(folder: Path) -> None:
    (folder / LINUX.path).unlink()


def _contradict(folder: Path) -> None:
    (folder / "manifest.json").write_bytes(manifest_bytes(manifest(source=_source(digest="d2"))))


def _no_manifest(folder: Path) -> None:
    (folder / "manifest.json").unlink()


@pytest.mark.parametrize(
    ("damage", "message", "detail"),
    [
        (_corrupt, "1 of the files", "another sha256"),
        (_shorten, "1 of the files", "1 bytes instead of 19"),
        (_remove, "1 of the files", "missing"),
        (_contradict, "contradict", "source digest"),
        (_no_manifest, r"no manifest\.json", ""),
    ],
)
def test_anything_wrong_changes_nothing(
    damage: Callable[[Path], None], message: str, detail: str, tmp_path: Path
) -> None:
    """One bad source of two: message, detail, exit code 12, and the destination untouched."""
    a, b = filled(tmp_path / "a", manifest(WINDOWS)), filled(tmp_path / "b", manifest(LINUX))
    into = filled(tmp_path / "into", manifest(WINDOWS))
    damage(b)
    before = snapshot(into)
    with pytest.raises(ManifestError, match=message) as caught:
        merge_dirs([a, b], into)
    assert detail in "".join(caught.value.details)
    assert caught.value.exit_code == 12
    assert snapshot(into) == before


def test_another_build_in_the_way(tmp_path: Path) -> None:
    """Artifacts that the result does not list are not orphaned silently."""
    a = filled(tmp_path / "a", manifest(LINUX))
    into = filled(tmp_path / "into", manifest(WINDOWS))
    before = snapshot(into)
    with pytest.raises(ManifestError, match="another build") as caught:
        merge_dirs([a], into)
    assert caught.value.details == (WINDOWS.path,)
    assert snapshot(into) == before


def test_a_folder_or_file_in_the_way(tmp_path: Path) -> None:
    """Found before anything is renamed."""
    a = filled(tmp_path / "a", manifest(LINUX, WINDOWS))
    (tmp_path / "into" / WINDOWS.path).mkdir(parents=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(ManifestError, match="is a folder"):
        merge_dirs([a], tmp_path / "into")
    assert snapshot(tmp_path / "into") == {}
    with pytest.raises(ManifestError, match="not a folder"):
        merge_dirs([a], tmp_path / "file")


def test_interrupted_copy_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the second file cannot be written, the first one's draft is gone as well."""
    a = filled(tmp_path / "a", manifest(LINUX, WINDOWS))
    original = Path.read_bytes

    def read(self: Path) -> bytes:
        if self.name == WINDOWS.path:
            raise OSError(5, "Input/output error")
        return original(self)

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(OSError, match="Input"):
        merge_dirs([a], tmp_path / "into")
    monkeypatch.undo()
    assert snapshot(tmp_path / "into") == {}
