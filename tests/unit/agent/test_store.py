"""Where the configuration comes from, which one is in force, and what is kept of it."""

# ruff: noqa: ASYNC240 - nobody else waits for the loop of a test

from __future__ import annotations

import asyncio
import json
import os
import weakref
from pathlib import Path

import pytest

from watchkeeper.config import store as store_module
from watchkeeper.config.folder import Fingerprint, fingerprint
from watchkeeper.config.load import Loaded, parse
from watchkeeper.config.snapshot import Key, Kind, Snapshot, changed_keys, make_snapshot
from watchkeeper.config.source import FileSource
from watchkeeper.config.store import Store
from watchkeeper.errors import AgentError, ConfigInvalidError, ConfigUnreadableError, StateError

ONE = "services: {a: {command: [x]}}\n"


def loaded(text: str, name: str = "f.yaml") -> Loaded:
    return parse(text.encode(), file=name)


def snapshot(text: str) -> Snapshot:
    return make_snapshot(loaded(text).config, 1, "")


@pytest.mark.parametrize(
    ("old", "new", "changed"),
    [
        ("{}", ONE, {"service/a"}),
        (ONE, "{}", {"service/a"}),
        (ONE, ONE + "# a comment\n", set()),
        (ONE, "services: {a: {command: [x], stop_grace: 10s, checks: {}}}", set()),
        (ONE, "services: {a: {command: [x], stop_grace: 9}}", {"service/a"}),
        (ONE, "services: {a: {command: [x], checks: {c: {type: tcp, address: 'x:1'}}}}", {"check/a/c"}),
        (
            "services: {a: {command: [x], checks: {c: {type: tcp, address: 'x:1'}}}}",
            "services: {a: {command: [y], checks: {c: {type: tcp, address: 'x:1'}}}}",
            {"service/a"},
        ),
        ("checks: {c: {type: tcp, address: 'x:1'}}", "checks: {c: {type: tcp, address: 'x:2'}}", {"check/c"}),
    ],
)
def test_changed_keys(old: str, new: str, changed: set[str]) -> None:
    """Only what means something else is named; a check is not its service."""
    assert {str(key) for key in changed_keys(snapshot(old), snapshot(new))} == changed


def test_the_snapshot_is_replaced_and_not_changed() -> None:
    """Who holds the old one keeps seeing one state; the same content again changes nothing."""
    store = Store()
    assert Key(Kind.SERVICE, "a") in store.apply(loaded(ONE))
    before = store.snapshot
    assert store.apply(loaded(ONE)) == []
    assert store.snapshot is before
    store.apply(loaded("{}"))
    assert (before.generation, list(before.services)) == (1, ["a"])
    assert (store.snapshot.generation, list(store.snapshot.services)) == (2, [])
    with pytest.raises(TypeError):
        before.services["b"] = before.services["a"]  # type: ignore[index]


def test_a_refused_configuration_is_only_noted() -> None:
    """The last good one stays; the next good one clears the error."""
    store = Store()
    store.apply(loaded(ONE))
    error = ConfigInvalidError("f", ("f:1:1: x",))
    store.refuse(error)
    assert (store.last_error, store.snapshot.generation) == (error, 1)
    store.apply(loaded(ONE))
    assert store.last_error is None


def test_of_a_refused_configuration_its_words_are_kept() -> None:
    """And nothing that the frames held in which it was found to be wrong."""
    store, held = Store(), None

    class Held:
        """Something large."""

    def found_wrong() -> None:
        nonlocal held
        large = Held()
        held = weakref.ref(large)
        try:
            raise ValueError(large)
        except ValueError as cause:
            raise ConfigInvalidError("f", ("f:1:1: x",)) from cause

    try:
        found_wrong()
    except ConfigInvalidError as error:
        store.refuse(error)
    assert str(store.last_error) == "f has 1 problem:\nf:1:1: x"
    assert held is not None
    assert held() is None, "without a collection of garbage"


def test_the_copy_on_disk(tmp_path: Path) -> None:
    """It is written whole, readable by its owner alone, replaced by the next, and read back."""
    store = Store(str(tmp_path / "state"))
    store.prepare()
    assert store.last_good("f.yaml") is None
    store.save(loaded(ONE))
    [file] = (tmp_path / "state").glob(
        "last*"
    )  # Windows has a file beside it that says whose the directory is
    assert (file.name, file.stat().st_mode & 0o777) == ("last-good.json", 0o600)
    assert json.loads(file.read_text())["documents"] == [
        {"name": "f.yaml", "suffix": ".yaml", "content": ONE}
    ]
    store.save(loaded("[services.b]\ncommand = ['x']\n", "f.toml"))
    assert [file.name for file in (tmp_path / "state").iterdir()] == ["last-good.json"]
    again = Store(str(tmp_path / "state"))
    found = again.last_good(str(Path("f.toml").absolute()))
    assert found is not None
    assert list(found.config.services) == ["b"]
    assert again.last_good("etc/../f.toml") is not None
    assert again.last_good("f.yaml") is None, "what another file said"


def test_two_agents_do_not_share_a_state_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each would end the other's services, as left by an agent that was killed."""
    monkeypatch.setattr(store_module, "CLAIM_LIMIT", 0.1)
    Store(str(tmp_path / "state")).prepare()
    with pytest.raises(StateError, match="another agent uses the state directory"):
        Store(str(tmp_path / "state")).prepare()
    Store(str(tmp_path / "other")).prepare()


def test_a_damaged_copy_is_none(tmp_path: Path) -> None:
    """Half a file is not a configuration, nor is one that somebody has changed by hand."""
    store = Store(str(tmp_path))
    store.save(loaded(ONE))
    whole = (tmp_path / "last-good.json").read_bytes()
    for damaged in (b"", whole[:-20], whole.replace(b"command", b"kommand"), b"\xff", b"[]"):
        (tmp_path / "last-good.json").write_bytes(damaged)
        assert store.last_good("f.yaml") is None
    (tmp_path / "last-good.json").write_bytes(whole)
    assert store.last_good("f.yaml") is not None


def test_a_copy_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk: a sentence, and the earlier copy is still there."""
    store = Store(str(tmp_path))
    store.save(loaded(ONE))

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StateError, match="No space left on device"):
        store.save(loaded("{}"))
    found = store.last_good("f.yaml")
    assert found is not None
    assert list(found.config.services) == ["a"]


async def answer(source: FileSource, within: float = 5.0) -> Loaded | AgentError | None:
    """What the source says next, or None when it has nothing to say for so many looks."""
    try:
        async with asyncio.timeout(within):
            return await source.next()
    except TimeoutError:
        return None


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A configuration whose time of change is long ago."""
    path = tmp_path / "f.yaml"
    write(path, ONE)
    return path


def write(path: Path, text: str, age: float = 100.0) -> None:
    """As an editor does it: beside, and renamed."""
    partial = path.with_suffix(".new")
    partial.write_text(text)
    when = partial.stat().st_mtime - age
    os.utime(partial, (when, when))
    partial.replace(path)


@pytest.mark.asyncio
async def test_a_file_is_read_when_its_content_differs(file: Path) -> None:
    """Not when it was only touched, nor when it was replaced by the same."""
    source = FileSource(str(file), 0.001)
    assert isinstance(await source.load(), Loaded)
    assert await answer(source, 0.05) is None
    os.utime(file)
    write(file, ONE)
    assert await answer(source, 0.05) is None
    write(file, "{}")
    found = await answer(source)
    assert isinstance(found, Loaded)
    assert found.fragments[0].content == b"{}"


@pytest.mark.asyncio
async def test_two_writes_within_one_tick(file: Path) -> None:
    """Same size, same inode, same time of change, seconds ago at most: the content is looked into all the same."""
    source = FileSource(str(file), 0.001)
    write(file, "{} ", age=0.0)
    before = file.stat()
    await source.load()
    file.write_text("{}\n")
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    found = await answer(source)
    assert isinstance(found, Loaded)
    assert found.fragments[0].content == b"{}\n"


@pytest.mark.asyncio
async def test_a_file_that_is_gone_is_reported_once(file: Path) -> None:
    """And taken again when it is back."""
    source = FileSource(str(file), 0.001)
    await source.load()
    file.unlink()
    assert isinstance(await answer(source), ConfigUnreadableError)
    assert await answer(source, 0.05) is None
    write(file, "{}")
    assert isinstance(await answer(source), Loaded)


@pytest.mark.asyncio
async def test_a_file_that_is_being_replaced_is_not_missing(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some editors remove the old file a moment before the new one is there: one look without it says nothing."""
    source = FileSource(str(file), 0.001)
    await source.load()
    write(file, "{}")
    looks = [None, fingerprint(str(file))]
    text = file.read_text()
    file.unlink()

    def look(_path: str) -> Fingerprint | None:
        if len(looks) == 1:
            write(file, text)
        return looks.pop(0)

    monkeypatch.setattr("watchkeeper.config.source.fingerprint", look)
    assert isinstance(await answer(source), Loaded)


@pytest.mark.asyncio
async def test_a_wrong_file_is_reported_once(file: Path) -> None:
    """Not at every look."""
    source = FileSource(str(file), 0.001)
    await source.load()
    write(file, "services: 5\n")
    assert isinstance(await answer(source), ConfigInvalidError)
    assert await answer(source, 0.05) is None


@pytest.mark.asyncio
async def test_asking_always_gets_an_answer(file: Path) -> None:
    """SIGHUP is answered at once, also when nothing has changed, also while the interval is long."""
    source = FileSource(str(file), 3600.0)
    await source.load()
    source.ask()
    assert isinstance(await answer(source), Loaded)
