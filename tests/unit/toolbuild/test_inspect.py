"""inspect: what is measured from the bytes of a tree is what its loader will ask for."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferryman_build.artifacts import Needs
from ferryman_build.errors import InspectError, UsageError
from ferryman_build.inspect import (
    describe,
    floor_problems,
    judge,
    needs_of_pyz,
    needs_of_tree,
    render,
    strip_elf,
    survey_pyz,
    survey_tree,
)
from ferryman_build.inspect.formats import read_native
from ferryman_build.inspect.native import Trait, version_key
from ferryman_build.inspect.survey import search_leaks
from ferryman_build.targets import parse_target
from support.elf_factory import make_elf, make_library
from support.x86_decoder import READS_X86

LINUX = parse_target("linux-amd64")
AARCH64, BPF = 183, 247


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root


@READS_X86
def test_a_tree(tmp_path: Path) -> None:
    """Floor: the highest version with its file and symbol. Libraries: those that the tree has not, sorted."""
    files = {
        "agent": make_library(needed=("libpython3.11.so.1.0", "libc.so.6"), versions=(("GLIBC_2.2.5", 0),)),
        "_internal/libpython3.11.so.1.0": make_library(
            needed=("libm.so.6", "libssl.so.3"),
            versions=(("GLIBC_2.35", 0), ("GLIBC_2.4", 0), ("GLIBC_2.9", 0)),
            symbol="hypot",
        ),
        "_internal/ssl-under-another-name.so": make_library(soname="libssl.so.3"),
        "_internal/app/module.pyc": b"\xa7\r\r\n\x7fELF",
    }
    survey = survey_tree(tree(tmp_path, files), LINUX)
    assert survey.needs == Needs(floor={"glibc": "2.35"}, libraries=("libc.so.6", "libm.so.6"))
    assert survey.warnings == ()
    assert floor_problems(survey.needs, LINUX, survey.reasons) == (
        (
            "needs glibc 2.35 (GLIBC_2.35 in _internal/libpython3.11.so.1.0: symbol hypot)"
            " but linux-amd64 promises 2.17"
        ),
    )


@pytest.mark.parametrize(
    ("versions", "floor"),
    [
        ((("GLIBC_2.9", 0), ("GLIBC_2.10", 0)), "2.10"),  # not as text
        ((("GLIBC_2.17", 0), ("GLIBC_2.38", 2)), "2.17"),  # a weak version only makes the loader warn
        ((("GLIBC_2.17", 0), ("GLIBC_ABI_DT_RELR", 0)), "2.36"),
        ((("GLIBC_2.17", 0), ("GLIBC_PRIVATE", 0)), "2.17"),
        ((("OPENSSL_3.0.0", 0), ("GLIBCXX_3.4.32", 0)), None),
    ],
)
@pytest.mark.parametrize(("bits", "order"), [(64, "<"), (32, "<"), (64, ">")])
def test_floor(
    versions: tuple[tuple[str, int], ...], floor: str | None, bits: int, order: str, tmp_path: Path
) -> None:
    """Each rule of glibc's version check, in every class and byte order that a target has."""
    machine, target = {
        (64, "<"): (62, "linux-amd64"), (32, "<"): (40, "linux-armv7"), (64, ">"): (22, "linux-s390x"),
    }[bits, order]  # fmt: skip
    library = make_library(versions=versions, bits=bits, order=order, machine=machine)
    needs = needs_of_tree(tree(tmp_path, {"a.so": library}), parse_target(target))
    assert needs.floor == ({"glibc": floor} if floor else {})


def test_private_symbols_are_warned_of(tmp_path: Path) -> None:
    """GLIBC_PRIVATE has no version to compare; it is said instead."""
    root = tree(tmp_path, {"a.so": make_library(versions=(("GLIBC_PRIVATE", 0),))})
    assert "GLIBC_PRIVATE" in survey_tree(root, LINUX).warnings[0]


def test_foreign_architecture(tmp_path: Path) -> None:
    """A file for another machine is refused by name; each of them is in the details."""
    files = {
        "good.so": make_library(),
        "_internal/arm.so": make_library(machine=AARCH64),
        "_internal/old.so": make_library(bits=32, machine=3),
    }
    with pytest.raises(InspectError, match=r"_internal/arm\.so is code for ELF arm64.*linux-amd64") as caught:
        needs_of_tree(tree(tmp_path, files), LINUX)
    assert caught.value.exit_code == 8
    assert caught.value.details == ("_internal/arm.so: ELF arm64", "_internal/old.so: ELF 386")
    assert caught.value.advice


def test_same_machine_other_byte_order_is_foreign(tmp_path: Path) -> None:
    """ppc64 (big endian) does not run on ppc64le although the machine's number is the same."""
    root = tree(tmp_path, {"a.so": make_library(machine=21, order=">")})
    with pytest.raises(InspectError, match="big endian"):
        needs_of_tree(root, parse_target("linux-ppc64le"))


def test_object_files_are_data(tmp_path: Path) -> None:
    """An eBPF object (ET_REL, another machine) is loaded by nobody's ld.so and is no reason to refuse a tree."""
    root = tree(tmp_path, {"probe.bpf.o": make_elf(kind=1, machine=BPF)})
    assert needs_of_tree(root, LINUX) == Needs()


@pytest.mark.parametrize(
    ("folder", "leaks"),
    [
        ("$ORIGIN", False),
        ("${ORIGIN}/lib", False),
        ("$ORIGIN/..", False),
        ("$ORIGIN/../../..", True),
        ("$ORIGINAL/lib", True),
        ("/build/venv/lib", True),
        ("lib", True),
        ("", True),
        ("@loader_path/../x", False),
        ("@loader_path/../../../x", True),
        ("@executable_path/x", False),
    ],
)
def test_search_paths(folder: str, leaks: bool) -> None:
    """Only folders of the tree itself may be searched; the file lies two folders deep."""
    native = read_native("a/b/c.so", io.BytesIO(make_library(runpath=f"$ORIGIN:{folder}")))
    assert native is not None
    assert native.search == ("$ORIGIN", folder)
    found = search_leaks([native])
    assert bool(found) == leaks
    assert not leaks or (folder or "the working directory") in found[0]


@READS_X86
def test_leak_is_a_warning_and_runpath_beats_rpath(tmp_path: Path) -> None:
    """ld.so ignores DT_RPATH beside DT_RUNPATH, and so do we; what is left is reported with the file's name."""
    files = {
        "both.so": make_library(rpath="/rpath", runpath="$ORIGIN"),
        "old.so": make_library(rpath="/rpath"),
    }
    assert survey_tree(tree(tmp_path, files), LINUX).warnings == (
        "old.so: looking for libraries in '/rpath', which is outside of the tree",
    )


def test_a_leak_of_many_files_is_one_warning() -> None:
    """A Python that was built with an RPATH has it in every extension module: said once."""
    natives = [read_native(name, io.BytesIO(make_library(rpath="/x"))) for name in ("a.so", "b.so", "c.so")]
    (warning,) = search_leaks([native for native in natives if native])
    assert warning.startswith("a.so and 2 more: ")


@READS_X86
def test_links(tmp_path: Path) -> None:
    """A link gives a library a further name, is not read twice, and must not lead out of the tree."""
    outside = tree(tmp_path / "outside", {"libz.so.1": make_library(machine=AARCH64)})
    root = tree(
        tmp_path / "tree", {"x/libfoo-1.2.so": make_library(), "a": make_library(needed=("libfoo.so",))}
    )
    (root / "libfoo.so").symlink_to("x/libfoo-1.2.so")
    (root / "libz.so.1").symlink_to(outside / "libz.so.1")
    (root / "folder").symlink_to(outside)
    survey = survey_tree(root, LINUX)
    assert survey.needs.libraries == ()
    assert len(survey.natives) == 2
    assert survey.warnings == (
        "folder: the link leads out of the tree", "libz.so.1: the link leads out of the tree",
    )  # fmt: skip


def test_damaged_and_other_formats_are_said(tmp_path: Path) -> None:
    """A cut-off ELF file and a program of another system are warnings with a name, never silence."""
    files = {
        "cut.so": make_library()[:90], "short.so": b"\x7fELF", "MZ.txt": b"MZ is not enough", "x/w.exe": pe(),
    }  # fmt: skip
    warnings = survey_tree(tree(tmp_path, files), LINUX).warnings
    assert [warning.split(":")[0] for warning in sorted(warnings)] == ["cut.so", "short.so", "x/w.exe"]
    assert "PE amd64 in a tree for linux-amd64" in sorted(warnings)[2]


@pytest.mark.parametrize(
    ("needs", "target", "sentence"),
    [
        (Needs(floor={"glibc": "2.17"}), "linux-amd64", None),
        (Needs(floor={"glibc": "2.4"}), "linux-amd64", None),
        (Needs(floor={"glibc": "2.18"}), "linux-amd64", "needs glibc 2.18 but linux-amd64 promises 2.17"),
        (Needs(floor={"glibc": "2.4"}), "linux-amd64-musl", "linux-amd64-musl promises no glibc"),
        (Needs(libraries=("libc.musl-x86_64.so.1",)), "linux-amd64", "needs musl"),
        (Needs(libraries=("libc.musl-x86_64.so.1",)), "linux-amd64-musl", None),
        (Needs(floor={"windows": "10.0"}), "windows-amd64", None),
        (Needs(floor={"windows": "10.1"}), "windows-amd64", "promises 10"),
        (Needs(floor={"macos": "11.0"}), "darwin-arm64", None),
        (Needs(floor={"macos": "14.0"}), "darwin-arm64", "needs macos 14.0"),
    ],
)
def test_floor_problems(needs: Needs, target: str, sentence: str | None) -> None:
    """One sentence for each value above the target's promise, none for what it keeps."""
    problems = floor_problems(needs, parse_target(target))
    assert len(problems) == (sentence is not None)
    assert sentence is None or sentence in problems[0]


def test_version_key() -> None:
    """Versions sort as numbers; a missing part is zero."""
    assert sorted(["2.17", "2.4", "2.2.5", "2.10"], key=version_key) == ["2.2.5", "2.4", "2.10", "2.17"]
    assert version_key("10") == version_key("10.0")


def pe(machine: int = 0x8664, imports: tuple[str, ...] = ("KERNEL32.dll", "helper.dll")) -> bytes:
    """A PE32+ image with one section that holds its import table."""
    section = bytearray(20 * (len(imports) + 1))
    for number, name in enumerate(imports):
        section[number * 20 + 12 : number * 20 + 16] = (0x1000 + len(section)).to_bytes(4, "little")
        section += name.encode() + b"\0"
    optional = bytearray(112 + 16 * 8)
    optional[:2] = (0x20B).to_bytes(2, "little")
    optional[48:52] = b"\x06\0\x02\0"
    optional[108:112] = (16).to_bytes(4, "little")
    optional[120:124] = (0x1000).to_bytes(4, "little")
    head = bytearray(64)
    head[:2], head[60] = b"MZ", 64
    coff = (
        machine.to_bytes(2, "little") + b"\1\0" + bytes(12) + len(optional).to_bytes(2, "little") + b"\x22\0"
    )
    sizes = [len(section), 0x1000, len(section), 512]
    table = b".idata\0\0" + b"".join(size.to_bytes(4, "little") for size in sizes) + bytes(16)
    return bytes(head + b"PE\0\0" + coff + optional + table).ljust(512, b"\0") + bytes(section)


@READS_X86
def test_windows_tree(tmp_path: Path) -> None:
    """Imports outside of the tree, whatever their case; foreign launchers deeper in the tree are data."""
    files = {"agent.exe": pe(), "_internal/Helper.DLL": pe(imports=()), "_internal/x/t32.exe": pe(0x14C)}
    survey = survey_tree(tree(tmp_path, files), parse_target("windows-amd64"))
    assert survey.needs.libraries == ("KERNEL32.dll",)
    assert survey.needs.floor == {"windows": "6.2"}
    assert survey.warnings == ("_internal/x/t32.exe: PE 386 in a tree for windows-amd64; taken for data",)


@pytest.mark.parametrize("name", ["agent.exe", "_internal/x.dll", "_internal/y.pyd"])
def test_foreign_windows_code_is_refused(name: str, tmp_path: Path) -> None:
    """The program itself and everything that Windows loads into it must be for the target's machine."""
    with pytest.raises(InspectError, match=re.escape(name)):
        needs_of_tree(tree(tmp_path, {name: pe(0xAA64)}), parse_target("windows-amd64"))


def test_pe_agrees_with_pefile() -> None:
    """The launchers that pip carries, read by another implementation: same imports, same machine."""
    pefile = pytest.importorskip("pefile", reason="NOT COMPARED: pefile is missing")
    found = sorted(Path(sysconfig.get_path("purelib")).glob("pip/_vendor/distlib/*.exe"))
    if not found:
        pytest.skip("NOT COMPARED: this pip carries no Windows launchers")
    for path in found:
        native = read_native(path.name, io.BytesIO(path.read_bytes()))
        assert native is not None
        theirs = pefile.PE(str(path))
        assert list(native.needed) == [entry.dll.decode() for entry in theirs.DIRECTORY_ENTRY_IMPORT]
        assert native.architectures == (
            "arm64" if "arm" in path.name else "amd64" if "64" in path.name else "386",
        )


def macho(cpu: int = 0x0100000C, version: tuple[int, int] = (11, 0)) -> bytes:
    """A thin 64-bit image: a minimum version, one library and one search path."""

    def command(number: int, body: bytes) -> bytes:
        body += bytes(-len(body) % 8)
        return number.to_bytes(4, "little") + (8 + len(body)).to_bytes(4, "little") + body

    def words(*values: int) -> bytes:
        return b"".join(value.to_bytes(4, "little") for value in values)

    commands = [
        command(0x32, words(1, version[0] << 16 | version[1] << 8, 0, 0)),
        command(0xC, words(24, 0, 0, 0) + b"/usr/lib/libSystem.B.dylib\0"),
        command(0x8000001C, words(12) + b"/opt/build/lib\0"),
    ]
    body = b"".join(commands)
    return b"\xcf\xfa\xed\xfe" + words(cpu, 0, 2, len(commands), len(body), 0, 0) + body


def test_macos_tree(tmp_path: Path) -> None:
    """Minimum macOS, libraries, search paths and the signature are measured."""
    survey = survey_tree(tree(tmp_path, {"agent": macho()}), parse_target("darwin-arm64"))
    assert survey.needs == Needs(floor={"macos": "11.0"}, libraries=("/usr/lib/libSystem.B.dylib",))
    assert survey.natives[0].traits == {Trait.UNSIGNED: "arm64"}
    assert any("/opt/build/lib" in warning for warning in survey.warnings)


def test_fat_macos_file(tmp_path: Path) -> None:
    """A universal file is for both machines and has the higher of the two floors; a Java class is no Mach-O."""
    parts = [macho(0x01000007, (10, 13)), macho()]
    offset, head = 4096, b"\xca\xfe\xba\xbe" + (2).to_bytes(4, "big")
    for number, part in enumerate(parts):
        values = (0, 0, offset + 4096 * number, len(part), 12)
        head += b"".join(value.to_bytes(4, "big") for value in values)
    fat = head.ljust(offset, b"\0") + parts[0].ljust(4096, b"\0") + parts[1]
    root = tree(tmp_path, {"lib.dylib": fat, "A.class": b"\xca\xfe\xba\xbe\0\0\0\x41"})
    for target in ("darwin-amd64", "darwin-arm64"):
        survey = survey_tree(root, parse_target(target))
        assert survey.needs.floor == {"macos": "11.0"}
        assert len(survey.natives) == 1


@settings(max_examples=300, deadline=None)
@given(st.sampled_from(["elf", "pe", "macho"]), st.data())
def test_damage_is_described_not_raised(kind: str, data: st.DataObject) -> None:
    """Any wrong byte, any cut: the readers describe or give a note, and never raise."""
    whole = {"elf": make_library(needed=("a",), versions=(("GLIBC_2.1", 0),)), "pe": pe(), "macho": macho()}[
        kind
    ]
    at = data.draw(st.integers(4, len(whole) - 1))
    damaged = whole[:at] + bytes([data.draw(st.integers(0, 255))]) + whole[at + 1 :]
    read_native("x", io.BytesIO(damaged[: data.draw(st.integers(at, len(whole)))]))


def test_pyz(tmp_path: Path) -> None:
    """A .pyz needs the project's Python, narrowed by extension modules of one CPython, and a place to unpack."""
    path = tmp_path / "agent.pyz"
    library = make_library(needed=("libc.so.6",), versions=(("GLIBC_2.14", 0),))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("_bootstrap/__init__.py", "")
        archive.writestr("site-packages/x/_core.cpython-311-x86_64-linux-gnu.so", library)
        archive.writestr("site-packages/y/_y.abi3.so", library)
    path.write_bytes(b"#!/usr/bin/env python3\n" + path.read_bytes())
    assert needs_of_pyz(path, ">=3.11, <4", ["manylinux2014_x86_64"]) == Needs(
        floor={"glibc": "2.14"},
        libraries=("libc.so.6",),
        python=">=3.11,<4,==3.11.*",
        runtime=(
            "a Python for manylinux2014_x86_64",
            "a writable folder to unpack into (SHIV_ROOT or HOME)",
        ),
    )


def test_a_python_is_named_once(tmp_path: Path) -> None:
    """A range that says already what the extension modules ask for is not repeated."""
    path = tmp_path / "agent.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/_core.cpython-311-x86_64-linux-gnu.so", make_library())
    assert needs_of_pyz(path, "==3.11.*", ()).python == "==3.11.*"


@READS_X86
def test_a_pyz_for_the_gate(tmp_path: Path) -> None:
    """With a target, files for other machines are told apart; modes in it mean nothing, because nobody unpacks them."""
    path = tmp_path / "agent.pyz"
    info = zipfile.ZipInfo("x/open.so")
    info.external_attr = 0o666 << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, make_library(versions=(("GLIBC_2.38", 0),)))
        archive.writestr("x/arm.so", make_library(machine=AARCH64))
    survey = survey_pyz(path, ">=3.11", (), target=LINUX)
    assert [native.name for native in survey.foreign] == ["x/arm.so"]
    codes = [finding.code for finding in judge(survey, LINUX) if finding.path == "x/open.so"]
    assert codes == ["executable-stack", "floor"]


@pytest.mark.parametrize(
    ("needed", "kept"),
    [
        (("libpython3.11.so.1.0", "libc.so.6"), ("libc.so.6",)),
        (("python311.dll", "VCRUNTIME140.dll", "VCRUNTIME140_1.dll", "KERNEL32.dll"), ("KERNEL32.dll",)),
        (("python3.dll", "python313t.dll", "libssl.so.3"), ("libssl.so.3",)),
        (("MSVCP140.dll",), ("MSVCP140.dll",)),  # CPython brings none of C++
    ],
)
def test_the_python_that_runs_a_pyz_brings_its_own_libraries(
    needed: tuple[str, ...], kept: tuple[str, ...], tmp_path: Path
) -> None:
    """They are neither in the archive nor anything that its machine must have beside a Python."""
    path = tmp_path / "agent.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/_core.abi3.so", make_library(needed=needed))
    assert needs_of_pyz(path, ">=3.11", ()).libraries == kept


def test_pure_pyz(tmp_path: Path) -> None:
    """Without native code it needs nothing but a Python."""
    path = tmp_path / "agent.pyz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("__main__.py", "")
    assert needs_of_pyz(path, ">=3.11", ()) == Needs(python=">=3.11")


@READS_X86
def test_describe_says_the_same_of_folder_and_archives(tmp_path: Path) -> None:
    """A folder, its .tar.gz and its .zip need the same."""
    root = tree(tmp_path / "t", {
        "bin/a": make_library(needed=("libb.so", "libc.so.6"), versions=(("GLIBC_2.28", 0),), runpath="/leak"),
        "lib/b": make_library(soname="libb.so"),
        "data.json": b"{}",
    })  # fmt: skip
    tar, packed = tmp_path / "t.tar.gz", tmp_path / "t.zip"
    with tarfile.open(tar, "w:gz") as archive:
        archive.add(root, "t")
    shutil.make_archive(str(packed.with_suffix("")), "zip", root)
    folder, of_tar, of_zip = (describe(path) for path in (root, tar, packed))
    assert (
        folder.needs
        == of_tar.needs
        == of_zip.needs
        == Needs(floor={"glibc": "2.28"}, libraries=("libc.so.6",))
    )
    assert (folder.form, of_tar.form, of_zip.form) == ("folder", "tar archive", "zip archive")
    text = render(folder)
    for part in (
        "needs glibc 2.28: GLIBC_2.28 (puts) in bin/a",
        "libc.so.6",
        "/leak",
        "lib/b (amd64, x86-64-v1)",
        "warning",
    ):
        assert part in text


def test_describe_anything(tmp_path: Path) -> None:
    """A text has no native code; nothing at all is a usage error; a broken archive is said to be unreadable."""
    note = tree(tmp_path, {"note.txt": b"hello"}) / "note.txt"
    assert describe(note).form == "no native code"
    with pytest.raises(UsageError, match="no-such"):
        describe(tmp_path / "no-such")
    broken = tmp_path / "broken.tar.gz"
    with tarfile.open(broken, "w:gz") as archive:
        archive.add(Path(sys.executable).resolve(), "python")
    broken.write_bytes(broken.read_bytes()[:-500])
    with pytest.raises(InspectError, match=r"broken\.tar\.gz"):
        describe(broken)


# --- real libraries of this machine ---


def _loaded() -> list[Path]:
    if sys.platform != "linux":
        return []
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    return sorted(
        {Path(line.split(maxsplit=5)[-1]) for line in lines if ".so" in line and "(deleted)" not in line}
    )


@pytest.mark.skipif(sys.platform != "linux", reason="ELF libraries of the host are a Linux matter")
def test_real_libraries_agree_with_readelf() -> None:
    """Whatever this process has loaded: needed libraries, SONAME and highest glibc version as readelf reads them."""
    if not shutil.which("readelf"):
        pytest.skip("NOT COMPARED: binutils (readelf) is missing")
    for path in _loaded():
        text = subprocess.run(
            ["readelf", "-dVW", str(path)], capture_output=True, text=True, check=True, env={"LC_ALL": "C"}
        ).stdout
        with path.open("rb") as file:
            native = read_native(path.name, file)
        assert native is not None
        assert list(native.needed) == re.findall(r"\(NEEDED\).*\[(.*)\]", text)
        assert native.provides == "".join(re.findall(r"\(SONAME\).*\[(.*)\]", text))
        needed = text.split("Version needs section", 1)[1:]
        labels = re.findall(r"Name: GLIBC_([\w.]+)\s+Flags: none", "".join(needed))
        versions = ["2.36" if label == "ABI_DT_RELR" else label for label in labels if label != "PRIVATE"]
        floor = {system: reason.version for system, reason in native.floor.items()}
        assert floor == ({"glibc": max(versions, key=version_key)} if versions else {})


@pytest.mark.skipif(sys.platform != "linux", reason="ELF libraries of the host are a Linux matter")
def test_stripped_libraries_need_the_same() -> None:
    """Stripping changes nothing of what is measured."""
    for path in _loaded():
        data = path.read_bytes()
        assert read_native("x", io.BytesIO(strip_elf(data))) == read_native("x", io.BytesIO(data))
