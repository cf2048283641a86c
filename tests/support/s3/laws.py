"""What every store owes, as a table of claims: the suite runs it on folders and on moto, e2e on real servers.

A law gets a store that holds nothing, a function that opens the same store again (another publisher), and a folder.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ferryman_release.errors import ConflictError, StoreError
from ferryman_release.store.base import Outcome, Store
from support.s3.stores import create, digest, job, replace

Again = Callable[[], Store]
Law = Callable[[Store, Again, Path], None]

ARTIFACT = "artifacts/lantern/1.0/lantern-1.0-linux-amd64"
POINTER = "metadata/timestamp.json"
LAWS: dict[str, Law] = {}
RACES: dict[str, Law] = {}
ROUNDS, RACERS = 20, 6


def law(function: Law) -> Law:
    LAWS[function.__name__] = function
    return function


def race(function: Law) -> Law:
    RACES[function.__name__] = function
    return function


@law
def what_is_created_is_read(store: Store, _again: Again, _folder: Path) -> None:
    """get and head say what create was given; nothing is there before."""
    assert store.get(ARTIFACT) is None
    assert store.head(ARTIFACT) is None

    assert create(store, ARTIFACT, b"first") is Outcome.CREATED

    found = store.get(ARTIFACT)
    entry = store.head(ARTIFACT)
    assert found is not None
    assert entry is not None
    assert (found[0], entry.size, entry.key) == (b"first", 5, ARTIFACT)
    assert found[1] == entry.etag
    assert not set(entry.etag) & {'"', " "}
    assert entry.modified > 1_700_000_000


@law
def the_same_bytes_again_are_no_conflict(store: Store, again: Again, _folder: Path) -> None:
    """A second create of the same bytes is EXISTED, from whichever publisher."""
    create(store, ARTIFACT, b"first")

    assert create(store, ARTIFACT, b"first") is Outcome.EXISTED
    store.close()
    with again() as other:
        assert create(other, ARTIFACT, b"first") is Outcome.EXISTED


@law
def other_bytes_are_a_conflict_that_names_both(store: Store, _again: Again, _folder: Path) -> None:
    """create never overwrites, and says both digests."""
    create(store, ARTIFACT, b"first")

    for later in (b"other", b"of another size"):
        with pytest.raises(ConflictError) as caught:
            create(store, ARTIFACT, later)
        assert digest(b"first") in str(caught.value)
        assert digest(later) in str(caught.value)
        assert "new version" in caught.value.advice
    assert (found := store.get(ARTIFACT)) is not None
    assert found[0] == b"first"


@law
def bytes_without_their_digest_are_refused(store: Store, _again: Again, folder: Path) -> None:
    """A file that changed since its digest was taken is not published, be it small or large."""
    for size in (10, 20 << 20):
        changed = folder / f"changed-{size}"
        changed.write_bytes(bytes(size))
        with pytest.raises(StoreError, match="has changed since") as caught:
            create(store, ARTIFACT, changed, sha256="0" * 64)
        assert "dist/" in caught.value.advice
        assert store.head(ARTIFACT) is None
    with pytest.raises(StoreError, match="has changed since"):
        create(store, ARTIFACT, b"data", sha256="0" * 64)
    assert list(store.list()) == []


@law
def a_missing_file_is_said(store: Store, _again: Again, folder: Path) -> None:
    """A file that is gone has a sentence; nothing is made."""
    with pytest.raises(StoreError, match="cannot be read") as caught:
        store.create(ARTIFACT, folder / "gone", job("a", b"").headers, sha256="0" * 64)
    assert "Build again" in caught.value.advice
    assert list(store.list()) == []


@law
def files_and_bytes_and_nothing(store: Store, _again: Again, folder: Path) -> None:
    """A file, bytes, no bytes at all and something of several parts arrive as they are."""
    large = folder / "large"
    large.write_bytes(b"".join(bytes([index]) * (1 << 20) for index in range(20)) + b"end")
    sources = {"artifacts/a/file": large, "artifacts/a/empty": b"", "artifacts/a/one": b"\0"}
    for key, source in sources.items():
        assert create(store, key, source) is Outcome.CREATED
        assert create(store, key, source) is Outcome.EXISTED
        found = store.get(key)
        assert found is not None
        assert digest(found[0]) == job(key, source).sha256


@law
def replace_needs_the_tag_that_is_there(store: Store, _again: Again, _folder: Path) -> None:
    """With the right tag it writes, with a stale one it says that somebody else was there."""
    first = replace(store, POINTER, b"1", None)
    second = replace(store, POINTER, b"2", first)

    assert first != second
    assert store.get(POINTER) == (b"2", second)
    with pytest.raises(ConflictError, match="somebody else") as caught:
        replace(store, POINTER, b"3", first)
    assert "run the same command again" in caught.value.advice
    assert store.get(POINTER) == (b"2", second)


@law
def replace_of_nothing_needs_nothing(store: Store, _again: Again, _folder: Path) -> None:
    """None means that there must be none; a tag means that there must be one."""
    replace(store, POINTER, b"1", None)

    with pytest.raises(ConflictError):
        replace(store, POINTER, b"2", None)
    with pytest.raises(ConflictError):
        replace(store, "metadata/other.json", b"2", "0" * 32)
    assert store.get("metadata/other.json") is None


@law
def replace_that_has_happened_is_a_success(store: Store, _again: Again, _folder: Path) -> None:
    """Whoever lost an answer asks again with the old tag and the same bytes, and is told yes."""
    first = replace(store, POINTER, b"1", None)
    second = replace(store, POINTER, b"2", first)

    assert replace(store, POINTER, b"2", first) == second
    assert replace(store, POINTER, b"2", None) == second


@law
def put_writes_whatever_was_there(store: Store, _again: Again, _folder: Path) -> None:
    """put asks nothing."""
    for text in (b"one", b"two"):
        store.put("index.html", text, job("index.html", b"").headers)
        assert (found := store.get("index.html")) is not None
        assert found[0] == text


@law
def list_is_by_prefix_in_order(store: Store, _again: Again, _folder: Path) -> None:
    """A prefix is of letters and not of folders; keys come in the order of their bytes; hidden names never."""
    keys = ["a-b", "a/b", "a/bc/d", "b", "index.html"]
    for key in reversed(keys):
        create(store, key, key.encode())

    assert [entry.key for entry in store.list()] == sorted(keys)
    assert [entry.key for entry in store.list("a/b")] == ["a/b", "a/bc/d"]
    assert [entry.key for entry in store.list("a/")] == ["a/b", "a/bc/d"]
    assert [entry.key for entry in store.list("a")] == ["a-b", "a/b", "a/bc/d"]
    assert [entry.size for entry in store.list("a/bc")] == [6]
    assert list(store.list("c")) == []


@law
def delete_takes_away_once_and_for_all(store: Store, _again: Again, _folder: Path) -> None:
    """What is deleted is gone, its neighbour is not; what is not there can be deleted."""
    create(store, "a/b/c", b"1")
    create(store, "a/d", b"2")

    for _ in range(2):
        store.delete("a/b/c")
        assert [entry.key for entry in store.list()] == ["a/d"]
    assert create(store, "a/b/c", b"3") is Outcome.CREATED


@law
def many_are_created_and_counted(store: Store, _again: Again, folder: Path) -> None:
    """create_many answers for each key; what is reported adds up to the bytes, the second time as well."""
    large = folder / "large"
    large.write_bytes(bytes(17 << 20))
    jobs = [job(f"artifacts/n/1/{number}", bytes([number]) * 1000 * number) for number in range(12)]
    jobs.append(job("artifacts/n/1/large", large))
    for expected in (Outcome.CREATED, Outcome.EXISTED):
        seen: dict[str, int] = {}
        lock = threading.Lock()

        def progress(key: str, more: int, seen: dict[str, int] = seen, lock: Any = lock) -> None:
            with lock:
                seen[key] = seen.get(key, 0) + more

        outcomes = store.create_many(jobs, progress=progress)
        assert outcomes == {one.key: expected for one in jobs}
        assert {key: size for key, size in seen.items() if size} == {
            one.key: one.size for one in jobs if one.size
        }
    assert store.create_many([]) == {}


@law
def the_first_failure_ends_many(store: Store, _again: Again, _folder: Path) -> None:
    """One conflict among many is raised; what was made stays and is EXISTED when the rest is published."""
    create(store, "artifacts/n/1/07", b"other")
    jobs = [job(f"artifacts/n/1/{number:02}", b"x") for number in range(60)]

    with pytest.raises(ConflictError, match="artifacts/n/1/07"):
        store.create_many(jobs)
    outcomes = store.create_many([one for one in jobs if not one.key.endswith("07")])

    assert set(outcomes.values()) == {Outcome.CREATED, Outcome.EXISTED}
    assert len(list(store.list())) == len(jobs)


@law
def names_cannot_lead_out(store: Store, _again: Again, _folder: Path) -> None:
    """A key that is none of ours is refused by every method, before anything is asked."""
    for key in ("../x", "a/../x", "/x", "a//b", "", "a/", ".hidden", "a/.b", "a\\b", "a b", "ä", "x" * 901):
        for method in (store.get, store.head, store.delete):
            with pytest.raises(StoreError, match="cannot be the name") as caught:
                method(key)
            assert "rename" in caught.value.advice
        with pytest.raises(StoreError, match="cannot be the name"):
            create(store, key, b"")
        with pytest.raises(StoreError, match="cannot be the name"):
            replace(store, key, b"", None)


@law
def the_store_says_what_it_keeps(store: Store, _again: Again, _folder: Path) -> None:
    """What a store can do is told in rows for people, and is the same when it is asked anew."""
    able = store.capabilities()

    assert dict(able.rows())["publishers exclude each other by"] in ("conditions", "a lease")
    again = store.capabilities(refresh=True)
    assert again.rows() == able.rows()
    assert list(store.list()) == []


@race
def one_of_many_creates(store: Store, again: Again, folder: Path) -> None:
    """Publishers that create one key with different bytes: one has made it, the others are told so."""
    racers = _racers(again)
    for round_ in range(ROUNDS):
        key = f"artifacts/n/{round_}/file"
        outcomes = _all_at_once(racers, lambda other, who, key=key: create(other, key, b"%d" % who))
        won = [who for who, outcome in enumerate(outcomes) if outcome is Outcome.CREATED]
        assert len(won) == 1, outcomes
        assert sum(isinstance(one, ConflictError) for one in outcomes) == RACERS - 1, outcomes
        assert (found := store.get(key)) is not None
        assert found[0] == b"%d" % won[0]
    _close(racers)


@race
def one_of_many_replaces(store: Store, again: Again, folder: Path) -> None:
    """Publishers that replace what all of them have read: one has done it, the others are told so."""
    racers = _racers(again)
    tag = replace(store, POINTER, b"begin", None)
    for round_ in range(ROUNDS):
        data = f"round {round_} of "
        outcomes = _all_at_once(
            racers,
            lambda other, who, data=data, tag=tag: replace(other, POINTER, f"{data}{who}".encode(), tag),
        )
        won = [who for who, outcome in enumerate(outcomes) if isinstance(outcome, str)]
        assert len(won) == 1, outcomes
        assert sum(isinstance(one, ConflictError) for one in outcomes) == RACERS - 1, outcomes
        found = store.get(POINTER)
        assert found is not None
        assert found[0] == f"{data}{won[0]}".encode()
        tag = found[1]
    _close(racers)


def _racers(again: Again) -> list[Store]:
    """Publishers that have met the store before, so that a race is about the request."""
    stores = [again() for _ in range(RACERS)]
    for one in stores:
        one.head("warm")
    return stores


def _all_at_once(racers: list[Store], act: Callable[..., Any]) -> list[Any]:
    """What each of the racers got, which may be an exception."""
    gate = threading.Barrier(len(racers))

    def run(who: int) -> Any:
        gate.wait()
        try:
            return act(racers[who], who)
        except (ConflictError, StoreError) as error:
            return error

    with ThreadPoolExecutor(len(racers)) as pool:
        return list(pool.map(run, range(len(racers))))


def _close(racers: list[Store]) -> None:
    for one in racers:
        one.close()
