"""The statement: what it says, that it is SLSA's, and that it is the same for whoever builds the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from google.protobuf.json_format import ParseDict, ParseError
from in_toto_attestation.predicates.provenance.v1 import provenance_pb2
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement as Oracle

from ferryman_build.artifacts import Artifact, Kind, Manifest, Material, ProjectInfo, Source
from ferryman_build.project import Project
from ferryman_build.settings import ReleaseSettings, Settings
from ferryman_build.toml_document import Document
from ferryman_release.provenance import BUILD_TYPE, repository_of, statement
from support.dist_factory import COMMIT, MATERIALS, make_dist


@pytest.fixture
def manifest(tmp_path: Path) -> Manifest:
    return make_dist(tmp_path / "dist")


def document(made: bytes) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(made)
    return found


def accepted(made: dict[str, Any]) -> None:
    """in-toto's own types read it; raises ParseError or ValueError."""
    message = ParseDict(made, statement_pb2.Statement())
    Oracle.copy_from_pb(message).validate()
    ParseDict(made["predicate"], provenance_pb2.Provenance())


def project(urls: dict[str, str], github: str = "") -> Project:
    return Project(
        root=Path("/none"), name="lantern", version="1.0.0", requires_python="", dependencies=(),
        entry_point="lantern:main", executable="lantern", settings=Settings(release=ReleaseSettings(github=github)),
        document=Document(Path("pyproject.toml"), "", {"project": {"urls": urls}}),
    )  # fmt: skip


def test_in_totos_own_types_accept_every_statement(manifest: Manifest) -> None:
    """Statement and predicate parse as the published protobufs, which refuse unknown fields."""
    for artifact in manifest.artifacts:
        accepted(document(statement(manifest, artifact, repository="https://example.org/lantern")))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("_type",), "https://in-toto.io/Statement/v0.1"),
        (("subject",), []),
        (("subject", 0, "digest"), {}),
        (("predicateType",), ""),
        (("predicate",), {}),
        (("predicate", "buildDefinition", "buildtype"), "x"),
        (("predicate", "runDetails", "builder", "identity"), "x"),
    ],
)
def test_the_oracle_refuses_what_is_wrong(
    manifest: Manifest, path: tuple[str | int, ...], value: object
) -> None:
    """A statement with a field changed, emptied or misspelt is refused by the same types."""
    made: Any = document(statement(manifest, manifest.artifacts[0]))
    place = made
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value

    with pytest.raises((ParseError, ValueError)):
        accepted(made)


def test_what_is_said(manifest: Manifest) -> None:
    """The subject by hash; what was asked for; source, materials and tools as dependencies."""
    artifact = manifest.artifacts[1]
    made = document(statement(manifest, artifact, repository="https://example.org/lantern"))
    definition = made["predicate"]["buildDefinition"]
    dependencies = {one["name"]: one for one in definition["resolvedDependencies"]}

    assert made["subject"] == [{"name": artifact.path, "digest": {"sha256": artifact.sha256}}]
    assert definition["buildType"] == BUILD_TYPE
    assert definition["externalParameters"] == {
        "project": "lantern", "version": "1.0.0", "target": artifact.target, "kind": str(artifact.kind),
        "collector": "standalone", "bundler": "ferryman",
    }  # fmt: skip
    assert dependencies["source"]["uri"] == f"git+https://example.org/lantern@{COMMIT}"
    assert dependencies["source"]["digest"] == {"gitCommit": COMMIT}
    assert dependencies["source files"]["digest"] == {"ferrymanTree": manifest.source.digest}
    assert dependencies["runtime"] == {
        "name": "runtime", "uri": MATERIALS[1].uri, "digest": {"sha256": MATERIALS[1].sha256},
    }  # fmt: skip
    assert dependencies["dependencies"]["annotations"] == {"file": "ferryman.lock.txt"}
    assert dependencies["tool zig"]["uri"] == "pkg:pypi/ziglang@0.17.1"


def test_every_material_of_the_manifest_is_a_dependency(manifest: Manifest) -> None:
    """No material is lost on the way: each hash of the manifest is in the statement."""
    text = statement(manifest, manifest.artifacts[0]).decode()

    assert [one.name for one in manifest.artifacts[0].materials if one.sha256 not in text] == []


def test_the_same_build_makes_the_same_bytes(manifest: Manifest) -> None:
    """Order of tools and floors, seconds and smoke results of the run make no difference: no time is in it."""
    artifact = manifest.artifacts[0]
    again = msgspec.structs.replace(artifact, seconds=99.0, promise=dict(reversed(artifact.promise.items())))
    turned = msgspec.structs.replace(manifest, tools=dict(reversed(manifest.tools.items())))

    assert statement(manifest, artifact) == statement(turned, again)


def test_the_bytes_are_these() -> None:
    """What is signed does not change by accident: a released statement is never made anew with other bytes."""
    artifact = Artifact(
        kind=Kind.PYZ, target="linux-amd64", path="lamp.pyz", size=1, sha256="aa" * 32, collector="pip",
        materials=(Material(name="dependencies", sha256="bb" * 32),),
    )  # fmt: skip
    manifest = Manifest(
        project=ProjectInfo(name="lamp", version="1"), source=Source(commit="cc" * 20, epoch=7),
        tools={"uv": "0.9"}, artifacts=(artifact,),
    )  # fmt: skip

    assert statement(manifest, artifact).decode() == (
        '{"_type":"https://in-toto.io/Statement/v1",'
        f'"subject":[{{"name":"lamp.pyz","digest":{{"sha256":"{"aa" * 32}"}}}}],'
        '"predicateType":"https://slsa.dev/provenance/v1","predicate":{"buildDefinition":{'
        '"buildType":"pkg:pypi/ferryman#docs/provenance-v1.md",'
        '"externalParameters":{"collector":"pip","kind":"pyz","project":"lamp","target":"linux-amd64","version":"1"},'
        '"internalParameters":{"sourceDateEpoch":7},"resolvedDependencies":['
        f'{{"name":"source","digest":{{"gitCommit":"{"cc" * 20}"}}}},'
        f'{{"name":"dependencies","digest":{{"sha256":"{"bb" * 32}"}}}},'
        '{"name":"tool uv","uri":"pkg:pypi/uv@0.9"}]},"runDetails":{"builder":{"id":"pkg:pypi/ferryman"}}}}'
    )


def test_a_dirty_checkout_is_said(manifest: Manifest) -> None:
    """Whoever verifies can refuse what no commit has."""
    source = msgspec.structs.replace(manifest.source, dirty=True)
    made = document(statement(msgspec.structs.replace(manifest, source=source), manifest.artifacts[0]))

    assert made["predicate"]["buildDefinition"]["resolvedDependencies"][0]["annotations"] == {"dirty": True}


def test_without_git_there_is_no_commit(manifest: Manifest) -> None:
    """Then the digest of the files is all that is known of the source, and the statement is still valid."""
    bare = msgspec.structs.replace(manifest, source=Source(digest="ab" * 32, epoch=1))
    made = document(statement(bare, manifest.artifacts[0]))

    accepted(made)
    names = [one["name"] for one in made["predicate"]["buildDefinition"]["resolvedDependencies"]]
    assert "source" not in names
    assert "source files" in names


def test_tools_of_several_machines(manifest: Manifest) -> None:
    """A merged manifest names several versions of a tool; each is a dependency."""
    merged = msgspec.structs.replace(
        manifest, tools={"python": "3.11.9, 3.12.1", "uv": "", "ferryman": "0.5"}
    )
    made = document(statement(merged, manifest.artifacts[0]))["predicate"]
    uris = [one.get("uri", "") for one in made["buildDefinition"]["resolvedDependencies"]]

    assert {"pkg:generic/python@3.11.9", "pkg:generic/python@3.12.1", "pkg:pypi/uv"} <= set(uris)
    assert made["runDetails"]["builder"] == {"id": "pkg:pypi/ferryman", "version": {"ferryman": "0.5"}}


@pytest.mark.parametrize(
    ("urls", "github", "found"),
    [
        ({}, "", ""),
        ({"Homepage": "https://example.org"}, "", ""),
        ({"Source Code": "https://example.org/lantern.git"}, "", "https://example.org/lantern"),
        ({"repository": "https://example.org/lantern/"}, "", "https://example.org/lantern"),
        ({"Source": "https://example.org/lantern"}, "harbour/lantern", "https://github.com/harbour/lantern"),
    ],
)
def test_where_the_repository_is_said(urls: dict[str, str], github: str, found: str) -> None:
    """GitHub releases have one; else it is what `[project.urls]` calls the source."""
    assert repository_of(project(urls, github)) == found


def test_the_project_says_the_repository(manifest: Manifest) -> None:
    """A release hands over its project, and the commit gets its place."""
    made = document(statement(manifest, manifest.artifacts[0], project=project({}, github="harbour/lantern")))
    source = made["predicate"]["buildDefinition"]["resolvedDependencies"][0]

    assert source["uri"] == f"git+https://github.com/harbour/lantern@{COMMIT}"
