"""Real servers: what each keeps of its word is found, and every law of a store holds on it all the same.

radosgw over http and https honours conditions in part; rclone and JuiceFS accept and ignore them.
"""

from __future__ import annotations

import contextlib
import datetime
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ferryman_build.settings import Compat, ReleaseSettings
from ferryman_release.errors import ConflictError, StoreError
from ferryman_release.store import s3 as s3_module
from ferryman_release.store.base import Outcome, Store
from ferryman_release.store.bucket import BucketStore
from ferryman_release.store.fallback import Terms
from ferryman_release.store.s3 import connector
from support.s3.certificate import make_certificate
from support.s3.laws import LAWS, RACES, Law
from support.s3.liars import juicefs_server, rclone_server
from support.s3.moto import S3
from support.s3.radosgw import STRANGER, ceph_cluster
from support.s3.stores import create, replace

pytestmark = pytest.mark.e2e

QUICK = Terms(settle=0.05, tries=1)


@dataclass(frozen=True)
class Case:
    """A server, how checksums go to it, and what the probe is to find there."""

    server: str
    compat: Compat = Compat.AUTO
    bucket: str = "releases"
    create: bool = True
    multipart: bool = True
    replace: bool = True
    bare: bool = False
    trailers: bool = True


RADOSGW = {"multipart": False, "bare": True}
LIAR = {"create": False, "multipart": False, "replace": False}
CASES = {
    "radosgw over http": Case("radosgw-http", **RADOSGW),
    "radosgw over http, strict": Case("radosgw-http", Compat.STRICT, **RADOSGW),
    "radosgw over https": Case("radosgw-https", **RADOSGW, trailers=False),
    "radosgw over https, relaxed": Case("radosgw-https", Compat.RELAXED, **RADOSGW, trailers=False),
    "radosgw, a versioned bucket": Case("radosgw-http", bucket="versioned", **LIAR),
    "rclone over http": Case("rclone-http", **LIAR),
    "rclone over https": Case("rclone-https", **LIAR, trailers=False),
    "juicefs": Case("juicefs", **LIAR),
}
HONEST = [name for name, case in CASES.items() if case.create and case.compat is Compat.AUTO]
LYING = [name for name, case in CASES.items() if not case.create]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], S3]]:
    """Servers by name, each started when it is first asked for."""
    folder = tmp_path_factory.mktemp("servers")
    certificate = make_certificate(folder / "certificate.pem")
    running: dict[str, S3] = {}
    with contextlib.ExitStack() as stack:
        cluster: list[Any] = []

        def ceph() -> Any:
            if not cluster:
                cluster.append(stack.enter_context(ceph_cluster(folder / "ceph")))
            return cluster[0]

        start: dict[str, Callable[[], S3]] = {
            "radosgw-http": lambda: ceph().gateway(),
            "radosgw-https": lambda: ceph().gateway(certificate=certificate),
            "rclone-http": lambda: stack.enter_context(rclone_server(folder / "rclone")),
            "rclone-https": lambda: stack.enter_context(
                rclone_server(folder / "rclone-tls", certificate=certificate)
            ),
            "juicefs": lambda: stack.enter_context(juicefs_server(folder / "juicefs")),
        }

        def server(name: str) -> S3:
            if name not in running:
                running[name] = start[name]()
            return running[name]

        yield server


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("known")


Opener = Callable[..., BucketStore]


@pytest.fixture
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.fixture
def opener(case: Case, servers: Callable[[str], S3], known: Path, request: pytest.FixtureRequest) -> Opener:
    """Opens the store of a case, each test under a prefix of its own."""
    server = servers(case.server)
    _make_bucket(server, case.bucket)
    prefix = f"{abs(hash(request.node.nodeid)):x}/"
    url = f"s3://{case.bucket}/tests"
    settings = ReleaseSettings(url=url, endpoint=server.url, compat=case.compat)

    def open_again(terms: Terms = QUICK) -> BucketStore:
        return BucketStore(
            url=url, prefix=prefix, endpoint=server.url, compat=case.compat, terms=terms,
            connect=connector(settings, url, server.environ), kept_in=known / f"{case.server}-{case.bucket}.json",
        )  # fmt: skip

    return open_again


def _make_bucket(server: S3, bucket: str) -> None:
    client = server.client()
    try:
        if bucket not in [one["Name"] for one in client.list_buckets()["Buckets"]]:
            client.create_bucket(Bucket=bucket)
            if bucket == "versioned":
                client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    finally:
        client.close()


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_the_probe_finds_what_the_server_does(case: Case, opener: Opener) -> None:
    """What a server honours and what it ignores is found as it was found by hand, and nothing is left of the asking."""
    with opener() as store:
        able = store.capabilities(refresh=True)
        assert list(store._wire.list(store._prefix)) == []

    found = (able.create, able.create_multipart, able.replace, able.bare_etag, able.trailers, able.consistent)
    assert found == (case.create, case.multipart, case.replace, case.bare, case.trailers, True)
    assert able.versioned in ((True,) if case.bucket == "versioned" else (False, None))


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
@pytest.mark.parametrize("case", CASES, indirect=True)
def test_law(opener: Opener, law: Law, tmp_path: Path) -> None:
    """A store keeps each law of the table, whatever its server does; the law's docstring is the claim."""
    with opener() as store:
        law(store, opener, tmp_path)


@pytest.mark.parametrize("law", RACES.values(), ids=RACES)
@pytest.mark.parametrize("case", HONEST, indirect=True)
def test_race(opener: Opener, law: Law, tmp_path: Path) -> None:
    """Where conditions are honoured, of many at once exactly one wins, twenty times."""
    with opener() as store:
        law(store, opener, tmp_path)


@pytest.mark.parametrize("case", LYING, indirect=True)
def test_of_publishers_at_once_at_most_one_goes_on(opener: Opener) -> None:
    """Where conditions are ignored, publishers that begin at the same moment: none or one writes, all others are told so."""
    with opener() as store:
        tag = replace(store, "metadata/timestamp.json", b"begin", None)
    winners = 0
    for _ in range(5):
        outcomes = _begin_together(opener, lambda store, who, tag=tag: _publish(store, who, tag), 4)
        won = [who for who, outcome in enumerate(outcomes) if outcome is None]
        winners += len(won)
        assert len(won) <= 1, outcomes
        assert all(isinstance(one, ConflictError) for one in outcomes if one is not None), outcomes
        with opener(Terms(settle=0.05, tries=20)) as store:
            found = store.get("metadata/timestamp.json")
            assert found is not None
            assert found[0] == (b"%d" % won[0] if won else b"begin")
            tag = replace(store, "metadata/timestamp.json", b"begin", found[1])
            store.delete("artifacts/a")
    assert winners  # nobody is also excluded by a store that refuses everybody


def _publish(store: Store, who: int, tag: str) -> None:
    create(store, "artifacts/a", b"%d" % who)
    replace(store, "metadata/timestamp.json", b"%d" % who, tag)


def _begin_together(opener: Opener, act: Callable[..., None], count: int) -> list[Exception | None]:
    gate = threading.Barrier(count)
    outcomes: list[Exception | None] = [None] * count

    def run(who: int) -> None:
        with opener(Terms(settle=0.5, tries=4)) as store:
            store.head("warm")
            gate.wait()
            try:
                act(store, who)
            except (ConflictError, StoreError) as error:
                outcomes[who] = error

    threads = [threading.Thread(target=run, args=(who,)) for who in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return outcomes


@pytest.mark.parametrize("case", ["radosgw over https", "rclone over https"], indirect=True)
def test_strict_says_what_to_set(
    case: Case, servers: Callable[[str], S3], opener: Opener, known: Path
) -> None:
    """boto3's own checksums are refused with 411 there; the error names the setting that helps."""
    server = servers(case.server)
    with opener() as store:
        store.capabilities()
    url = f"s3://{case.bucket}/tests"
    settings = ReleaseSettings(url=url, endpoint=server.url, compat=Compat.STRICT)
    strict = BucketStore(
        url=url, prefix="strict/", endpoint=server.url, compat=Compat.STRICT, terms=QUICK,
        connect=connector(settings, url, server.environ), kept_in=known / f"{case.server}-{case.bucket}.json",
    )  # fmt: skip
    with strict, pytest.raises(StoreError, match="behind the body") as caught:
        create(strict, "artifacts/a", b"data")

    assert 'compat = "relaxed"' in caught.value.advice


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, "the secret key is not that of the access key id"),
        ({"AWS_ACCESS_KEY_ID": "NOBODY"}, "does not know the access key id"),
    ],
    ids=["secret", "key"],
)
@pytest.mark.parametrize("case", ["radosgw over http", "rclone over http", "juicefs"], indirect=True)
def test_wrong_credentials(
    case: Case, servers: Callable[[str], S3], tmp_path: Path, change: dict[str, str], sentence: str
) -> None:
    """A wrong secret and an unknown key are told apart on every server that looks."""
    server = servers(case.server)
    _make_bucket(server, case.bucket)
    settings = ReleaseSettings(url=f"s3://{case.bucket}/x", endpoint=server.url, compat=Compat.RELAXED)
    store = BucketStore(
        url=settings.url, prefix="x/", endpoint=server.url, compat=Compat.RELAXED,
        connect=connector(settings, settings.url, {**server.environ, **change}), kept_in=tmp_path / "kept.json",
    )  # fmt: skip
    with store, pytest.raises(StoreError, match=sentence):
        create(store, "artifacts/a", b"data")


def _plain_store(case: Case, server: S3, environ: dict[str, str], folder: Path) -> BucketStore:
    settings = ReleaseSettings(url=f"s3://{case.bucket}/x", endpoint=server.url)
    return BucketStore(
        url=settings.url, prefix="x/", endpoint=server.url, compat=Compat.AUTO,
        connect=connector(settings, settings.url, environ), kept_in=folder / "kept.json",
    )  # fmt: skip


@pytest.mark.parametrize("case", ["radosgw over http"], indirect=True)
def test_a_bucket_of_somebody_else(case: Case, servers: Callable[[str], S3], tmp_path: Path) -> None:
    """A user without rights is told which one is missing, for a write and for a listing."""
    server = servers(case.server)
    _make_bucket(server, case.bucket)
    with _plain_store(case, server, STRANGER, tmp_path) as store:
        with pytest.raises(StoreError, match="does not allow s3:PutObject"):
            create(store, "artifacts/a", b"data")
        with pytest.raises(StoreError, match="does not allow s3:ListBucket"):
            list(store.list())


@pytest.mark.parametrize("case", ["radosgw over http", "rclone over http", "juicefs"], indirect=True)
def test_a_clock_that_is_wrong(
    case: Case, servers: Callable[[str], S3], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour behind the store: the sentence has both clocks, and the cure is to set ours."""
    server = servers(case.server)
    _make_bucket(server, case.bucket)
    late = datetime.datetime.now(datetime.UTC) - datetime.timedelta(hours=1)
    monkeypatch.setattr(
        "botocore.auth.get_current_datetime", lambda *_args, **_more: late.replace(tzinfo=None)
    )
    monkeypatch.setattr(s3_module, "_now", lambda: late)
    store = _plain_store(case, server, dict(server.environ), tmp_path)
    with store, pytest.raises(StoreError, match="The clocks disagree: here it is 20") as caught:
        create(store, "artifacts/a", b"data")
    assert "not told" not in str(caught.value)
    assert "NTP" in caught.value.advice


@pytest.mark.parametrize("case", ["radosgw over http", "rclone over http", "juicefs"], indirect=True)
def test_a_missing_bucket(case: Case, servers: Callable[[str], S3], tmp_path: Path) -> None:
    """A bucket that is not there is named."""
    server = servers(case.server)
    settings = ReleaseSettings(url="s3://nowhere/x", endpoint=server.url)
    store = BucketStore(
        url=settings.url, prefix="x/", endpoint=server.url, compat=Compat.AUTO,
        connect=connector(settings, settings.url, server.environ), kept_in=tmp_path / "kept.json",
    )  # fmt: skip
    with store, pytest.raises(StoreError, match="no bucket nowhere"):
        create(store, "artifacts/a", b"data")


@pytest.mark.parametrize("case", ["radosgw over http", "juicefs"], indirect=True)
def test_types_and_cache_times_are_kept(case: Case, opener: Opener, servers: Callable[[str], S3]) -> None:
    """What a reader is told with the bytes is what the layout says."""
    with opener() as store:
        assert create(store, "artifacts/n/1/n.tar.gz", b"data") is Outcome.CREATED
        replace(store, "metadata/timestamp.json", b"{}", None)
        prefix = store._prefix
    client = servers(case.server).client()
    heads = [
        client.head_object(Bucket=case.bucket, Key=prefix + key)
        for key in ("artifacts/n/1/n.tar.gz", "metadata/timestamp.json")
    ]
    client.close()

    assert [(head["ContentType"], head["CacheControl"]) for head in heads] == [
        ("application/gzip", "public, max-age=31536000, immutable"),
        ("application/json", "no-cache"),
    ]
