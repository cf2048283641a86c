"""The second way: of two publishers on a store that ignores conditions at most one goes on, and nobody waits for the dead."""

from __future__ import annotations

import contextlib
import functools
import itertools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ferryman_build.settings import Compat
from ferryman_release.errors import ConflictError, StoreError
from ferryman_release.store import fallback
from ferryman_release.store.base import Entry, Outcome
from ferryman_release.store.bucket import BucketStore
from ferryman_release.store.fallback import CLAIMS, Claim, Lease, Terms, is_running, process_name
from support.s3.fake import Bucket, Clock, FakeWire, Lies
from support.s3.stores import URL, create, digest, replace

LYING = Lies(ignores_absent=True, ignores_absent_at_completion=True, ignores_match=True)
TERMS = Terms(seconds=60.0, settle=1.0, tries=3)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bucket(clock: Clock) -> Bucket:
    return Bucket(LYING, clock)


def lease(bucket: Bucket, clock: Clock, terms: Terms = TERMS) -> Lease:
    return Lease(bucket.wire(), "p/", terms, clock=clock, sleep=clock.sleep)


def claims(bucket: Bucket) -> list[str]:
    return [key for key in bucket.objects if key.startswith(f"p/{CLAIMS}")]


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines cannot be told apart, as between two of them."""
    monkeypatch.setattr(fallback, "machine_name", lambda: "")


@pytest.mark.usefixtures("elsewhere")
def test_the_second_publisher_is_refused_and_the_first_goes_on(bucket: Bucket, clock: Clock) -> None:
    """While one holds the lease, another is told who holds it, withdraws its claim and leaves the first alone."""
    first, second = lease(bucket, clock), lease(bucket, clock)
    first.hold()

    with pytest.raises(ConflictError, match=f"process {os.getpid()}") as caught:
        second.hold()

    assert "run the same command again" in caught.value.advice.lower()
    assert len(claims(bucket)) == 1
    first.hold()
    first.release()
    second.hold()
    second.release()
    assert claims(bucket) == []


@pytest.mark.usefixtures("elsewhere")
def test_in_no_order_do_two_go_on() -> None:
    """Two claims, two listings, in every order that keeps each claim before its own listing: never both."""
    steps = [("a", "claim"), ("a", "look"), ("b", "claim"), ("b", "look")]
    orders = [
        order
        for order in itertools.permutations(steps)
        if order.index(steps[0]) < order.index(steps[1]) and order.index(steps[2]) < order.index(steps[3])
    ]
    assert len(orders) == 6

    went_on = [_run_in_order(order) for order in orders]

    assert all(len(who) <= 1 for who in went_on)
    assert {"".join(who) for who in went_on} >= {"a", "b"}


class _Order:
    """Lets the steps of several publishers happen one after the other."""

    def __init__(self, order: tuple[tuple[str, str], ...]) -> None:
        self._order = order
        self._place = 0
        self._turn = threading.Condition()

    def take(self, who: str, what: str, step: Callable[[], Any]) -> Any:
        mine = self._order.index((who, what))
        with self._turn:
            assert self._turn.wait_for(lambda: self._place >= mine, timeout=20)
        try:
            return step()
        finally:
            with self._turn:
                self._place = max(self._place, mine + 1)
                self._turn.notify_all()


class _OrderedWire(FakeWire):
    def __init__(self, bucket: Bucket, order: _Order, who: str) -> None:
        super().__init__(bucket, relaxed=True)
        self._order = order
        self._who = who

    def put(self, *args: Any, **more: Any) -> str:
        step = functools.partial(super().put, *args, **more)
        return str(self._order.take(self._who, "claim", step))

    def list(self, prefix: str) -> Iterator[Entry]:
        found = functools.partial(super().list, prefix)
        yield from self._order.take(self._who, "look", lambda: tuple(found()))


def _run_in_order(steps: tuple[tuple[str, str], ...]) -> list[str]:
    """Who holds the lease when the requests of two publishers come to the store in this order."""
    clock, order = Clock(), _Order(steps)
    bucket = Bucket(LYING, clock)
    once = msgspec.structs.replace(TERMS, tries=1)
    won: list[str] = []

    def publisher(who: str) -> None:
        wire = _OrderedWire(bucket, order, who)
        with contextlib.suppress(ConflictError):
            Lease(wire, "p/", once, clock=clock, sleep=lambda _seconds: None).hold()
            won.append(who)

    threads = [threading.Thread(target=publisher, args=(who,)) for who in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    return won


@pytest.mark.usefixtures("elsewhere")
def test_a_dead_publisher_holds_until_its_lease_ends(bucket: Bucket, clock: Clock) -> None:
    """A claim that nobody renews keeps others out for its seconds, and then no longer; it is cleared away."""
    dead = lease(bucket, clock)
    dead.hold()
    dead._ended.set()  # no renewal: the process is gone

    clock.sleep(50)
    with pytest.raises(ConflictError):
        lease(bucket, clock, msgspec.structs.replace(TERMS, tries=1)).hold()
    clock.sleep(15)
    other = lease(bucket, clock)
    other.hold()

    assert len(claims(bucket)) == 1
    with pytest.raises(ConflictError, match="stood still"):
        dead.hold()
    other.release()


def test_a_dead_process_of_this_machine_holds_nothing(bucket: Bucket, clock: Clock) -> None:
    """Whoever was killed here is not waited for; whoever runs here is."""
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    claim = Claim(
        owner="the other", machine=fallback.machine_name(), process=process_name(child.pid), seconds=60.0
    )
    bucket.wire().put(f"p/{CLAIMS}other.json", msgspec.json.encode(claim), fallback._HEADERS, sha256="")
    with pytest.raises(ConflictError, match="the other"):
        lease(bucket, clock).hold()

    child.communicate(b"\n")
    mine = lease(bucket, clock)
    mine.hold()

    assert len(claims(bucket)) == 1
    mine.release()


def test_a_process_is_known_by_its_start(tmp_path: Path) -> None:
    """This process runs; a number that was given to another process since is not the same one."""
    mine = process_name(os.getpid())

    assert is_running(mine)
    assert not is_running(f"{os.getpid()} 1")
    assert not is_running("")
    assert not is_running("999999999 5")
    assert process_name(999_999_999) == ""


@pytest.mark.usefixtures("elsewhere")
def test_a_renewed_lease_lasts(bucket: Bucket, clock: Clock) -> None:
    """As long as its owner renews it, a lease is held and others stay out."""
    mine = lease(bucket, clock)
    mine.hold()
    for _ in range(10):
        clock.sleep(40)
        mine.renew()
        mine.hold()
        with pytest.raises(ConflictError):
            lease(bucket, clock, msgspec.structs.replace(TERMS, tries=1)).hold()
    mine.release()


@pytest.mark.usefixtures("elsewhere")
def test_a_lease_that_ran_out_is_not_renewed(bucket: Bucket, clock: Clock) -> None:
    """Whoever stood still for longer than the lease stops, also if a renewal comes first."""
    mine = lease(bucket, clock)
    mine.hold()
    clock.sleep(49)
    mine.renew()

    with pytest.raises(ConflictError, match="stood still") as caught:
        mine.hold()
    assert "run the same command again" in caught.value.advice
    mine.release()


@pytest.mark.usefixtures("elsewhere")
def test_two_that_met_come_back(bucket: Bucket, clock: Clock) -> None:
    """A publisher that meets a claim withdraws, waits for a random time and goes on when the other has gone."""
    theirs = f"p/{CLAIMS}other.json"
    bucket.wire().put(theirs, b"unreadable", fallback._HEADERS, sha256="")

    def gone(verb: str, key: str) -> None:
        if verb == "DELETE" and key != theirs:
            bucket.objects.pop(theirs, None)

    bucket.before = gone
    mine = lease(bucket, clock)
    mine.hold()

    assert len(clock.slept) == 3
    assert 0.5 <= clock.slept[1] <= 4
    mine.release()


def test_a_store_that_lists_late_is_refused(clock: Clock) -> None:
    """Where a claim is not listed at once, nobody can be excluded: nothing is published, and no claim stays."""
    bucket = Bucket(Lies(ignores_absent=True, lists_late=True), clock)

    with pytest.raises(StoreError, match="does not list") as caught:
        lease(bucket, clock).hold()

    assert "docs/stores.md" in caught.value.advice
    assert bucket.objects == {}


# -- a whole store that takes the second way ----------------------------------------------------------------------------


def lying_store(bucket: Bucket, folder: Path, terms: Terms | None = None) -> BucketStore:
    return BucketStore(
        url=URL, prefix="p/", endpoint="", compat=Compat.AUTO, connect=bucket.wire,
        kept_in=folder / "kept.json", terms=terms or Terms(settle=0.0, tries=1),
    )  # fmt: skip


def test_create_and_replace_hold_under_a_lease(tmp_path: Path) -> None:
    """On a store that ignores all conditions, what was published is never overwritten and a stale tag is refused."""
    bucket = Bucket(LYING, lambda: 1_790_000_000.0)
    with lying_store(bucket, tmp_path) as store:
        assert store.capabilities().needs_lease
        assert create(store, "a/b", b"first") is Outcome.CREATED
        assert create(store, "a/b", b"first") is Outcome.EXISTED
        with pytest.raises(ConflictError, match=digest(b"first")):
            create(store, "a/b", b"other")
        tag = replace(store, "m/t", b"1", None)
        later = replace(store, "m/t", b"2", tag)
        with pytest.raises(ConflictError, match="somebody else"):
            replace(store, "m/t", b"3", tag)
        assert replace(store, "m/t", b"2", tag) == later
        assert len(claims(bucket)) == 1
    assert claims(bucket) == []


def test_what_somebody_wrote_over_ours_is_noticed(tmp_path: Path) -> None:
    """Everything written under a lease is read back: bytes of a publisher that knows of no lease are a conflict."""
    bucket = Bucket(LYING, lambda: 1_790_000_000.0)
    with lying_store(bucket, tmp_path) as store:
        store.capabilities()

        def intrude(verb: str, key: str) -> None:
            if verb == "HEAD" and key in bucket.objects:
                bucket.objects[key] = (
                    b"theirs",
                    msgspec.structs.replace(bucket.objects[key][1], sha256="ee"),
                )

        bucket.before = intrude
        with pytest.raises(ConflictError, match="ee is there"):
            create(store, "a/b", b"ours")


def test_of_two_stores_at_once_one_publishes(tmp_path: Path) -> None:
    """While one publisher is at it, another can neither create nor replace; afterwards it can."""
    bucket = Bucket(LYING, lambda: 1_790_000_000.0)
    first, second = lying_store(bucket, tmp_path), lying_store(bucket, tmp_path)
    create(first, "a/b", b"first")

    with pytest.raises(ConflictError, match="Another publisher"):
        create(second, "a/c", b"second")
    with pytest.raises(ConflictError, match="Another publisher"):
        replace(second, "m/t", b"1", None)
    first.close()

    assert create(second, "a/c", b"second") is Outcome.CREATED
    second.close()


def test_a_store_without_conditions_and_without_order_is_refused(tmp_path: Path) -> None:
    """Neither conditions nor reads of what was written: nothing is published there."""
    bucket = Bucket(Lies(ignores_absent=True, reads_late=True), lambda: 1_790_000_000.0)
    with lying_store(bucket, tmp_path) as store:
        with pytest.raises(StoreError, match="ignores conditions") as caught:
            create(store, "a/b", b"first")
        assert "another store" in caught.value.advice
    assert bucket.objects == {}


@pytest.mark.parametrize(
    ("lies", "verbs"),
    [
        (Lies(ignores_absent_at_completion=True), {"PUT"}),
        (Lies(no_multipart=True), {"PUT"}),
        (Lies(), {"UPLOADS", "BEGIN", "PARTS", "PART", "COMPLETE"}),
        (LYING, {"UPLOADS", "BEGIN", "PARTS", "PART", "COMPLETE"}),
    ],
    ids=["completion ignores conditions", "no multipart", "honest", "all ignored, under a lease"],
)
def test_large_objects_go_where_a_promise_holds(lies: Lies, verbs: set[str], tmp_path: Path) -> None:
    """Parts only where their completion heeds the condition, or where a lease stands for it; else one request."""
    bucket = Bucket(lies, lambda: 1_790_000_000.0)
    large = tmp_path / "large"
    large.write_bytes(bytes(9 << 20))
    with lying_store(bucket, tmp_path) as store:
        store.capabilities()
        bucket.asked.clear()
        assert create(store, "a/large", large) is Outcome.CREATED
        sent = {line.split()[0] for line in bucket.asked if "a/large" in line} - {"HEAD"}
        large.write_bytes(bytes(8 << 20) + bytes([1]) * (1 << 20))
        with pytest.raises(ConflictError):
            create(store, "a/large", large)

    assert sent == verbs
