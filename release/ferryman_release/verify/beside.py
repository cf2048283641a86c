"""Policies about the documents that a release has beside its artifacts: sums, their signature, release.json, the SBOM."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any

from packaging.utils import canonicalize_name

from ferryman_build.artifacts import Artifact, Manifest
from ferryman_build.manifest import MANIFEST, SUMS
from ferryman_release.errors import VerifyError
from ferryman_release.model import RELEASE, SCHEMA_VERSION, AssetKind, Release, to_json
from ferryman_release.signing.minisign import minisign_verify
from ferryman_release.verify.evidence import ABOUT, MINISIG, Evidence
from ferryman_release.verify.model import Failed, Held, Parameters, Skipped, Subject, Verdict

_AGAIN = "Take it again from where the release was published; if that does not help, do not use it."


def listed_problem(subject: Subject, sums: Mapping[str, str]) -> str:
    """Why SHA256SUMS does not list this very file under this very name; '' when it does."""
    if subject.name in sums:
        same = sums[subject.name] == subject.sha256
        return "" if same else f"{subject.name} is not the file that {SUMS} lists under this name"
    other = next((name for name, digest in sums.items() if digest == subject.sha256), "")
    renamed = f"; it is {other}, under another name" if other else ""
    return f"{subject.name} is not listed in {SUMS}{renamed}"


class Checksums:
    """SHA256SUMS lists the file, and every document about it, with the hash that it has."""

    parameters = frozenset[str]()
    cryptographic = False

    def verify(self, subject: Subject, evidence: Evidence, given: Parameters) -> Verdict:
        if evidence.sums is None:
            return Skipped(f"there is no {SUMS} beside it")
        documents = [*(f"{subject.name}{suffix}" for suffix in ABOUT), MANIFEST]
        wrong = [listed_problem(subject, evidence.sums), *(evidence.wrong(name) for name in documents)]
        if found := [one for one in wrong if one]:
            return Failed("; ".join(found), _AGAIN)
        about = sum(evidence.document(name) is not None and name in evidence.sums for name in documents)
        return Held(f"sha256 {subject.sha256[:12]}…" + (f", and {about} documents" if about else ""))


class Signature:
    """minisign's signature of SHA256SUMS, by the key that is trusted, for the version that is expected."""

    parameters = frozenset[str]()
    cryptographic = True

    def verify(self, subject: Subject, evidence: Evidence, given: Parameters) -> Verdict:
        signature, sums = evidence.document(MINISIG), evidence.document(SUMS)
        if signature is None:
            return Skipped(f"there is no {MINISIG} beside it")
        if sums is None or evidence.sums is None:
            return Failed(f"{MINISIG} is here, and {SUMS}, which it signs, is not", _AGAIN)
        if not evidence.trust.minisign:
            return Skipped("no key is known: name the project's minisign.pub with --key")
        comment, key = self._opened(evidence, sums, signature)
        if wrong := self._comment_problem(comment, evidence) or listed_problem(subject, evidence.sums):
            return Failed(wrong, _AGAIN)
        return Held(f"{SUMS} of {comment.get('name', '?')} {comment.get('version', '?')}, by the key {key}")

    def _opened(self, evidence: Evidence, sums: bytes, signature: bytes) -> tuple[dict[str, str], str]:
        """The trusted comment and the key's name; the error of the last key when none fits."""
        error: VerifyError | None = None
        for key in evidence.trust.minisign:
            try:
                comment = minisign_verify(sums, signature, key)
            except VerifyError as found:
                error = found
                continue
            return dict(part.partition(":")[::2] for part in comment.split("\t")), key.name
        assert error is not None, "there is at least one key"
        raise VerifyError(f"{MINISIG}: {error}", advice=error.advice) from error

    def _comment_problem(self, comment: Mapping[str, str], evidence: Evidence) -> str:
        wanted = dict(zip(("name", "version"), evidence.project(), strict=True), file=SUMS)
        for field, value in wanted.items():
            said = comment.get(field, "")
            if value and said != value:
                return f"{MINISIG} is for the {field} {said!r}, and not for {value!r}"
        return ""


class ReleaseDocument:
    """release.json says of the file, and of all others, what SHA256SUMS and the manifest say."""

    parameters = frozenset[str]()
    cryptographic = False

    def verify(self, subject: Subject, evidence: Evidence, given: Parameters) -> Verdict:
        release, content = evidence.release, evidence.document(RELEASE)
        if release is None or content is None:
            return Skipped(f"there is no {RELEASE} beside it")
        asset = release.asset(subject.name)
        wrong = [] if to_json(release) == content else [f"{RELEASE} is not in the form that Ferryman writes"]
        if asset is None:
            wrong.append(f"{RELEASE} does not list {subject.name}")
        elif (asset.size, asset.sha256) != (subject.size, subject.sha256):
            wrong.append(f"{RELEASE} lists another {subject.name}")
        wrong += [f"{RELEASE}: {problem}" for problem in _release_problems(release, evidence)]
        wrong += [f"{RELEASE}: {problem}" for problem in _size_problems(release, subject, evidence)]
        if wrong:
            return Failed("; ".join(wrong[:4]), _AGAIN)
        return Held(f"{release.project.name} {release.project.version}, {len(release.assets)} files")


def _release_problems(release: Release, evidence: Evidence) -> Iterator[str]:
    name, version = evidence.project()
    for what, said, wanted in (
        ("name", release.project.name, name),
        ("version", release.project.version, version),
    ):
        if wanted and said != wanted:
            yield f"its {what} is {said!r}, and not {wanted!r}"
    if release.schema_version != SCHEMA_VERSION:
        yield f"its schema is {release.schema_version}; this Ferryman reads {SCHEMA_VERSION}"
    if evidence.sums is not None:
        yield from _sums_problems(release, evidence, evidence.sums)
    if evidence.manifest is not None:
        yield from _manifest_problems(release, evidence.manifest)
    for asset in release.assets:
        kind, about = _kind(asset.path)
        if (asset.kind, asset.about) != (kind, about):
            yield f"{asset.path} is called {asset.kind} of {asset.about or 'nothing'}"


_SUFFIXES = {
    ".cdx.json": AssetKind.SBOM, ".spdx.json": AssetKind.SBOM, ".intoto.json": AssetKind.PROVENANCE,
    ".sigstore.json": AssetKind.PROVENANCE, ".minisig": AssetKind.SIGNATURE,
}  # fmt: skip


def _kind(path: str) -> tuple[AssetKind, str]:
    """What a file is, and what it is about, by its name."""
    if path in (SUMS, MANIFEST):
        return (AssetKind.CHECKSUMS if path == SUMS else AssetKind.MANIFEST), ""
    suffix = next((one for one in _SUFFIXES if path.endswith(one)), "")
    return (_SUFFIXES[suffix], path.removesuffix(suffix)) if suffix else (AssetKind.ARTIFACT, "")


def _sums_problems(release: Release, evidence: Evidence, sums: Mapping[str, str]) -> Iterator[str]:
    listed = {asset.path: asset.sha256 for asset in release.assets}
    for name in (SUMS, MINISIG):
        data = evidence.document(name)
        if data is not None and listed.pop(name, "") != hashlib.sha256(data).hexdigest():
            yield f"it lists another {name}"
    for path in sorted({*listed, *sums}):
        if listed.get(path) != sums.get(path):
            yield f"it does not say of {path} what {SUMS} says"


def _size_problems(release: Release, subject: Subject, evidence: Evidence) -> Iterator[str]:
    """Sizes stand in no sums: those of the manifest, and of the documents that concern this file."""
    sizes = {one.path: one.size for one in (evidence.manifest.artifacts if evidence.manifest else ())}
    for name in (SUMS, MINISIG, MANIFEST, *(f"{subject.name}{suffix}" for suffix in ABOUT)):
        data = evidence.document(name)
        if data is not None:
            sizes[name] = len(data)
    for asset in release.assets:
        if sizes.get(asset.path, asset.size) != asset.size:
            yield f"it says that {asset.path} has {asset.size} bytes, and not {sizes[asset.path]}"


def _manifest_problems(release: Release, manifest: Manifest) -> Iterator[str]:
    moment = _moment(manifest.source.epoch)
    for what, same in (
        ("project", release.project == manifest.project),
        ("source", release.source == manifest.source),
        ("date", release.released == moment),
        ("list of artifacts", release.artifacts == manifest.artifacts),
    ):
        if not same:
            yield f"its {what} is not that of {MANIFEST}"


def _moment(epoch: int) -> str:
    """ISO 8601; '' for a number that is no date of any calendar."""
    try:
        return datetime.fromtimestamp(epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (ValueError, OverflowError, OSError):
        return ""


class Sbom:
    """The CycloneDX document beside the artifact is one, is whole, and is about the program in this artifact."""

    parameters = frozenset[str]()
    cryptographic = False

    def verify(self, subject: Subject, evidence: Evidence, given: Parameters) -> Verdict:
        name = f"{subject.name}.cdx.json"
        data = evidence.document(name)
        if data is None:
            return Skipped("there is no SBOM beside it")
        listed = _artifact(subject, evidence)
        said = listed.sbom_sha256 if listed else ""
        if said and said != hashlib.sha256(data).hexdigest():
            return Failed(f"{name} is not the one that {MANIFEST} lists", _AGAIN)
        if wrong := evidence.wrong(name):
            return Failed(wrong, _AGAIN)
        try:
            found = json.loads(data)
        except ValueError as error:
            return Failed(f"{name} is no JSON: {error}", _AGAIN)
        problem = _form_problem(found) or _about_problem(found, subject, evidence)
        if problem:
            return Failed(f"{name} {problem}", _AGAIN)
        return Held(f"CycloneDX {found['specVersion']}, {len(found.get('components', []))} components")


def _form_problem(found: Any) -> str:
    if not isinstance(found, dict) or found.get("bomFormat") != "CycloneDX" or "specVersion" not in found:
        return "is no document of CycloneDX"
    components = found.get("components", [])
    if not isinstance(components, list) or not all(isinstance(one, dict) for one in components):
        return "has components that are none"
    if nameless := [one for one in components if not (one.get("name") and one.get("type"))]:
        return f"has {len(nameless)} components without a name or a type"
    refs = [str(one["bom-ref"]) for one in components if "bom-ref" in one]
    return "" if len(refs) == len(set(refs)) else "has two components of one reference"


def _about_problem(found: Mapping[str, Any], subject: Subject, evidence: Evidence) -> str:
    """The program that the document describes is the one in the artifact: by name, version, wheel and target.

    A document that is also inside of the artifact cannot have its hash; SHA256SUMS binds the two.
    """
    metadata = found.get("metadata")
    component = metadata.get("component") if isinstance(metadata, dict) else None
    if not isinstance(metadata, dict) or not isinstance(component, dict):
        return "does not say which program it describes"
    name, version = evidence.project()
    if name and canonicalize_name(str(component.get("name"))) != canonicalize_name(name):
        return f"describes {component.get('name')!r}, and not {name!r}"
    if version and component.get("version") != version:
        return f"describes version {component.get('version')!r}, and not {version!r}"
    artifact = _artifact(subject, evidence)
    return _artifact_problem(metadata, component, subject, artifact) if artifact else ""


def _artifact(subject: Subject, evidence: Evidence) -> Artifact | None:
    """What the manifest says of the file."""
    listed = evidence.manifest.artifacts if evidence.manifest else ()
    return next((one for one in listed if one.path == subject.name), None)


def _artifact_problem(
    metadata: Mapping[str, Any], component: Mapping[str, Any], subject: Subject, artifact: Artifact
) -> str:
    digests = _values(component.get("hashes"), "alg", "SHA-256", "content")
    wheels = {one.sha256 for one in artifact.materials if one.name == "wheel"}
    if digests and wheels and digests.isdisjoint({subject.sha256, *wheels}):
        return f"describes a program that is not in {subject.name}"
    targets = _values(metadata.get("properties"), "name", "ferryman:target", "value")
    if targets and artifact.target not in targets:
        return f"describes an artifact for {', '.join(sorted(targets))}, and not for {artifact.target}"
    return ""


def _values(rows: object, key: str, wanted: str, value: str) -> set[str]:
    """``value`` of the rows whose ``key`` is ``wanted``."""
    found = rows if isinstance(rows, list) else []
    return {str(one.get(value)) for one in found if isinstance(one, dict) and one.get(key) == wanted}
