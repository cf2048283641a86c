"""own_wheels: which prebuilt wheel is taken, and that it is what its name and the sources say."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from ferryman_build.errors import BuildStepError
from ferryman_build.targets import all_targets, parse_target
from ferryman_build.wheels import choose_own_wheel, refuse_other_sources
from ferryman_build.wheels.finish import platform_tag
from support.plover.files import ARM64, elf, macho, metadata, pe, wheel

SOURCES = {"plover/__init__.py": b"one = 1\n", "plover/songs.txt": b"tlui\n", "plover/table.bin": b"\0\r\n"}
LINUX, WINDOWS = "cp311-abi3-manylinux2014_x86_64.manylinux_2_17_x86_64", "cp311-abi3-win_amd64"
MUSL, MACOS = "cp311-abi3-musllinux_1_2_x86_64", "cp311-abi3-macosx_11_0_arm64"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """The wheel that was built here, unpacked."""
    folder = tmp_path / "app"
    built = wheel(tmp_path / "here", "cp311-abi3-linux_x86_64", {**SOURCES, "plover/_core.abi3.so": elf()})
    zipfile.ZipFile(built).extractall(folder)
    return folder


# --- the choice -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "target", "python", "chosen"),
    [
        ([LINUX, WINDOWS, MUSL, MACOS], "linux-amd64", "3.11", LINUX),
        ([LINUX, WINDOWS, MUSL, MACOS], "linux-amd64-musl", "3.13.1", MUSL),
        ([LINUX, WINDOWS, MUSL, MACOS], "windows-amd64", "3.12", WINDOWS),
        ([LINUX, WINDOWS, MUSL, MACOS], "darwin-arm64", "3.11.4", MACOS),
        ([LINUX, WINDOWS], "windows-arm64", "3.11", None),
        (["cp312-abi3-win_amd64"], "windows-amd64", "3.11", None),
        ([WINDOWS, "cp312-cp312-win_amd64"], "windows-amd64", "3.12", "cp312-cp312-win_amd64"),
        ([WINDOWS, "cp312-cp312-win_amd64"], "windows-amd64", "3.13", WINDOWS),
        (["cp311-abi3-manylinux_2_28_x86_64", LINUX], "linux-amd64", "3.11", LINUX),
        (["cp311-abi3-manylinux_2_34_x86_64"], "linux-amd64", "3.11", None),
        ([WINDOWS, "py3-none-any"], "windows-amd64", "3.11", WINDOWS),
        ([], "linux-amd64", "3.11", None),
    ],
)
def test_choice(names: list[str], target: str, python: str, chosen: str | None, tmp_path: Path) -> None:
    """An installer of the target's Python would take the same wheel."""
    for tags in names:
        wheel(tmp_path, tags, {})

    found = choose_own_wheel(tmp_path, "Plover", "1.2", parse_target(target), python)

    assert found == (tmp_path / f"plover-1.2.0-{chosen}.whl" if chosen else None)


@pytest.mark.parametrize(
    ("name", "version"), [("plover", "1.2.1"), ("dotterel", "1.2.0"), ("plover", "no version")]
)
def test_others_are_no_choice(name: str, version: str, tmp_path: Path) -> None:
    """A wheel of another version or another project is passed over, and so is a file that is called like none."""
    wheel(tmp_path, LINUX, {})
    (tmp_path / "plover.whl").touch()

    assert choose_own_wheel(tmp_path, name, version, parse_target("linux-amd64"), "3.11") is None


def test_choice_prefers_a_build_number(tmp_path: Path) -> None:
    """Of two wheels with the same tags the one with the higher build number was made to replace the other."""
    for stem in ("plover-1.2.0", "plover-1.2.0-2", "plover-1.2.0-1"):
        wheel(tmp_path, LINUX, {}, stem=stem)

    found = choose_own_wheel(tmp_path, "plover", "1.2.0", parse_target("linux-amd64"), "3.11")

    assert found == tmp_path / f"plover-1.2.0-2-{LINUX}.whl"


@pytest.mark.parametrize("target", all_targets(), ids=str)
def test_what_is_built_here_is_chosen(target: str, tmp_path: Path) -> None:
    """A wheel with the tag that a cross build gives fits its own target and no other."""
    row = parse_target(str(target))
    made = wheel(tmp_path, f"cp311-abi3-{platform_tag(row)}", {})

    fitting = [
        other.id for other in all_targets() if choose_own_wheel(tmp_path, "plover", "1.2.0", other, "3.12")
    ]

    assert fitting == [row.id]
    assert choose_own_wheel(tmp_path, "plover", "1.2.0", row, "3.12") == made


# --- the comparison ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "native"),
    [
        (LINUX, elf()),
        (WINDOWS, pe()),
        (MACOS, macho()),
        (MUSL, elf(needed=("libc.musl-x86_64.so.1",), glibc="")),
        ("cp311-abi3-macosx_11_0_universal2", None),
        ("cp312-cp312-win_amd64", pe()),
    ],
)
def test_same_sources(tags: str, native: bytes | None, app: Path, tmp_path: Path) -> None:
    """Only the native files and what is about the wheel itself differ between platforms."""
    members = {**SOURCES, **({"plover/_core.pyd": native} if native else {})}
    members |= {
        "plover-1.2.0.dist-info/sboms/x.json": b"{}",
        "plover.libs/helper.txt": b"from the repair tool",
    }

    refuse_other_sources(wheel(tmp_path, tags, members), app)


def test_other_spelling_is_the_same(app: Path, tmp_path: Path) -> None:
    """Line ends of a checkout on Windows, a backend's own lines and the purelib folder make no difference."""
    members = {
        "plover-1.2.0.data/purelib/plover/__init__.py": b"one = 1\r\n",
        "plover-1.2.0.data/scripts/plover": b"belongs to an installation",
        "plover/songs.txt": b"tlui\r\n",
        "plover/table.bin": SOURCES["plover/table.bin"],
        "plover-1.2.0.dist-info/METADATA": metadata(more="Dynamic: license-file\n").replace(b"\n", b"\r\n"),
    }

    refuse_other_sources(wheel(tmp_path, WINDOWS, members), app)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"plover/__init__.py": b"one = 2\n"}, "plover/__init__.py: differs"),
        ({"plover/songs.txt": b"tlui!\n"}, "plover/songs.txt: differs"),
        ({"plover/table.bin": b"\0\n"}, "plover/table.bin: differs"),
        ({"plover/new.py": b""}, "plover/new.py: is not in the wheel that was built here"),
        (
            {"plover-1.2.0.dist-info/METADATA": metadata(version="1.2.1")},
            "plover-1.2.0.dist-info/METADATA: differs",
        ),
        ({"plover-1.2.0.dist-info/METADATA": metadata(more="Requires-Dist: x\n")}, "METADATA: differs"),
    ],
)
def test_other_sources_are_refused(changed: dict[str, bytes], said: str, app: Path, tmp_path: Path) -> None:
    """A wheel from another commit is named, and the file that shows it."""
    with pytest.raises(BuildStepError, match="was built from other sources") as refused:
        refuse_other_sources(wheel(tmp_path, WINDOWS, {**SOURCES, **changed}), app)

    assert said in str(refused.value)
    assert "Build the wheels again" in refused.value.advice


def test_missing_file_is_refused(app: Path, tmp_path: Path) -> None:
    """So is one that lacks a file, and of many differences the first is said and a few more are listed."""
    with pytest.raises(BuildStepError, match=r"plover/__init__\.py: is missing in it") as refused:
        refuse_other_sources(wheel(tmp_path, WINDOWS, {}), app)

    assert refused.value.details == (
        "plover/songs.txt: is missing in it",
        "plover/table.bin: is missing in it",
    )


# --- the name ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "native", "said"),
    [
        (WINDOWS, elf(), r"no wheel for win_amd64: plover/_core\.pyd is ELF for amd64"),
        (WINDOWS, pe(ARM64), "is PE for arm64"),
        (LINUX, elf(ARM64), r"no wheel for manylinux2014_x86_64: .* is ELF for arm64"),
        (LINUX, macho(), "is MACHO for arm64"),
        (MUSL, elf(), "linked with the C library of gnu"),
        (
            "cp311-abi3-manylinux_2_17_x86_64",
            elf(needed=("libc.musl-x86_64.so.1",), glibc=""),
            "C library of musl",
        ),
        ("cp311-abi3-macosx_11_0_universal2", macho(), "is MACHO for arm64"),
        ("py3-none-any", elf(), r"no wheel for any: .* is native code \(elf\)"),
        (WINDOWS, pe()[:90], "is no library"),
    ],
)
def test_renamed_wheel_is_refused(tags: str, native: bytes, said: str, app: Path, tmp_path: Path) -> None:
    """The native files say for which platform a wheel is, whatever its name says."""
    made = wheel(tmp_path, tags, {**SOURCES, "plover/_core.pyd": native})

    with pytest.raises(BuildStepError, match=said) as refused:
        refuse_other_sources(made, app)

    assert made.name in str(refused.value)
    assert "remove it from the folder" in refused.value.advice


@pytest.mark.parametrize(
    ("inside", "said"),
    [
        (LINUX, "says cp311-abi3-manylinux2014_x86_64, cp311-abi3-manylinux_2_17_x86_64"),
        ("cp311-abi3-win_arm64", "says cp311-abi3-win_arm64"),
        ("cp312-abi3-win_amd64", "says cp312-abi3-win_amd64"),
    ],
)
def test_other_tags_inside_are_refused(inside: str, said: str, app: Path, tmp_path: Path) -> None:
    """A wheel whose WHEEL file has other tags than its name was renamed by hand."""
    made = wheel(tmp_path, WINDOWS, {**SOURCES, "plover/_core.pyd": pe()}, inside=inside)

    with pytest.raises(BuildStepError, match=said) as refused:
        refuse_other_sources(made, app)

    assert "under the name that its build gave it" in refused.value.advice


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut off", b"<html>not found</html>"])
def test_no_wheel_at_all(content: bytes, app: Path, tmp_path: Path) -> None:
    """What a broken download left is no wheel, and that is said."""
    made = tmp_path / f"plover-1.2.0-{WINDOWS}.whl"
    made.write_bytes(content)

    with pytest.raises(BuildStepError, match="is not a wheel that can be read"):
        refuse_other_sources(made, app)
