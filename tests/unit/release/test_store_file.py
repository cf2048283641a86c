"""A store in a folder: killed anywhere it holds only whole objects, and it says what the disk says."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ferryman_build.errors import SpaceError
from ferryman_release.errors import ConflictError, StoreError
from ferryman_release.store import file as file_module
from ferryman_release.store.base import Outcome, headers_for
from ferryman_release.store.file import PRIVATE, FileStore
from support.s3.stores import create, digest, replace

BIG = 3_000_000

# For each line of FOLDER and EVENT: a child publishes one object and replaces one pointer, and is killed at that event of the file
# system. The line that comes back is how it ended.
PUBLISHER = f"""
import os, signal, sys
from pathlib import Path
from ferryman_release.store.file import FileStore
from support.s3.stores import create, replace

def publish(folder, at):
    events = 0

    def hook(event, arguments):
        nonlocal events
        if not event.startswith(("open", "os.", "shutil.")) or event in ("os.listdir", "os.scandir"):
            return
        if folder not in repr(arguments):
            return
        events += 1
        if events == at:
            os.kill(os.getpid(), signal.SIGKILL)

    store = FileStore(Path(folder))
    current = store.get("metadata/timestamp.json")
    sys.addaudithook(hook)
    create(store, "artifacts/n/1/file", b"x" * {BIG})
    replace(store, "metadata/timestamp.json", b"new" * 1000, current[1])

for line in sys.stdin:
    folder, at = line.rsplit(maxsplit=1)
    pid = os.fork()
    if pid == 0:
        publish(folder, int(at))
        os._exit(0)
    print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
"""


@contextlib.contextmanager
def publisher() -> Iterator[Callable[[Path, int], int]]:
    """Publishes into a folder, and is killed at the event with that number; how it ended. 0: nobody kills it."""
    root = Path(__file__).resolve().parents[3]
    paths = [str(root / name) for name in ("build", "release", "tests")]
    with subprocess.Popen(
        [sys.executable, "-c", PUBLISHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None

        def publish(folder: Path, at: int) -> int:
            print(folder, at, file=process.stdin, flush=True)
            return int(process.stdout.readline())  # type: ignore[union-attr]

        yield publish
        process.stdin.close()


@pytest.mark.skipif(os.name == "nt", reason="there is no SIGKILL")
def test_killed_at_any_point_it_is_whole_and_a_second_run_completes(tmp_path: Path) -> None:
    """At each event of the file system: objects are whole or not there, the pointer is the old or the new one."""
    at, codes = 0, list[int]()
    with publisher() as publish:
        while not codes or codes[-1] != 0:
            at += 1
            folder = tmp_path / str(at)
            store = FileStore(folder)
            replace(store, "metadata/timestamp.json", b"old", None)

            codes.append(publish(folder, at))

            found = {entry.key: store.get(entry.key)[0] for entry in store.list()}  # type: ignore[index]
            assert found.pop("metadata/timestamp.json") in (b"old", b"new" * 1000)
            assert found in ({}, {"artifacts/n/1/file": b"x" * BIG})
            assert publish(folder, 0) == 0
            assert store.get("metadata/timestamp.json") == (b"new" * 1000, digest(b"new" * 1000))
            assert at < 60
    assert set(codes[:-1]) == {-signal.SIGKILL}
    assert len(codes) > 5


def test_drafts_of_the_dead_are_removed_and_those_of_the_living_not(tmp_path: Path) -> None:
    """A draft that a day has passed over goes away with the next write; a fresh one stays."""
    drafts = tmp_path / PRIVATE / "drafts"
    drafts.mkdir(parents=True)
    for name, age in (("old", 25 * 3600), ("fresh", 60)):
        (drafts / name).write_bytes(b"half")
        os.utime(drafts / name, (time.time() - age,) * 2)

    create(FileStore(tmp_path), "a/b", b"data")

    assert [path.name for path in drafts.iterdir()] == ["fresh"]


def test_nothing_private_is_an_object(tmp_path: Path) -> None:
    """Drafts and the lock are listed under no prefix; links that lead elsewhere are what they lead to."""
    store = FileStore(tmp_path)
    create(store, "a/b", b"data")
    store.put("index.html", b"page", headers_for("index.html"))

    assert (tmp_path / PRIVATE / "lock").exists()
    assert [entry.key for entry in store.list()] == ["a/b", "index.html"]
    assert list(store.list(".")) == []
    assert list(store.list("../")) == []
    assert list(store.list("a/../")) == []


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK])
def test_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """On a file system that has none, a name is taken under the folder's lock instead."""

    def no_links(_source: Path, _target: Path) -> None:
        raise OSError(number, "no links here")

    monkeypatch.setattr(file_module.os, "link", no_links)
    store = FileStore(tmp_path)

    assert create(store, "a/b", b"first") is Outcome.CREATED
    assert create(store, "a/b", b"first") is Outcome.EXISTED
    with pytest.raises(ConflictError):
        create(store, "a/b", b"other")
    assert not store._rename_unless_taken(tmp_path / "x", tmp_path / "a" / "b")


def test_a_name_that_is_taken_while_we_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever links first has made it: ours is EXISTED with the same bytes, a conflict with others."""
    store = FileStore(tmp_path)
    link = os.link

    def after_somebody_else(source: Path, target: Path) -> None:
        target.write_bytes(b"theirs")
        link(source, target)

    monkeypatch.setattr(file_module.os, "link", after_somebody_else)

    assert create(store, "a/b", b"theirs") is Outcome.EXISTED
    with pytest.raises(ConflictError, match=digest(b"theirs")):
        create(store, "a/c", b"ours")


def test_a_folder_that_goes_away_under_our_hands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's delete may remove a folder that was just made: it is made again."""
    store = FileStore(tmp_path)
    link, left = os.link, [3]

    def gone(source: Path, target: Path) -> None:
        if left[0]:
            left[0] -= 1
            target.parent.rmdir()
        link(source, target)

    monkeypatch.setattr(file_module.os, "link", gone)

    assert create(store, "a/b", b"data") is Outcome.CREATED
    assert left == [0]


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No space: its own error, with the folder; no draft and no object stay."""

    def full(_handle: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    store = FileStore(tmp_path)
    monkeypatch.setattr(file_module.os, "fsync", full)
    with pytest.raises(SpaceError, match="No space left for the store") as caught:
        create(store, "a/b", b"data")

    assert "gc" in caught.value.advice
    assert list((tmp_path / PRIVATE / "drafts").iterdir()) == []
    assert list(store.list()) == []


def test_a_store_that_is_a_file(tmp_path: Path) -> None:
    """A path that cannot be a folder is said with the setting."""
    (tmp_path / "store").write_text("")
    store = FileStore(tmp_path / "store")
    for act in (lambda: create(store, "a/b", b""), lambda: replace(store, "a", b"", None)):
        with pytest.raises(StoreError, match="cannot be used") as caught:
            act()
        assert "url" in caught.value.advice
    assert store.get("a/b") is None
    assert list(store.list()) == []


def test_reading_makes_nothing(tmp_path: Path) -> None:
    """A store that nobody has written to is no folder yet."""
    store = FileStore(tmp_path / "store")

    assert store.get("a") is None
    assert store.head("a") is None
    assert list(store.list("a/")) == []
    assert not (tmp_path / "store").exists()
    assert store.url == (tmp_path / "store").as_uri()


def test_delete_leaves_no_empty_folders(tmp_path: Path) -> None:
    """With its last object a folder goes away, and no further."""
    store = FileStore(tmp_path)
    create(store, "a/b/c/d", b"1")
    create(store, "a/e", b"2")
    store.delete("a/b/c/d")

    assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "e").exists()
