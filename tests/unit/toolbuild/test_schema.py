"""The published schemas accept what Ferryman accepts and refuse what it refuses."""

from __future__ import annotations

import tomllib
from typing import Any

import jsonschema
import msgspec
import pytest

from ferryman_build.artifacts import Artifact, Kind, Manifest, Needs, ProjectInfo, Source
from ferryman_build.schema import DESCRIPTIONS, manifest_schema, project_schema
from ferryman_build.settings import Settings
from ferryman_build.validate import check

FULL = """
entry-point = "a.b:c"
targets = ["host", "linux/arm64", "x86_64-unknown-linux-musl"]
kinds = ["archive", "executable", "pyz"]
collector = "standalone"
python = "3.12"
optimize = 2
bundle = "pyinstaller"
payload-level = 22
cache-days = 0
interpreter = false
hidden-imports = ["a.b_c"]
lock = "locks/all.txt"
workspace.project = "agent"
[[data]]
source = "assets/**"
into = "assets"
[smoke]
commands = [["--version"], []]
timeout = 10
[smoke.service]
args = ["--port", "{port}"]
ready = "http://127.0.0.1:{port}/readyz"
exit-codes = [0, -15]
[target.linux-arm64-musl]
python = "/opt/python"
kinds = ["pyz"]
[target."windows/amd64"]
"""


def valid(document: object, schema: dict[str, Any]) -> bool:
    return jsonschema.Draft202012Validator(schema).is_valid(document)


@pytest.mark.parametrize("schema", [project_schema(), manifest_schema()])
def test_schemas_are_schemas(schema: dict[str, Any]) -> None:
    """Both keep the rules of their dialect, which they name."""
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["$schema"].endswith("2020-12/schema")


@pytest.mark.parametrize("text", ["", FULL])
def test_good_settings(text: str) -> None:
    """An empty table, and one with every feature."""
    assert valid(tomllib.loads(text), project_schema())


@pytest.mark.parametrize(
    "text",
    [
        "entry_point = 'a:b'",
        "kinds = ['exe']",
        "kinds = 'pyz'",
        "optimize = 3",
        "optimize = true",
        "bundle = 'zip'",
        "cache-days = -1",
        "payload-level = 23",
        "interpreter = 'yes'",
        "python = '3'",
        "hidden-imports = ['a-b']",
        "data = [{}]",
        "smoke.timeout = 0",
        "smoke.service = {}",
        "target.linux-arm64.optimize = 1",
    ],
)
def test_bad_settings(text: str) -> None:
    """What the walk over types refuses, the schema refuses."""
    document = tomllib.loads(text)
    assert check(document, Settings)
    assert not valid(document, project_schema())


@pytest.mark.parametrize(
    "text", ["targets = ['linux-amd65']", "target.nowhere = {}", "target.host = {}", "workspace = {x = 1}"]
)
def test_names_of_targets_are_in_the_schema(text: str) -> None:
    """An editor completes targets and marks unknown ones."""
    assert not valid(tomllib.loads(text), project_schema())


def test_every_key_is_described() -> None:
    """Each field of each table has a description, and each row of the descriptions has a field."""
    schema = project_schema()
    tables = {"Settings": schema, **schema["$defs"]}
    missing = [
        f"{name}.{key}"
        for name, table in tables.items()
        for key, field in table.get("properties", {}).items()
        if not field.get("description")
    ]
    assert missing == []
    idle = [
        f"{name}.{key}"
        for name, rows in DESCRIPTIONS.items()
        for key in rows
        if key not in tables[name]["properties"]
    ]
    assert idle == []


def test_what_adds_says_so() -> None:
    """A target's lists of modules add to the project's; what replaces does not claim to."""
    fields = project_schema()["$defs"]["TargetSettings"]["properties"]
    adding = {key for key, field in fields.items() if "Added" in field["description"]}
    assert adding == {"hidden-imports", "exclude-modules"}


def manifest(**changes: object) -> dict[str, Any]:
    artifact = Artifact(
        kind=Kind.PYZ, target="linux-amd64", path="a.pyz", size=1, sha256="00", collector="shiv",
        needs=Needs(floor={"glibc": "2.17"}),
    )  # fmt: skip
    whole = Manifest(
        project=ProjectInfo(name="a", version="1"),
        source=Source(),
        tools={"python": "3.12.1"},
        artifacts=(artifact,),
    )
    return {**msgspec.json.decode(msgspec.json.encode(whole)), **changes}


def test_manifest() -> None:
    """A manifest that Ferryman writes is accepted; unknown keys and wrong kinds are not."""
    schema = manifest_schema()
    assert valid(manifest(), schema)
    assert not valid(manifest(more=1), schema)
    assert not valid(manifest(artifacts=[{**manifest()["artifacts"][0], "kind": "exe"}]), schema)
    assert not valid({key: value for key, value in manifest().items() if key != "tools"}, schema)
