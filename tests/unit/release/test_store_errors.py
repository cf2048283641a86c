"""What a store refuses, and what happens on the way to it: each with a sentence, a cure and no half-done thing."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ferryman_build.settings import Compat, ReleaseSettings
from ferryman_release.errors import ConflictError, StoreError
from ferryman_release.store import s3 as s3_module
from ferryman_release.store.base import Outcome, headers_for
from ferryman_release.store.bucket import BucketStore
from ferryman_release.store.capabilities import Capabilities, keep
from ferryman_release.store.failures import TABLE, Facts, explain
from ferryman_release.store.wire import WireError
from support.s3.faults import Fault, Proxy, fault_proxy, serving
from support.s3.moto import S3, check_signatures, moto_server, reset, user
from support.s3.stores import BUCKET, PREFIX, URL, bucket_store, create, digest, job, replace

KEY = "artifacts/lantern/1.0/file"
POINTER = "metadata/timestamp.json"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries come at once: what is tested is that they come. Settings of whoever runs this do not matter."""
    monkeypatch.setattr("botocore.endpoint.time.sleep", lambda _seconds: None)
    for name in ("AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL", "AWS_MAX_ATTEMPTS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")


@pytest.fixture(scope="module")
def moto() -> Iterator[S3]:
    with moto_server() as running:
        yield running


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


def opened(server: S3, folder: Path, **more: Any) -> BucketStore:
    """A store that is known to keep its word, so that a test's first request is its own."""
    compat = more.pop("compat", Compat.AUTO)
    path = folder / "kept.json"
    able = Capabilities(
        url=URL, endpoint=server.url, checked=time.time() - 1, create=True,
        create_multipart=True, replace=True, versioned=False,
    )  # fmt: skip
    keep(path, able)
    return bucket_store(server, folder, kept_in=path, compat=compat, **more)


# -- the table ----------------------------------------------------------------------------------------------------------

FACTS = Facts(action="s3:PutObject", bucket="b", key="k", region="r", our_clock="11:00", their_clock="12:00")


@pytest.mark.parametrize("code", TABLE)
def test_every_row_is_a_sentence_and_a_cure(code: str) -> None:
    """Each known code has a sentence that ends, a cure that ends, and leaves no field unfilled."""
    error = explain(code, 400, FACTS)

    assert str(error)[0].isupper() or str(error).startswith("s3://")
    assert str(error).endswith(".")
    assert error.advice.endswith(".")
    assert "{" not in str(error) + error.advice
    assert isinstance(error, StoreError)
    assert error.exit_code == 21


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (301, "region"),
        (403, "does not allow"),
        (411, "behind the body"),
        (503, "for load"),
        (502, "failed at"),
    ],
)
def test_an_answer_without_a_code_goes_by_its_status(status: int, code: str) -> None:
    """An answer to HEAD has no body: its status has to do."""
    assert code in str(explain(str(status), status, FACTS))


def test_what_nobody_knows_is_said_as_it_is() -> None:
    """A code that the table lacks is named with the store's own words, and is looked up by the reader."""
    error = explain("Teapot", 418, Facts(action="s3:PutObject", bucket="b", message="I am one."))

    assert str(error) == "AWS () refused s3:PutObject on s3://b: Teapot: I am one."
    assert "documentation" in error.advice


# -- credentials and rights ---------------------------------------------------------------------------------------------


def test_a_wrong_secret(moto: S3, server: S3, tmp_path: Path) -> None:
    """The secret of another key: said so, with the variable to set."""
    right = user(moto, "writer", "s3:*")
    wrong = S3(moto.url, {**right.environ, "AWS_SECRET_ACCESS_KEY": "x" * 40})
    with check_signatures(moto), opened(wrong, tmp_path) as store:
        with pytest.raises(StoreError, match="the secret key is not that of the access key id") as caught:
            create(store, KEY, b"data")
        assert "AWS_SECRET_ACCESS_KEY" in caught.value.advice
        with opened(right, tmp_path) as other:
            assert create(other, KEY, b"data") is Outcome.CREATED


def test_an_unknown_key(moto: S3, server: S3, tmp_path: Path) -> None:
    """A key id that the store never gave out."""
    nobody = S3(moto.url, {"AWS_ACCESS_KEY_ID": "AKIAUNKNOWN", "AWS_SECRET_ACCESS_KEY": "x"})
    with (
        check_signatures(moto),
        opened(nobody, tmp_path) as store,
        pytest.raises(StoreError, match="does not know the access key id") as caught,
    ):
        create(store, KEY, b"data")
    assert "AWS_ACCESS_KEY_ID" in caught.value.advice


@pytest.mark.parametrize(
    ("action", "rights", "act"),
    [
        ("s3:PutObject", ("s3:GetObject", "s3:ListBucket"), lambda store: create(store, KEY, b"data")),
        ("s3:GetObject", ("s3:PutObject", "s3:ListBucket"), lambda store: store.get(KEY)),
        ("s3:GetObject", ("s3:PutObject", "s3:ListBucket"), lambda store: store.head(KEY)),
        ("s3:ListBucket", ("s3:PutObject", "s3:GetObject"), lambda store: list(store.list())),
        ("s3:DeleteObject", ("s3:PutObject", "s3:GetObject"), lambda store: store.delete(KEY)),
        ("s3:PutObject", ("s3:GetObject",), lambda store: store.put(KEY, b"", headers_for(KEY))),
        ("s3:PutObject", ("s3:GetObject",), lambda store: replace(store, KEY, b"", None)),
    ],
    ids=["create", "get", "head", "list", "delete", "put", "replace"],
)
def test_a_right_that_is_missing(
    moto: S3, server: S3, tmp_path: Path, action: str, rights: tuple[str, ...], act: Any
) -> None:
    """A denied action is named as the policy names it, with the object."""
    someone = user(moto, "someone", *rights)
    with (
        check_signatures(moto),
        opened(someone, tmp_path) as store,
        pytest.raises(StoreError, match=f"does not allow {action}") as caught,
    ):
        act(store)
    assert action in caught.value.advice
    assert f"s3://{BUCKET}/{PREFIX}" in str(caught.value)


def test_no_credentials(server: S3, tmp_path: Path) -> None:
    """Nothing in the usual places: the variables are named."""
    with (
        opened(S3(server.url, {}), tmp_path) as store,
        pytest.raises(StoreError, match="no credentials") as caught,
    ):
        create(store, KEY, b"data")
    assert "AWS_ACCESS_KEY_ID" in caught.value.advice


def test_half_of_the_credentials(server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A key id without its secret, in the process's own environment."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "x")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY", raising=False)
    with (
        opened(S3(server.url, {}), tmp_path) as store,
        pytest.raises(StoreError, match="are incomplete") as caught,
    ):
        create(store, KEY, b"data")
    assert "both" in caught.value.advice


def test_a_key_without_its_secret_in_the_settings_of_the_run(server: S3, tmp_path: Path) -> None:
    """The same when the environment that was handed over has only one of the two."""
    with (
        opened(S3(server.url, {"AWS_ACCESS_KEY_ID": "x"}), tmp_path) as store,
        pytest.raises(StoreError, match="are incomplete"),
    ):
        create(store, KEY, b"data")


def test_a_profile_that_is_not_there(server: S3, tmp_path: Path) -> None:
    """AWS_PROFILE is named when it is the mistake."""
    with (
        opened(S3(server.url, {"AWS_PROFILE": "nobody"}), tmp_path) as store,
        pytest.raises(StoreError, match="AWS_PROFILE names a profile") as caught,
    ):
        create(store, KEY, b"data")
    assert "AWS_PROFILE" in caught.value.advice


def test_a_secret_is_in_no_message(moto: S3, server: S3, tmp_path: Path) -> None:
    """Neither the sentence nor the details nor the chain of causes has the secret key."""
    secret = "hunter2" * 6
    wrong = S3(moto.url, {**user(moto, "writer2", "s3:*").environ, "AWS_SECRET_ACCESS_KEY": secret})
    with check_signatures(moto), opened(wrong, tmp_path) as store, pytest.raises(StoreError) as caught:
        create(store, KEY, b"data")
    said = [str(caught.value), caught.value.advice, *caught.value.details, repr(caught.value.__cause__)]
    assert secret not in " ".join(said)


@pytest.mark.parametrize(
    ("hours", "sentence"), [(1, "The clocks disagree"), (0, "does not allow s3:PutObject")]
)
def test_forbidden_with_another_clock(
    moto: S3, server: S3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hours: int, sentence: str
) -> None:
    """A store that only says 403 is read by its date: an hour apart it is the clock, else it is the right."""
    now = datetime.datetime.now(datetime.UTC) + datetime.timedelta(hours=hours)
    monkeypatch.setattr(s3_module, "_now", lambda: now)
    someone = user(moto, "clocked", "s3:GetObject")
    with (
        check_signatures(moto),
        opened(someone, tmp_path) as store,
        pytest.raises(StoreError, match=sentence),
    ):
        create(store, KEY, b"data")


# -- the bucket and the way to it ---------------------------------------------------------------------------------------


def test_a_missing_bucket(moto: S3, server: S3, tmp_path: Path) -> None:
    """A bucket that is not there is named, and where it was looked for."""
    reset(moto)
    with opened(server, tmp_path) as store:
        for act in (lambda: create(store, KEY, b"data"), lambda: list(store.list())):
            with pytest.raises(StoreError, match=f"There is no bucket {BUCKET} at http") as caught:
                act()
            assert "Make the bucket" in caught.value.advice


@pytest.mark.parametrize(
    ("status", "code", "sentence", "cure"),
    [
        (403, "RequestTimeTooSkewed", "The clocks disagree: here it is 20", "NTP"),
        (301, "PermanentRedirect", "is in another region than us-east-1", "Set region"),
        (400, "AuthorizationHeaderMalformed", "is in another region than us-east-1", "Set region"),
        (411, "MissingContentLength", "behind the body", 'compat = "relaxed"'),
        (400, "ExpiredToken", "session token", "Log in again"),
        (400, "BadDigest", "received other bytes", "Run the same command again"),
        (400, "KMS.NotFoundException", "no such encryption key", "Correct encryption"),
        (501, "NotImplemented", "does not know s3:PutObject", "docs/stores.md"),
        (400, "EntityTooLarge", "larger than", "multipart"),
    ],
)
def test_a_refusal(
    server: S3, proxy: Proxy, tmp_path: Path, status: int, code: str, sentence: str, cure: str
) -> None:
    """What a store may answer to a write, each with its own sentence and cure; nothing was written."""
    proxy.rule(Fault.STATUS, method="PUT", times=99, status=status, code=code)
    with opened(server, tmp_path) as store:
        with pytest.raises(StoreError, match=sentence) as caught:
            create(store, KEY, b"data")
        assert cure in caught.value.advice
        assert store.head(KEY) is None


@pytest.mark.parametrize(
    ("status", "code", "sentence"),
    [
        (503, "SlowDown", "for load, five times"),
        (500, "InternalError", "failed at s3:PutObject"),
        (502, "x", "failed"),
    ],
)
def test_a_store_that_stays_ill(
    server: S3, proxy: Proxy, tmp_path: Path, status: int, code: str, sentence: str
) -> None:
    """Five attempts, then a sentence that says how often."""
    proxy.rule(Fault.STATUS, method="PUT", times=99, status=status, code=code)
    with opened(server, tmp_path) as store, pytest.raises(StoreError, match=sentence) as caught:
        create(store, KEY, b"data")
    assert "run the same command again" in caught.value.advice.lower()
    assert proxy.count("PUT") == 5


def test_nobody_there(tmp_path: Path) -> None:
    """An endpoint that nothing listens at."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (
        opened(S3(f"http://127.0.0.1:{port}"), tmp_path) as store,
        pytest.raises(StoreError, match="cannot be reached") as caught,
    ):
        create(store, KEY, b"data")
    assert "endpoint" in caught.value.advice


def test_no_certificate_that_is_trusted(moto: S3, tmp_path: Path) -> None:
    """TLS where there is none, as with a wrong scheme: the certificate or the endpoint."""
    with (
        opened(S3(moto.url.replace("http:", "https:")), tmp_path) as store,
        pytest.raises(StoreError, match="no certificate that this machine trusts") as caught,
    ):
        create(store, KEY, b"data")
    assert "AWS_CA_BUNDLE" in caught.value.advice
    assert ssl.OPENSSL_VERSION


def test_a_store_that_says_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that takes a request and does not answer is given up after its time, five times."""
    monkeypatch.setattr(s3_module, "READ_SECONDS", 0.05)
    release = threading.Event()

    class Silent(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            release.wait(30)

        def log_message(self, *_args: object) -> None:
            pass

    with serving(Silent) as url, opened(S3(url), tmp_path) as store:
        with pytest.raises(StoreError, match="has not answered s3:GetObject for 30 seconds"):
            store.get(KEY)
        release.set()


# -- faults on the way --------------------------------------------------------------------------------------------------

PASSING = {
    "one 500": {"fault": Fault.STATUS, "status": 500, "code": "InternalError"},
    "one 503": {"fault": Fault.STATUS, "status": 503, "code": "SlowDown"},
    "four 503": {"fault": Fault.STATUS, "status": 503, "code": "SlowDown", "times": 4},
    "two who write at once": {
        "fault": Fault.STATUS,
        "status": 409,
        "code": "ConditionalRequestConflict",
        "times": 4,
    },
    "a reset in mid-body": {"fault": Fault.RESET},
    "a late answer": {"fault": Fault.DELAY, "seconds": 0.05},
    "a lost answer": {"fault": Fault.LOSE},
    "four lost answers": {"fault": Fault.LOSE, "times": 4},
}


@pytest.mark.parametrize("fault", PASSING.values(), ids=PASSING)
def test_a_fault_that_passes_is_no_conflict(
    server: S3, proxy: Proxy, tmp_path: Path, fault: dict[str, Any]
) -> None:
    """create, replace of nothing, replace of something and put get through; each is there as it was meant."""
    with opened(server, tmp_path) as store:
        proxy.rule(method="PUT", path="artifacts", **fault)
        proxy.rule(method="PUT", path="timestamp", **fault)
        proxy.rule(method="PUT", path="index", **fault)
        assert create(store, KEY, b"data") in (Outcome.CREATED, Outcome.EXISTED)
        first = replace(store, POINTER, b"1", None)
        proxy.rule(method="PUT", path="timestamp", **fault)
        second = replace(store, POINTER, b"2", first)
        store.put("index.html", b"page", headers_for("index.html"))

        assert store.get(POINTER) == (b"2", second)
        assert [store.get(key)[0] for key in (KEY, "index.html")] == [b"data", b"page"]  # type: ignore[index]


def test_a_lost_answer_does_not_hide_a_conflict(server: S3, proxy: Proxy, tmp_path: Path) -> None:
    """Somebody else's bytes are a conflict also when an answer was lost on the way to learn of them."""
    with opened(server, tmp_path) as store:
        create(store, KEY, b"theirs")
        proxy.rule(Fault.LOSE, method="PUT")
        with pytest.raises(ConflictError, match=digest(b"theirs")):
            create(store, KEY, b"ours!!")


@pytest.mark.parametrize("fault", [Fault.TRUNCATE, Fault.CORRUPT])
def test_a_body_that_arrives_damaged_is_read_again(
    server: S3, proxy: Proxy, tmp_path: Path, fault: Fault
) -> None:
    """An answer that is cut short or changed on the way is not believed: the next one is."""
    with opened(server, tmp_path) as store:
        create(store, KEY, b"0123456789")
        proxy.rule(fault, method="GET", times=2)

        found = store.get(KEY)

    assert found is not None
    assert found[0] == b"0123456789"
    assert proxy.count("GET", KEY) == 3


@pytest.mark.parametrize(
    ("fault", "compat", "sentence"),
    [
        (Fault.TRUNCATE, Compat.STRICT, "sent less of"),
        (Fault.TRUNCATE, Compat.RELAXED, "sent less of"),
        (Fault.CORRUPT, Compat.STRICT, "does not fit its checksum"),
        (Fault.CORRUPT, Compat.RELAXED, "never had the digest"),
    ],
)
def test_a_body_that_always_arrives_damaged(
    server: S3, proxy: Proxy, tmp_path: Path, fault: Fault, compat: Compat, sentence: str
) -> None:
    """After three readings it is said what is wrong; damaged bytes are never handed on."""
    with opened(server, tmp_path, compat=compat) as store:
        create(store, KEY, b"0123456789")
        proxy.rule(fault, method="GET", times=99)
        with pytest.raises(StoreError, match=sentence) as caught:
            store.get(KEY)
    assert caught.value.advice


def test_an_object_without_a_digest_is_read_and_compared(server: S3, tmp_path: Path) -> None:
    """What somebody else has put there with other tools is compared by its bytes."""
    client = server.client()
    client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{KEY}", Body=b"data")
    client.close()
    with opened(server, tmp_path) as store:
        assert create(store, KEY, b"data") is Outcome.EXISTED
        with pytest.raises(ConflictError, match=digest(b"data")):
            create(store, KEY, b"ours")


def test_a_digest_over_other_bytes_is_not_believed(server: S3, tmp_path: Path) -> None:
    """An object that claims our digest and has another size is read: it is damaged, and a conflict."""
    client = server.client()
    client.put_object(
        Bucket=BUCKET, Key=f"{PREFIX}/{KEY}", Body=b"cut", Metadata={"sha256": digest(b"whole")}
    )
    client.close()
    with opened(server, tmp_path) as store, pytest.raises(ConflictError, match=digest(b"cut")):
        create(store, KEY, b"whole")


# -- how requests are made ----------------------------------------------------------------------------------------------


def sent(proxy: Proxy, method: str, path: str) -> dict[str, str]:
    found = next(one for one in proxy.seen if one.method == method and path in one.path)
    return {name.lower(): value for name, value in found.headers}


def test_what_a_write_carries(server: S3, proxy: Proxy, tmp_path: Path) -> None:
    """Type, caching, digest, condition and a signature of version 4, with the bucket in the path."""
    with opened(server, tmp_path) as store:
        create(store, KEY, b"data")
        tag = replace(store, POINTER, b"1", None)
        replace(store, POINTER, b"2", tag)

    made = sent(proxy, "PUT", f"/{BUCKET}/{PREFIX}/{KEY}")
    assert made["if-none-match"] == "*"
    assert made["x-amz-meta-sha256"] == digest(b"data")
    assert made["cache-control"] == "public, max-age=31536000, immutable"
    assert made["content-type"] == "application/octet-stream"
    assert made["authorization"].startswith("AWS4-HMAC-SHA256")
    pointer = [one for one in proxy.seen if one.path.endswith(POINTER)]
    assert [dict(one.headers).get("If-Match") for one in pointer] == [None, f'"{tag}"']
    assert dict(pointer[0].headers)["Cache-Control"] == "no-cache"


@pytest.mark.parametrize(
    ("compat", "trailers", "checksum"),
    [
        (Compat.STRICT, False, True),
        (Compat.RELAXED, True, False),
        (Compat.AUTO, True, True),
        (Compat.AUTO, False, False),
    ],
)
def test_checksums_go_as_the_setting_says(
    server: S3, proxy: Proxy, tmp_path: Path, compat: Compat, trailers: bool, checksum: bool
) -> None:
    """strict: boto3's own; relaxed: none; auto: as the probe found."""
    with opened(server, tmp_path, compat=compat) as store:
        able = store.capabilities()
        keep(tmp_path / "kept.json", msgspec.structs.replace(able, trailers=trailers))
    with bucket_store(server, tmp_path, kept_in=tmp_path / "kept.json", compat=compat) as store:
        create(store, KEY, b"data")

    assert ("x-amz-checksum-crc32" in sent(proxy, "PUT", KEY)) is checksum


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        ("", {}),
        ("AES256", {"ServerSideEncryption": "AES256"}),
        ("aws:kms", {"ServerSideEncryption": "aws:kms"}),
        (
            "aws:kms:arn:aws:kms:eu-west-1:1:key/2",
            {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": "arn:aws:kms:eu-west-1:1:key/2"},
        ),
    ],
)
def test_encryption_at_rest(setting: str, expected: dict[str, str]) -> None:
    """The setting names the kind, and behind it the key."""
    assert s3_module.encryption(setting) == expected


def test_encryption_is_asked_for(server: S3, proxy: Proxy, tmp_path: Path) -> None:
    """A write carries the setting."""
    settings = ReleaseSettings(url=URL, endpoint=server.url, encryption="AES256")
    with opened(server, tmp_path, connect=s3_module.connector(settings, URL, server.environ)) as store:
        create(store, KEY, b"data")

    assert sent(proxy, "PUT", KEY)["x-amz-server-side-encryption"] == "AES256"


@pytest.mark.parametrize(
    ("settings", "style"),
    [
        (ReleaseSettings(url=URL), "auto"),
        (ReleaseSettings(url=URL, endpoint="http://s"), "path"),
        (ReleaseSettings(url=URL, path_style=True), "path"),
    ],
)
def test_how_boto3_is_set_up(settings: ReleaseSettings, style: str) -> None:
    """Version 4 always, five standard attempts, 5 s to connect and 30 s to answer; path style with an endpoint."""
    config = s3_module.client_config(settings, relaxed=True)

    assert config.signature_version == "s3v4"
    assert config.retries == {"mode": "standard", "total_max_attempts": 5}
    assert (config.connect_timeout, config.read_timeout) == (5, 30)
    assert config.s3["addressing_style"] == style
    assert config.request_checksum_calculation == config.response_checksum_validation == "when_required"


def test_a_second_run_writes_nothing(server: S3, proxy: Proxy, tmp_path: Path) -> None:
    """When everything is there, publishing again sends one listing and one look at each, and no body."""
    jobs = [job(f"artifacts/n/1/{number:03}", bytes([number]) * 100) for number in range(40)]
    with opened(server, tmp_path) as store:
        store.create_many(jobs)
    proxy.reset()
    with opened(server, tmp_path) as store:
        outcomes = store.create_many(jobs)

    assert set(outcomes.values()) == {Outcome.EXISTED}
    assert proxy.count("PUT") == proxy.count("POST") == 0
    assert (proxy.count("GET"), proxy.count("HEAD")) == (1, 40)


def test_a_first_run_asks_for_nothing_twice(server: S3, proxy: Proxy, tmp_path: Path) -> None:
    """When nothing is there, each object costs one request, and all of them one listing, and one look at the bucket."""
    jobs = [job(f"artifacts/n/1/{number:03}", bytes([number]) * 100_000) for number in range(20)]
    with opened(server, tmp_path) as store:
        store.create_many(jobs)

    assert (proxy.count("GET"), proxy.count("HEAD"), proxy.count("PUT")) == (2, 0, 20)


def test_errors_of_the_wire_are_store_errors() -> None:
    """Whoever catches StoreError catches them, with their code and status."""
    error = WireError("x", advice="y", code="Z", status=9)

    assert isinstance(error, StoreError)
    assert (error.code, error.status, error.advice) == ("Z", 9, "y")
