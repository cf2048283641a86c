"""Large objects: parts, what is taken over from an earlier run, what is left behind, and how much is in memory."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ferryman_build.settings import Compat
from ferryman_release.errors import ConflictError, StoreError
from ferryman_release.store import multipart
from ferryman_release.store.base import Headers, Outcome
from ferryman_release.store.bucket import BucketStore
from ferryman_release.store.multipart import Buffers, Large, Multipart
from ferryman_release.store.wire import ConditionFailedError, Part
from support.s3.fake import Bucket, FakeWire
from support.s3.faults import Fault, Proxy, fault_proxy
from support.s3.moto import S3, moto_server, reset
from support.s3.stores import BUCKET, PREFIX, URL, bucket_store, create, digest, job

KEY = "artifacts/lantern/1.0/large"
FULL = f"{PREFIX}/{KEY}"
PART = 64 << 10
PARTS = 4


class KilledError(BaseException):
    """What stands for a process that ends in the middle."""


@pytest.fixture(scope="module")
def moto() -> Iterator[S3]:
    with pytest.MonkeyPatch.context() as patch, moto_server() as running:
        patch.setattr("moto.s3.models.S3_UPLOAD_PART_MIN_SIZE", PART)
        yield running


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is known of the server, so that it is asked only once."""
    return tmp_path_factory.mktemp("known") / "moto.json"


@pytest.fixture(scope="module")
def proxy(moto: S3) -> Iterator[Proxy]:
    with fault_proxy(moto.url) as running:
        yield running


@pytest.fixture
def server(moto: S3, proxy: Proxy) -> S3:
    reset(moto)
    moto.make_bucket(BUCKET)
    proxy.reset()
    return S3(proxy.url, moto.environ)


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of three parts and a bit; what counts as one part is smaller than in life."""
    monkeypatch.setattr(multipart, "PART", PART)
    monkeypatch.setattr("ferryman_release.store.bucket.PART", PART)
    path = tmp_path / "large"
    path.write_bytes(b"".join(bytes([65 + number]) * PART for number in range(PARTS - 1)) + b"the end")
    return path


def opened(server: S3, known: Path) -> BucketStore:
    store = bucket_store(server, known.parent, kept_in=known)
    store.capabilities()
    return store


def unfinished(server: S3) -> list[str]:
    client = server.client()
    found = client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])
    client.close()
    return [one["UploadId"] for one in found]


def content(server: S3) -> bytes:
    client = server.client()
    data: bytes = client.get_object(Bucket=BUCKET, Key=FULL)["Body"].read()
    client.close()
    return data


def test_an_object_of_parts(server: S3, proxy: Proxy, large: Path, known: Path) -> None:
    """It arrives as it is, with type, caching and digest in its head, and nothing is left unfinished."""
    with opened(server, known) as store:
        assert create(store, KEY, large) is Outcome.CREATED

    client = server.client()
    head = client.head_object(Bucket=BUCKET, Key=FULL)
    client.close()
    assert content(server) == large.read_bytes()
    assert head["Metadata"] == {"sha256": digest(large.read_bytes())}
    assert head["CacheControl"] == "public, max-age=31536000, immutable"
    assert proxy.count("PUT", f"{KEY}.*partNumber") == PARTS
    assert unfinished(server) == []


@pytest.mark.parametrize("at", range(1, PARTS + 1))
def test_an_interrupted_upload_is_continued(
    server: S3, proxy: Proxy, large: Path, known: Path, at: int
) -> None:
    """Ended at any part, the next run sends what has not arrived and nothing twice; the bytes are right."""
    sent = threading.Semaphore(at - 1)

    def stop(_key: str, _more: int) -> None:
        if not sent.acquire(blocking=False):
            raise KilledError

    with opened(server, known) as store:
        store._workers = 1  # parts one after the other, so that it is known which have arrived
        with pytest.raises(KilledError):
            create(store, KEY, large, progress=stop)
    assert len(unfinished(server)) == 1
    have = proxy.count("PUT", f"{KEY}.*partNumber")

    with opened(server, known) as store:
        assert create(store, KEY, large) is Outcome.CREATED

    assert at <= have <= PARTS
    assert proxy.count("PUT", f"{KEY}.*partNumber") == PARTS
    assert proxy.count("POST", f"{KEY}.uploads") == 1
    assert content(server) == large.read_bytes()
    assert unfinished(server) == []


def test_what_is_taken_over_counts_as_done(server: S3, large: Path, known: Path) -> None:
    """Progress adds up to the whole file, also when most of it was there."""
    client = server.client()
    upload = client.create_multipart_upload(
        Bucket=BUCKET, Key=FULL, Metadata={"sha256": job("k", large).sha256}
    )
    client.upload_part(Bucket=BUCKET, Key=FULL, UploadId=upload["UploadId"], PartNumber=2, Body=b"B" * PART)
    client.close()
    seen: list[int] = []
    with opened(server, known) as store:
        create(store, KEY, large, progress=lambda _key, more: seen.append(more))

    assert sum(seen) == large.stat().st_size
    assert content(server) == large.read_bytes()


@pytest.mark.parametrize(
    ("number", "body"), [(1, b"X" * PART), (2, b"B" * (PART + 1)), (5, b"more than the file has")]
)
def test_parts_of_another_file_are_not_taken_over(
    server: S3, large: Path, known: Path, number: int, body: bytes
) -> None:
    """An unfinished upload with other bytes, another size of parts or more of them is dropped, not completed."""
    client = server.client()
    upload = client.create_multipart_upload(Bucket=BUCKET, Key=FULL)["UploadId"]
    client.upload_part(Bucket=BUCKET, Key=FULL, UploadId=upload, PartNumber=number, Body=body)
    client.close()
    with opened(server, known) as store:
        assert create(store, KEY, large) is Outcome.CREATED

    assert content(server) == large.read_bytes()
    assert unfinished(server) == []


def test_an_upload_that_was_begun_for_other_bytes_is_not_mislabelled(
    server: S3, large: Path, known: Path
) -> None:
    """When all parts fit but the upload was begun for another file, the object still gets our digest."""
    client = server.client()
    upload = client.create_multipart_upload(Bucket=BUCKET, Key=FULL, Metadata={"sha256": "0" * 64})
    client.upload_part(Bucket=BUCKET, Key=FULL, UploadId=upload["UploadId"], PartNumber=1, Body=b"A" * PART)
    with opened(server, known) as store:
        assert create(store, KEY, large) is Outcome.CREATED

    assert client.head_object(Bucket=BUCKET, Key=FULL)["Metadata"] == {"sha256": job("k", large).sha256}
    assert content(server) == large.read_bytes()
    client.close()


def test_several_leftovers_are_cleared(server: S3, large: Path, known: Path) -> None:
    """Of several unfinished uploads of the key none is left; one of a longer key is not ours and stays."""
    client = server.client()
    for _ in range(3):
        client.create_multipart_upload(Bucket=BUCKET, Key=FULL)
    neighbour = client.create_multipart_upload(Bucket=BUCKET, Key=f"{FULL}.json")["UploadId"]
    client.close()
    with opened(server, known) as store:
        create(store, KEY, large)

    assert unfinished(server) == [neighbour]


def test_a_changed_file_leaves_nothing(server: S3, large: Path, known: Path) -> None:
    """A file without its digest makes no object and no unfinished upload."""
    with opened(server, known) as store, pytest.raises(StoreError, match="has changed since"):
        create(store, KEY, large, sha256="0" * 64)

    assert unfinished(server) == []
    client = server.client()
    assert client.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0
    client.close()


def test_a_conflict_at_completion_leaves_nothing(server: S3, proxy: Proxy, large: Path, known: Path) -> None:
    """Somebody else's object that appears while parts are sent is kept, and named; no upload stays."""
    client = server.client()

    def meanwhile(_key: str, _more: int) -> None:
        client.put_object(Bucket=BUCKET, Key=FULL, Body=b"theirs")

    with opened(server, known) as store, pytest.raises(ConflictError, match=digest(b"theirs")):
        create(store, KEY, large, progress=meanwhile)
    client.close()

    assert content(server) == b"theirs"
    assert unfinished(server) == []


def test_a_lost_answer_to_the_completion_is_a_success(
    server: S3, proxy: Proxy, large: Path, known: Path
) -> None:
    """The object was made and nobody heard of it: asking again finds it."""
    with opened(server, known) as store:
        proxy.rule(Fault.LOSE, method="POST", path="uploadId")
        create(store, KEY, large)

    assert proxy.count("POST", f"{KEY}.uploadId") == 2
    assert content(server) == large.read_bytes()


def _aborted_by_another(bucket: Bucket, times: int) -> Callable[[str, str], None]:
    left = [times]

    def before(verb: str, _key: str) -> None:
        if verb == "COMPLETE" and left[0]:
            left[0] -= 1
            bucket.open.clear()

    return before


def fake_store(bucket: Bucket, folder: Path) -> BucketStore:
    return BucketStore(
        url=URL, prefix="p/", endpoint="", compat=Compat.AUTO, connect=bucket.wire, kept_in=folder / "kept"
    )


@pytest.mark.parametrize("times", [1, 2])
def test_an_upload_that_is_aborted_under_our_hands_is_begun_again(
    large: Path, tmp_path: Path, times: int
) -> None:
    """A rule of the bucket or another publisher may abort an upload; it is sent once more."""
    bucket = Bucket()
    with fake_store(bucket, tmp_path) as store:
        store.capabilities()
        bucket.before = _aborted_by_another(bucket, times)
        assert create(store, KEY, large) is Outcome.CREATED

    assert bucket.objects[f"p/{KEY}"][0] == large.read_bytes()


def test_an_upload_that_is_always_aborted_is_given_up(large: Path, tmp_path: Path) -> None:
    """After three times somebody has to look; nothing was made."""
    bucket = Bucket()
    with fake_store(bucket, tmp_path) as store:
        store.capabilities()
        bucket.before = _aborted_by_another(bucket, 99)
        with pytest.raises(StoreError, match="aborted 3 times") as caught:
            create(store, KEY, large)

    assert "one publisher" in caught.value.advice
    assert bucket.objects == {}


def test_memory_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty files of many parts at once: no more parts are in memory than the store has slots, and all arrive."""
    monkeypatch.setattr(multipart, "PART", 1000)
    monkeypatch.setattr("ferryman_release.store.bucket.PART", 1000)
    bucket = Bucket()
    held: list[int] = []
    store = fake_store(bucket, tmp_path)
    bucket.before = lambda verb, _key: held.append(store.buffers.held) if verb in ("PART", "PUT") else None
    files = []
    for number in range(20):
        path = tmp_path / f"file{number:02}"
        path.write_bytes(bytes([number]) * (500 if number % 3 else 25_500))
        files.append(path)
    with store:
        store.create_many([job(f"a/{path.name}", path) for path in files])

    assert {f"p/a/{path.name}" for path in files} == set(bucket.objects)
    assert 2 <= store.buffers.most <= 8
    assert max(held) <= 8
    assert store.buffers.held == 0


def test_buffers_wait(tmp_path: Path) -> None:
    """A slot is waited for, and given back also when what it was for has failed."""
    buffers = Buffers(2)
    with pytest.raises(RuntimeError), buffers.one():
        raise RuntimeError
    buffers.take()
    buffers.take()
    with ThreadPoolExecutor(1) as pool:
        third = pool.submit(buffers.take)
        assert not third.done()
        buffers.give()
        third.result(10)

    assert (buffers.held, buffers.most) == (2, 2)


def test_a_failure_of_a_part_frees_what_it_held(server: S3, proxy: Proxy, large: Path, known: Path) -> None:
    """A part that is refused ends the upload with the store's sentence, and holds no memory."""
    proxy.rule(Fault.STATUS, method="PUT", path="partNumber=2", times=99, status=403, code="AccessDenied")
    with opened(server, known) as store:
        with pytest.raises(StoreError, match="s3:PutObject"):
            create(store, KEY, large)
        assert store.buffers.held == 0


def test_too_many_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S3 takes ten thousand parts; what is larger is refused with a sentence."""
    monkeypatch.setattr(multipart, "PART", 10)
    monkeypatch.setattr(multipart, "MOST_PARTS", 3)
    monkeypatch.setattr("ferryman_release.store.bucket.PART", 10)
    path = tmp_path / "huge"
    path.write_bytes(bytes(31))
    bucket = Bucket()
    with fake_store(bucket, tmp_path) as store, pytest.raises(StoreError, match="is larger than") as caught:
        create(store, KEY, path)

    assert "smaller" in caught.value.advice
    assert store.buffers.held == 0


@pytest.mark.parametrize("same", [True, False], ids=["the same bytes", "other bytes"])
def test_who_was_overtaken_touches_nothing_of_the_winner(tmp_path: Path, same: bool) -> None:
    """Another publisher completes the key while this one sends: the same bytes are a success, other ones a conflict."""
    bucket, headers = Bucket(), Headers(content_type="a/b", cache_control="x")

    def large_of(name: str, byte: bytes) -> Large:
        path = tmp_path / name
        path.write_bytes(byte * (2 * PART + 5))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        return Large(key="k", path=path, headers=headers, sha256=sha256, absent=True, label="k")

    ours, theirs = large_of("ours", b"a"), large_of("theirs", b"a" if same else b"b")
    rivals = iter([theirs])

    class Overtaken(FakeWire):
        def complete(self, key: str, upload: str, parts: Sequence[Part], *, absent: bool) -> str:
            if (rival := next(rivals, None)) is not None:
                Multipart(bucket.wire(), Buffers(4), pool).upload(rival)
            return super().complete(key, upload, parts, absent=absent)

    with ThreadPoolExecutor(4) as pool:
        publisher = Multipart(Overtaken(bucket, relaxed=True), Buffers(4), pool)
        if same:
            publisher.upload(ours)
        else:
            with pytest.raises(ConditionFailedError):
                publisher.upload(ours)
    assert bucket.objects["k"][1].sha256 == theirs.sha256


def test_a_file_that_cannot_be_read_gives_its_room_back(tmp_path: Path) -> None:
    """Eight such files would otherwise stop the publisher for ever."""

    class Broken(io.BytesIO):
        def read(self, *_: object) -> bytes:
            raise OSError("the disk is gone")

    buffers = Buffers(1)
    with ThreadPoolExecutor(1) as pool:
        reader = Multipart(Bucket().wire(), buffers, pool)
        for _ in range(3):
            with pytest.raises(OSError, match="gone"):
                next(reader._read(Broken()))
