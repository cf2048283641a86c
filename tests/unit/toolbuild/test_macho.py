"""macho: signature, platform, code and what is asked, of thin and fat files."""

from __future__ import annotations

import struct

import pytest

from ferryman_build.inspect.macho_code import _starts
from ferryman_build.inspect.measure import measure
from ferryman_build.inspect.native import Native, Trait
from support.macho_factory import AMD64, ARM64, make_fat, make_macho
from support.x86_decoder import READS_X86

POPCNT = b"\xf3\x48\x0f\xb8\xc1\xc3"
CPUID = b"\x0f\xa2\xc3"
LSE = (0xB8E10041).to_bytes(4, "little") + (0xD65F03C0).to_bytes(4, "little")


def read(content: bytes) -> Native:
    native = measure("lib.dylib", content)
    assert native is not None
    return native


@pytest.mark.parametrize(
    ("content", "trait"),
    [
        (make_macho(), Trait.UNSIGNED),
        (make_macho(signed=True), Trait.AD_HOC),
        (make_macho(signed=True, flags=0), Trait.AD_HOC),  # no CMS: nobody has signed it
        (make_macho(signed=True, flags=0, cms=b"certificates"), Trait.SIGNED),
        (make_macho(signed=True, text=bytes(40_000)), Trait.AD_HOC),  # several pages
    ],
)
def test_signature(content: bytes, trait: Trait) -> None:
    """What it is, by Apple's structures; a byte that is changed anywhere in what is signed breaks it."""
    assert read(content).traits == {trait: "arm64"}
    if trait is not Trait.UNSIGNED:
        for at in (1030, len(content) // 3):
            damaged = bytearray(content)
            damaged[at] ^= 1
            assert read(bytes(damaged)).traits == {Trait.BROKEN_SIGNATURE: "arm64"}
        assert read(content[:-20]).traits == {Trait.BROKEN_SIGNATURE: "arm64"}


def test_a_signature_of_too_many_pages() -> None:
    """A damaged count of digests is no work for four thousand million rounds."""
    content = bytearray(make_macho(signed=True))
    directory = content.index(struct.pack(">I", 0xFADE0C02))
    struct.pack_into(">I", content, directory + 28, 0xFFFFFFFF)
    assert read(bytes(content)).traits == {Trait.BROKEN_SIGNATURE: "arm64"}


def test_platform() -> None:
    """A file for another of Apple's systems is said to be one."""
    assert read(make_macho()).notes == ()
    assert read(make_macho(platform=6)).notes == ()
    assert read(make_macho(platform=2)).notes == ("built for Apple's platform 2, which is not macOS",)


@READS_X86
def test_code() -> None:
    """Instructions, the function's name, and what is asked, for both architectures."""
    cpu = read(make_macho(cpu=AMD64, text=POPCNT)).cpu["amd64"]
    assert cpu.features["popcnt"].symbol == "_f"
    assert cpu.chosen == ()
    assert read(make_macho(cpu=AMD64, text=CPUID)).cpu["amd64"].chosen == ("executes CPUID",)
    assert read(make_macho(text=LSE)).cpu["arm64"].features.keys() == {"lse"}
    assert read(make_macho(text=LSE, asks="_sysctlbyname")).cpu["arm64"].chosen == ("imports sysctlbyname",)
    assert read(make_macho(text=LSE, name="_PyInit_x")).cpu["arm64"].early.keys() == {"lse"}


@READS_X86
def test_fat() -> None:
    """Each part is measured on its own; traits say whose they are."""
    native = read(
        make_fat(make_macho(cpu=AMD64, text=POPCNT, version=(10, 13)), make_macho(signed=True, text=LSE))
    )
    assert native.notes == ()
    assert native.architectures == ("amd64", "arm64")
    assert native.traits == {Trait.UNSIGNED: "amd64", Trait.AD_HOC: "arm64"}
    assert {arch: set(cpu.features) for arch, cpu in native.cpu.items()} == {
        "amd64": {"popcnt"},
        "arm64": {"lse"},
    }
    assert native.floor["macos"].version == "11.0"


def test_function_starts() -> None:
    """ULEB128 differences, ended by a zero."""
    assert list(_starts(bytes([0x10, 0x80, 0x01, 0x00, 0x55]), 0x1000)) == [0x1010, 0x1090]


@pytest.mark.parametrize("cpu", [AMD64, ARM64])
def test_damage_is_said(cpu: int) -> None:
    """A file that is cut anywhere is described with a note, or as not loadable; nothing is raised."""
    whole = make_macho(cpu=cpu, text=POPCNT + LSE * 4, signed=True)
    for size in range(8, len(whole), 37):
        native = measure("x", whole[:size])
        assert native is None or native.notes or native.traits or not native.loadable
