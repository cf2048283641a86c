"""dist/manifest.json: read, written and joined with those of other machines.

Rules of joining:

1. All manifests are of one project, version and source (commit, digest of the files, epoch).
2. One target has one artifact of a kind: listed twice, it is the same file under the same name.
3. A name belongs to one artifact, and its SBOM goes with it.
4. Of two smoke results for one file, the worse is kept: failed, then passed, then untested.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from ferryman_build.artifacts import SCHEMA_VERSION, Artifact, Kind, Manifest, Smoke
from ferryman_build.cache import file_digest
from ferryman_build.checkout import draft_copy, drafts_removed_on_error, replace_all, undo_dead_run
from ferryman_build.checksums import sums_text
from ferryman_build.errors import ManifestError

MANIFEST = "manifest.json"
SUMS = "SHA256SUMS"

_SHA256 = re.compile(r"[0-9a-f]{64}")
_WORSE_FIRST = (Smoke.FAILED, Smoke.PASSED, Smoke.UNTESTED)  # rule 4


class _Versioned(msgspec.Struct, rename="kebab"):
    """The one field that a manifest of any schema has."""

    schema_version: int


def manifest_bytes(manifest: Manifest) -> bytes:
    """The file's content: fields in the schema's order, mappings and artifacts sorted, two blanks of indent."""
    artifacts = tuple(sorted(manifest.artifacts, key=_order))
    ordered = msgspec.structs.replace(manifest, artifacts=artifacts)
    return msgspec.json.format(msgspec.json.encode(ordered, order="deterministic"), indent=2) + b"\n"


def _order(artifact: Artifact) -> tuple[str, str, str]:
    return artifact.target, artifact.kind, artifact.path


def read_manifest(path: Path) -> Manifest:
    """The manifest in the file ``path``.

    Raises:
        FileNotFoundError: there is none.
        ManifestError: it is unreadable, of a newer schema, or names a file outside of its folder.
    """
    return parse_manifest(path.read_bytes(), str(path))


def parse_manifest(content: bytes, name: str) -> Manifest:
    """The manifest in ``content``, which messages call ``name``; raises ManifestError as :func:`read_manifest`."""
    try:
        version = msgspec.json.decode(content, type=_Versioned).schema_version
        _check_version(version, name)
        manifest = msgspec.json.decode(content, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ManifestError(
            f"{name} is not a manifest of Ferryman: {error}.", advice="Build or fetch it again."
        ) from error
    wrong = [problem for artifact in manifest.artifacts for problem in _artifact_problems(artifact)]
    if wrong:
        raise ManifestError(f"{name} cannot be trusted.", advice="Build or fetch it again.", details=wrong)
    return manifest


def _check_version(version: int, name: str) -> None:
    if version > SCHEMA_VERSION:
        raise ManifestError(
            f"{name} has schema version {version}; this Ferryman reads up to {SCHEMA_VERSION}.",
            advice="Update Ferryman on this machine to the version that wrote it.",
        )
    if version < 1:
        raise ManifestError(f"{name} has schema version {version}.", advice="Build or fetch it again.")


def _artifact_problems(artifact: Artifact) -> Iterator[str]:
    for name, sums in artifact.files_and_sums:
        yield from _file_problems(name, sums)
    if artifact.size < 0:
        yield f"{artifact.path}: a size of {artifact.size}"
    if bool(artifact.sbom) != bool(artifact.sbom_sha256):
        yield f"{artifact.path}: its SBOM has a name and no SHA-256, or a SHA-256 and no name"


def _file_problems(name: str, sums: str) -> Iterator[str]:
    path = PurePosixPath(name)
    plain = path.parts and not path.is_absolute() and ".." not in path.parts and str(path) == name
    if not plain or "\\" in name or ":" in name or "\0" in name:
        yield f"{name!r} is not a plain path inside of the folder"
    elif name in (MANIFEST, SUMS):
        yield f"{name!r} is listed as an artifact"
    if not _SHA256.fullmatch(sums):
        yield f"{name}: {sums!r} is not a SHA-256 in lower-case hex"


def merge(*manifests: Manifest) -> Manifest:
    """One manifest that lists what all of them list.

    Raises:
        ManifestError: two of them contradict each other; ``details`` has one line per contradiction.
    """
    if not manifests:
        raise ManifestError("There is no manifest to merge.", advice="Name at least one dist/ folder.")
    problems = [*_origin_problems(manifests), *_artifact_contradictions(manifests)]
    if problems:
        raise ManifestError(
            "The manifests contradict each other.",
            advice="Build all of them again from one commit, each target on one machine.",
            details=problems,
        )
    first = manifests[0]
    found: dict[str, Artifact] = {}
    for artifact in (artifact for manifest in manifests for artifact in manifest.artifacts):
        found[artifact.path] = _worse(found.get(artifact.path, artifact), artifact)
    return Manifest(
        project=first.project,
        source=msgspec.structs.replace(first.source, dirty=any(m.source.dirty for m in manifests)),
        tools=_joined_tools(manifests),
        artifacts=tuple(sorted(found.values(), key=_order)),
    )


# What all manifests must agree on (rule 1), and how a message calls it.
_AGREED: tuple[tuple[str, Callable[[Manifest], object]], ...] = (
    ("project", lambda manifest: manifest.project.name),
    ("version", lambda manifest: manifest.project.version),
    ("commit", lambda manifest: manifest.source.commit or "none"),
    ("source digest", lambda manifest: manifest.source.digest),
    ("source epoch", lambda manifest: manifest.source.epoch),
)


def _origin_problems(manifests: Sequence[Manifest]) -> Iterator[str]:
    for name, value in _AGREED:
        values = dict.fromkeys(str(value(manifest)) for manifest in manifests)
        if len(values) > 1:
            yield f"{name}: {' and '.join(values)}"


def _artifact_contradictions(manifests: Sequence[Manifest]) -> Iterator[str]:
    artifacts = [artifact for manifest in manifests for artifact in manifest.artifacts]
    by_role: dict[tuple[str, str], Artifact] = {}
    by_path: dict[str, Artifact] = {}
    for new in artifacts:
        old = by_role.setdefault((new.target, new.kind), new)
        what = f"{new.target} {new.kind}"
        if old.sha256 != new.sha256 or old.size != new.size:  # rule 2
            yield f"{what}: {old.path} with sha256 {old.sha256[:12]}… and {new.path} with {new.sha256[:12]}…"
        elif old.path != new.path:
            yield f"{what}: one file under two names, {old.path} and {new.path}"
        elif (old.sbom, old.sbom_sha256) != (new.sbom, new.sbom_sha256):
            yield f"{what}: two SBOMs, {old.sbom or 'none'} with {old.sbom_sha256[:12]}… and {new.sbom or 'none'} with {new.sbom_sha256[:12]}…"
        for name, _ in new.files_and_sums:
            owner = by_path.setdefault(name, new)
            if (owner.target, owner.kind) != (new.target, new.kind):  # rule 3
                yield f"{name}: both {owner.target} {owner.kind} and {what}"


def _worse(one: Artifact, other: Artifact) -> Artifact:
    return min(one, other, key=lambda artifact: _WORSE_FIRST.index(artifact.smoke.status))


def _joined_tools(manifests: Sequence[Manifest]) -> dict[str, str]:
    """Machines may have several versions of a tool (a Python per platform): all of them are named."""
    found: dict[str, dict[str, None]] = {}
    for manifest in manifests:
        for tool, version in manifest.tools.items():
            found.setdefault(tool, {})[version] = None
    return {tool: ", ".join(versions) for tool, versions in sorted(found.items())}


def merge_dirs(sources: Iterable[Path], into: Path) -> Manifest:
    """Join the dist/ folders ``sources`` in the folder ``into``: files, SHA256SUMS, and last the manifest.

    Every file is compared with its manifest first, and nothing in ``into`` changes unless all is well.

    Raises:
        ManifestError: a manifest is missing or wrong, two contradict each other, a file is not what its manifest says,
            or ``into`` holds artifacts of another build.
        SpaceError: no space left; ``into`` is as it was.
    """
    folders = list(sources)
    manifests = [_manifest_of(folder) for folder in folders]
    whole = merge(*manifests)
    places = {name: folder for folder, one in zip(folders, manifests, strict=True)
              for artifact in one.artifacts for name, _ in artifact.files_and_sums}  # fmt: skip
    _check_files(zip(folders, manifests, strict=True))
    _check_destination(whole, into)
    _deliver(whole, places, into)
    return whole


def _manifest_of(folder: Path) -> Manifest:
    try:
        return read_manifest(folder / MANIFEST)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ManifestError(
            f"There is no {MANIFEST} in {folder}.", advice="Name folders that `ferryman build` has filled."
        ) from error


def _check_files(listed: Iterable[tuple[Path, Manifest]]) -> None:
    wrong = [
        f"{folder / name}: {problem}"
        for folder, manifest in listed
        for artifact in manifest.artifacts
        for name, sums in artifact.files_and_sums
        if (problem := _file_problem(folder / name, sums, artifact.size if name == artifact.path else None))
    ]
    if wrong:
        raise ManifestError(
            f"{len(wrong)} of the files are not what their manifest says.",
            advice="Build or fetch those folders again.",
            details=wrong,
        )


def _file_problem(path: Path, sums: str, size: int | None) -> str:
    if not path.is_file():
        return "missing"
    found = path.stat().st_size
    if size not in (None, found):
        return f"{found} bytes instead of {size}"
    return "" if file_digest(path) == sums else "another sha256"


def _check_destination(whole: Manifest, into: Path) -> None:
    if into.exists() and not into.is_dir():
        raise ManifestError(f"{into} is not a folder.", advice="Name a folder with --into.")
    blocked = [
        name for name in (*(name for name, _ in _sums(whole)), SUMS, MANIFEST) if (into / name).is_dir()
    ]
    if blocked:
        raise ManifestError(
            f"In {into}, {blocked[0]} is a folder.", advice="Move it away, or merge into another folder."
        )
    if not (into / MANIFEST).exists():
        return
    listed = {(artifact.path, artifact.sha256) for artifact in whole.artifacts}
    lost = [a.path for a in read_manifest(into / MANIFEST).artifacts if (a.path, a.sha256) not in listed]
    if lost:
        raise ManifestError(
            f"{into} already holds artifacts of another build.",
            advice="Merge into an empty folder, or name this one as a source too.",
            details=lost,
        )


def _deliver(whole: Manifest, places: dict[str, Path], into: Path) -> None:
    into.mkdir(parents=True, exist_ok=True)
    undo_dead_run(into / MANIFEST)
    with drafts_removed_on_error() as drafts:
        executables = {one.path for one in whole.artifacts if one.kind is not Kind.ARCHIVE}
        for name, _ in _sums(whole):
            source, target = places[name] / name, into / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if not (target.exists() and target.samefile(source)):
                drafts.append((draft_copy(source.read_bytes(), target, name in executables), target))
        sums = sums_text(_sums(whole))
        drafts.append((draft_copy(sums.encode("utf-8"), into / SUMS, False), into / SUMS))
        drafts.append((draft_copy(manifest_bytes(whole), into / MANIFEST, False), into / MANIFEST))
        replace_all(drafts)  # the manifest last: what it does not list was not delivered


def _sums(manifest: Manifest) -> list[tuple[str, str]]:
    """(path, SHA-256) of every file that it lists."""
    return [row for artifact in manifest.artifacts for row in artifact.files_and_sums]
