"""reproduce: each kind of difference between two files is found where it is, and called by its name."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferryman_build.cache import Blobs
from ferryman_build.reproduce.differ import Differ, Difference, first_difference
from ferryman_build.reproduce.regions import regions
from ferryman_build.wrap.payload import PayloadFile, PayloadInfo, write_payload
from support.elf_factory import ROWS, make_elf


def tar(
    *,
    name: str = "a",
    content: bytes = b"1",
    order: int = 1,
    compressed: bool = True,
    date: int = 7,
    **info: Any,
) -> bytes:
    """A .tar.gz of two members; ``info`` are properties of the first."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for member, data in ((name, content), ("b", b"2"))[::order]:
            header = tarfile.TarInfo(member)
            header.size, header.mtime = len(data), 7
            if member == name:
                for key, value in info.items():
                    setattr(header, key, value)
            archive.addfile(header, io.BytesIO(data))
    return gzip.compress(out.getvalue(), mtime=date) if compressed else out.getvalue()


def zipped(
    *, head: bytes = b"", content: str = "1" * 50, level: int = 6, order: int = 1, **info: Any
) -> bytes:
    out = io.BytesIO()
    out.write(head)
    with zipfile.ZipFile(out, "w", compression=zipfile.ZIP_DEFLATED, compresslevel=level) as archive:
        for member, text in (("a.txt", content), ("b", "2"))[::order]:
            header = zipfile.ZipInfo(member)
            header.compress_type = zipfile.ZIP_DEFLATED
            header.external_attr = 0o100644 << 16
            if member == "a.txt":
                for key, value in info.items():
                    setattr(header, key, value)
            archive.writestr(header, text)
    return out.getvalue()


def elf(*, text: bytes = b"\x90" * 37, rows: bool = True, **more: Any) -> bytes:
    changed = tuple((*row[:3], text, *row[4:]) if row[0] == ".text" else row for row in ROWS)
    return make_elf(changed if rows else changed[:-3], **more)


def pe(*, stamp: int = 0, checksum: int = 0, content: bytes = b"code", name: bytes = b".text") -> bytes:
    """The headers that a linker writes, and one section."""
    coff = struct.pack("<HHIIIHH", 0x8664, 1, stamp, 0, 0, 112, 0x22)
    optional = bytearray(112)
    struct.pack_into("<I", optional, 64, checksum)
    section = struct.pack("<8sIIII12xI", name, len(content), 0x1000, len(content), 512, 0)
    head = b"MZ" + bytes(58) + struct.pack("<I", 64) + b"PE\0\0" + coff + bytes(optional) + section
    return head.ljust(512, b"\0") + content


def macho(*, content: bytes = b"code", linkedit: bytes = b"sign") -> bytes:
    """64 bits: one section in __TEXT, then __LINKEDIT."""
    start = 32 + 152 + 72
    end = start + len(content)
    text = struct.pack("<II16sQQQQIIII", 0x19, 152, b"__TEXT", 0, 0, 0, end, 0, 0, 1, 0)
    text += struct.pack("<16s16sQQI28x", b"__text", b"__TEXT", 0, len(content), start)
    edit = struct.pack("<II16sQQQQIIII", 0x19, 72, b"__LINKEDIT", 0, 0, end, len(linkedit), 0, 0, 0, 0)
    head = struct.pack("<4sIIIIIII", b"\xcf\xfa\xed\xfe", 0x0100000C, 0, 2, 2, 224, 0, 0)
    return head + text + edit + content + linkedit


def pyc(*, magic: bytes = b"\xa7\x0d\r\n", head: bytes = bytes(12), code: bytes = b"code" * 4) -> bytes:
    return magic + head + code


Make = Callable[..., bytes]
TAR, ZIP = ("a",), ("a.txt",)


@pytest.mark.parametrize(
    ("make", "first", "second", "where", "what", "hint"),
    [
        (tar, {}, {"content": b"3"}, TAR, "1 bytes, first at 0x0: 31 and 33", "line 1: '1' and '3'"),
        (tar, {}, {"content": b"12"}, TAR, "1 and 2 bytes, first at 0x1: nothing and 32", ""),
        (tar, {}, {"mtime": 8}, TAR, "date 7 and 8", "time of the build"),
        (tar, {}, {"mode": 0o600}, TAR, "mode 0o644 and 0o600", "umask"),
        (tar, {}, {"uid": 5}, TAR, "owner 0:0 and 5:0", "user of the build"),
        (tar, {}, {"uname": "me"}, TAR, "owner's name : and me:", "user of the build"),
        (tar, {"type": tarfile.SYMTYPE, "linkname": "x", "size": 0}, {"type": tarfile.SYMTYPE, "linkname": "y", "size": 0},
         TAR, "link x and y", ""),
        (tar, {}, {"name": "c"}, TAR, "is only in the first build", ""),
        (tar, {"name": "c"}, {}, TAR, "is only in the second build", ""),
        (tar, {}, {"order": -1}, (), "members are in another order, from a on", "not sorted"),
        (tar, {}, {"date": 8}, ("gzip header",), "date 7 and 8", "time of the build"),
        (tar, {"compressed": False}, {"compressed": False, "mtime": 8}, TAR, "date 7 and 8", "time"),
        (zipped, {}, {"content": "2" * 50}, ZIP, "50 bytes, first at 0x0", "line 1"),
        (zipped, {}, {"date_time": (2001, 2, 3, 4, 5, 6)}, ZIP, "date (1980", "time zone"),
        (zipped, {}, {"external_attr": 0o100600 << 16}, ZIP, "mode 0o100644 and 0o100600", "umask"),
        (zipped, {}, {"create_system": 0}, ZIP, "system 3 and 0", "operating system"),
        (zipped, {}, {"order": -1}, (), "members are in another order", "not sorted"),
        (zipped, {"head": b"#!/usr/bin/env python3.11\n"}, {"head": b"#!/usr/bin/env python3.12\n"}, ("first line",),
         "#!/usr/bin/env python3.11 and #!/usr/bin/env python3.12", ""),
        (elf, {}, {"text": b"\x91" * 37}, ("section .text",), "37 bytes, first at 0x0: 90 90", ""),
        (elf, {}, {"rows": False}, ("section .comment",), "is only in the first build", ""),
        (elf, {}, {"machine": 183}, ("ELF header",), "first at 0x12: 3e 00", ""),
        (pe, {}, {"stamp": 5}, ("PE date stamp",), "4 bytes, first at 0x0: 00 00 00 00 and 05", "linker's clock"),
        (pe, {}, {"checksum": 5}, ("PE checksum",), "4 bytes", "follows from"),
        (pe, {}, {"content": b"cold"}, ("section .text",), "4 bytes, first at 0x2: 64 65 and 6c 64", ""),
        (macho, {}, {"content": b"cold"}, ("section __TEXT,__text",), "first at 0x2", ""),
        (macho, {}, {"linkedit": b"sigh"}, ("segment __LINKEDIT",), "first at 0x3", ""),
        (pyc, {}, {"code": b"codE" * 4}, ("code",), "16 bytes, first at 0x3", "references"),
        (pyc, {}, {"head": bytes(4) + b"date" + bytes(4)}, ("head",), "and 0000000064617465", "date of the source"),
        (pyc, {}, {"magic": b"\xcb\x0d\r\n"}, ("magic number",), "a70d0d0a and cb0d0d0a", "another Python"),
    ],
)  # fmt: skip
def test_each_difference_has_its_name(
    make: Make, first: dict[str, Any], second: dict[str, Any], where: tuple[str, ...], what: str, hint: str
) -> None:
    """The member, what differs there with both values, and the likely cause."""
    found = Differ().differences(make(**first), make(**second))
    named = [difference for difference in found if difference.where == where and what in difference.what]

    assert named, found
    assert hint in named[0].hint
    assert Differ().differences(make(**first), make(**first)) == []


@pytest.mark.parametrize(
    ("one", "two"),
    [(gzip.compress(b"x" * 999, 1, mtime=0), gzip.compress(b"x" * 999, 9, mtime=0)), (zipped(level=1), zipped(level=9))],
)  # fmt: skip
def test_the_same_content_in_other_bytes(one: bytes, two: bytes) -> None:
    """A container that is packed in another way is a difference, although all that is in it is equal."""
    found = Differ().differences(one, two) if one != two else [Difference((), "", "compression")]

    assert len(found) == 1
    assert "compression" in found[0].hint or "compression" in found[0].what


def test_the_way_to_a_difference() -> None:
    """A member of a member of a member: outermost first."""
    one, two = (tar(name="lib.so", content=elf(text=text * 37)) for text in (b"\x90", b"\x91"))
    (found,) = Differ().differences(one, two)

    assert found.where == ("lib.so", "section .text")
    assert str(found).startswith("lib.so > section .text: 37 bytes")


def test_only_what_differs_is_named() -> None:
    """A date stamp does not make the headers around it a second difference."""
    found = Differ().differences(pe(), pe(stamp=5, checksum=6))

    assert [difference.where for difference in found] == [("PE date stamp",), ("PE checksum",)]


@pytest.mark.parametrize(
    ("one", "two", "hint"),
    [
        (b"\0at /build/one/x", b"\0at /elsewhere/x", "it has the path of its build in it: /build/one"),
        (b"same\nlines\n", b"lines\nsame\n", "the same lines in another order"),
        (b"one\n", b"one\ntwo\n", "one is longer"),
        (b"\0\1", b"\0\2", ""),
    ],
)
def test_hints(one: bytes, two: bytes, hint: str) -> None:
    """What a person would look for first."""
    (found,) = Differ(places=("/build/one",)).differences(one, two)

    assert found.hint == hint


def test_known_files_have_their_explanation() -> None:
    """pip's notes about where a package came from."""
    (found,) = Differ().differences(
        tar(name="x.dist-info/direct_url.json"), tar(name="x.dist-info/direct_url.json", content=b"2")
    )

    assert "installer wrote" in found.hint


def test_another_ferryman_is_called_by_its_name() -> None:
    """What starts a .pyz comes from Ferryman and not from the project."""
    (found,) = Differ().differences(tar(name="_ferryman/run.py"), tar(name="_ferryman/run.py", content=b"2"))

    assert "Ferryman itself was changed" in found.hint


@pytest.fixture
def payload(tmp_path: Path) -> Callable[..., bytes]:
    """A payload of two files, in a section of its own as the launcher has it."""

    def make(*, content: str = "1", mode: int = 0o644, days: int = 30, name: str = "a.py") -> bytes:
        files = []
        for path, text in ((name, content), ("b.py", "2")):
            source = tmp_path / f"{len(list(tmp_path.iterdir()))}.txt"
            source.write_text(text)
            files.append(PayloadFile(path, mode if path == name else 0o644, source, "", "app"))
        output = tmp_path / "payload"
        write_payload(
            files,
            PayloadInfo(name="lamp", version="1", keep_days=days),
            output,
            Blobs(tmp_path / "blobs"),
            level=3,
        )
        return make_elf((*ROWS, (".ferryman", 1, 0, output.read_bytes(), "", 0)))

    return make


@pytest.mark.parametrize(
    ("change", "where", "what"),
    [
        ({"content": "3"}, ("payload", "a.py"), "1 bytes, first at 0x0: 31 and 33"),
        ({"mode": 0o755}, ("payload", "a.py"), "mode 0o644 and 0o755"),
        ({"days": 7}, ("payload", "head"), "keep_days 30 and 7"),
        ({"name": "c.py"}, ("payload", "a.py"), "is only in the first build"),
    ],
)
def test_inside_the_one_file(
    payload: Callable[..., bytes], change: dict[str, Any], where: tuple[str, ...], what: str
) -> None:
    """The file in the tree that is in the payload that is in the executable."""
    found = Differ().differences(payload(), payload(**change))

    assert any(difference.where == where and what in difference.what for difference in found), found


@pytest.mark.parametrize("make", [tar, zipped, elf, pe, macho, pyc])
@settings(max_examples=60)
@given(data=st.data())
def test_a_damaged_file_is_compared_all_the_same(make: Make, data: st.DataObject) -> None:
    """Whatever a byte is changed to, and wherever it is cut: a difference, and no exception."""
    whole = make()
    at = data.draw(st.integers(0, len(whole) - 1))
    changed = bytearray(whole)
    changed[at] ^= data.draw(st.integers(1, 255))
    for other in (bytes(changed), whole[:at]):
        assert Differ().differences(whole, other)


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_first_difference(one: bytes, two: bytes) -> None:
    """The offset up to which both are equal, and no further."""
    at = first_difference(one, two)

    assert one[:at] == two[:at]
    assert one[at : at + 1] != two[at : at + 1] or one == two


def test_many_differences_are_cut_off() -> None:
    """A whole tree that differs is not printed."""
    one, two = (zipped_many(text) for text in ("1", "2"))

    assert len(Differ(most=5).differences(one, two)) == 5


def zipped_many(text: str) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for number in range(20):
            archive.writestr(zipfile.ZipInfo(str(number)), text)
    return out.getvalue()


@pytest.mark.parametrize("data", [b"", b"text", b"MZ", b"\x7fELF", b"\xcf\xfa\xed\xfe", b"MZ" + bytes(62)])
def test_what_is_no_native_file_has_no_parts(data: bytes) -> None:
    """Nothing to take apart, and nothing raised."""
    assert regions(data) == []
