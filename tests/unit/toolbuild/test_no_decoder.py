"""A machine that has no iced-x86: everything else is measured, and nobody takes the rest for measured."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferryman_build.cache import Blobs
from ferryman_build.errors import InspectError
from ferryman_build.inspect import Severity, describe, judge, measure, raise_for_findings, render, survey_tree
from ferryman_build.inspect.measure import facts_once
from ferryman_build.inspect.native import NO_DECODER
from ferryman_build.targets import parse_target
from support.elf_factory import ALLOC, PROGBITS, STRTAB, make_elf, make_library
from support.macho_factory import AMD64, make_fat, make_macho
from support.x86_decoder import READS_X86, forget, without_decoder

AARCH64, RISCV = 183, 243
POPCNT = b"\xf3\x48\x0f\xb8\xc1\xc3"
LSE = (0xB8E10041).to_bytes(4, "little") + (0xD65F03C0).to_bytes(4, "little")
FAT = make_fat(make_macho(cpu=AMD64, text=POPCNT), make_macho(signed=True, text=LSE))
MACHO = make_macho(cpu=AMD64, text=POPCNT)


def library(machine: int = 62, text: bytes = POPCNT) -> bytes:
    """One with an entry for each of its needs, and nothing that a gate would find but its instructions."""
    rows = (
        (".text", PROGBITS, ALLOC | 4, text, "", 0),
        (".dynstr", STRTAB, ALLOC, b"\0", "", 0),
        (".note.GNU-stack", PROGBITS, 0, b"", "", 0),
    )
    return make_elf(rows, machine=machine)


@pytest.fixture
def bare() -> Iterator[None]:
    with without_decoder():
        yield


@pytest.mark.parametrize(
    ("content", "measured", "notes"),
    [
        pytest.param(library(), set(), (NO_DECODER,), id="elf amd64"),
        pytest.param(library(AARCH64, LSE), {"arm64"}, (), id="elf arm64"),
        pytest.param(library(RISCV), set(), (), id="elf riscv64"),
        pytest.param(make_library(kind=1), set(), (), id="object"),
        pytest.param(MACHO, set(), (NO_DECODER,), id="macho amd64"),
        pytest.param(FAT, {"arm64"}, (NO_DECODER,), id="macho both"),
    ],
)
def test_what_is_described(bare: None, content: bytes, measured: set[str], notes: tuple[str, ...]) -> None:
    """A file with x86-64 code has no level and a note that says why; other code is measured as ever."""
    native = measure.measure("lib", content)
    assert native is not None
    assert (native.cpu.keys(), native.notes) == (measured, notes)


def test_inspect_says_it(bare: None, tmp_path: Path) -> None:
    """A person reads that it was not looked at, and no level in its place."""
    (tmp_path / "lib.so").write_bytes(library())
    text = render(describe(tmp_path / "lib.so"))
    assert f"warning: lib.so: {NO_DECODER}" in text
    assert "x86-64-v" not in text


@pytest.mark.parametrize(
    ("content", "target", "found"),
    [
        (library(), "linux-amd64", [("error", "cpu-unknown")]),
        (library(AARCH64, LSE), "linux-arm64", [("error", "cpu")]),
        (MACHO, "darwin-amd64", [("error", "cpu-unknown")]),
        (FAT, "darwin-amd64", [("error", "cpu-unknown")]),
        (FAT, "darwin-arm64", []),
    ],
)
def test_the_gate(
    bare: None, tmp_path: Path, content: bytes, target: str, found: list[tuple[str, str]]
) -> None:
    """A promise about x86-64 that cannot be checked stops a build; one about another processor does not."""
    (tmp_path / "lib.so").write_bytes(content)
    promised = parse_target(target)
    judged = judge(survey_tree(tmp_path, promised), promised)
    kinds = [(one.severity.value, one.code.value) for one in judged]
    assert [kind for kind in kinds if kind[1] in ("cpu", "cpu-unknown", "unreadable")] == found


def test_the_way_out(bare: None, tmp_path: Path) -> None:
    """One sentence for all files with the reason; what it offers is accepted for each of them, and printed."""
    target = parse_target("linux-amd64")
    for name in ("a.so", "b.so", "c.so"):
        (tmp_path / name).write_bytes(library())
    survey = survey_tree(tmp_path, target)
    unknown = [one for one in judge(survey, target) if one.code == "cpu-unknown"]
    with pytest.raises(InspectError, match=r"whether a\.so needs more than x86-64-v1 is not known") as caught:
        raise_for_findings(unknown, target)
    assert 'allow = ["cpu-unknown:*"]' in caught.value.advice
    (line,) = caught.value.details
    assert line.endswith("(and 2 more files)")
    allowed = [one for one in judge(survey, target, ["cpu-unknown:*"]) if one.code == "cpu-unknown"]
    assert [one.severity for one in allowed] == [Severity.NOTE] * 3
    assert allowed[0].message.endswith("(allowed)")


@READS_X86
def test_who_has_it_later_measures_anew(tmp_path: Path) -> None:
    """What was kept without the library is not taken with it, nor the other way round."""
    blobs, levels = Blobs(tmp_path), []
    for has in (False, True, False):
        forget()
        if has:
            facts = facts_once("lib.so", library, blobs)
        else:
            with without_decoder():
                facts = facts_once("lib.so", library, blobs)
        assert facts.native is not None
        levels.append({arch: set(cpu.features) for arch, cpu in facts.native.cpu.items()})
    assert levels == [{}, {"amd64": {"popcnt"}}, {}]


@READS_X86
def test_a_defect_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any other module that is missing is a defect of ours, and ends with a traceback."""
    monkeypatch.delitem(sys.modules, "ferryman_build.inspect.x86", raising=False)
    monkeypatch.setitem(sys.modules, "ferryman_build.inspect.cpu", None)
    forget()
    with pytest.raises(ModuleNotFoundError, match=r"ferryman_build\.inspect\.cpu"):
        measure.measure("lib.so", library())
