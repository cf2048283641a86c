"""sbom.licences, sbom.distributions: licences as SPDX has them, the wheel that was installed, what requires what."""

from __future__ import annotations

from collections.abc import Mapping
from email.parser import HeaderParser
from pathlib import Path

import pytest

from ferryman_build.sbom.distributions import (
    Distribution,
    read_distribution,
    read_installed,
    requirement_graph,
    with_wheel,
)
from ferryman_build.sbom.licences import Licence, joined, licence, licences_of

MIT, PSF = Licence(expression="MIT"), Licence(expression="PSF-2.0")
OSI = "Classifier: License :: OSI Approved"


@pytest.mark.parametrize(
    ("headers", "found"),
    [
        ("License-Expression: MIT\nLicense: nonsense", [MIT]),
        ("License-Expression: apache-2.0 or mit", [Licence(expression="Apache-2.0 OR MIT")]),
        ("License: MIT", [MIT]),
        ("License: The MIT License (MIT)", [MIT]),
        ("License: Apache License, Version 2.0", [Licence(expression="Apache-2.0")]),
        (f"{OSI} :: MIT License", [MIT]),
        (f"License: BSD\n{OSI} :: MIT License", [MIT]),
        (f"License: BSD\n{OSI} :: BSD License", [Licence(name="BSD")]),
        (f"{OSI} :: BSD License", [Licence(name="BSD License")]),
        (f"{OSI}\n{OSI} :: MIT License", [MIT]),
        (f"{OSI} :: MIT License\n{OSI} :: Apache Software License", [Licence(expression="Apache-2.0"), MIT]),
        ("License: UNKNOWN", []),
        ("Name: x", []),
        ("License: Dual Licence\n        of two pages\n        and more", [Licence(name="Dual Licence")]),
        ("License-Expression: not one, at all", [Licence(name="not one, at all")]),
    ],
)
def test_licences(headers: str, found: list[Licence]) -> None:
    """Expression, then a field that means one licence, then classifiers that all do, then the words as they are."""
    assert list(licences_of(HeaderParser().parsestr(f"{headers}\n\n"))) == found


@pytest.mark.parametrize(
    ("licences", "expression"),
    [
        ([], ""), ([MIT], "MIT"), ([MIT, Licence(name="BSD License")], ""), ([MIT, PSF], "MIT AND PSF-2.0"),
        ([licence("MIT OR PSF-2.0"), PSF], "(MIT OR PSF-2.0) AND PSF-2.0"),
    ],
)  # fmt: skip
def test_joined(licences: list[Licence], expression: str) -> None:
    """One expression of several, with brackets where they matter; none when one of them is words."""
    assert joined(licences) == expression


# --- installed distributions ---------------------------------------------------------------------------------------------


def install(
    site: Path, name: str, version: str, metadata: str = "", record: str = "", wheel: str = ""
) -> Path:
    folder = site / f"{name}-{version}.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n{metadata}\n", encoding="utf-8")
    (folder / "RECORD").write_text(record, encoding="utf-8")
    (folder / "WHEEL").write_text(wheel, encoding="utf-8")
    return folder


def test_installed(tmp_path: Path) -> None:
    """Every file that RECORD lists has its owner, and so has the metadata; other folders are passed over."""
    record = 'lamp/__init__.py,sha256=x,1\n../../../bin/lamp,,\n"lamp/a,b.txt",,\n'
    install(tmp_path, "Lamp_Oil", "1.0", record=record)
    (tmp_path / "empty-1.dist-info").mkdir()
    found = read_installed(tmp_path)

    assert set(found.distributions) == {"lamp-oil"}
    assert set(found.owners.values()) == {"lamp-oil"}
    assert {
        "lamp/__init__.py",
        "lamp/a,b.txt",
        "../../../bin/lamp",
        "Lamp_Oil-1.0.dist-info/METADATA",
    } <= set(found.owners)


@pytest.mark.parametrize(
    ("metadata", "supplier"),
    [
        ("Author: Ada Lovelace", "Ada Lovelace"), ("Author: Ada <ada@example.org>", "Ada"), ("Author: UNKNOWN\nMaintainer: Bo", "Bo"),
        ("Author-email: Ada Lovelace <ada@example.org>", "Ada Lovelace"), ("Author-email: ada@example.org", ""), ("", ""),
    ],
)  # fmt: skip
def test_supplier(tmp_path: Path, metadata: str, supplier: str) -> None:
    """A name, without the address behind it."""
    assert read_distribution(install(tmp_path, "a", "1", metadata)).supplier == supplier


LINUX, OTHER = (
    "a-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl",
    "a-1-cp311-cp311-win_amd64.whl",
)
TAGS = ("cp311-cp311-manylinux_2_17_x86_64", "cp311-cp311-manylinux2014_x86_64")


@pytest.mark.parametrize(
    ("tags", "wheels", "found"),
    [
        (TAGS, (LINUX, OTHER), LINUX),
        (TAGS, (OTHER,), OTHER),  # the lock has no other, so that was it
        (TAGS, (OTHER, "a-1-py3-none-any.whl"), ""),
        (TAGS[:1], (LINUX, OTHER), ""),
        ((), (LINUX, OTHER), ""),
        (("not a tag",), (LINUX, OTHER), ""),
        (("py2-none-any", "py3-none-any"), ("a-1-py2.py3-none-any.whl", LINUX), "a-1-py2.py3-none-any.whl"),
        (TAGS, (LINUX, LINUX.replace("a-1", "a-1-1")), ""),  # two builds of one wheel
        (TAGS, ("no.wheel", OTHER), ""),
        (TAGS, (), ""),
    ],
)
def test_the_wheel_that_was_installed(tags: tuple[str, ...], wheels: tuple[str, ...], found: str) -> None:
    """Known by its tags; unknown, and without a hash, where they fit none or two."""
    hashes = {name: f"{number:064x}" for number, name in enumerate(wheels)}
    one = with_wheel(Distribution(name="a", version="1", tags=tags), hashes)

    assert (one.wheel, one.sha256) == (found, hashes.get(found, ""))


def distribution(name: str, *requires: str) -> Distribution:
    return Distribution(name=name, version="1", requires=requires)


@pytest.mark.parametrize(
    ("requires", "needs"),
    [
        ({"app": ["a>=1", "B_b"], "b-b": ["c"]}, {"app": ("a", "b-b"), "b-b": ("c",)}),
        ({"app": ["a; sys_platform == 'win32'", "c; sys_platform == 'linux'"]}, {"app": ("c",)}),
        ({"app": ["a[fast]"], "a": ["c; extra == 'fast'", "b-b; extra == 'slow'"]}, {"app": ("a",), "a": ("c",)}),
        ({"app": ["a"], "a": ["b-b[x]"], "b-b": ["c; extra == 'x'"]}, {"app": ("a",), "a": ("b-b",), "b-b": ("c",)}),
        ({"app": ["a"], "a": ["a[all]", "c; extra == 'all'"]}, {"app": ("a",), "a": ("c",)}),
        ({"app": ["a[all]"], "a": ["a[x]; extra == 'all'", "c; extra == 'x'"]}, {"app": ("a",), "a": ("c",)}),
        ({"app": ["elsewhere", "not a requirement!"]}, {}),
        ({"a": ["b-b"], "b-b": ["a"]}, {"a": ("b-b",), "b-b": ("a",)}),
    ],
)  # fmt: skip
def test_requirements(requires: Mapping[str, list[str]], needs: Mapping[str, tuple[str, ...]]) -> None:
    """Among what is there, with markers of the target, and with the extras that somebody asks for."""
    made = {name: distribution(name, *requires.get(name, ())) for name in ("app", "a", "b-b", "c")}
    found = requirement_graph(made.pop("app"), made, {"sys_platform": "linux"})

    assert {name: others for name, others in found.items() if others} == needs
