"""Does a store keep its word: what the probe finds in stores that do, that do not, and that do in part."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from ferryman_release.store.base import Outcome
from ferryman_release.store.capabilities import GOOD_FOR, Capabilities, keep, kept, kept_path
from ferryman_release.store.probe import PROBE, probe
from support.s3.fake import Bucket, Lies
from support.s3.moto import S3, moto_server
from support.s3.stores import BUCKET, PREFIX, URL, bucket_store, create

TRUE = {
    "create": True,
    "create_multipart": True,
    "multipart": True,
    "replace": True,
    "bare_etag": False,
    "trailers": True,
    "consistent": True,
    "versioned": False,
}
FINDINGS = {
    "honest": (Lies(), {}),
    "rclone and the older MinIO": (
        Lies(ignores_absent=True, ignores_absent_at_completion=True, ignores_match=True),
        {"create": False, "create_multipart": False, "replace": False},
    ),
    "radosgw": (
        Lies(ignores_absent_at_completion=True, only_bare=True),
        {"create_multipart": False, "bare_etag": True},
    ),
    "radosgw of old over https": (Lies(refuses_trailers=True), {"trailers": False}),
    "a versioned bucket of radosgw": (
        Lies(ignores_absent=True, ignores_absent_at_completion=True, only_bare=True, versioned=True),
        {"create": False, "create_multipart": False, "bare_etag": True, "versioned": True},
    ),
    "honest one after the other, not at once": (Lies(ignores_absent_in_race=True), {"create": False}),
    "a tag that never fits": (Lies(never_matches=True), {"replace": False}),
    "no multipart uploads": (Lies(no_multipart=True), {"multipart": False, "create_multipart": False}),
    "a header that it refuses": (Lies(knows_no_conditions=True), {"create": False, "replace": False}),
    "lists late": (Lies(lists_late=True), {"consistent": False}),
    "reads late": (Lies(reads_late=True), {"consistent": False}),
    "does not tell of versions": (Lies(versioned=None), {"versioned": None}),
}


@pytest.fixture
def server() -> Iterator[S3]:
    with moto_server() as running:
        running.make_bucket(BUCKET)
        yield running


@pytest.mark.parametrize(("lies", "found"), FINDINGS.values(), ids=FINDINGS)
def test_what_a_store_does_is_found(lies: Lies, found: dict[str, object]) -> None:
    """Each way to keep or break a promise is seen for what it is, and nothing else is."""
    able = probe(Bucket(lies).wire, "p/", URL, "http://store")

    assert {name: getattr(able, name) for name in TRUE} == TRUE | found


@pytest.mark.parametrize("lies", [lies for lies, _ in FINDINGS.values()], ids=FINDINGS)
def test_a_probe_leaves_nothing(lies: Lies) -> None:
    """Objects and uploads of a probe are gone afterwards, and all were in its own folder."""
    bucket = Bucket(lies)
    probe(bucket.wire, "p/", URL, "")

    assert bucket.objects == {}
    assert bucket.open == {}
    assert all(f"p/{PROBE}" in line for line in bucket.asked)


def test_moto_keeps_its_word(server: S3, tmp_path: Path) -> None:
    """Over real requests: all conditions of moto are honoured, and nothing is left."""
    with bucket_store(server, tmp_path) as store:
        able = store.capabilities()

    client = server.client()
    assert {name: getattr(able, name) for name in TRUE} == TRUE
    assert client.list_objects_v2(Bucket=BUCKET)["KeyCount"] == 0
    assert "Uploads" not in client.list_multipart_uploads(Bucket=BUCKET)
    client.close()


def test_the_answer_is_kept(server: S3, tmp_path: Path) -> None:
    """A store is asked once; the next publisher reads the answer, and `refresh` asks again."""
    with bucket_store(server, tmp_path) as first:
        able = first.capabilities()
    path = kept_path(tmp_path, URL, server.url)
    with bucket_store(server, tmp_path) as second:
        assert second.capabilities() == able
        path.unlink()
        assert second.capabilities() == able
        assert not path.exists()
        assert second.capabilities(refresh=True).checked > able.checked
    assert path.exists()


def test_a_versioned_bucket_of_moto_is_seen(server: S3, tmp_path: Path) -> None:
    """Versioning is told; moto honours conditions nevertheless."""
    client = server.client()
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    client.close()
    with bucket_store(server, tmp_path) as store:
        able = store.capabilities()

    assert able.versioned is True
    assert able.create


def test_an_answer_from_before_versioning_is_not_believed(server: S3, tmp_path: Path) -> None:
    """Somebody has switched it on since: some stores then ignore what they honoured, so all of it is asked again."""
    with bucket_store(server, tmp_path) as before:
        assert before.capabilities().versioned is False
    client = server.client()
    client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    client.close()
    with bucket_store(server, tmp_path) as after:
        assert after.capabilities().versioned is True


@pytest.mark.parametrize(
    "spoil",
    [
        lambda found: msgspec.structs.replace(found, url="s3://other"),
        lambda found: msgspec.structs.replace(found, endpoint="http://other"),
        lambda found: msgspec.structs.replace(found, checked=found.checked - GOOD_FOR),
        lambda found: msgspec.structs.replace(found, checked=found.checked + 1),
        lambda found: msgspec.structs.replace(found, format=0),
        lambda _found: None,
    ],
    ids=["another store", "another endpoint", "too old", "of the future", "another format", "unreadable"],
)
def test_an_answer_that_does_not_hold_is_not_taken(spoil: object, tmp_path: Path) -> None:
    """A kept answer of another store, an older week or another format is none."""
    path = tmp_path / "kept.json"
    able = Capabilities(
        url=URL, endpoint="e", checked=1_000_000.0, create=True, create_multipart=True, replace=True
    )
    keep(path, able)
    assert kept(path, URL, "e", now=1_000_000.0) == able

    spoiled = spoil(able)  # type: ignore[operator]
    path.write_bytes(b"{") if spoiled is None else keep(path, spoiled)

    assert kept(path, URL, "e", now=1_000_000.0) is None
    assert kept(tmp_path / "none", URL, "e") is None


def test_whoever_cannot_keep_an_answer_goes_on(tmp_path: Path) -> None:
    """A file where out/ should be is no reason to stop."""
    (tmp_path / "out").write_text("")
    able = Capabilities(url=URL, checked=1.0, create=True, create_multipart=True, replace=True)

    keep(kept_path(tmp_path, URL, ""), able)

    assert kept(kept_path(tmp_path, URL, ""), URL, "", now=1.0) is None


def test_rows_say_what_was_seen() -> None:
    """People read of each promise whether it is honoured, and what follows."""
    able = Capabilities(url=URL, checked=1.0, create=True, create_multipart=True, replace=True)
    worse = msgspec.structs.replace(able, create=False, consistent=False, trailers=False, versioned=True)
    bare = msgspec.structs.replace(able, bare_etag=True)

    assert dict(able.rows())["publishers exclude each other by"] == "conditions"
    assert dict(worse.rows()) == {
        "If-None-Match on PUT": "IGNORED",
        "If-None-Match on multipart completion": "honoured",
        "If-Match on PUT": "honoured",
        "read and listed after write": "LATER",
        "checksums behind the body": "refused: compat is relaxed",
        "old versions": "kept",
        "publishers exclude each other by": "a lease",
    }
    assert dict(bare.rows())["If-Match on PUT"] == "honoured (tag without quotes)"


def test_claims_and_probes_are_no_objects(server: S3, tmp_path: Path) -> None:
    """What begins with a dot in the bucket is not listed."""
    client = server.client()
    for name in (".claims/x.json", f"{PROBE}y/z", "a/.hidden"):
        client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{name}", Body=b"")
    client.close()
    with bucket_store(server, tmp_path) as store:
        assert create(store, "a/b", b"") is Outcome.CREATED
        assert [entry.key for entry in store.list()] == ["a/b"]
