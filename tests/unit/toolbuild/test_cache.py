"""cache: keyed by content and nothing else, whole or not there at all, swept without touching what is needed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ferryman_build import cache as cache_module
from ferryman_build.cache import Blobs, Cache, Result, digest, file_digest, tree_digest

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)


def reordered(value: object) -> object:
    if isinstance(value, dict):
        return {key: reordered(item) for key, item in reversed(value.items())}
    return [reordered(item) for item in value] if isinstance(value, list) else value


@given(JSON)
def test_digest_knows_no_order_of_keys(value: object) -> None:
    """A mapping is its pairs, at every depth."""
    assert digest(value) == digest(reordered(value))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": 1}, {"a": 2}),
        ({"a": 1}, {"b": 1}),
        (["a", "b"], ["b", "a"]),
        (["ab"], ["a", "b"]),
        ("1", 1),
        (None, ""),
        ({}, []),
    ],
)
def test_digest_sees_content(one: object, other: object) -> None:
    """Values, types and the order of lists count."""
    assert digest(one) != digest(other)


def test_file_digest(tmp_path: Path) -> None:
    """It is the SHA-256 that sha256sum prints."""
    (tmp_path / "f").write_bytes(b"abc")

    assert file_digest(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


# --- tree_digest ------------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "tree"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "b").write_text("bee")
    (root / "a").write_text("ay")
    (root / "link").symlink_to("a")
    return root


def retarget(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").symlink_to("sub/b")


def materialise(root: Path) -> None:
    (root / "link").unlink()
    (root / "link").write_text("a")


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda root: (root / "sub" / "b").write_text("boo"),
    "name": lambda root: (root / "a").rename(root / "c"),
    "folder's name": lambda root: (root / "sub").rename(root / "sup"),
    "executable bit": lambda root: (root / "a").chmod(0o755),
    "link target": retarget,
    "a file where a link was": materialise,
    "one file more": lambda root: (root / "sub" / "empty").touch(),
    "one file less": lambda root: (root / "a").unlink(),
}
NO_CHANGES: dict[str, Callable[[Path], object]] = {
    "time": lambda root: [os.utime(path, (1, 1)) for path in (root, root / "a", root / "sub")],
    "mode without the executable bit": lambda root: (root / "a").chmod(0o600),
    "an empty folder": lambda root: (root / "empty").mkdir(),
    "same bytes written again": lambda root: (root / "a").write_text("ay"),
    "place": lambda root: root.rename(root.parent / "other").rename(root),
}


@pytest.mark.parametrize("change", CHANGES)
def test_tree_digest_sees(folder: Path, change: str) -> None:
    """What a program would see of a folder changes the digest."""
    before = tree_digest(folder)
    CHANGES[change](folder)

    assert tree_digest(folder) != before


@pytest.mark.parametrize("change", NO_CHANGES)
def test_tree_digest_does_not_see(folder: Path, change: str) -> None:
    """Times and places are no content."""
    before = tree_digest(folder)
    NO_CHANGES[change](folder)

    assert tree_digest(folder) == before


def test_tree_digest_of_chosen_paths(folder: Path) -> None:
    """Only the given paths count, in whatever order they come."""
    paths = [folder / "a", folder / "sub" / "b"]
    before = tree_digest(folder, paths)
    (folder / "other").touch()

    assert tree_digest(folder, reversed(paths)) == before
    assert tree_digest(folder) != before


def test_tree_digest_of_links_and_odd_names(folder: Path) -> None:
    """A dangling link and a name that is no text are content like any other."""
    (folder / "dangling").symlink_to("/nowhere")
    before = tree_digest(folder)
    try:
        (folder / os.fsdecode(b"odd-\xff")).touch()
    except OSError:
        pytest.skip("this file system takes only text for names")

    assert tree_digest(folder) != before


# --- results ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "cache")


def entries(cache: Cache) -> list[str]:
    return sorted(path.relative_to(cache.root).as_posix() for path in cache.root.glob("*/*"))


def fill(into: Path) -> str:
    (into / "product").write_text("made")
    return "a note"


def ticking() -> Callable[[], float]:
    times = iter((100.0, 101.23456))
    return lambda: next(times)


def test_make_and_find(cache: Cache) -> None:
    """What was made is found, by another run too, with the digest of its content, its time and its note."""
    key = digest("k")
    assert cache.find("step", key) is None

    folder, result = cache.make("step", key, fill, clock=ticking())

    assert (folder / "product").read_text() == "made"
    assert (result.seconds, result.note) == (1.235, "a note")
    assert Cache(cache.root).find("step", key) == (folder, result)
    assert cache.find("other", key) is None
    assert folder.stat().st_mode & 0o777 == 0o755


def test_result_digest_is_of_the_product_alone(cache: Cache) -> None:
    """Steps that make the same bytes have the same digest, however long they took: later keys stay the same."""
    one = cache.make("step", digest(1), fill, clock=ticking())[1]
    other = cache.make("step", digest(2), fill, clock=lambda: 0.0)[1]

    assert one.digest == other.digest
    assert one.seconds != other.seconds


def test_half_a_result_is_never_visible(cache: Cache) -> None:
    """While a result is made nothing is under its final name."""
    key = digest("k")

    def look(into: Path) -> str:
        (into / "half").touch()
        assert into != cache.path("step", key)
        assert cache.find("step", key) is None
        assert not cache.path("step", key).exists()
        return ""

    cache.make("step", key, look, clock=lambda: 0.0)
    assert cache.find("step", key) is not None


@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt, SystemExit])
def test_failure_leaves_nothing(cache: Cache, error: type[BaseException]) -> None:
    """Whatever goes wrong, the exception passes and the folder is gone."""

    def fail(into: Path) -> str:
        (into / "half").touch()
        raise error

    with pytest.raises(error):
        cache.make("step", digest("k"), fail, clock=lambda: 0.0)

    assert entries(cache) == []


def test_made_again(cache: Cache) -> None:
    """A result that is made once more takes the place of the old one."""
    key = digest("k")
    cache.make("step", key, lambda into: (into / "old").touch() or "old", clock=lambda: 0.0)
    folder, _ = cache.make("step", key, fill, clock=lambda: 0.0)

    assert sorted(path.name for path in folder.iterdir()) == ["product", "result.json"]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"digest": 3}', b"\xff", b'{"digest":"x"}'])
def test_damaged_result_counts_as_none(cache: Cache, damage: bytes) -> None:
    """Half a file of a machine that lost its power is removed and made again."""
    folder, _ = cache.make("step", digest("k"), fill, clock=lambda: 0.0)
    (folder / "result.json").write_bytes(damage)

    assert cache.find("step", digest("k")) is None
    assert not folder.exists()


# --- sweep ------------------------------------------------------------------------------------------------------------


def make_many(cache: Cache, count: int) -> list[Path]:
    """Results of one step, the last one used last."""
    folders = [cache.make("step", digest(number), fill, clock=lambda: 0.0)[0] for number in range(count)]
    for number, folder in enumerate(folders):
        os.utime(folder, (number, number))
    return folders


def test_sweep_keeps_the_newest(cache: Cache) -> None:
    """All but the last few results of a step go, those that this run has used stay whatever their age."""
    folders = make_many(cache, cache_module._KEPT_PER_STEP + 3)
    later = Cache(cache.root)
    later.used.add(folders[1])

    assert later.sweep() == 2
    assert [folder for folder in folders if not folder.exists()] == [folders[0], folders[2]]
    assert later.sweep() == 0


def test_finding_counts_as_use(cache: Cache) -> None:
    """A result that is found again is the newest one for later runs."""
    folders = make_many(cache, cache_module._KEPT_PER_STEP + 1)
    assert Cache(cache.root).find("step", digest(0))

    Cache(cache.root).sweep()

    assert [folder for folder in folders if not folder.exists()] == [folders[1]]


def test_sweep_spares_what_this_run_made(cache: Cache) -> None:
    """More targets than places: nothing that a running build has made is taken away."""
    folders = make_many(cache, cache_module._KEPT_PER_STEP + 3)

    assert cache.sweep() == 0
    assert all(folder.exists() for folder in folders)


def test_sweep_removes_drafts(cache: Cache) -> None:
    """What a killed run left goes."""
    folder, _ = cache.make("step", digest("k"), fill, clock=lambda: 0.0)
    draft = folder.parent / ".draft-abc"
    (draft / "deep").mkdir(parents=True)
    (draft / "deep" / "file").touch()

    assert Cache(cache.root).sweep() == 1
    assert entries(cache) == [f"step/{folder.name}"]


def test_sweep_leaves_what_is_no_result(cache: Cache) -> None:
    """Blobs and the index's answers live under the same root and are not results of a step."""
    blobs = Blobs(cache.root / "blobs")
    paths = [blobs.put(digest(number), b"x") for number in range(50)]
    (cache.root / "index").mkdir()
    answers = [cache.root / "index" / f"lock-{number}.json" for number in range(20)]
    for answer in answers:
        answer.touch()

    assert cache.sweep() == 0
    assert all(path.exists() for path in (*paths, *answers))


def test_sweep_of_nothing(cache: Cache) -> None:
    """A cache that was never used is swept all the same."""
    assert cache.sweep() == 0


# --- blobs ------------------------------------------------------------------------------------------------------------


def test_blobs(tmp_path: Path) -> None:
    """What is put is there, readable by all and not executable; keys that are missing keep their order."""
    blobs = Blobs(tmp_path)
    keys = [digest(number) for number in (1, 2, 3)]
    old = os.umask(0o077)
    try:
        path = blobs.put(keys[1], b"content")
    finally:
        os.umask(old)

    assert (path, path.read_bytes()) == (blobs.path(keys[1]), b"content")
    assert path.stat().st_mode & 0o777 == 0o644
    assert blobs.missing(dict.fromkeys(keys)) == [keys[0], keys[2]]
    assert blobs.put(keys[1], b"again").read_bytes() == b"again"
    assert len(list(tmp_path.rglob("*/*"))) == 1


def test_result_is_a_value() -> None:
    """Two results with the same content are equal."""
    assert Result("d", 1.0) == Result("d", 1.0, "")


def blob(root: Path, number: int, age: float, suffix: str = "") -> Path:
    """A file that was last used ``age`` seconds before :data:`NOW`."""
    path = Blobs(root).put(digest(number), b"x" * 10)
    path = path.rename(path.with_name(path.name + suffix))
    os.utime(path, (NOW - age, NOW - age))
    return path


NOW = time.time()
MONTH = float(cache_module._BLOB_SECONDS)


def test_blobs_go_a_month_after_their_last_use(tmp_path: Path) -> None:
    """Compressed members are blobs too; a use makes young."""
    kept = [blob(tmp_path, 1, MONTH - 1), blob(tmp_path, 2, 0, ".z6")]
    gone = [blob(tmp_path, 3, MONTH + 1), blob(tmp_path, 4, MONTH + 1, ".z6")]
    used = blob(tmp_path, 5, MONTH + 1)

    assert Blobs(tmp_path).find(digest(5)) == used
    assert Blobs(tmp_path).sweep(NOW) == 2
    assert all(path.exists() for path in (*kept, used))
    assert not any(path.exists() for path in gone)


def test_the_oldest_blobs_go_when_they_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the limit the youngest stay."""
    monkeypatch.setattr(cache_module, "_BLOB_BYTES", 25)
    paths = [blob(tmp_path, number, number) for number in range(4)]

    assert Blobs(tmp_path).sweep(NOW) == 2
    assert [path.exists() for path in paths] == [True, True, False, False]


@pytest.mark.parametrize("name", [".draft-abc", "0" * 38 + ".4711.draft", "0" * 38 + ".z6.4711"])
def test_drafts_of_blobs_go(tmp_path: Path, name: str) -> None:
    """What a killed run was writing, in each of the forms in which blobs are written."""
    draft = blob(tmp_path, 1, 0).with_name(name)
    draft.touch()

    assert Blobs(tmp_path).sweep(NOW) == 1
    assert not draft.exists()
