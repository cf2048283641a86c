"""Files and folders: which count, how they are read while somebody writes them, and how changes are noticed."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from watchkeeper.config import changes, folder
from watchkeeper.config.changes import Changes
from watchkeeper.config.folder import fingerprint, fragment_names, read_path
from watchkeeper.config.load import Loaded, load_file
from watchkeeper.config.schema.sources import FileSourceSpec
from watchkeeper.config.source import FileSource
from watchkeeper.config.sources import SourceError
from watchkeeper.config.sources.file import Files
from watchkeeper.errors import ConfigInvalidError, ConfigUnreadableError

BOTH = pytest.mark.parametrize("telling", [False, True], ids=["looking", "told"])


def tcp(name: str) -> str:
    return f"checks: {{{name}: {{type: tcp, address: 'h:1'}}}}\n"


def test_which_files_count(tmp_path: Path) -> None:
    """F1: by the end of the name, in order; nothing hidden, no backup, no folder, no broken link."""
    for name in (
        "b.yaml",
        "a.toml",
        "C.JSON",
        "d.yml",
        ".hidden.yaml",
        ".#a.yaml",
        "#a.yaml#",
        "a.yaml~",
        "a.yaml.bak",
        "a.yaml.dpkg-old",
        "~a.yaml",
        ".a.yaml.swp",
        "4913",
        "README.md",
    ):
        (tmp_path / name).write_text("")
    (tmp_path / "sub.yaml").mkdir()
    (tmp_path / "gone.yaml").symlink_to(tmp_path / "nowhere")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "b.yaml")
    assert fragment_names(str(tmp_path)) == ["C.JSON", "a.toml", "b.yaml", "d.yml", "link.yaml"]


def test_a_folder_is_one_configuration(tmp_path: Path) -> None:
    """The whole, and every problem with its own file; the error is named after the folder."""
    (tmp_path / "a.yaml").write_text(tcp("one"))
    (tmp_path / "b.toml").write_text("[checks.two]\ntype = 'tcp'\naddress = 'h:1'\n")
    assert list(load_file(str(tmp_path)).config.checks) == ["one", "two"]
    (tmp_path / "c.json").write_text('{"checks": {"one": 5}}')
    with pytest.raises(ConfigInvalidError) as caught:
        load_file(str(tmp_path))
    assert str(caught.value).startswith(f"{tmp_path} has 1 problem:")
    assert caught.value.problems == (
        f"{tmp_path}/c.json:1:13: checks.one: this name is already there, in {tmp_path}/a.yaml:1",
    )


def test_folders_that_cannot_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty, too many files, too large together: one sentence and a cure."""
    with pytest.raises(ConfigUnreadableError, match="holds no file that ends in"):
        read_path(str(tmp_path))
    for name in ("a.yaml", "b.yaml", "c.yaml"):
        (tmp_path / name).write_text("#" * 100)
    monkeypatch.setattr(folder, "FOLDER_LIMIT", 250)
    with pytest.raises(ConfigUnreadableError, match="larger than"):
        read_path(str(tmp_path))
    monkeypatch.setattr(folder, "FILE_LIMIT", 2)
    with pytest.raises(ConfigUnreadableError, match="more than 2 files"):
        read_path(str(tmp_path))


def test_a_folder_is_not_read_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F2: a file that changes while the others are read makes the look begin anew; forever is not waited for."""
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(f"# {name} 1")
    real, writes = folder.read_file, 0

    def slow(path: str) -> folder.Fragment:
        nonlocal writes
        found = real(path)
        if path.endswith("a.yaml") and writes < until:
            writes += 1
            for name in ("a.yaml", "b.yaml"):
                (tmp_path / name).write_text(f"# {name} " + "2" * (writes + 1))
        return found

    monkeypatch.setattr(folder, "read_file", slow)
    until = 2
    assert [each.content for each in read_path(str(tmp_path))] == [b"# a.yaml 222", b"# b.yaml 222"]
    until = 1000
    with pytest.raises(ConfigUnreadableError, match="changes faster than it can be read"):
        read_path(str(tmp_path))


def test_fingerprints_tell_changes(tmp_path: Path) -> None:
    """Content, a new file, one that is gone, one that was replaced, another mode of the same file; nothing else."""

    def write(name: str, text: str) -> None:
        (tmp_path / name).write_text(text)
        os.utime(tmp_path / name, (1e9, 1e9))

    def look() -> object:
        os.utime(tmp_path, (1e9, 1e9))
        return tuple(
            (name, print_ and (print_[0], *print_[2:])) for name, print_ in fingerprint(str(tmp_path)) or ()
        )

    write("a.yaml", "1")
    seen = [look()]
    assert look() == seen[0]
    (tmp_path / "notes.txt").write_text("")
    assert look() == seen[0]
    for change in (lambda: write("b.yaml", "1"), lambda: write("a.yaml", "22"), (tmp_path / "b.yaml").unlink):
        change()
        assert look() not in seen
        seen.append(look())
    assert fingerprint(str(tmp_path / "none")) is None


def spec(path: Path, **fields: object) -> FileSourceSpec:
    return FileSourceSpec(path=str(path), **{"interval": 0.01, **fields})  # type: ignore[arg-type]


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other at once."""
    monkeypatch.setattr(changes, "GAP", 0.005)


@BOTH
@pytest.mark.asyncio
async def test_changes_of_a_folder_are_noticed(tmp_path: Path, telling: bool, quick: None) -> None:
    """A new file, a changed one, one that is gone, and one that was renamed into its place."""
    place = tmp_path / "conf.d"
    place.mkdir()
    (place / "a.yaml").write_text("# 1")
    files = Files(spec(place, watch=telling))
    try:
        assert [each.content for each in (await files.fetch()).fragments] == [b"# 1"]
        (tmp_path / "new").write_text("# 3")
        steps: tuple[tuple[Callable[[], object], list[bytes]], ...] = (
            (lambda: (place / "b.yaml").write_text("# 2"), [b"# 1", b"# 2"]),
            (lambda: (tmp_path / "new").rename(place / "a.yaml"), [b"# 3", b"# 2"]),
            ((place / "b.yaml").unlink, [b"# 3"]),
        )
        for step, contents in steps:
            step()
            async with asyncio.timeout(15):
                assert [each.content for each in (await files.watch()).fragments] == contents
    finally:
        await files.close()


@pytest.mark.asyncio
async def test_what_is_missing(tmp_path: Path, quick: None) -> None:
    """An error, unless that is allowed; then it is nothing, until it is there."""
    place = tmp_path / "conf.d"
    with pytest.raises(SourceError, match="there is no file"):
        await Files(spec(place)).fetch()
    files = Files(spec(place, allow_missing=True, watch=False))
    assert (await files.fetch()).fragments == ()
    place.mkdir()
    (place / "a.yaml").write_text("# 1")
    async with asyncio.timeout(5):
        assert len((await files.watch()).fragments) == 1
    (place / "a.yaml").unlink()
    async with asyncio.timeout(5):
        assert (await files.watch()).fragments == ()
    place.rmdir()
    with pytest.raises(SourceError):
        await Files(spec(place)).fetch()


@pytest.mark.asyncio
async def test_a_link_that_is_moved(tmp_path: Path, quick: None) -> None:
    """As Kubernetes mounts a ConfigMap: the files are links through a folder that is exchanged by one rename."""
    for version in ("1", "2"):
        (tmp_path / f"v{version}").mkdir()
        (tmp_path / f"v{version}" / "a.yaml").write_text(f"# {version}")
    (tmp_path / "..data").symlink_to("v1")
    (tmp_path / "a.yaml").symlink_to("..data/a.yaml")
    files = Files(spec(tmp_path, watch=False))
    assert (await files.fetch()).fragments[0].content == b"# 1"
    (tmp_path / "..new").symlink_to("v2")
    (tmp_path / "..new").rename(tmp_path / "..data")
    async with asyncio.timeout(5):
        assert (await files.watch()).fragments[0].content == b"# 2"


class Storm:
    """Changes a file so many times, as fast as the machine can, in a thread; the last text is known."""

    def __init__(self, place: Path, changes: int) -> None:
        self.place, self.changes, self.count = place, changes, 0
        self.thread = threading.Thread(target=self.run)

    def run(self) -> None:
        while self.count < self.changes:
            for _ in range(50):
                self.count += 1
                descriptor = os.open(self.place, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
                os.write(descriptor, tcp(f"c{self.count}").encode())
                os.close(descriptor)
            time.sleep(0.001)  # the other thread of this process has to get its turn


@BOTH
@pytest.mark.asyncio
async def test_ten_thousand_changes_a_second(tmp_path: Path, telling: bool) -> None:
    """W3: so many changes cost a few looks; the loop goes on, and what is there in the end is what is taken."""
    place = tmp_path / "a.yaml"
    place.write_text(tcp("c0"))
    source = FileSource(str(place), 0.1, telling=telling)
    await source.load()
    storm = Storm(place, 5000)
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0.005)
            turns += 1

    turning = asyncio.create_task(turn())
    storm.thread.start()
    taken: list[str] = []
    try:
        async with asyncio.timeout(30):
            while taken[-1:] != [f"c{storm.count}"] or storm.thread.is_alive():
                answer = await source.next()
                if isinstance(answer, Loaded):
                    taken += list(answer.config.checks)
    finally:
        storm.thread.join()
        turning.cancel()
        source.close()
    assert len(taken) < storm.count / 50
    assert turns > 0


@pytest.mark.asyncio
async def test_when_the_system_cannot_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None
) -> None:
    """W2: no watch is left (fs.inotify.max_user_watches): it looks instead, and nothing is missed."""
    import watchfiles

    async def refuse(*_paths: str, **_options: object) -> None:
        raise OSError(28, "OS file watch limit reached")
        yield  # type: ignore[unreachable]

    monkeypatch.setattr(watchfiles, "awatch", refuse)
    place = tmp_path / "a.yaml"
    place.write_text("{}")
    source = FileSource(str(place), 0.01, telling=True)
    await source.load()
    await asyncio.sleep(0)
    place.write_text(tcp("x"))
    async with asyncio.timeout(15):
        assert isinstance(await source.next(), Loaded)
    source.close()


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_looks_keep_their_distance() -> None:
    """W3: asked or not, told a thousand times or not."""
    look = Changes(["/nowhere"], 1.0, telling=False)
    clock = asyncio.get_running_loop().time
    times = []
    for turn in range(5):
        if turn == 2:
            look.ask()
        await look.wait()
        times.append(clock())
    assert times == [1.0, 2.0, 2.0, 3.0, 4.0]


@pytest.mark.asyncio
async def test_a_secret_file_is_looked_at(tmp_path: Path, quick: None) -> None:
    """Another secret behind the same reference: the file is loaded again, though it says the same."""
    secret, place = tmp_path / "token", tmp_path / "a.yaml"
    secret.write_text("first-secret")
    place.write_text(f"checks: {{c: {{type: http, url: 'http://h/', bearer_token: '${{file:{secret}}}'}}}}")
    source = FileSource(str(place), 0.01)
    found = await source.load()
    assert isinstance(found, Loaded)
    source.look_after(found.files)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await source.next()
    secret.write_text("second-secret")
    async with asyncio.timeout(5):
        again = await source.next()
    assert isinstance(again, Loaded)
    assert again.config != found.config


@pytest.mark.asyncio
async def test_a_secret_that_changes_before_the_first_look(tmp_path: Path, quick: None) -> None:
    """Between reading and the first look at its file: that one is no less a change than a later one."""
    secret, place = tmp_path / "token", tmp_path / "a.yaml"
    secret.write_text("first-secret")
    place.write_text(f"checks: {{c: {{type: http, url: 'http://h/', bearer_token: '${{file:{secret}}}'}}}}")
    source = FileSource(str(place), 0.01)
    found = await source.load()
    assert isinstance(found, Loaded)
    await asyncio.sleep(0.05)  # more than a tick of the file system's clock
    secret.write_text("second-secret")
    source.look_after(found.files)
    async with asyncio.timeout(5):
        again = await source.next()
    assert isinstance(again, Loaded)
    assert again.config != found.config


@pytest.mark.parametrize("jump", [-3600.0, 3600.0, 4e9])
@pytest.mark.asyncio
async def test_a_clock_that_jumps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quick: None, jump: float
) -> None:
    """Changes are noticed whatever the wall clock says; one that jumps is no change."""
    place = tmp_path / "a.yaml"
    place.write_text("{}")
    source = FileSource(str(place), 0.01)
    await source.load()
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + int(jump * 1e9))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await source.next()
    place.write_text(tcp("x"))
    async with asyncio.timeout(5):
        assert isinstance(await source.next(), Loaded)
