"""sbom.groups, inventory and cyclonedx: every file in one component, what is known of each, and the document of it."""

from __future__ import annotations

import itertools
import json
import random
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

from ferryman_build.sbom import inventory
from ferryman_build.sbom.cyclonedx import cyclonedx
from ferryman_build.sbom.distributions import Distribution
from ferryman_build.sbom.inventory import UNKNOWN, take_inventory
from ferryman_build.sbom.licences import Licence
from ferryman_build.sbom.natives import Found
from ferryman_build.sbom.packages import Package
from ferryman_build.sbom.program import Compiled, Interpreter, Native, Owner, Program, Shipped, Starter

SSL_PACKAGE = Package(
    name="libssl3", version="3.0.17-1", architecture="amd64", source="openssl", source_version="3.0.17-1",
    distro="debian-12",
)  # fmt: skip
UUID_PACKAGE = Package(
    name="libuuid1", version="2.38.1-5", architecture="amd64", source="util-linux", source_version="2.38.1-5",
    distro="debian-12",
)  # fmt: skip
TOP = "_internal/"


def native(*found: Found, needed: tuple[str, ...] = ()) -> Native:
    return Native(found=found, needed=needed)


def shipped(path: str, owner: Owner, wheel: str = "", **more: Any) -> Shipped:
    return Shipped(
        path=TOP + path if owner is not Owner.STARTER else path,
        sha256="ab" * 32,
        owner=owner,
        wheel=wheel,
        **more,
    )


OPENSSL = Found(library="openssl", own=True, versions=("3.0.17",), says="OpenSSL 3.0.17 1 Jul 2025")
FILES = (
    shipped("lantern", Owner.STARTER, native=native(needed=("libc.so.6",))),
    shipped("_internal/_ferryman/launch", Owner.STARTER),
    shipped("app/__init__.pyc", Owner.APPLICATION),
    shipped("oil/_oil.so", Owner.WHEEL, "oil", native=native(Found(library="libyaml", numbers=("0.2.5",)), needed=("libm.so.6", "libstdc++.so.6"))),
    shipped("oil.libs/libz-1234.so", Owner.WHEEL, "oil", native=native(Found(library="zlib", own=True, versions=("1.3.1",)))),
    shipped("stray.pyc", Owner.WHEEL, "stray"),
    shipped("os.pyc", Owner.INTERPRETER),
    shipped("libpython3.11.so.1.0", Owner.INTERPRETER, native=native(Found(library="sqlite", numbers=("3.11.7", "3.50.2")))),
    shipped("_ssl.so", Owner.INTERPRETER, native=native(needed=("libssl.so.3", "libcrypto.so.3"))),
    shipped("libcrypto.so.3", Owner.MACHINE, native=native(OPENSSL), package=SSL_PACKAGE),
    shipped("libssl.so.3", Owner.MACHINE, native=native(Found(library="openssl", own=True), needed=("libcrypto.so.3",)), package=SSL_PACKAGE),
    shipped("libuuid.so.1", Owner.MACHINE, native=native(Found(library="libuuid", own=True)), package=UUID_PACKAGE),
    shipped("libuuid.so", Owner.MACHINE, link="_internal/libuuid.so.1"),
    shipped("libffi.so.8", Owner.MACHINE, native=native(Found(library="libffi", own=True))),
    shipped("libstdc++.so.6", Owner.MACHINE, native=native(Found(library="gcc-runtime", own=True))),
    shipped("libodd.so.2", Owner.MACHINE, native=native()),
)  # fmt: skip
PROGRAM = Program(
    application=Distribution(name="lantern", version="2.3.0", requires=("oil",), licences=(Licence(expression="MIT"),)),
    wheels={"oil": Distribution(
        name="oil", version="1.0", licences=(Licence(name="BSD License"),), supplier="Ada", wheel="oil-1.0-py3-none-any.whl",
        sha256="cd" * 32)},
    starter=Starter(name="ferryman-launcher", version="0.1", licence="Apache-2.0", purl="pkg:generic/ferryman-launcher",
                    compiled=(Compiled(name="zstd", version="1.5.7", licence="BSD-3-Clause OR GPL-2.0-only",
                                       cpe="facebook:zstandard", says="lib/zstd.h"),)),
    files=FILES, environment={"sys_platform": "linux"}, epoch=1_790_000_000,
    interpreter=Interpreter(version="3.11.7", origin="python-build-standalone 20250702", sha256="ef" * 32),
    tools=(("ferryman", "0.1"), ("zig", "0.17.1")), properties=(("ferryman:target", "linux-amd64"),),
)  # fmt: skip


def document(program: Program = PROGRAM) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(cyclonedx(take_inventory(program)))
    return found


def components(made: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """By name; the application first."""
    return {one["name"]: one for one in (made["metadata"]["component"], *made["components"])}


def paths(component: dict[str, Any]) -> list[str]:
    return [row["location"] for row in component.get("evidence", {}).get("occurrences", ())]


def properties(component: dict[str, Any]) -> list[tuple[str, str]]:
    return [(row["name"], row["value"]) for row in component.get("properties", ())]


@pytest.fixture(scope="module")
def refusals() -> Callable[[bytes], str]:
    """What the official schema of CycloneDX 1.6, read strictly, has against a document; "" for nothing."""
    validator = JsonStrictValidator(SchemaVersion.V1_6)

    def problems(made: bytes) -> str:
        error = validator.validate_str(made.decode())
        return str(error) if error else ""

    return problems


# --- who owns what ----------------------------------------------------------------------------------------------------


def test_every_file_is_in_one_component() -> None:
    """None is left out and none is listed twice."""
    found = Counter(path for one in components(document()).values() for path in paths(one))

    assert found == Counter(file.path for file in FILES)


@pytest.mark.parametrize(
    ("name", "version", "files"),
    [
        ("lantern", "2.3.0", ["app/__init__.pyc"]),
        ("oil", "1.0", ["oil/_oil.so"]),
        ("stray", None, ["stray.pyc"]),
        ("cpython", "3.11.7", ["_ssl.so", "libpython3.11.so.1.0", "os.pyc"]),
        (
            "openssl",
            "3.0.17",
            ["libcrypto.so.3", "libssl.so.3"],
        ),  # one says the version, the other lies beside it
        ("zlib", "1.3.1", ["oil.libs/libz-1234.so"]),  # a wheel's own copy is a component, too
        ("libuuid", "2.38.1", ["libuuid.so", "libuuid.so.1"]),  # a link goes with what it means
        ("libffi", None, ["libffi.so.8"]),
        ("libodd.so.2", None, ["libodd.so.2"]),
        ("libyaml", "0.2.5", []),
        ("sqlite", "3.50.2", []),
    ],
)
def test_components(name: str, version: str | None, files: list[str]) -> None:
    """Each with its files; what is linked into others has none of its own."""
    one = components(document())[name]

    assert one.get("version") == version
    assert paths(one) == [TOP + path for path in files]


def test_what_is_linked_in_says_where() -> None:
    """A library without a file names the files that have it in them."""
    made = components(document())

    assert ("ferryman:linked-into", f"{TOP}oil/_oil.so") in properties(made["libyaml"])
    assert ("ferryman:linked-into", f"{TOP}libpython3.11.so.1.0") in properties(made["sqlite"])
    assert properties(made["zstd"]) == [("ferryman:linked-into", "lantern")]


@pytest.mark.parametrize("name", ["libffi", "libodd.so.2", "gcc-runtime"])
def test_an_unknown_version_is_said_to_be_unknown(name: str) -> None:
    """Neither the field nor a CPE nor evidence is made up for it."""
    one = components(document())[name]

    assert ("ferryman:version", UNKNOWN) in properties(one)
    assert not {"version", "cpe"} & one.keys()
    assert "identity" not in one["evidence"]
    assert "@" not in one["purl"]


@pytest.mark.parametrize(
    ("name", "technique", "value"),
    [
        ("openssl", "binary-analysis", "OpenSSL 3.0.17 1 Jul 2025"),
        ("sqlite", "binary-analysis", "3.50.2"),
        ("libuuid", "hash-comparison", "libuuid1 2.38.1-5"),
        ("oil", "manifest-analysis", "oil-1.0.dist-info/METADATA"),
        ("zstd", "source-code-analysis", "lib/zstd.h"),
    ],
)
def test_where_a_version_is_known_from(name: str, technique: str, value: str) -> None:
    """The evidence says what was looked at, and what it said."""
    (identity,) = components(document())[name]["evidence"]["identity"]

    assert identity["concludedValue"] == components(document())[name]["version"]
    assert [(row["technique"], row["value"]) for row in identity["methods"]] == [(technique, value)]


@pytest.mark.parametrize(
    ("name", "purl", "cpe"),
    [
        ("lantern", "pkg:pypi/lantern@2.3.0", None),
        ("oil", "pkg:pypi/oil@1.0", None),
        ("cpython", "pkg:generic/cpython@3.11.7", "cpe:2.3:a:python:python:3.11.7:*:*:*:*:*:*:*"),
        ("openssl", "pkg:deb/debian/libssl3@3.0.17-1?arch=amd64&distro=debian-12&upstream=openssl",
         "cpe:2.3:a:openssl:openssl:3.0.17:*:*:*:*:*:*:*"),
        ("zlib", "pkg:generic/zlib@1.3.1", "cpe:2.3:a:zlib:zlib:1.3.1:*:*:*:*:*:*:*"),
        ("ferryman-launcher", "pkg:generic/ferryman-launcher@0.1", None),
    ],
)  # fmt: skip
def test_identifiers(name: str, purl: str, cpe: str | None) -> None:
    """A package's where one brought the file, the index's for distributions, generic for the rest."""
    one = components(document())[name]

    assert (one["purl"], one.get("cpe")) == (purl, cpe)


def test_wheel() -> None:
    """Its hash, its file name, its supplier, and its licence in the words that it has for it."""
    one = components(document())["oil"]

    assert one["hashes"] == [{"alg": "SHA-256", "content": "cd" * 32}]
    assert properties(one) == [("ferryman:wheel", "oil-1.0-py3-none-any.whl")]
    assert one["supplier"] == {"name": "Ada"}
    assert one["licenses"] == [{"license": {"name": "BSD License", "acknowledgement": "declared"}}]


def test_what_no_distribution_lists() -> None:
    """It is there under its name, and no identifier is made up for it."""
    one = components(document())["stray"]

    assert properties(one) == [("ferryman:version", "unknown: no distribution lists its files")]
    assert not {"purl", "cpe", "version", "licenses", "hashes"} & one.keys()


def test_links_in_a_circle() -> None:
    """Links that lead nowhere belong to whoever brought them."""
    links = [
        shipped(name, Owner.WHEEL, "oil", link=TOP + other)
        for name, other in (("a", "b"), ("b", "a"), ("c", "gone"))
    ]
    made = components(document(msgspec.structs.replace(PROGRAM, files=(*FILES, *links))))

    assert paths(made["oil"]) == [f"{TOP}{name}" for name in ("a", "b", "c", "oil/_oil.so")]


def test_interpreter_of_a_distribution() -> None:
    """Its package is its identifier; who built it and in which archive it came are said."""
    python = Package(name="libpython3.11-minimal", version="3.11.2-6", architecture="amd64", source="python3.11",
                     source_version="3.11.2-6", distro="debian-12")  # fmt: skip
    files = tuple(
        msgspec.structs.replace(file, package=python) if "os.pyc" in file.path else file for file in FILES
    )
    one = components(document(msgspec.structs.replace(PROGRAM, files=files)))["cpython"]

    assert one["purl"].startswith("pkg:deb/debian/libpython3.11-minimal@3.11.2-6?")
    assert properties(one) == [
        ("ferryman:origin", "libpython3.11-minimal 3.11.2-6 of debian-12"),
        ("ferryman:origin", "python-build-standalone 20250702"),
    ]
    assert one["hashes"] == [{"alg": "SHA-256", "content": "ef" * 32}]


def test_same_library_of_two_versions() -> None:
    """A wheel's copy of another version is another component, and each has its files."""
    older = shipped("oil.libs/libssl.so.1.1", Owner.WHEEL, "oil",
                    native=native(Found(library="openssl", own=True, versions=("1.1.1w",))))  # fmt: skip
    made = document(msgspec.structs.replace(PROGRAM, files=(*FILES, older)))
    found = {one["version"]: paths(one) for one in made["components"] if one["name"] == "openssl"}

    assert found == {
        "1.1.1w": [f"{TOP}oil.libs/libssl.so.1.1"],
        "3.0.17": [f"{TOP}libcrypto.so.3", f"{TOP}libssl.so.3"],
    }


# --- what needs what --------------------------------------------------------------------------------------------------


def needs(made: dict[str, Any]) -> dict[str, list[str]]:
    """Component → names of what it needs."""
    names = {one["bom-ref"]: one["name"] for one in components(made).values()}
    return {
        names[row["ref"]]: sorted(names[ref] for ref in row.get("dependsOn", ()))
        for row in made["dependencies"]
    }


@pytest.mark.parametrize(
    ("name", "needed"),
    [
        (
            "lantern",
            ["cpython", "ferryman-launcher", "oil", "stray"],
        ),  # nobody requires stray, and it is there
        ("oil", ["gcc-runtime", "libyaml", "zlib"]),
        ("openssl", []),
        ("ferryman-launcher", ["cpython", "zstd"]),
        ("cpython", ["libffi", "libodd.so.2", "libuuid", "openssl", "sqlite"]),
    ],
)
def test_needs(name: str, needed: list[str]) -> None:
    """Requirements of wheels, what the loader is asked for, what is linked in; the rest hangs on who brought it."""
    assert needs(document())[name] == needed


def test_the_graph_reaches_everything() -> None:
    """From the application every component is reached, and each has a row."""
    made = document()
    found = needs(made)
    reached, waiting = set(), ["lantern"]
    while waiting:
        name = waiting.pop()
        reached.add(name)
        waiting += [other for other in found[name] if other not in reached]

    assert reached == set(components(made)) == set(found)


# --- the document -----------------------------------------------------------------------------------------------------


def test_valid(refusals: Callable[[bytes], str]) -> None:
    """The official schema takes it, read strictly; and refuses what is not its form."""
    made = cyclonedx(take_inventory(PROGRAM))

    assert refusals(made) == ""
    assert "colour" in refusals(made.replace(b'"bomFormat"', b'"colour": 1, "bomFormat"', 1))


def test_valid_without_an_interpreter(refusals: Callable[[bytes], str]) -> None:
    """A .pyz has none; its starter needs nothing, and the application still has everything."""
    files = tuple(file for file in FILES if file.owner not in (Owner.INTERPRETER, Owner.MACHINE))
    program = msgspec.structs.replace(
        PROGRAM, interpreter=None, files=files, starter=msgspec.structs.replace(PROGRAM.starter, compiled=())
    )
    made = document(program)

    assert refusals(cyclonedx(take_inventory(program))) == ""
    assert "cpython" not in components(made)
    assert needs(made)["lantern"] == ["ferryman-launcher", "oil", "stray"]


@pytest.mark.parametrize(
    "licences",
    [
        (Licence(expression="MIT OR Apache-2.0"), Licence(expression="PSF-2.0")),
        (Licence(expression="MIT OR Apache-2.0"), Licence(name="BSD License")),
        (Licence(expression="LicenseRef-Own"),),
        (Licence(expression="MIT"), Licence(expression="PSF-2.0"), Licence(name="BSD License")),
        (),
    ],
)
def test_valid_with_any_licences(refusals: Callable[[bytes], str], licences: tuple[Licence, ...]) -> None:
    """Expressions, names, several of them, none."""
    application = msgspec.structs.replace(PROGRAM.application, licences=licences)
    program = msgspec.structs.replace(PROGRAM, application=application)

    assert refusals(cyclonedx(take_inventory(program))) == ""
    assert len(document(program)["metadata"]["component"].get("licenses", ())) in (len(licences), 1)


def test_same_bytes_in_any_order() -> None:
    """The order in which files and wheels were found does not show, nor does the clock."""
    first = cyclonedx(take_inventory(PROGRAM))
    shuffler = random.Random(7)
    for _ in range(8):
        files = list(FILES)
        shuffler.shuffle(files)
        assert cyclonedx(take_inventory(msgspec.structs.replace(PROGRAM, files=tuple(files)))) == first
    assert json.loads(first)["metadata"]["timestamp"] == "2026-09-21T14:13:20+00:00"


def test_serial_number_is_of_the_content() -> None:
    """A UUID of version 5 that another content does not have."""
    other = msgspec.structs.replace(PROGRAM, epoch=PROGRAM.epoch + 1)
    numbers = [document(program)["serialNumber"] for program in (PROGRAM, other)]

    assert all(
        re.fullmatch(r"urn:uuid:[0-9a-f]{8}-[0-9a-f]{4}-5[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", one)
        for one in numbers
    )
    assert numbers[0] != numbers[1]


def test_for_readers() -> None:
    """What it is comes first; files and components are sorted; every digest of a file is there but the document's own."""
    own = shipped("_internal/_ferryman/sbom.cdx.json", Owner.STARTER)
    made = document(msgspec.structs.replace(PROGRAM, files=(*FILES, msgspec.structs.replace(own, sha256=""))))
    rows = [
        row for one in components(made).values() for row in one.get("evidence", {}).get("occurrences", ())
    ]

    assert list(made)[:5] == ["bomFormat", "specVersion", "serialNumber", "version", "metadata"]
    assert [one["bom-ref"] for one in made["components"]] == sorted(
        one["bom-ref"] for one in made["components"]
    )
    assert all(paths(one) == sorted(paths(one)) for one in components(made).values())
    assert [row["location"] for row in rows if "additionalContext" not in row] == [own.path]
    assert {row.get("additionalContext") for row in rows} == {None, f"sha256:{'ab' * 32}"}


def test_refs_are_unique() -> None:
    """Also where a wheel, a starter and a library have one name and version."""
    files = [
        shipped(f"{owner}-{wheel}", owner, wheel)
        for owner, wheel in itertools.product([Owner.WHEEL], ["zstd", "cpython"])
    ]
    made = document(msgspec.structs.replace(PROGRAM, files=(*FILES, *files)))
    refs = [made["metadata"]["component"]["bom-ref"], *(one["bom-ref"] for one in made["components"])]

    assert len(refs) == len(set(refs))


@pytest.mark.parametrize(
    ("version", "cpe"),
    [
        ("3.0.17", "cpe:2.3:a:x:y:3.0.17:*:*:*:*:*:*:*"), ("6.4+20221231", r"cpe:2.3:a:x:y:6.4\+20221231:*:*:*:*:*:*:*"),
        ("1.0~rc1", r"cpe:2.3:a:x:y:1.0\~rc1:*:*:*:*:*:*:*"), ("", ""),
    ],
)  # fmt: skip
def test_names_of_the_nvd_are_quoted(version: str, cpe: str) -> None:
    """A plus or a tilde in a version is not allowed in a CPE as it stands; the schema of CycloneDX says the same."""
    made = inventory._cpe("x:y", version)
    assert made == cpe
    one = {"type": "library", "name": "y", **({"cpe": made} if made else {})}
    document = {"bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "components": [one]}
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(document)) is None
