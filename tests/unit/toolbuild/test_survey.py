"""survey: permission bits, bytecode, build folders, and measurements that are kept by content."""

from __future__ import annotations

import io
import os
import struct
import tarfile
import zipfile
from pathlib import Path

import msgspec
import pytest

from ferryman_build.cache import Blobs, file_digest
from ferryman_build.inspect.bytecode import is_bytecode, source_path
from ferryman_build.inspect.elf import read_elf
from ferryman_build.inspect.measure import facts_once, measure
from ferryman_build.inspect.members import members
from ferryman_build.inspect.native import Trait
from ferryman_build.inspect.survey import Survey, look, survey_tree
from ferryman_build.targets import parse_target
from ferryman_build.tree import TreeFile
from support.elf_factory import ALLOC, PROGBITS, VERNEED, make_elf, make_library
from support.x86_decoder import READS_X86

LINUX = parse_target("linux-amd64")
DYNAMIC, STRTAB = 6, 3


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A tree with a library, a text and a module."""
    folder = tmp_path / "t"
    folder.mkdir()
    (folder / "lib.so").write_bytes(make_library(versions=(("GLIBC_2.14", 0),)))
    (folder / "note.txt").write_bytes(b"hello")
    (folder / "m.pyc").write_bytes(pyc("/work/checkout/m.py"))
    return folder


def pyc(path: str, kind: bytes = b"\xda") -> bytes:
    """A .pyc with one string, as marshal writes it."""
    text = path.encode()
    length = struct.pack("<B" if kind in b"zZ\xfa\xda" else "<I", len(text))
    return b"\xa7\r\r\n" + bytes(12) + b"\xe3" + bytes(20) + kind + length + text + b"N."


# --- bytecode ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [b"z", b"Z", b"\xfa", b"\xda", b"a", b"u", b"\xe1", b"\xf5"])
@pytest.mark.parametrize("path", ["/a/b.py", "/home/je/Ä/m.py", "C:\\build\\m.py", "D:/x/m.py"])
def test_source_path(kind: bytes, path: str) -> None:
    """An absolute path is found in each form that marshal has for a string."""
    content = pyc(path, kind)
    assert is_bytecode(content[:4])
    assert source_path(content) == path


@pytest.mark.parametrize("path", ["m.py", "pkg/m.py", "/usr/share/data.txt", "<frozen os>", ""])
def test_no_source_path(path: str) -> None:
    """Relative names, other files and no name at all are no paths of a source."""
    assert source_path(pyc(path)) == ""


def test_a_length_that_does_not_fit_is_no_string() -> None:
    """The bytes of a path inside a longer text are not taken for one."""
    content = pyc("/a/b.py").replace(b"\xda\x07", b"\xda\x03")
    assert source_path(content) == ""


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_modes_of_folder_tar_and_zip(root: Path, tmp_path: Path) -> None:
    """The same odd bits are seen in a folder, a .tar.gz and a .zip."""
    (root / "note.txt").chmod(0o4755)
    (root / "lib.so").chmod(0o646)
    tar, packed = tmp_path / "t.tar.gz", tmp_path / "t.zip"
    with tarfile.open(tar, "w:gz") as archive:
        for path in sorted(root.iterdir()):
            archive.add(path, path.name)
    with zipfile.ZipFile(packed, "w") as bundle:
        for path in sorted(root.iterdir()):
            bundle.write(path, path.name)
    wanted = {"lib.so": 0o646, "note.txt": 0o4755}
    for place in (root, tar, packed):
        assert look(members(place)).modes == wanted


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("empty.so", b"", True),
        ("pointer.pyd", b"version https://git-lfs", True),
        ("cut.dll", b"MZ", True),
        ("script.so", b"/* GNU ld script\nINPUT(x) */", False),
        ("lib.so", make_library(), False),
        ("text.txt", b"", False),
    ],
)
def test_libraries_by_name_only(tmp_path: Path, name: str, content: bytes, wanted: bool) -> None:
    """What has a library's name and is none is noticed; a linker's script of that name is text for linkers."""
    (tmp_path / name).write_bytes(content)
    survey = survey_tree(tmp_path, LINUX)
    assert (survey.found.misnamed == [name]) is wanted
    assert any("no native code" in warning for warning in survey.warnings) is wanted


def test_what_a_tree_knows_counts(root: Path) -> None:
    """The mode that a file is shipped with is the tree's; on disk it is a link to the cache with any."""
    (root / "note.txt").chmod(0o666)
    files = [TreeFile("note.txt", 5, 0o644, "x"), TreeFile("lib.so", 1, 0o2755, file_digest(root / "lib.so"))]
    survey = survey_tree(root, LINUX, files=files)
    assert survey.found.modes == {"lib.so": 0o2755}


def test_build_folders(root: Path) -> None:
    """A folder of the build is found in bytecode and in native code; other files are not looked into."""
    (root / "lib.so").write_bytes(make_library(runpath="/work/checkout/lib"))
    (root / "note.txt").write_bytes(b"see /work/checkout")
    found = survey_tree(root, LINUX, folders=("/elsewhere", "/work/checkout")).found
    assert found.built_in == {"lib.so": "/work/checkout", "m.pyc": "/work/checkout"}
    assert found.compiled_in == {"m.pyc": "/work/checkout/m.py"}
    assert found.bytecode == {"m.pyc"}
    assert survey_tree(root, LINUX).found.built_in == {}


def test_build_folders_under_wine(root: Path) -> None:
    """Wine shows this machine's folders on a drive, with its own separators."""
    (root / "m.pyc").write_bytes(pyc("Z:\\work\\checkout\\m.py"))
    assert survey_tree(root, LINUX, folders=("/work/checkout",)).found.built_in == {"m.pyc": "/work/checkout"}


# --- kept by content --------------------------------------------------------------------------------------------------


def plain(survey: Survey) -> object:
    return msgspec.to_builtins(survey, str_keys=True, enc_hook=sorted)


def test_kept_results_are_the_same(root: Path, tmp_path: Path) -> None:
    """With an empty cache, a full one and none: one and the same survey."""
    blobs = Blobs(tmp_path / "blobs")
    files = [TreeFile(path.name, 1, 0o644, file_digest(path)) for path in root.iterdir()]
    surveys = [
        survey_tree(root, LINUX, folders=("/work",)),
        survey_tree(root, LINUX, folders=("/work",), blobs=blobs),
        survey_tree(root, LINUX, folders=("/work",), blobs=blobs),
        survey_tree(root, LINUX, folders=("/work",), blobs=blobs, files=files),
    ]
    assert all(plain(survey) == plain(surveys[0]) for survey in surveys)
    kept = sorted(blobs.root.glob("*/*"))
    assert len(kept) == 2  # the library and the module; nothing is kept of a text
    survey_tree(root, LINUX, folders=("/other",), blobs=blobs)
    assert len(list(blobs.root.glob("*/*"))) == 4  # other folders are another question


def test_a_known_file_is_not_read(tmp_path: Path) -> None:
    """With its digest known and its facts kept, nobody asks for the content; a damaged blob is measured again."""
    blobs, content = Blobs(tmp_path / "blobs"), make_library()
    asked: list[bool] = []

    def read() -> bytes:
        asked.append(True)
        return content

    first = facts_once("a.so", read, blobs, "digest")
    again = facts_once("b.so", read, blobs, "digest")
    assert (len(asked), again.native and again.native.name) == (1, "b.so")
    assert first.native == measure("a.so", content)
    (kept,) = blobs.root.glob("*/*")
    kept.write_bytes(b"{")
    assert facts_once("a.so", read, blobs, "digest") == first
    assert len(asked) == 2


# --- what headers say -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("needed", "versions", "libc"),
    [
        (("libc.so.6",), (("GLIBC_2.4", 0),), "glibc"),
        ((), (("GLIBC_2.4", 0),), "glibc"),
        (("libc.so",), (), "musl"),
        (("libc.musl-x86_64.so.1",), (), "musl"),
        (("libz.so.1",), (), ""),
    ],
)
def test_libc(needed: tuple[str, ...], versions: tuple[tuple[str, int], ...], libc: str) -> None:
    """The C library by what is needed of it."""
    assert read_elf("a.so", io.BytesIO(make_library(needed=needed, versions=versions))).libc == libc


def test_versions_of_the_compiler_s_libraries() -> None:
    """The highest one of each prefix, weak ones not counted, and whose it is."""
    library = make_library(
        versions=(("GLIBCXX_3.4.9", 0), ("GLIBCXX_3.4.21", 0), ("GLIBCXX_3.4.32", 2), ("GCC_3.0", 0))
    )
    found = read_elf("a.so", io.BytesIO(library)).versions
    assert {name: (one.version, one.symbol) for name, one in found.items()} == {
        "GLIBCXX": ("3.4.21", "libc.so.6"), "GCC": ("3.0", "libc.so.6"),
    }  # fmt: skip


def test_versions_that_lead_in_circles() -> None:
    """A damaged count of records that point at themselves ends with the section, not after four thousand million."""
    library = bytearray(make_library(versions=(("GLIBC_2.14", 0),)))
    header = library.index(struct.pack("<I", VERNEED)) - 4
    struct.pack_into("<I", library, header + 44, 0xFFFFFFFF)  # sh_info
    native = read_elf("a.so", io.BytesIO(bytes(library)))
    assert native.floor["glibc"].version == "2.14"


@pytest.mark.parametrize(("tag", "value"), [(22, 0), (30, 4)])
def test_text_relocations_without_a_name(tag: int, value: int) -> None:
    """DT_TEXTREL, and DF_TEXTREL in DT_FLAGS."""
    rows = (
        (".dynamic", DYNAMIC, ALLOC, struct.pack("<qQqQ", tag, value, 0, 0), ".dynstr", 0),
        (".dynstr", STRTAB, ALLOC, b"\0", "", 0),
    )
    traits = read_elf("a.so", io.BytesIO(make_elf(rows))).traits
    assert traits[Trait.TEXT_RELOCATIONS] == "DT_TEXTREL"


@pytest.mark.parametrize(("machine", "stack"), [(62, True), (183, False), (21, False)])
def test_a_file_that_does_not_mention_its_stack(machine: int, stack: bool) -> None:
    """What the loader does without PT_GNU_STACK depends on the architecture."""
    library = read_elf("a.so", io.BytesIO(make_library(machine=machine)))
    assert (Trait.EXECUTABLE_STACK in library.traits) == stack


@READS_X86
@pytest.mark.parametrize(("bits", "level"), [(1, "x86-64-v1"), (3, "x86-64-v2"), (7, "x86-64-v3"), (0, "")])
def test_the_level_that_a_file_insists_on(bits: int, level: str) -> None:
    """GNU_PROPERTY_X86_ISA_1_NEEDED, behind another property."""
    values = struct.pack("<IIIIIIII", 0xC0000002, 4, 3, 0, 0xC0008002, 4, bits, 0)
    note = struct.pack("<III", 4, len(values), 5) + b"GNU\0" + values
    rows = (
        (".note.gnu.property", 7, ALLOC, note, "", 0),
        (".text", PROGBITS, ALLOC | 4, b"\xc3", "", 0),
        (".dynstr", STRTAB, ALLOC, b"\0", "", 0),
    )
    native = measure("a.so", make_elf(rows))
    assert native is not None
    assert native.cpu["amd64"].required == level
