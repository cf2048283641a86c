"""The SBOM of real builds: complete, valid, printed by every form, and its versions are those that the program loads."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
import tarfile
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from spdx_tools.spdx.parser.json.json_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from support.ferryman import Workshop, lantern

KINDS = ("archive", "executable", "pyz")
# Modules that bring libraries of their own, which an agent may use.
MODULES = ["lantern.colours", "sqlite3", "lzma", "bz2", "xml.etree.ElementTree"]
ASK = """
import bz2, ctypes, json, lzma, pyexpat, sqlite3, ssl, sys, zlib
print(json.dumps({"openssl": ssl.OPENSSL_VERSION.split()[1], "zlib": zlib.ZLIB_RUNTIME_VERSION, "sqlite": sqlite3.sqlite_version,
                  "expat": pyexpat.EXPAT_VERSION.partition("_")[2], "cpython": sys.version.split()[0]}))
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, shared_out: Path) -> Workshop:
    """The second agent with a few modules more, for this machine."""
    workshop = lantern(tmp_path_factory.mktemp("sbom é"), shared_out)
    workshop.edit(
        "pyproject.toml", 'hidden-imports = ["lantern.colours"]', f"hidden-imports = {json.dumps(MODULES)}"
    )
    outcome = workshop.run("build")
    assert outcome.code == 0, outcome.err
    return workshop


def attached(workshop: Workshop, kind: str) -> bytes:
    (row,) = (row for row in workshop.manifest()["artifacts"] if row["kind"] == kind)
    content = (workshop.dist / row["sbom"]).read_bytes()
    assert row["sbom"] == f"{row['path']}.cdx.json"
    assert row["sbom-sha256"] == hashlib.sha256(content).hexdigest()
    return content


def document(workshop: Workshop, kind: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(attached(workshop, kind))
    return found


def components(made: dict[str, Any]) -> list[dict[str, Any]]:
    return [made["metadata"]["component"], *made["components"]]


def occurrences(made: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(path, digest) of every file that a component owns."""
    for one in components(made):
        for row in one.get("evidence", {}).get("occurrences", ()):
            yield row["location"], row.get("additionalContext", "").removeprefix("sha256:")


@pytest.fixture(scope="module")
def tree(built: Workshop, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the unpacked archive."""
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(built.artifact("archive")) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Debian 12's Python has none
        archive.extractall(folder)
    return next(folder.iterdir())


def members(built: Workshop, tree: Path, kind: str) -> dict[str, str]:
    """Path → SHA-256 of all that is in the artifact; of a link: that of where it leads."""
    if kind == "pyz":
        with zipfile.ZipFile(built.artifact("pyz")) as archive:
            return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}
    files = (path for path in tree.rglob("*") if path.is_file() or path.is_symlink())
    return {
        path.relative_to(tree).as_posix(): hashlib.sha256(
            str(path.readlink()).encode() if path.is_symlink() else path.read_bytes()
        ).hexdigest()
        for path in files
    }


@pytest.mark.parametrize("kind", KINDS)
def test_valid(built: Workshop, kind: str) -> None:
    """The official schema of CycloneDX 1.6, read strictly, has nothing against it."""
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(attached(built, kind).decode()) is None


@pytest.mark.parametrize("kind", KINDS)
def test_every_file_belongs_to_exactly_one_component(built: Workshop, tree: Path, kind: str) -> None:
    """What is in the artifact is in the document, once, with its digest; and nothing else is."""
    wanted = members(built, tree, kind)
    (own,) = (path for path in wanted if path.endswith("_ferryman/sbom.cdx.json"))
    found = list(occurrences(document(built, kind)))

    assert [path for path, times in Counter(path for path, _ in found).items() if times > 1] == []
    assert dict(found) == {**wanted, own: ""}


@pytest.mark.parametrize("kind", KINDS)
def test_the_program_prints_what_is_attached(built: Workshop, tree: Path, tmp_path: Path, kind: str) -> None:
    """Byte for byte, by --sbom; and so does `ferryman sbom`, which does not start it."""
    command = {"archive": [tree / "lantern"], "executable": [built.artifact("executable")],
               "pyz": [sys.executable, built.artifact("pyz")]}[kind]  # fmt: skip
    env = {"HOME": str(tmp_path), "FERRYMAN_CACHE": str(tmp_path / "cache")}
    done = subprocess.run([*command, "--sbom"], env=env, capture_output=True, timeout=60, check=True)

    assert (done.stdout, done.stderr) == (attached(built, kind), b"")
    for place in (built.artifact(kind), *([tree, tree.parent] if kind == "archive" else [])):
        words = [sys.executable, "-m", "ferryman_build", "sbom", place]
        asked = subprocess.run(words, env=_environment(), capture_output=True, timeout=60, check=True)
        assert asked.stdout == done.stdout


def _environment() -> dict[str, str]:
    from support.ferryman import environment

    return environment()


def test_versions_are_those_that_the_program_has(built: Workshop, tree: Path) -> None:
    """OpenSSL, zlib, sqlite, expat and CPython say the same of themselves, in the tree that ships."""
    done = subprocess.run(
        [tree / "lantern", "-I", "-c", ASK], env={"FERRYMAN_INTERPRETER": "1"}, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    listed = {one["name"]: one.get("version", "") for one in components(document(built, "archive"))}

    assert {name: listed.get(name) for name in said} == said


def test_what_else_is_known(built: Workshop) -> None:
    """Each dependency has its version, hash and licence; the launcher has its zstd; nobody's version is guessed."""
    made = document(built, "executable")
    found = {one["name"]: one for one in components(made)}

    for name in ("msgspec", "pyyaml"):
        assert found[name]["purl"] == f"pkg:pypi/{name}@{found[name]['version']}"
        assert re.fullmatch("[0-9a-f]{64}", found[name]["hashes"][0]["content"])
        assert found[name]["licenses"]
    assert found["lantern-keeper"]["version"] == "2.3.0"
    assert found["zstd"]["version"]
    assert {one["name"] for one in components(made) if "version" not in one} <= {
        "libffi",
        "libuuid",
        "libxcrypt",
    }
    (row,) = (row for row in made["dependencies"] if row["ref"] == found["lantern-keeper"]["bom-ref"])
    assert {found[name]["bom-ref"] for name in ("msgspec", "pyyaml", "cpython", "ferryman-launcher")} == set(
        row["dependsOn"]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_names_the_machine(built: Workshop, kind: str) -> None:
    """Neither a folder of this machine nor its clock: the document is the same elsewhere, at any time."""
    text = attached(built, kind).decode()

    assert [
        place for place in (str(built.project), str(built.out), sys.prefix, str(Path.home())) if place in text
    ] == []
    assert (
        document(built, kind)["metadata"]["timestamp"] == "1980-01-01T00:00:00+00:00"
    )  # no git, so no other date


def test_spdx(built: Workshop) -> None:
    """The same as SPDX 2.3, which the validator of its makers takes."""
    outcome = subprocess.run(
        [sys.executable, "-m", "ferryman_build", "sbom", "--format", "spdx", built.artifact("executable")],
        env=_environment(), capture_output=True, timeout=60, check=True,
    )  # fmt: skip
    made = json.loads(outcome.stdout)

    assert validate_full_spdx_document(JsonLikeDictParser().parse(made)) == []
    assert len(made["packages"]) == len(components(document(built, "executable")))


def test_dependencies_bring_their_licences(built: Workshop, tree: Path) -> None:
    """What a distribution puts beside its metadata for whoever ships it is in the tree."""
    for name in ("msgspec", "pyyaml"):
        (folder,) = (tree / "_internal").glob(f"{name}-*.dist-info")
        assert [path for path in folder.rglob("*") if "licen" in path.name.lower() and path.is_file()], name


def test_the_decoder_is_the_release_that_is_named(built: Workshop) -> None:
    """What toolchain.toml calls zstd's release is what its header says."""
    from ferryman_build.homes import home
    from ferryman_build.toolchain import read_recipe, toolchain_key

    header = (home() / "toolchain" / toolchain_key()[:32] / "zstd" / "lib" / "zstd.h").read_text(
        encoding="utf-8"
    )
    parts = [
        re.search(rf"#define ZSTD_VERSION_{name}\s+(\d+)", header) for name in ("MAJOR", "MINOR", "RELEASE")
    ]

    assert ".".join(part[1] for part in parts if part) == read_recipe().zstd.release


def test_the_bootloaders_forms(
    built: Workshop, tmp_path_factory: pytest.TempPathFactory, tmp_path: Path
) -> None:
    """With PyInstaller's bootloader: the tree and the one file print it, it is complete, and is read without a start."""
    workshop = lantern(tmp_path_factory.mktemp("bootloader"), built.out)
    workshop.edit(
        "pyproject.toml",
        "[tool.ferryman]\n",
        '[tool.ferryman]\nbundle = "pyinstaller"\nsbom-option = "--bom"\n',
    )
    outcome = workshop.run("build", "--kind", "archive,executable")
    assert outcome.code == 0, outcome.err
    with tarfile.open(workshop.artifact("archive")) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(tmp_path)
    folder = next(tmp_path.iterdir())
    program = workshop.artifact("executable")
    document_ = attached(workshop, "executable")

    for command in (folder / "lantern", program):
        done = subprocess.run([command, "--bom"], capture_output=True, timeout=60, check=True)
        assert (done.stdout, done.stderr) == (document_, b"")
    asked = subprocess.run(
        [sys.executable, "-m", "ferryman_build", "sbom", program],
        env=_environment(),
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert asked.stdout == document_
    wanted = {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() or path.is_symlink()
    }
    found = Counter(path for path, _ in occurrences(json.loads(document_)))
    assert found == Counter(wanted)
    names = {one["name"]: one for one in components(json.loads(document_))}
    assert "pyinstaller-bootloader" in names
    assert not {"ferryman-launcher", "zstd"} & names.keys()
