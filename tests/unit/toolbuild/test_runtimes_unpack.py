"""Archives of runtimes: what is unpacked, and what no archive may do."""

from __future__ import annotations

import errno
import io
import random
import stat
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from ferryman_build.errors import ResolutionError, SpaceError
from ferryman_build.runtimes import unpack as module
from ferryman_build.runtimes.places import resolve_inside
from ferryman_build.runtimes.unpack import unpack
from support.runtimes.archive import write_archive
from support.runtimes.fake import tar, zipped

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

FILES = {"python/bin/x": b"run", "python/lib/a.txt": b"text", "bin/y": b"set-uid"}


def packed(folder: Path, content: bytes, name: str = "a.tar.gz") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w"])
def test_tar_is_unpacked(mode: str, tmp_path: Path) -> None:
    """Contents and the executable bit, and no other bit: set-uid and world-writable are gone."""
    source = packed(tmp_path, tar(FILES, {"python/lib/b.txt": "a.txt", "c": "python/bin/x"}, mode))
    root = unpack(source, tmp_path / "into")

    assert (root / "python/lib/b.txt").read_bytes() == b"text"
    assert (root / "c").read_bytes() == b"run"
    assert [(root / name).stat().st_mode & 0o7777 for name in ("bin/y", "python/lib/a.txt")] == [0o755, 0o644]


def test_zstd_and_zip_are_unpacked(tmp_path: Path) -> None:
    """The other two forms, told by their first bytes and not by their names."""
    write_archive(FILES, tmp_path / "a.zip")
    zip_file = packed(tmp_path, zipped(FILES), "b.tar.gz")

    for number, source in enumerate((tmp_path / "a.zip", zip_file)):
        root = unpack(source, tmp_path / str(number))
        assert {name: (root / name).read_bytes() for name in FILES} == FILES


def test_a_folder_is_itself(tmp_path: Path) -> None:
    """Nothing is copied."""
    assert unpack(tmp_path, tmp_path / "into") == tmp_path
    assert not (tmp_path / "into").exists()


def test_hard_links_are_files(tmp_path: Path) -> None:
    """A hard link inside of an archive becomes a file of its own."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        info = tarfile.TarInfo("a")
        info.size = 3
        archive.addfile(info, io.BytesIO(b"abc"))
        same = tarfile.TarInfo("b")
        same.type, same.linkname = tarfile.LNKTYPE, "a"
        archive.addfile(same)
    root = unpack(packed(tmp_path, content.getvalue()), tmp_path / "into")

    assert (root / "b").read_bytes() == b"abc"


def link_zip(target: str) -> bytes:
    """A .zip with a symbolic link."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, target)
    return content.getvalue()


HOSTILE = {
    "an absolute name": tar({"/etc/evil": b""}),
    "a name that leads upwards": tar({"a/../../evil": b""}),
    "a drive": tar({"C:/evil": b""}),
    "a name with backslashes": tar({"..\\evil": b""}),
    "a link to an absolute place": tar({}, {"a": "/etc/passwd"}),
    "a link that leads upwards": tar({}, {"a/b": "../../passwd"}),
    "a zip that leads upwards": zipped({"../evil": b""}),
    "a link and a file of one name": tar({"a": b""}, {"a": "b"}),
    "a link below a link": tar({}, {"a": ".", "a/b/c/d": "../../.."}),
    "links that go round": tar({}, {"a": "b", "b": "a"}),
    "a link into itself": tar({}, {"a": "a/b"}),
    "a file and a folder of one name": tar({"a": b"1", "a/b/c": b"2"}),
    "a folder and a file of one name": tar({"a/b": b"1", "a": b"2"}),
    "a link below a file": tar({"a": b"1"}, {"a/b": "c"}),
    "a name that no disk takes": tar({"a" * 300: b""}),
    "a link with a zero in it": link_zip("a\0b"),
    "a link that leads out through another": tar(
        {"deep/er/x": b""}, {"deep/er/up": "../..", "m": "deep/er/up/.."}
    ),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=list(HOSTILE))
def test_hostile_archives_are_refused(content: bytes, tmp_path: Path) -> None:
    """Each is refused with the member's name, and nothing of it is left anywhere."""
    source = packed(tmp_path, content)

    with pytest.raises(ResolutionError, match="is refused: its member") as caught:
        unpack(source, tmp_path / "into")
    assert caught.value.exit_code == 6
    assert [path.name for path in tmp_path.iterdir()] == ["a.tar.gz"]


def test_nothing_is_written_through_a_link(tmp_path: Path) -> None:
    """A folder that an earlier member made a link is refused, and the link's target is not touched."""
    content = io.BytesIO()
    (tmp_path / "outside").mkdir()
    with tarfile.open(fileobj=content, mode="w:gz") as archive:
        link = tarfile.TarInfo("a/in")
        link.type, link.linkname = tarfile.SYMTYPE, ".."
        archive.addfile(link)
        archive.addfile(tarfile.TarInfo("a/in/file"))

    with pytest.raises(ResolutionError, match="is there twice"):
        unpack(packed(tmp_path, content.getvalue()), tmp_path / "into")


@pytest.mark.parametrize(
    "content", [b"", b"<html>", tar(FILES)[:-40], zipped(FILES)[:-60], b"\x28\xb5\x2f\xfd nothing"]
)
def test_damaged_archives_are_named(content: bytes, tmp_path: Path) -> None:
    """Truncated, empty, or something else: one sentence with the file, and nothing left."""
    source = packed(tmp_path, content)

    with pytest.raises(ResolutionError, match="damaged or no archive") as caught:
        unpack(source, tmp_path / "into")
    assert str(source) in str(caught.value)
    assert not (tmp_path / "into").exists()


NOISE = {"python/lib/noise": random.Random(4).randbytes(400_000)}


def flipped(content: bytes, place: int) -> bytes:
    """With one byte that a disk or a line has changed; a negative place counts from the end."""
    changed = bytearray(content)
    changed[place] ^= 0xFF
    return bytes(changed)


DAMAGED = {
    "gz, in the middle": flipped(tar(NOISE), 200_000),
    "gz, its checksum": flipped(tar(NOISE), -6),
    "xz, in the middle": flipped(tar(NOISE, mode="w:xz"), 200_000),
    "xz, its end": flipped(tar(NOISE, mode="w:xz"), -30),
    "bz2, in the middle": flipped(tar(NOISE, mode="w:bz2"), 200_000),
    "zstd, cut off behind the last member": zstd.compress(tar(NOISE, mode="w"))[:-9],
    "tar, a later header": flipped(tar({"a": b"x" * 600, "b": b"y"}, mode="w"), 1540),
    "tar, within a later header": tar({"a": b"x" * 600, "b": b"y"}, mode="w")[:1700],
    "zip, in the middle": flipped(zipped(NOISE), 200_000),
}


@pytest.mark.parametrize("content", DAMAGED.values(), ids=list(DAMAGED))
def test_flipped_bytes_are_seen_without_a_hash(content: bytes, tmp_path: Path) -> None:
    """An archive that nobody has pinned is checked by its own checksums, to the last one."""
    with pytest.raises(ResolutionError, match="damaged or no archive"):
        unpack(packed(tmp_path, content), tmp_path / "into")
    assert not (tmp_path / "into").exists()


def test_devices_are_not_made(tmp_path: Path) -> None:
    """What is neither file, folder nor link is passed over."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        info = tarfile.TarInfo("dev/null")
        info.type = tarfile.CHRTYPE
        archive.addfile(info)
    root = unpack(packed(tmp_path, content.getvalue()), tmp_path / "into")

    assert list(root.iterdir()) == []


def test_full_disk_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space: exit code 10, the folder is named, and what was written is gone."""

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module.shutil, "copyfileobj", full)
    with pytest.raises(SpaceError, match="into") as caught:
        unpack(packed(tmp_path, tar(FILES)), tmp_path / "into")
    assert caught.value.exit_code == 10
    assert not (tmp_path / "into").exists()


@pytest.mark.parametrize(
    ("links", "path", "place"),
    [
        ({"lib": "/usr/lib"}, "lib/a", "usr/lib/a"),
        ({"a": "../../../b"}, "a/c", "b/c"),
        ({"x/a": "../b", "b": "c"}, "x/a/d", "c/d"),
        ({}, "/plain/../file", "file"),
        ({"a": "b", "b": "a"}, "a", None),
    ],
)
def test_links_stay_inside_a_root(
    links: dict[str, str], path: str, place: str | None, tmp_path: Path
) -> None:
    """A root filesystem's links are followed as a program in it would: never out of it, never for ever."""
    for name, target in links.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).symlink_to(target)

    assert resolve_inside(tmp_path, path) == (None if place is None else tmp_path / place)
