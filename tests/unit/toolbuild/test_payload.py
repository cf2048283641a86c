"""payload: its bytes, what it refuses, and that one changed module changes one segment."""

from __future__ import annotations

import hashlib
import os
import random
import struct
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ferryman_build.cache import Blobs
from ferryman_build.errors import BuildStepError, InspectError
from ferryman_build.wrap import payload
from ferryman_build.wrap.payload import (
    Payload,
    PayloadFile,
    PayloadInfo,
    PayloadSummary,
    compress,
    read_payload,
    write_payload,
)

INFO = PayloadInfo(name="heron", version="1.2", keep_days=7)
LEVEL = 3  # fast; nothing here is about size


class Program:
    """Files in a folder, as they are given to the writer."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.files: list[PayloadFile] = []
        root.mkdir(exist_ok=True)

    def add(self, path: str, content: bytes, group: str = "app", mode: int = 0o644) -> Program:
        source = self.root / str(len(self.files))
        source.write_bytes(content)
        self.files.append(PayloadFile(path, mode, source, "", group))
        return self

    def link(self, path: str, target: str) -> Program:
        self.files.append(PayloadFile(path, 0o777, None, target, ""))
        return self

    def write(
        self, info: PayloadInfo = INFO, blobs: str = "blobs", files: Iterable[PayloadFile] | None = None
    ) -> tuple[bytes, PayloadSummary]:
        output = self.root / "payload"
        chosen = self.files if files is None else files
        summary = write_payload(chosen, info, output, Blobs(self.root / blobs), level=LEVEL)
        return output.read_bytes(), summary


def text(seed: int, size: int = 600) -> bytes:
    """Compressible, and different for each seed."""
    numbers = random.Random(seed)
    return b" ".join(
        numbers.choice([b"def", b"return", b"self", b"import", b"%d" % seed]) for _ in range(size)
    )


@pytest.fixture
def program(tmp_path: Path) -> Program:
    """One of everything."""
    made = Program(tmp_path / "program")
    for name in ("re", "typing", "zipfile"):
        made.add(f"_internal/{name}.pyc", text(len(name), 3000), "stdlib")
    made.add("_internal/libpython3.11.so.1.0", text(9, 9000), "native:libpython3.11.so.1.0", 0o755)
    made.add("_internal/aiohttp/_parser.so", text(10), "extension:aiohttp")
    made.add("_internal/aiohttp/web.pyc", text(11), "dist:aiohttp")
    made.add("_internal/heron/größe-鷺.pyc", text(12))
    made.add("_internal/heron/empty", b"").add("_internal/heron/run", text(13), mode=0o755)
    made.add("_internal/copy", text(12), "data:copy")
    return made.link("_internal/libpython3.so", "libpython3.11.so.1.0")


def contents(parsed: Payload) -> dict[str, tuple[int, str, bytes]]:
    return {file.path: (file.mode, file.link, content) for file, content in parsed.unpack()}


def wanted(files: Iterable[PayloadFile]) -> dict[str, tuple[int, str, bytes]]:
    return {
        file.path: (file.mode, file.link, file.source.read_bytes() if file.source else b"") for file in files
    }


# --- what is written is what is read ----------------------------------------------------------------------------------


def test_round_trip(program: Program) -> None:
    """Paths, modes, links and contents come back, and the head says what it was told."""
    data, summary = program.write()
    parsed = read_payload(data)
    assert contents(parsed) == wanted(program.files)
    assert parsed.info == INFO
    assert (parsed.sha256, parsed.unpacked) == (summary.sha256, summary.unpacked)
    assert summary.packed == len(data)
    assert read_payload(program.root / "payload") == parsed


_NAMES = st.text(
    st.characters(exclude_characters="/\0:\\", exclude_categories=["Cs"]), min_size=1, max_size=12
)
_PATHS = st.lists(_NAMES.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=3).map("/".join)
_GROUPS = st.sampled_from(
    ["stdlib", "app", "dist:a", "dist:b", "native:x", "extension:a", "data:d", "another"]
)


@settings(max_examples=40)
@given(
    st.dictionaries(
        _PATHS, st.tuples(st.binary(max_size=40), _GROUPS, st.sampled_from([0o644, 0o755])), max_size=12
    )
)
def test_any_files_come_back(given_files: dict[str, tuple[bytes, str, int]]) -> None:
    """read(write(x)) == x, whatever the names, the groups and the contents."""
    with tempfile.TemporaryDirectory() as folder:
        program = Program(Path(folder))
        for path, (content, group, mode) in given_files.items():
            program.add(path, content, group, mode)
        parsed = read_payload(program.write()[0])
        assert contents(parsed) == wanted(program.files)
        assert [file.path for file in parsed.files] == sorted(given_files, key=str.encode)


def test_head_is_what_the_launcher_s_page_says(program: Program) -> None:
    """Every field at the offset of docs/launcher.md, read here without the module's own reader."""
    data, summary = program.write()
    number, head, body, segments, index_size = struct.unpack_from("<IIQII", data, 8)
    unpacked, days, flags = struct.unpack_from("<QII", data, 32)
    name, version, index = struct.unpack_from("<III", data, 80)
    assert data[:8] == b"FERRYMAN"
    assert (number, days, flags, data[92:104]) == (1, 7, 0, bytes(12))
    assert head == 136 + len("heron1.2") == 104 + name + version + 32
    assert data[104 : 104 + name + version] == b"heron1.2"
    assert data[head - 32 : head] == hashlib.sha256(data[: head - 32]).digest()
    assert data[48:80] == hashlib.sha256(data[head:]).digest() == bytes.fromhex(summary.sha256)
    assert (body, segments) == (len(data) - head, 1 + len(summary.segments))
    assert (
        unpacked
        == summary.unpacked
        == sum(file.source.stat().st_size for file in program.files if file.source)
    )
    raw = payload.zstd.decompress(data[head : head + index])
    assert len(raw) == index_size
    assert struct.unpack_from("<II", raw) == (segments - 1, len(program.files))
    at = 8 + 12 * (segments - 1)
    paths = []
    while at < len(raw):
        _, _, _, path, target = struct.unpack_from("<BBHHH", raw, at)
        paths.append(raw[at + 56 : at + 56 + path])
        at += 56 + path + target
    assert paths == sorted(paths)


def test_same_content_is_stored_once(program: Program) -> None:
    """Files with the same content share a segment and an offset; an empty file and a link have neither."""
    files = {file.path: file for file in read_payload(program.write()[0]).files}
    first, second = files["_internal/heron/größe-鷺.pyc"], files["_internal/copy"]
    assert (first.segment, first.offset, first.sha256) == (second.segment, second.offset, second.sha256)
    assert first.segment > 0
    for path in ("_internal/heron/empty", "_internal/libpython3.so"):
        assert (files[path].segment, files[path].offset, files[path].size) == (0, 0, 0)


# --- the same bytes for the same files --------------------------------------------------------------------------------


def _touch(program: Program) -> None:
    for file in program.files:
        if file.source:
            os.utime(file.source, (1, 1))


def _damage_blobs(program: Program) -> None:
    for blob in (program.root / "blobs").glob("*/*"):
        blob.write_bytes(blob.read_bytes()[:-1])


def _forget_one_blob(program: Program) -> None:
    next((program.root / "blobs").glob("*/*")).unlink()


@pytest.mark.parametrize(
    "meanwhile",
    [
        lambda program: None,
        lambda program: program.files.reverse(),
        lambda program: random.Random(1).shuffle(program.files),
        _touch,
        _damage_blobs,
        _forget_one_blob,
    ],
    ids=["nothing", "reversed", "shuffled", "dates", "damaged cache", "cache with a gap"],
)
def test_bytes_depend_on_content_alone(program: Program, meanwhile: Callable[[Program], None]) -> None:
    """Neither order, nor dates, nor what the cache holds changes a byte."""
    before, _ = program.write()
    meanwhile(program)
    assert program.write()[0] == before
    assert program.write(blobs="another")[0] == before


@pytest.mark.parametrize("change", [{"name": "egret"}, {"version": "1.3"}, {"keep_days": 0}])
def test_head_changes_alone(program: Program, change: dict[str, object]) -> None:
    """What the head says of the program is no part of the payload's hash."""
    data, summary = program.write()
    other, other_summary = program.write(msgspec.structs.replace(INFO, **change))
    assert other != data
    assert other_summary.sha256 == summary.sha256
    assert not any(segment.fresh for segment in other_summary.segments)


def test_only_what_changed_is_compressed_again(program: Program) -> None:
    """After one edited module, one segment is compressed; all others have the digests of before."""
    for number in range(40):
        program.add(f"_internal/heron/m{number}.pyc", text(100 + number))
    _, before = program.write()
    assert all(segment.fresh for segment in before.segments)
    changed = program.files[-7].source
    assert changed
    changed.write_bytes(text(999))
    data, after = program.write()
    fresh = [segment for segment in after.segments if segment.fresh]
    assert [segment.name for segment in fresh] == ["app"]
    assert {segment.sha256 for segment in after.segments} - {
        segment.sha256 for segment in before.segments
    } == {fresh[0].sha256}
    assert len(after.segments) == len(before.segments)
    assert contents(read_payload(data)) == wanted(program.files)


def test_small_segments_are_primed(program: Program) -> None:
    """The dictionary is the first segment, comes without one itself, and spares what it holds already."""
    parsed, summary = read_payload(program.write()[0]), program.write()[1]
    assert summary.segments[0].name == "stdlib:dictionary"
    rows = zip(summary.segments, parsed.segments, strict=True)
    assert {segment.name for segment, row in rows if row.dictionary == 1} == {"stdlib", "dist:*", "app"}
    assert {row.dictionary for row in parsed.segments} == {0, 1}


def test_what_the_dictionary_holds_costs_nothing(tmp_path: Path) -> None:
    """A module of noise that the standard library has as well is a few bytes, and comes back whole."""
    noise = random.Random(1).randbytes(5000)
    program = (
        Program(tmp_path / "p").add("_internal/re.pyc", noise, "stdlib").add("_internal/x.pyc", noise + b"!")
    )
    data, summary = program.write()
    assert [segment.packed > 100 for segment in summary.segments] == [True, False]
    assert contents(read_payload(data)) == wanted(program.files)


def test_index_changes_where_its_files_do(tmp_path: Path) -> None:
    """One changed digest changes a small part of the packed index, not all that follows it."""
    program = Program(tmp_path / "p")
    for number in range(600):
        program.add(f"_internal/heron/m{number}.pyc", b"%d" % number)
    packed = []
    for content in (b"one", b"other"):
        changed = program.files[300].source
        assert changed
        changed.write_bytes(content)
        write_payload(program.files, INFO, program.root / "payload", Blobs(program.root / "blobs"))
        packed.append(packed_index((program.root / "payload").read_bytes()))
    before, after = packed
    assert len(before) > 20_000
    assert len(compress(after, 19, prefix=before)) < 0.03 * len(after)


def packed_index(data: bytes) -> bytes:
    head = struct.unpack_from("<I", data, 12)[0]
    return data[head : head + struct.unpack_from("<I", data, 88)[0]]


# --- refused by the writer --------------------------------------------------------------------------------------------


def test_large_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    """An offset has 32 bits; the cure is another form."""
    program = Program(tmp_path / "p").add("_internal/model.bin", b"")
    source = program.files[0].source
    assert source
    os.truncate(source, 5 << 30)  # has no blocks on the disk
    with pytest.raises(BuildStepError, match=r"model.bin has 5368709120 bytes") as caught:
        program.write()
    assert "archive" in caught.value.advice


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([("x" * 65536, "")], "more than 65535 bytes"),
        ([("ü" * 32768, "")], "more than 65535 bytes"),
        ([("a", "y" * 65536)], "more than 65535 bytes"),
        ([("../a", "")], "cannot hold"),
        ([("a:b", "")], "cannot hold"),
        ([("a\\b", "")], "cannot hold"),
        ([("a", "b"), ("a", "c")], "Two files of the program have the path a"),
    ],
)
def test_refused_with_a_cure(tmp_path: Path, files: list[tuple[str, str]], message: str) -> None:
    """What the format cannot say is refused before anything is written."""
    program = Program(tmp_path / "p")
    for path, target in files:
        program.link(path, target or "z")
    with pytest.raises(BuildStepError, match=message) as caught:
        program.write()
    assert caught.value.advice
    assert not (program.root / "payload").exists()


@pytest.mark.parametrize("name", ["", ".heron", "a/b", "a:b", "x" * 128, "ü" * 64])
@pytest.mark.parametrize("field", ["name", "version"])
def test_name_that_is_no_folder_is_refused(program: Program, field: str, name: str) -> None:
    """The launcher has 128 bytes for each, and makes a folder of the name."""
    with pytest.raises(BuildStepError, match="cannot be the name or the version"):
        program.write(msgspec.structs.replace(INFO, **{field: name}))


def test_segment_beyond_an_offset_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that are small enough one by one may be too many together."""
    program = Program(tmp_path / "p").add("a", b"x" * 60).add("b", b"y" * 60)
    monkeypatch.setattr(payload, "_CONTENT_LIMIT", 100)
    with pytest.raises(BuildStepError, match="have 120 bytes together"):
        program.write()


def test_file_that_changes_while_it_is_packed_is_refused(
    program: Program, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A digest that is not that of the packed bytes would be found by a user, not by us."""
    monkeypatch.setattr(
        payload, "file_digest", lambda path: hashlib.sha256(path.read_bytes() + b"!").hexdigest()
    )
    with pytest.raises(BuildStepError, match="changed while"):
        program.write()


# --- refused by the reader --------------------------------------------------------------------------------------------


def test_every_bit_counts(tmp_path: Path) -> None:
    """One flipped bit, at any byte of head, index and segments, is refused; so is a payload cut off anywhere."""
    program = (
        Program(tmp_path / "p").add("_internal/re.pyc", text(1, 20), "stdlib").add("a", b"b").link("c", "a")
    )
    data, _ = program.write()
    for at in range(len(data)):
        flipped = bytearray(data)
        flipped[at] ^= 1 << (at % 8)
        for broken in (bytes(flipped), data[:at]):
            with pytest.raises(InspectError):
                read_payload(broken)


@pytest.mark.parametrize(("tail", "good"), [(b"\0" * 511, True), (b"\0\1", False)])
def test_padding_of_a_section(program: Program, tail: bytes, *, good: bool) -> None:
    """A section may be longer than what was put into it; zeros are padding, anything else is not ours."""
    data, _ = program.write()
    if good:
        assert contents(read_payload(data + tail)) == wanted(program.files)
    else:
        with pytest.raises(InspectError, match="something follows it"):
            read_payload(data + tail)


def rebuilt(data: bytes, index: bytes | None = None, segments: int | None = None, **head: int) -> bytes:
    """``data`` with another index or other fields of its head, and all digests right."""
    size, index_size = struct.unpack_from("<I", data, 12)[0], struct.unpack_from("<I", data, 88)[0]
    frame = data[size : size + index_size] if index is None else compress(index, LEVEL)
    raw = payload.zstd.decompress(frame)
    body = frame + data[size + index_size :]
    changed = bytearray(data[: size - 32])
    struct.pack_into("<Q", changed, 16, len(body))
    struct.pack_into("<I", changed, 28, len(raw))
    struct.pack_into("<I", changed, 88, len(frame))
    changed[48:80] = hashlib.sha256(body).digest()
    for field, value in head.items():
        struct.pack_into("<I", changed, int(field.removeprefix("at")), value)
    if segments is not None:
        struct.pack_into("<I", changed, 24, segments)
    return bytes(changed) + hashlib.sha256(changed).digest() + body


def one_file(path: bytes = b"a", **fields: object) -> bytes:
    """An index of one segment with the three bytes "abc", and one file."""
    row = {
        "packed": len(compress(b"abc", LEVEL)), "unpacked": 3, "dictionary": 0, "kind": 0, "zero": 0, "mode": 0o644,
        "segment": 1, "offset": 0, "size": 3, "sum": hashlib.sha256(b"abc").digest(), "link": b"", "count": 1,
    } | fields  # fmt: skip
    numbers = struct.pack("<IIIII", 1, row["count"], row["packed"], row["unpacked"], row["dictionary"])
    kind, link = row["kind"], row["link"]
    assert isinstance(link, bytes)
    file = struct.pack(
        "<BBHHHIIQ32s", kind, row["zero"], row["mode"], len(path), len(link), row["segment"], row["offset"],
        row["size"], row["sum"],
    )  # fmt: skip
    return numbers + file + path + link


@pytest.fixture
def small(tmp_path: Path) -> bytes:
    return Program(tmp_path / "small").add("a", b"abc").write()[0]


def test_rebuilt_is_read(small: bytes) -> None:
    """What the next two tests change is right before they change it."""
    assert rebuilt(small) == small == rebuilt(small, one_file())


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (one_file(b"../a"), "leads out of the tree"),
        (one_file(b"/a"), "leads out of the tree"),
        (one_file(b"a//b"), "leads out of the tree"),
        (one_file(b"a/./b"), "leads out of the tree"),
        (one_file(b"a\0b"), "leads out of the tree"),
        (one_file(b"C:a"), "leads out of the tree"),
        (one_file(b"..\\a"), "leads out of the tree"),
        (one_file(b""), "leads out of the tree"),
        (one_file(b"\xff"), "not UTF-8"),
        (one_file(kind=2), "no known kind"),
        (one_file(kind=1), "no known kind"),
        (one_file(zero=1), "no known kind"),
        (one_file(link=b"x"), "no known kind"),
        (one_file(kind=1, link=b"x"), "in no segment"),
        (one_file(segment=2), "in no segment"),
        (one_file(segment=0), "a size and no segment"),
        (one_file(segment=0, size=0), "no content"),
        (one_file(offset=1), "leaves its segment"),
        (one_file(size=4), "leaves its segment"),
        (one_file(size=0), "leaves its segment"),
        (one_file(size=2), "another size than its head says"),
        (one_file(dictionary=1), "does not come before it"),
        (one_file(packed=11), "does not have the size|do not fill"),
        (one_file(packed=0), "a segment is empty"),
        (one_file(unpacked=4), "does not have the size"),
        (one_file(count=2), "too short"),
        (one_file(count=0), "too long"),
        (one_file()[:-1], "too short"),
        (one_file() + b"\0", "too long"),
        (one_file()[:30], "too short"),
        (b"\1", "too short"),
        (one_file(count=2) + one_file()[20:], "not sorted"),
    ],
)
def test_lying_index_is_refused(small: bytes, index: bytes, message: str) -> None:
    """An index with a right digest is believed in nothing that would read or write elsewhere."""
    with pytest.raises(InspectError, match=message):
        read_payload(rebuilt(small, index))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("at8", 2, "its format is 2"),
        ("at12", 137, "size of its head"),
        ("at24", 0, "no index"),
        ("at24", 3, "count its segments differently"),
        ("at28", 7, "the size that the index says"),
        ("at32", 4, "another size than its head says"),
        ("at44", 1, "flags"),
        ("at80", 99, "size of its head"),
        ("at88", 99999, "longer than its content"),
        ("at96", 1, "flags"),
    ],
)
def test_lying_head_is_refused(small: bytes, field: str, value: int, message: str) -> None:
    """The same for the head."""
    with pytest.raises(InspectError, match=message):
        read_payload(rebuilt(small, **{field: value}))


def test_wrong_content_is_found(small: bytes) -> None:
    """The digest of each file is compared when it is unpacked."""
    with pytest.raises(InspectError, match="another content"):
        list(read_payload(rebuilt(small, one_file(sum=bytes(32)))).unpack())
