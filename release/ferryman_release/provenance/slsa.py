"""From the manifest to the statement of one artifact: a pure function, the same bytes for the same manifest.

Rules (docs/provenance-v1.md has them for readers):

1. One artifact, one statement, one subject: its file name and SHA-256.
2. External parameters are what a person could have asked for otherwise: project, version, target, kind, collector, bundler.
3. The first dependency is the source: the commit, and the digest of its files, which also tells two dirty trees apart.
4. Every material of the manifest is a dependency under its own name; a tool is one under the name `tool <name>`, whether it
   took part in this artifact or not. Bytes are pinned where a material says so; those of python and uv are not known.
5. No time, no host name, no path of a machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

import msgspec

from ferryman_build.artifacts import Artifact, Manifest, Material, Source
from ferryman_build.project import Project
from ferryman_release.provenance.model import (
    BUILD_TYPE,
    BUILDER,
    PREDICATE_TYPE,
    STATEMENT_TYPE,
    BuildDefinition,
    Builder,
    Predicate,
    Resource,
    RunDetails,
    Statement,
)

_SCHEME = re.compile(r"[a-z][a-z0-9+.-]*:")
# Tools that are no distribution of the same name.
_PURLS: Mapping[str, str] = {"python": "generic/python", "zig": "pypi/ziglang"}
# Labels of [project.urls] that mean the source, as the packaging standards list them ("well-known labels").
_SOURCE_LABELS = ("source", "repository", "sourcecode", "github")


def statement(
    manifest: Manifest, artifact: Artifact, *, project: Project | None = None, repository: str = ""
) -> bytes:
    """The statement's JSON.

    Args:
        project: says the repository, unless ``repository`` does.
        repository: its URL, such as https://github.com/owner/name.
    """
    where = repository or (repository_of(project) if project else "")
    made = Statement(
        type=STATEMENT_TYPE,
        subject=(Resource(name=artifact.path, digest={"sha256": artifact.sha256}),),  # rule 1
        predicate_type=PREDICATE_TYPE,
        predicate=Predicate(
            build_definition=BuildDefinition(
                build_type=BUILD_TYPE,
                external_parameters=_external(manifest, artifact),
                internal_parameters=_internal(manifest, artifact),
                resolved_dependencies=(
                    *_source(manifest.source, where),
                    *(_material(one) for one in artifact.materials),
                    *_tools(manifest.tools),
                ),
            ),
            run_details=RunDetails(builder=_builder(manifest)),
        ),
    )
    return msgspec.json.encode(made, order="deterministic")


def _external(manifest: Manifest, artifact: Artifact) -> dict[str, str]:
    asked = {
        "project": manifest.project.name, "version": manifest.project.version, "target": artifact.target,
        "kind": str(artifact.kind), "collector": artifact.collector, "bundler": artifact.bundler,
    }  # fmt: skip
    return {name: value for name, value in asked.items() if value}  # rule 2


def _internal(manifest: Manifest, artifact: Artifact) -> dict[str, object]:
    followed: dict[str, object] = {
        "sourceDateEpoch": manifest.source.epoch,
        "python": artifact.python,
        "runtime": artifact.runtime,
        "promise": artifact.promise,
    }
    return {name: value for name, value in followed.items() if value}


def _source(source: Source, repository: str) -> Iterator[Resource]:
    if source.commit:
        yield Resource(
            name="source",
            uri=f"git+{repository}@{source.commit}" if repository else "",
            digest={"gitCommit": source.commit},
            annotations={"dirty": True} if source.dirty else {},
        )
    if source.digest:  # rule 3: Ferryman's own digest of a folder, which no other tool computes
        yield Resource(name="source files", digest={"ferrymanTree": source.digest})


def _material(material: Material) -> Resource:
    """A path is no URI, and says more beside the name."""
    if not material.uri or _SCHEME.match(material.uri):
        return Resource(name=material.name, uri=material.uri, digest={"sha256": material.sha256})
    return Resource(
        name=material.name, digest={"sha256": material.sha256}, annotations={"file": material.uri}
    )


def _tools(tools: Mapping[str, str]) -> Iterator[Resource]:
    for name, versions in sorted(tools.items()):
        if name == "ferryman":
            continue  # the builder
        for version in versions.split(", "):  # of several machines, joined
            purl = _PURLS.get(name, f"pypi/{name}")
            yield Resource(name=f"tool {name}", uri=f"pkg:{purl}@{version}" if version else f"pkg:{purl}")


def _builder(manifest: Manifest) -> Builder:
    version = manifest.tools.get("ferryman", "")
    return Builder(id=BUILDER, version={"ferryman": version} if version else {})


def repository_of(project: Project) -> str:
    """The URL of the project's repository: that of its GitHub releases, else of `[project.urls]`; '' when neither is said."""
    if project.settings.release.github:
        return f"https://github.com/{project.settings.release.github}"
    urls = project.document.table("project", "urls") if project.document else {}
    known = {re.sub(r"[\W_]", "", label).lower(): url for label, url in urls.items() if isinstance(url, str)}
    found = next((known[label] for label in _SOURCE_LABELS if label in known), "")
    return found.rstrip("/").removesuffix(".git")
