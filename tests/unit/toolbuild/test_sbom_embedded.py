"""sbom.embedded, sbom.spdx and `ferryman sbom`: the document in whatever ships, and the same as SPDX."""

from __future__ import annotations

import io
import json
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from spdx_tools.spdx.parser.json.json_parser import JsonLikeDictParser
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document

from ferryman_build.cache import Blobs
from ferryman_build.cli import main
from ferryman_build.errors import FerrymanError, InspectError, UsageError
from ferryman_build.sbom import embedded
from ferryman_build.sbom.embedded import embedded_sbom
from ferryman_build.sbom.spdx import spdx
from ferryman_build.wrap.launch import SBOM
from ferryman_build.wrap.payload import PayloadFile, PayloadInfo, write_payload

DOCUMENT = b'{"bomFormat": "CycloneDX", "specVersion": "1.6"}\n'
IN_TREE = f"_internal/{SBOM}"


# --- forms ------------------------------------------------------------------------------------------------------------


def tree(path: Path, content: bytes) -> Path:
    place = path / IN_TREE
    place.parent.mkdir(parents=True)
    place.write_bytes(content)
    return path


def folder_of_a_tree(path: Path, content: bytes) -> Path:
    return tree(path / "lantern-1.0", content).parent


def contents_of_a_tree(path: Path, content: bytes) -> Path:
    return tree(path, content) / "_internal"


def document(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def tar(path: Path, content: bytes) -> Path:
    with tarfile.open(path, "w:gz") as archive:
        for name, data in (
            ("lantern-1.0/lantern", b"x"),
            (f"lantern-1.0/_internal/app/{SBOM}", b"not it"),
            (f"lantern-1.0/{IN_TREE}", content),
        ):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return path


def zipped(path: Path, content: bytes, name: str = f"lantern-1.0/{IN_TREE}") -> Path:
    with path.open("wb") as file:
        file.write(b"#!/usr/bin/env python3.11\n")
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr("site-packages/_internal/_ferryman/sbom.cdx.json/x", b"not it")
            archive.writestr(name, content)
    return path


def pyz(path: Path, content: bytes) -> Path:
    return zipped(path, content, SBOM)


def executable(path: Path, content: bytes) -> Path:
    """A Windows program with nothing in it but a payload's section."""
    source = path.with_suffix(".source")
    source.write_bytes(content)
    payload = path.with_suffix(".payload")
    file = PayloadFile(IN_TREE, 0o644, source, "", "sbom")
    write_payload(
        [file], PayloadInfo(name="lantern", version="1"), payload, Blobs(path.parent / "blobs"), level=1
    )
    data = payload.read_bytes()
    head = b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + struct.pack("<HH12xHH", 0x8664, 1, 0, 0)
    start = len(head) + 40
    path.write_bytes(head + struct.pack("<8sI4xII16x", b".fman", len(data), len(data), start) + data)
    return path


def bootloader(path: Path, content: bytes, *, packed: bool = True) -> Path:
    """A program with PyInstaller's archive behind it."""
    data = zlib.compress(content) if packed else content
    other, name = b"something else", SBOM.encode() + b"\0"
    rows = b"".join(
        struct.pack("!IIIIBc", 18 + len(word), offset, len(part), len(part), flag, b"x") + word
        for word, part, offset, flag in ((b"app.pyc\0", other, 0, 0), (name, data, len(other), int(packed)))
    )
    body = other + data + rows
    note = struct.pack(
        "!8sIIII64s",
        b"MEI\014\013\012\013\016",
        len(body) + 88,
        len(other + data),
        len(rows),
        311,
        b"libpython3.11.so.1.0",
    )
    path.write_bytes(b"a program" + bytes(100) + body + note)
    return path


def plain_bootloader(path: Path, content: bytes) -> Path:
    return bootloader(path, content, packed=False)


FORMS = [
    tree,
    folder_of_a_tree,
    contents_of_a_tree,
    document,
    tar,
    zipped,
    pyz,
    executable,
    bootloader,
    plain_bootloader,
]


@pytest.mark.parametrize("form", FORMS)
def test_read(tmp_path: Path, form: Callable[[Path, bytes], Path]) -> None:
    """Byte for byte what was put in, whatever it lies in."""
    assert embedded_sbom(form(tmp_path / "x", DOCUMENT)) == DOCUMENT


@pytest.mark.parametrize("form", FORMS)
def test_another_document(tmp_path: Path, form: Callable[[Path, bytes], Path]) -> None:
    """What lies in the place of the SBOM and is none is refused."""
    with pytest.raises(InspectError, match="no CycloneDX document") as caught:
        embedded_sbom(form(tmp_path / "x", b'{"schema-version": 1}'))
    assert caught.value.advice


@pytest.mark.parametrize("form", FORMS)
def test_a_bomb(tmp_path: Path, form: Callable[[Path, bytes], Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """A few packed bytes that become more than any document has are not unpacked further than that."""
    monkeypatch.setattr(embedded, "LONGEST", 100_000)
    assert embedded_sbom(form(tmp_path / "good", DOCUMENT.ljust(100_000))) == DOCUMENT.ljust(100_000)
    with pytest.raises(InspectError, match="too many"):
        embedded_sbom(form(tmp_path / "bomb", DOCUMENT.ljust(100_001)))


def test_a_bomb_behind_the_bootloader_is_not_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 50 million blanks in a stream of PyInstaller's no more than the limit is ever in memory."""
    monkeypatch.setattr(embedded, "LONGEST", 100_000)
    path = bootloader(tmp_path / "bomb", b"{" + b" " * 50_000_000)
    tracemalloc.start()
    with pytest.raises(InspectError, match="too many"):
        embedded_sbom(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5_000_000


@pytest.mark.parametrize(
    "content",
    [
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b',"bomFormat":"CycloneDX"}',
        b'{"bomFormat":"CycloneDX","specVersion":"1.6"}', b'{"bomFormat":"CycloneDX","metadata":[]}',
        b'{"bomFormat":"CycloneDX","metadata":{"component":{"bom-ref":1}},"serialNumber":"x"}',
    ],
)  # fmt: skip
def test_documents_of_others_are_no_spdx(tmp_path: Path, content: bytes) -> None:
    """A document that lacks what ours have, or that breaks readers, is a sentence."""
    (tmp_path / "x.cdx.json").write_bytes(content)
    with pytest.raises(InspectError) as caught:
        spdx(embedded_sbom(tmp_path / "x.cdx.json"))
    assert caught.value.advice


def empty_tar(path: Path) -> None:
    with tarfile.open(path, "w"):
        pass


def empty_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("site-packages/a.py", "")


@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir, empty_tar, empty_zip, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"\x7fELF"),
        lambda path: path.write_bytes(b"MEI\014\013\012\013\016"),
    ],
)  # fmt: skip
def test_none(tmp_path: Path, make: Callable[[Path], object]) -> None:
    """Something of ours without one, or of somebody else: a sentence, and what to name instead."""
    make(tmp_path / "x")
    with pytest.raises(FerrymanError, match=r"has no SBOM in it|is damaged") as caught:
        embedded_sbom(tmp_path / "x")
    assert isinstance(caught.value, InspectError)
    assert caught.value.advice


def test_nothing_there(tmp_path: Path) -> None:
    """A name that is none."""
    with pytest.raises(UsageError, match="There is no"):
        embedded_sbom(tmp_path / "x")


@pytest.mark.parametrize("cut", [200, 300])
def test_damaged(tmp_path: Path, cut: int) -> None:
    """An archive that was cut off cannot be read, and that is said."""
    path = tar(tmp_path / "x", DOCUMENT * 1000)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InspectError):
        embedded_sbom(path)


# --- SPDX -------------------------------------------------------------------------------------------------------------


def component(kind: str, name: str, version: str = "", **more: Any) -> dict[str, Any]:
    found = {"type": kind, "bom-ref": f"pkg:pypi/{name}@{version}", "name": name, **more}
    return {**found, "version": version} if version else found


SOURCE: dict[str, Any] = {
    "bomFormat": "CycloneDX", "specVersion": "1.6", "serialNumber": "urn:uuid:8a27e3a7-89bc-5ee5-ab7d-86318991e8d1", "version": 1,
    "metadata": {
        "timestamp": "2026-09-21T14:13:20+00:00",
        "tools": {"components": [{"name": "ferryman", "version": "0.1"}, {"name": "zig", "version": "0.17"}]},
        "component": component("application", "lantern", "2.3.0", licenses=[{"license": {"id": "MIT"}}]),
    },
    "components": [
        component("library", "oil", "1.0", purl="pkg:pypi/oil@1.0", supplier={"name": "Ada"},
                  hashes=[{"alg": "SHA-256", "content": "ab" * 32}],
                  properties=[{"name": "ferryman:wheel", "value": "oil-1.0-py3-none-any.whl"}],
                  licenses=[{"license": {"name": "BSD License"}}, {"license": {"id": "MIT"}}]),
        component("library", "oil+", "1.0", licenses=[{"expression": "MIT OR Apache-2.0"}]),
        component("platform", "cpython", "3.11.7", cpe="cpe:2.3:a:python:python:3.11.7:*:*:*:*:*:*:*"),
        component("library", "libffi", properties=[{"name": "ferryman:version", "value": "unknown"}]),
    ],
    "dependencies": [
        {"ref": "pkg:pypi/lantern@2.3.0", "dependsOn": ["pkg:pypi/cpython@3.11.7", "pkg:pypi/oil@1.0"]},
        {"ref": "pkg:pypi/oil@1.0"},
    ],
}  # fmt: skip


@pytest.fixture(scope="module")
def made() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(spdx(json.dumps(SOURCE).encode()))
    return found


def test_valid_spdx(made: dict[str, Any]) -> None:
    """A parser of the standard's makers reads it, and their validator has nothing against it."""
    assert validate_full_spdx_document(JsonLikeDictParser().parse(made)) == []


def test_the_validator_refuses(made: dict[str, Any]) -> None:
    """That the test above can fail: a relationship to nowhere, a package without a name for its place."""
    broken = {**made, "documentNamespace": "not a place"}

    assert validate_full_spdx_document(JsonLikeDictParser().parse(broken))


def test_spdx_packages(made: dict[str, Any]) -> None:
    """Hash, licence, identifiers, wheel and supplier come over; what nobody knows is no assertion."""
    packages = {row["name"]: row for row in made["packages"]}

    assert packages["oil"]["checksums"] == [{"algorithm": "SHA256", "checksumValue": "ab" * 32}]
    assert packages["oil"]["packageFileName"] == "oil-1.0-py3-none-any.whl"
    assert packages["oil"]["supplier"] == "Organization: Ada"
    assert packages["oil"]["licenseDeclared"] == "LicenseRef-BSD-License AND MIT"
    assert packages["oil+"]["licenseDeclared"] == "MIT OR Apache-2.0"
    assert packages["lantern"]["licenseDeclared"] == "MIT"
    assert packages["libffi"]["comment"] == "version: unknown"
    assert "versionInfo" not in packages["libffi"]
    assert packages["cpython"]["externalRefs"][0]["referenceType"] == "cpe23Type"
    assert len({row["SPDXID"] for row in made["packages"]}) == 5
    assert made["hasExtractedLicensingInfos"][0]["name"] == "BSD License"


def test_spdx_relationships(made: dict[str, Any]) -> None:
    """The document describes the application, and the graph is the same."""
    ids = {row["name"]: row["SPDXID"] for row in made["packages"]}
    found = {
        (row["spdxElementId"], row["relationshipType"], row["relatedSpdxElement"])
        for row in made["relationships"]
    }

    assert found == {
        ("SPDXRef-DOCUMENT", "DESCRIBES", ids["lantern"]),
        (ids["lantern"], "DEPENDS_ON", ids["oil"]),
        (ids["lantern"], "DEPENDS_ON", ids["cpython"]),
    }


def test_spdx_is_the_same_each_time(made: dict[str, Any]) -> None:
    """Its namespace and its date are made of the document's."""
    assert json.loads(spdx(json.dumps(SOURCE).encode())) == made
    assert made["creationInfo"] == {"created": "2026-09-21T14:13:20Z", "creators": ["Tool: ferryman-0.1"]}
    assert made["documentNamespace"].startswith("urn:uuid:")


# --- the command ------------------------------------------------------------------------------------------------------


def test_command(tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    """The bytes as they are; as SPDX when asked."""
    path = document(tmp_path / "x", json.dumps(SOURCE).encode())

    assert main(["sbom", str(path)]) == 0
    assert capfdbinary.readouterr().out == path.read_bytes()
    assert main(["sbom", str(path), "--format", "spdx"]) == 0
    assert capfdbinary.readouterr().out == spdx(path.read_bytes())


def test_command_fails_with_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit codes and advice as everywhere."""
    (tmp_path / "x").write_bytes(b"other")

    assert main(["sbom", str(tmp_path / "x")]) == InspectError.exit_code
    assert "has no SBOM in it" in capsys.readouterr().err
    assert main(["sbom", str(tmp_path / "y")]) == UsageError.exit_code
    assert main(["sbom", str(tmp_path / "x"), "--format", "xml"]) == UsageError.exit_code
