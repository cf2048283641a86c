"""What is the same for every store: names, headers, addresses, several things at a time, a dry run, what is watched."""

from __future__ import annotations

import io
import json
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferryman_build.errors import ConfigError
from ferryman_build.settings import ReleaseSettings
from ferryman_release.errors import ConflictError, StoreError
from ferryman_release.progress import Lines, watched
from ferryman_release.store import open_store, public_url
from ferryman_release.store.base import (
    FOREVER,
    NEVER,
    SHORT,
    Outcome,
    cache_control,
    check_key,
    content_type,
    headers_for,
)
from ferryman_release.store.bucket import BucketStore
from ferryman_release.store.dry import DryRunStore
from ferryman_release.store.file import FileStore
from ferryman_release.store.opening import bucket_of, folder_of
from ferryman_release.store.parallel import run_all
from ferryman_release.store.s3 import Boto
from ferryman_release.store.wire import ChangedError
from support.s3.moto import S3, check_signatures, moto_server
from support.s3.stores import BUCKET, URL, bucket_store, create, digest, job, replace

DOCS = Path(__file__).resolve().parents[3] / "docs" / "stores.md"


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("artifacts/n/1/n-1-linux-amd64", "application/octet-stream"),
        ("artifacts/n/1/n-1-linux-amd64.tar.gz", "application/gzip"),
        ("artifacts/n/1/n-1-windows-amd64.zip", "application/zip"),
        ("artifacts/n/1/n-1-windows-amd64.exe", "application/vnd.microsoft.portable-executable"),
        ("artifacts/n/1/n-1.pyz", "application/zip"),
        ("artifacts/n/1/n.deb", "application/vnd.debian.binary-package"),
        ("artifacts/n/1/n-1-linux-amd64.cdx.json", "application/vnd.cyclonedx+json"),
        ("artifacts/n/1/n-1-linux-amd64.intoto.json", "application/vnd.in-toto+json"),
        ("artifacts/n/1/n.sigstore.json", "application/vnd.dev.sigstore.bundle.v0.3+json"),
        ("artifacts/n/1/release.json", "application/json"),
        ("artifacts/n/1/SHA256SUMS", "text/plain; charset=utf-8"),
        ("artifacts/n/1/SHA256SUMS.minisig", "text/plain; charset=utf-8"),
        ("channels/stable.signed", "text/plain; charset=utf-8"),
        ("index.html", "text/html; charset=utf-8"),
        ("install.sh", "text/plain; charset=utf-8"),
        ("install.ps1", "text/plain; charset=utf-8"),
        ("UPPER.ZIP", "application/zip"),
    ],
)
def test_content_types(key: str, expected: str) -> None:
    """Each kind of file has its type, by the longest suffix that fits."""
    assert content_type(key) == headers_for(key).content_type == expected


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("artifacts/n/1/release.json", FOREVER),
        ("channels/stable/" + "a" * 64 + ".json", FOREVER),
        ("metadata/12.root.json", FOREVER),
        ("metadata/3.stable.json", FOREVER),
        ("metadata/timestamp.json", NEVER),
        ("channels/stable.signed", SHORT),
        ("index.html", SHORT),
        ("index.json", SHORT),
        ("install.sh", SHORT),
        ("metadata/root.json", SHORT),
        ("metadata/x/1.root.json", SHORT),
        ("other", SHORT),
    ],
)
def test_cache_times(key: str, expected: str) -> None:
    """What never changes is cached for a year, the pointer never, everything else for a minute."""
    assert cache_control(key) == headers_for(key).cache_control == expected


@pytest.mark.parametrize("key", ["a", "a/b", "a.b/c_d-e+f@g=h,i~j!k", "1/2", "a..b", "x" * 900])
def test_good_names(key: str) -> None:
    """What releases are made of may be a name."""
    assert check_key(key) == key


# -- addresses ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        (ReleaseSettings(url="s3://b-1/p/q"), "https://b-1.s3.us-east-1.amazonaws.com/p/q/"),
        (ReleaseSettings(url="s3://b-1"), "https://b-1.s3.us-east-1.amazonaws.com/"),
        (ReleaseSettings(url="s3://b.c/p/", region="eu-west-1"), "https://s3.eu-west-1.amazonaws.com/b.c/p/"),
        (ReleaseSettings(url="s3://b-1/p", path_style=True), "https://s3.us-east-1.amazonaws.com/b-1/p/"),
        (ReleaseSettings(url="s3://b-1", region="cn-north-1"), "https://b-1.s3.cn-north-1.amazonaws.com.cn/"),
        (ReleaseSettings(url="s3://b-1/p", endpoint="http://h:1/"), "http://h:1/b-1/p/"),
        (
            ReleaseSettings(url="s3://b-1/p", public_url="https://dl.example.org/x"),
            "https://dl.example.org/x/",
        ),
        (ReleaseSettings(url="file:///srv/x"), "file:///srv/x/"),
        (ReleaseSettings(url="file:///srv/x/"), "file:///srv/x/"),
        (ReleaseSettings(url="file:///srv/x", public_url="http://h/"), "http://h/"),
    ],
)
def test_public_address(settings: ReleaseSettings, expected: str, tmp_path: Path) -> None:
    """Where everyone reads follows from the settings, and ends with a slash."""
    assert public_url(settings, tmp_path) == expected


def test_the_embedded_default(tmp_path: Path) -> None:
    """Without a setting a release goes to out/repository beside pyproject.toml."""
    store = open_store(ReleaseSettings(), tmp_path, {})

    assert isinstance(store, FileStore)
    assert store.url == (tmp_path / "out" / "repository").as_uri()
    assert public_url(ReleaseSettings(), tmp_path) == f"{store.url}/"


def test_which_store_a_url_is(tmp_path: Path) -> None:
    """file: is a folder, with blanks and umlauts; s3: a bucket with a prefix."""
    folder = tmp_path / "ü b"
    file = open_store(ReleaseSettings(url=folder.as_uri()), tmp_path, {})
    create(file, "a", b"x")

    assert (folder / "a").read_bytes() == b"x"
    assert isinstance(open_store(ReleaseSettings(url="s3://bucket"), tmp_path, {}), BucketStore)
    assert bucket_of("s3://b/p%20q/r/") == ("b", "p q/r/")
    assert bucket_of("s3://b") == ("b", "")
    assert folder_of("file:///C:/x") == Path("C:/x")


@pytest.mark.parametrize(
    "url",
    ["ftp://x", "s3://", "s3://Bucket", "s3://b_c/x", "file://host/x", "file:x", "s3://bucket?x=1", "/srv"],
)
def test_a_url_of_no_store(url: str, tmp_path: Path) -> None:
    """Everything else is a mistake in the settings, with both forms in the cure."""
    with pytest.raises(ConfigError, match=re.escape(repr(url))) as caught:
        open_store(ReleaseSettings(url=url), tmp_path, {})
    assert "s3://bucket/prefix" in caught.value.advice


@pytest.mark.parametrize("url", ["dl.example.org", "https://", "s3://b/x"])
def test_a_public_address_that_is_none(url: str, tmp_path: Path) -> None:
    """A public address is one of http, https or file."""
    with pytest.raises(ConfigError, match="is no address") as caught:
        public_url(ReleaseSettings(public_url=url), tmp_path)
    assert "https://" in caught.value.advice


# -- several at a time --------------------------------------------------------------------------------------------------


def test_results_are_in_the_order_of_the_items() -> None:
    """Whatever is done first."""
    assert run_all(lambda number: number * 2, range(50), workers=8) == [number * 2 for number in range(50)]
    assert run_all(lambda number: number, [], workers=8) == []


def test_after_a_failure_nothing_new_is_begun() -> None:
    """The failure is raised when what was under way has ended."""
    begun: list[int] = []
    failed = threading.Event()

    def work(number: int) -> None:
        begun.append(number)
        if number == 1:
            failed.set()
            raise StoreError("no")
        failed.wait(10)

    with pytest.raises(StoreError, match="no"):
        run_all(work, range(1000), workers=2)
    assert len(begun) < 1000


# -- a body that is not what was said -------------------------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["https://127.0.0.1:1", "http://127.0.0.1:1", ""])
@pytest.mark.parametrize("relaxed", [True, False])
@pytest.mark.parametrize("as_file", [True, False])
def test_a_body_with_another_digest_is_not_sent(
    endpoint: str, relaxed: bool, as_file: bool, tmp_path: Path
) -> None:
    """Over http and https, with either kind of checksums: it is refused before anything is connected."""
    settings = ReleaseSettings(url=URL, endpoint=endpoint)
    environ = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}
    wire = Boto(settings, BUCKET, environ, relaxed=relaxed)
    (tmp_path / "body").write_bytes(b"data")
    with open(tmp_path / "body", "rb") as file, pytest.raises(ChangedError, match=digest(b"data")):
        wire.put("k", file if as_file else b"data", headers_for("k"), sha256="0" * 64)
    wire.close()


# -- what the documentation promises --------------------------------------------------------------------------------------


@pytest.fixture
def moto() -> Iterator[S3]:
    with moto_server() as running:
        running.make_bucket(BUCKET)
        yield running


def test_the_rights_of_the_documentation_suffice(moto: S3, tmp_path: Path) -> None:
    """A publisher with exactly the policy of docs/stores.md can do all that publishing does."""
    policy = re.findall(r"```json\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)[0]
    ours = policy.replace(":::releases/agent/", f":::{BUCKET}/some/agent/").replace(
        ':::releases"', f':::{BUCKET}"'
    )
    iam = moto.client("iam")
    iam.create_user(UserName="publisher")
    iam.put_user_policy(UserName="publisher", PolicyName="p", PolicyDocument=json.dumps(json.loads(ours)))
    made = iam.create_access_key(UserName="publisher")["AccessKey"]
    iam.close()
    keys = {"AWS_ACCESS_KEY_ID": made["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"]}
    large = tmp_path / "large"
    large.write_bytes(bytes(9 << 20))
    with check_signatures(moto), bucket_store(S3(moto.url, keys), tmp_path) as store:
        able = store.capabilities()
        outcomes = store.create_many([job(f"artifacts/n/1/{number}", b"x") for number in range(5)])
        assert create(store, "artifacts/n/1/large", large) is Outcome.CREATED
        tag = replace(store, "metadata/timestamp.json", b"1", None)
        replace(store, "metadata/timestamp.json", b"2", tag)
        store.put("index.html", b"", headers_for("index.html"))
        listed = [entry.key for entry in store.list()]
        for key in listed:
            store.delete(key)
        assert list(store.list()) == []

    assert (able.create, able.create_multipart, able.replace, able.versioned) == (True, True, True, False)
    assert set(outcomes.values()) == {Outcome.CREATED}
    assert len(listed) == 8


def test_a_prefix_beside_ours_is_not_ours(moto: S3, tmp_path: Path) -> None:
    """Two programs in one bucket do not see each other."""
    with bucket_store(moto, tmp_path) as ours, bucket_store(moto, tmp_path, prefix="some/agent2/") as theirs:
        create(ours, "a", b"1")
        create(theirs, "a", b"2")
        assert [entry.key for entry in ours.list()] == ["a"]
        assert ours.get("a") != theirs.get("a")


# -- a dry run ----------------------------------------------------------------------------------------------------------


def test_a_dry_run_writes_nothing_and_says_everything(tmp_path: Path) -> None:
    """Each write is a line with size, type, cache time and condition; later steps read what earlier ones wrote."""
    real = FileStore(tmp_path / "store")
    tag = replace(real, "metadata/timestamp.json", b"old", None)
    create(real, "artifacts/n/1/there", b"there")
    before = sorted(path for path in tmp_path.rglob("*"))
    with DryRunStore(real) as dry:
        outcomes = dry.create_many(
            [job("artifacts/n/1/there", b"there"), job("artifacts/n/1/new.zip", b"12345")]
        )
        new = replace(dry, "metadata/timestamp.json", b"new!", tag)
        dry.put("index.html", b"page", headers_for("index.html"))
        dry.delete("artifacts/n/0/old")

        assert list(outcomes.values()) == [Outcome.EXISTED, Outcome.CREATED]
        assert dry.get("metadata/timestamp.json") == (b"new!", new)
        assert dry.get("artifacts/n/1/there") == real.get("artifacts/n/1/there")
        assert [entry.key for entry in dry.list("artifacts/")] == [
            "artifacts/n/1/new.zip",
            "artifacts/n/1/there",
        ]
        assert dry.capabilities().create
    assert dry.requests == [
        "create artifacts/n/1/new.zip (5 B, application/zip, public, max-age=31536000, immutable), if nothing is there",
        f"replace metadata/timestamp.json (4 B, application/json, no-cache), if its tag is {tag}",
        "put index.html (4 B, text/html; charset=utf-8, public, max-age=60), in any case",
        "delete artifacts/n/0/old",
    ]
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_a_dry_run_finds_the_conflicts_of_the_real_one(tmp_path: Path) -> None:
    """Other bytes and a stale tag are refused as they would be."""
    real = FileStore(tmp_path)
    create(real, "a", b"theirs")
    dry = DryRunStore(real)

    with pytest.raises(ConflictError, match=digest(b"theirs")):
        create(dry, "a", b"ours")
    with pytest.raises(ConflictError, match="somebody else"):
        replace(dry, "a", b"ours", "0" * 64)
    with pytest.raises(ConflictError):
        replace(dry, "a", b"ours", None)
    assert dry.requests == []


def test_a_dry_run_does_not_ask_a_bucket(moto: S3, tmp_path: Path) -> None:
    """What a bucket can do is said when it is known, and asked by nobody: asking writes."""
    with bucket_store(moto, tmp_path) as store:
        dry = DryRunStore(store)
        rows = dry.capabilities().rows()
        assert list(store._wire.list("")) == []
        able = store.capabilities()
        assert dry.capabilities() == able

    assert rows == (("what the store keeps of its word", "not asked yet, since that writes"),)


# -- what is watched ------------------------------------------------------------------------------------------------------


def test_a_line_for_each_tenth() -> None:
    """Where nobody watches a bar: ten lines at most, each with what has arrived, the rate and the time left."""
    said: list[str] = []
    now = [100.0]
    lines = Lines("uploading", 100_000_000, said.append, clock=lambda: now[0])
    for _ in range(100):
        now[0] += 0.5
        lines("a", 1_000_000)

    assert len(said) == 10
    assert said[0] == "uploading: 10.0 MB of 100.0 MB, 2.0 MB/s, 45 s left"
    assert said[-1] == "uploading: 100.0 MB of 100.0 MB, 2.0 MB/s in 50 s"


def test_a_part_that_starts_over_is_taken_back() -> None:
    """Negative progress says nothing and is not counted twice."""
    said: list[str] = []
    lines = Lines("uploading", 100, said.append, clock=lambda: 1.0)
    for more in (50, -50, 50, 50):
        lines("a", more)

    assert [line.split(",")[0] for line in said] == ["uploading: 50 B of 100 B", "uploading: 100 B of 100 B"]


def test_nothing_to_carry() -> None:
    """No bytes are no division."""
    said: list[str] = []
    Lines("uploading", 0, said.append, clock=lambda: 1.0)("a", 0)

    assert len(said) == 1


def test_plain_lines_go_to_the_stream() -> None:
    """Without a terminal the lines are written as they come."""
    out = io.StringIO()
    with watched("uploading", 10, stream=out) as progress:
        progress("a", 10)

    assert out.getvalue().startswith("uploading: 10 B of 10 B")


def test_a_bar_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal gets a bar with sizes, and threads may report at once."""
    monkeypatch.setenv("TERM", "xterm")

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with watched("uploading", 1000, stream=out) as progress:
        run_all(lambda _: progress("a", 10), range(100), workers=4)

    assert "uploading" in out.getvalue()
    assert "1.0/1.0 kB" in out.getvalue()
