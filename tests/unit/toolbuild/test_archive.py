"""archive: the same bytes for the same tree, and what comes out is what went in."""

from __future__ import annotations

import datetime
import gzip
import os
import shutil
import stat
import subprocess
import tarfile
import time
import zipfile
from pathlib import Path

import pytest

from ferryman_build.tree import Tree, read_tree
from ferryman_build.wrap.archive import write_archive

EPOCH = 1_700_000_000
CONTENTS = {"_internal/b.pyc": "bee" * 5000, "_internal/a é.txt": "ay", "agent": "program", "_internal/Z": ""}


def make_tree(root: Path, *, mask: int = 0o022, reverse: bool = False) -> Tree:
    """A tree whose files come into being in some order, under some umask."""
    before = os.umask(mask)
    try:
        for name in sorted(CONTENTS, reverse=reverse):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(CONTENTS[name])
        (root / "agent").chmod(0o755 & ~mask)
        (root / "_internal" / "link").symlink_to("b.pyc")
    finally:
        os.umask(before)
    return read_tree(root, "agent")


def write(tree: Tree, form: str, path: Path, *, epoch: int = EPOCH, level: int = 6) -> Path:
    write_archive(tree, form, "agent-1", epoch, level, path)
    return path


@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_same_bytes(tmp_path: Path, form: str) -> None:
    """Other folders, times, umask, order of creation, archive name and time zone: byte for byte the same."""
    one = write(make_tree(tmp_path / "one"), form, tmp_path / "one.archive")
    tree = make_tree(tmp_path / "two", mask=0o077, reverse=True)
    for path in tree.root.rglob("*"):
        os.utime(path, (1, 1), follow_symlinks=False)
    before = os.environ.get("TZ")
    os.environ["TZ"] = "Pacific/Kiritimati"
    time.tzset()
    try:
        other = write(tree, form, tmp_path / "other name")
    finally:
        os.environ.pop("TZ") if before is None else os.environ.update(TZ=before)
        time.tzset()

    assert one.read_bytes() == other.read_bytes()


@pytest.mark.parametrize("form", ["tar.gz", "zip"])
@pytest.mark.parametrize("change", ["content", "mode", "epoch"])
def test_other_bytes(tmp_path: Path, form: str, change: str) -> None:
    """What counts is in the archive."""
    one = write(make_tree(tmp_path / "one"), form, tmp_path / "one.archive")
    make_tree(tmp_path / "two")
    if change == "content":
        (tmp_path / "two" / "agent").write_text("another")
    if change == "mode":
        (tmp_path / "two" / "_internal" / "Z").chmod(0o755)
    other = write(
        read_tree(tmp_path / "two", "agent"), form, tmp_path / "b", epoch=EPOCH + 60 * (change == "epoch")
    )

    assert one.read_bytes() != other.read_bytes()


def test_tar_members(tmp_path: Path) -> None:
    """Sorted, one date, modes 755 and 644, no owner, no name; the gzip header has neither name nor date."""
    path = write(make_tree(tmp_path / "tree"), "tar.gz", tmp_path / "x.tar.gz")
    with tarfile.open(path) as archive:
        members = archive.getmembers()

    names = [member.name for member in members]
    assert names == sorted(names) == [
        "agent-1/_internal/Z", "agent-1/_internal/a é.txt", "agent-1/_internal/b.pyc", "agent-1/_internal/link",
        "agent-1/agent",
    ]  # fmt: skip
    assert {member.mtime for member in members} == {EPOCH}
    assert {(member.uid, member.gid, member.uname, member.gname) for member in members} == {(0, 0, "", "")}
    assert [member.mode for member in members] == [0o644, 0o644, 0o644, 0o777, 0o755]
    assert [member.linkname for member in members if member.issym()] == ["b.pyc"]
    header = path.read_bytes()[:10]
    assert (header[3], header[4:8]) == (0, bytes(4))


def test_zip_members(tmp_path: Path) -> None:
    """Sorted, one date in UTC, Unix modes and a link that is one, whoever builds."""
    path = write(make_tree(tmp_path / "tree"), "zip", tmp_path / "x.zip")
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        assert archive.read("agent-1/_internal/link") == b"b.pyc"

    names = [member.filename for member in members]
    assert names == sorted(names)
    date = datetime.datetime.fromtimestamp(EPOCH, datetime.UTC)
    assert {member.date_time for member in members} == {date.timetuple()[:6]}
    assert {member.create_system for member in members} == {3}
    modes = {member.filename.rpartition("/")[2]: member.external_attr >> 16 for member in members}
    assert modes["agent"] == stat.S_IFREG | 0o755
    assert modes["Z"] == stat.S_IFREG | 0o644
    assert stat.S_ISLNK(modes["link"])


@pytest.mark.parametrize("epoch", [315_532_800, 4_354_819_198])
def test_first_and_last_date_of_a_zip(tmp_path: Path, epoch: int) -> None:
    """The epochs that source.py lets through are dates that a zip can say."""
    path = write(make_tree(tmp_path / "tree"), "zip", tmp_path / "x.zip", epoch=epoch)
    with zipfile.ZipFile(path) as archive:
        dates = {member.date_time for member in archive.infolist()}

    assert dates == {datetime.datetime.fromtimestamp(epoch, datetime.UTC).timetuple()[:6]}


@pytest.mark.parametrize("form", ["tar.gz", "zip"])
def test_level(tmp_path: Path, form: str) -> None:
    """The level is used: 9 is smaller than 1, and both hold the same."""
    root = tmp_path / "tree"
    root.mkdir()
    (root / "agent").write_text(" ".join(str(number * number) for number in range(20000)))
    tree = read_tree(root, "agent")
    sizes = [write(tree, form, tmp_path / str(level), level=level).stat().st_size for level in (1, 9)]

    assert sizes[1] < sizes[0] < tree.size


@pytest.mark.skipif(shutil.which("tar") is None, reason="tar is not here")
def test_extracted_with_tar(tmp_path: Path) -> None:
    """The system's tar makes the tree again: contents, modes, link, dates."""
    tree = make_tree(tmp_path / "tree")
    path = write(tree, "tar.gz", tmp_path / "x.tar.gz")
    (tmp_path / "out").mkdir()
    subprocess.run(
        ["tar", "-xpzf", path, "-C", tmp_path / "out"], check=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )

    assert read_tree(tmp_path / "out" / "agent-1", "agent").files == tree.files
    assert (tmp_path / "out" / "agent-1" / "agent").stat().st_mtime == EPOCH


def test_extracted_with_zipfile(tmp_path: Path) -> None:
    """A zip reader finds every file with its content."""
    path = write(make_tree(tmp_path / "tree"), "zip", tmp_path / "x.zip")
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "out")

    found = {name: (tmp_path / "out" / "agent-1" / name).read_text() for name in CONTENTS}
    assert found == CONTENTS


@pytest.mark.skipif(shutil.which("unzip") is None, reason="unzip is not here")
def test_extracted_with_unzip(tmp_path: Path) -> None:
    """Info-ZIP's unzip gives modes and the link back, too."""
    tree = make_tree(tmp_path / "tree")
    path = write(tree, "zip", tmp_path / "x.zip")
    subprocess.run(
        ["unzip", "-q", path, "-d", tmp_path / "out"], check=True, env={**os.environ, "LC_ALL": "C.UTF-8"}
    )

    made = read_tree(tmp_path / "out" / "agent-1", "agent")
    assert {file.path: (file.mode, file.link) for file in made.files if file.path.isascii()} == {
        file.path: (file.mode, file.link) for file in tree.files if file.path.isascii()
    }


def test_gzip_has_one_member(tmp_path: Path) -> None:
    """Readers that stop after the first gzip member get all of it."""
    path = write(make_tree(tmp_path / "tree"), "tar.gz", tmp_path / "x.tar.gz")
    whole = gzip.decompress(path.read_bytes())

    assert path.read_bytes().count(b"\x1f\x8b\x08\x00\x00\x00\x00\x00") == 1
    assert len(whole) % 512 == 0
