"""archive, elf_needed, finish: the wheel that ships has right names and tags, nothing else in it, and equal bytes."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import os
import struct
import zipfile
from pathlib import Path

import pytest
from elftools.elf.elffile import ELFFile
from packaging.tags import Tag

from ferryman_build.errors import BuildStepError
from ferryman_build.inspect.elf import read_elf
from ferryman_build.targets import all_targets, parse_target
from ferryman_build.wheels.archive import read_wheel_file, wheel_tags
from ferryman_build.wheels.elf_needed import name_musl
from ferryman_build.wheels.finish import finish, platform_tag
from support.elf_factory import make_library
from support.plover.files import ARM64, elf, macho, musl, pe, wheel

EPOCH = 1_700_000_001
AS_BUILT = "cp311-abi3-linux_x86_64"


def finished(
    tmp_path: Path, target: str, members: dict[str, bytes], *, one: bool = False, tags: str = AS_BUILT
) -> Path:
    into = tmp_path / "into"
    into.mkdir(parents=True, exist_ok=True)
    made = wheel(tmp_path / "made", tags, {"plover/__init__.py": b"one = 1\n", **members})
    return finish(made, parse_target(target), for_one_python=one, epoch=EPOCH, into=into)


# --- names ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "tag"),
    [
        ("linux-amd64", "manylinux2014_x86_64.manylinux_2_17_x86_64"),
        ("linux-arm64", "manylinux2014_aarch64.manylinux_2_17_aarch64"),
        ("linux-amd64-musl", "musllinux_1_2_x86_64"),
        ("linux-arm64-musl", "musllinux_1_2_aarch64"),
        ("windows-amd64", "win_amd64"),
        ("windows-arm64", "win_arm64"),
        ("darwin-arm64", "macosx_11_0_arm64"),
        ("darwin-amd64", "macosx_11_0_x86_64"),
        ("linux-armv7", "manylinux_2_31_armv7l"),
        ("linux-riscv64", "manylinux_2_31_riscv64"),
        ("linux-s390x", "manylinux2014_s390x.manylinux_2_17_s390x"),
        ("linux-ppc64le", "manylinux_2_19_ppc64le"),
    ],
)
def test_platform_tag(target: str, tag: str) -> None:
    """What the compiler was told to go down to, as the standards spell it."""
    assert platform_tag(parse_target(target)) == tag


def test_every_row_has_a_tag_of_its_own() -> None:
    """No two targets share a wheel."""
    tags = [platform_tag(target) for target in all_targets()]

    assert len(set(tags)) == len(tags)


@pytest.mark.parametrize(
    ("target", "name", "data"),
    [
        ("linux-amd64", "plover/_core.abi3.so", elf()),
        ("linux-amd64-musl", "plover/_core.abi3.so", musl()),
        ("windows-arm64", "plover/_core.pyd", pe(ARM64)),
        ("darwin-arm64", "plover/_core.abi3.so", macho()),
    ],
)
def test_name_and_tags_agree(target: str, name: str, data: bytes, tmp_path: Path) -> None:
    """The wheel is called after the target, and its WHEEL file says the same."""
    made = finished(tmp_path, target, {name: data})

    tag = platform_tag(parse_target(target))
    read = read_wheel_file(made)
    assert made.name == f"plover-1.2.0-cp311-abi3-{tag}.whl"
    assert wheel_tags(read) == {Tag("cp311", "abi3", one) for one in tag.split(".")}
    assert b"Generator: a test\n" in read.find("plover-1.2.0.dist-info/WHEEL")


# --- what is in it ----------------------------------------------------------------------------------------------------


def test_nothing_but_the_package(tmp_path: Path) -> None:
    """What a linker leaves beside a library is not shipped."""
    litter = {f"plover/_core{end}": b"x" for end in (".lib", ".exp", ".pdb", ".a")}
    made = finished(tmp_path, "windows-arm64", {"plover/_core.pyd": pe(ARM64), **litter})

    assert zipfile.ZipFile(made).namelist() == [
        "plover/__init__.py",
        "plover/_core.pyd",
        "plover-1.2.0.dist-info/METADATA",
        "plover-1.2.0.dist-info/WHEEL",
        "plover-1.2.0.dist-info/RECORD",
    ]


def test_record_has_every_file(tmp_path: Path) -> None:
    """RECORD lists each member with its hash and size, itself without."""
    made = finished(
        tmp_path, "linux-amd64", {"plover/_core.abi3.so": elf(), "plover/a,b.txt": b"a name to quote"}
    )

    archive = zipfile.ZipFile(made)
    rows = list(csv.reader(io.TextIOWrapper(archive.open("plover-1.2.0.dist-info/RECORD"), "utf-8")))
    expected = [
        [name, f"sha256={_digest(archive.read(name))}", str(len(archive.read(name)))]
        for name in archive.namelist()[:-1]
    ]
    assert rows == [*expected, ["plover-1.2.0.dist-info/RECORD", "", ""]]


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


def test_bytes_are_the_content_alone(tmp_path: Path) -> None:
    """Order, dates and modes of what the backend wrote make no difference, nor does the umask."""
    members = {"plover/_core.abi3.so": elf(), "plover/b.txt": b"b", "plover/a.txt": b"a"}
    before = os.umask(0o077)
    try:
        one = finished(tmp_path / "one", "linux-amd64", members)
    finally:
        os.umask(before)
    other = finished(tmp_path / "two" / "deeper", "linux-amd64", dict(reversed(members.items())))

    modes = {info.filename: info.external_attr >> 16 for info in zipfile.ZipFile(other).infolist()}
    assert one.read_bytes() == other.read_bytes()
    assert {info.date_time for info in zipfile.ZipFile(one).infolist()} == {(2023, 11, 14, 22, 13, 20)}
    assert modes.pop("plover/_core.abi3.so") == 0o100755
    assert set(modes.values()) == {0o100644}


# --- what is refused --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("target", "members", "said"),
    [
        ("linux-arm64", {"plover/_core.abi3.so": elf()}, "was to be compiled for linux-arm64 and is ELF for amd64"),
        ("windows-amd64", {"plover/_core.pyd": elf()}, "and is ELF for amd64"),
        ("linux-amd64-musl", {"plover/_core.abi3.so": elf()}, "linked with the C library of gnu"),
        ("linux-amd64", {}, "has no extension in it"),
        ("linux-amd64", {"plover/_core.abi3.so": elf(needed=("libc.so.6", "libfoo.so.1"))}, r"needs libfoo\.so\.1"),
        ("linux-amd64", {"plover/_core.abi3.so": elf(glibc="2.34")}, r"needs glibc 2\.34 \(puts\), .* promises 2\.17"),
        ("linux-arm64", {"plover/_core.abi3.so": elf(ARM64)[:200]}, "no library, but an object or a damaged file"),
        ("linux-amd64-musl", {"plover/_core.abi3.so": make_library(needed=("libc.so",), symbol="PyX")}, r"needs libc\.so,"),
    ],
)  # fmt: skip
def test_refused(target: str, members: dict[str, bytes], said: str, tmp_path: Path) -> None:
    """Nothing is delivered that is not for the target, with the reason and a way out."""
    with pytest.raises(BuildStepError, match=said) as refused:
        finished(tmp_path, target, members)

    assert refused.value.advice
    assert list((tmp_path / "into").iterdir()) == []


def test_name_that_nobody_has_is_refused(tmp_path: Path) -> None:
    """A function that was forgotten to compile would be missed at the first import, on the customer's machine."""
    versioned = make_library(needed=("libc.so.6",), versions=(("GLIBC_2.2.5", 0),), symbol="forgotten")
    at = ELFFile(io.BytesIO(versioned)).get_section_by_name(".gnu.version")["sh_offset"]
    plain = versioned[:at] + struct.pack("<2H", 0, 1) + versioned[at + 4 :]

    with pytest.raises(BuildStepError, match="uses forgotten, which neither its own sources nor") as refused:
        finished(tmp_path, "linux-amd64", {"plover/_core.abi3.so": plain})

    assert "list of sources" in refused.value.advice
    assert finished(
        tmp_path, "linux-amd64", {"plover/_core.abi3.so": plain.replace(b"forgotten", b"PyForgott")}
    )


@pytest.mark.parametrize(
    ("target", "name", "data"),
    [
        ("linux-amd64", "_core.cpython-311-x86_64-linux-gnu.so", elf()),
        ("windows-arm64", "_core.cp311-win_arm64.pyd", pe(ARM64)),
        ("darwin-arm64", "_core.cpython-311-darwin.so", macho()),
    ],
)
def test_one_version_needs_headers(target: str, name: str, data: bytes, tmp_path: Path) -> None:
    """Without the stable ABI, headers that are not the target's would give structures of another machine."""
    with pytest.raises(BuildStepError, match=f"CPython's headers for {target} are not here") as refused:
        finished(tmp_path, target, {name: data}, tags="cp311-cp311-linux_x86_64")

    made = finished(tmp_path, target, {name: data}, one=True, tags="cp311-cp311-linux_x86_64")
    assert "py_limited_api=True" in refused.value.advice
    assert made.name.startswith("plover-1.2.0-cp311-cp311-")


# --- musl -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("bits", "order"), [(64, "<"), (32, "<"), (64, ">")])
def test_musl_is_named(bits: int, order: str) -> None:
    """zig's stub becomes the library's real name, the borrowed SONAME goes, and nothing moves."""
    real = "libc.musl-x86_64.so.1"
    data = make_library(needed=("libm.so", "libc.so", "libx.so"), soname=real, bits=bits, order=order)

    named = name_musl(data, real)

    native = read_elf("x.so", io.BytesIO(named))
    assert native.needed == ("libm.so", real, "libx.so")
    assert native.provides == ""
    assert len(named) == len(data)
    assert sum(one != other for one, other in zip(named, data, strict=True)) < 64


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (make_library(needed=("libc.so",)), "is not called"),
        (make_library(needed=("libc.so",), soname="libother.so"), "is not called"),
        (make_library(needed=("libc.so.6",), soname="libc.musl-x86_64.so.1"), r"does not need libc\.so"),
    ],
)
def test_other_files_are_not_touched(data: bytes, said: str) -> None:
    """What our compiler did not link is not guessed at."""
    with pytest.raises(ValueError, match=said):
        name_musl(data, "libc.musl-x86_64.so.1")
