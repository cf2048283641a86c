"""A GitHub release is all there or not there, however often and wherever its making is broken off."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from ferryman_release.errors import GithubError
from ferryman_release.github import Published, Token, Upload, dry_run, publish_release
from ferryman_release.github.publish import MARK
from ferryman_release.github.wire import Answer, Call, Sink, exchange
from support.github_server import TOKEN, Asset, Fault, GithubServer, Release, method

COMMIT = "3f" * 20
TAG = "v1.0.0"
NAMES = ("lantern-1.0.0-linux-amd64", "lantern-1.0.0-linux-amd64.sigstore.json", "SHA256SUMS")


class Clock:
    """Time that passes only in sleep."""

    def __init__(self) -> None:
        self.now = 1_790_000_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Desk:
    """A server, a repository with the tag, three files, and what publishing them takes."""

    def __init__(self, github: GithubServer, folder: Path) -> None:
        self.github = github
        self.repository = github.repository("owner/lantern")
        self.repository.tags[TAG] = COMMIT
        self.clock = Clock()
        self.said: list[str] = []
        self.files = [make(folder, name) for name in NAMES]

    def publish(self, **more: Any) -> Published:
        options: dict[str, Any] = {"token": Token(TOKEN), "api": self.github.api, "clock": self.clock,
                                   "sleep": self.clock.sleep, "say": self.said.append, "commit": COMMIT,
                                   "assets": self.files, "repo": "owner/lantern", "tag": TAG}  # fmt: skip
        return publish_release(title="lantern 1.0.0", notes="What is new.", **{**options, **more})

    def whole(self) -> dict[str, bytes]:
        return {one.name: one.path.read_bytes() for one in self.files}

    def seen(self) -> dict[str, bytes] | None:
        return self.repository.anonymous(TAG)


def make(folder: Path, name: str, data: bytes | None = None) -> Upload:
    data = f"{name}\n".encode() * 50 if data is None else data
    (folder / name).write_bytes(data)
    return Upload(
        name, folder / name, "application/octet-stream", len(data), hashlib.sha256(data).hexdigest()
    )


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with GithubServer() as github:
        yield Desk(github, tmp_path)
        assert github.complaints == []


def draft_of(desk: Desk, *, body: str = MARK, tag: str = TAG, draft: bool = True) -> Release:
    release = Release(desk.github.next_id(), tag, COMMIT, "", body, draft=draft, prerelease=False)
    desk.repository.releases[release.id] = release
    return release


def put(desk: Desk, release: Release, name: str, data: bytes, state: str = "uploaded") -> Asset:
    asset = Asset(desk.github.next_id(), name, state, data, "application/octet-stream")
    release.assets[asset.id] = asset
    return asset


def changes(github: GithubServer) -> list[str]:
    return [f"{one.method} {one.path}" for one in github.requests if one.method != "GET"]


# -- the usual way ----------------------------------------------------------------------------------------------------


def test_everything_is_there_and_visible(desk: Desk) -> None:
    """All files arrive byte for byte, with title, notes, media types; and the release is the tag's."""
    done = desk.publish()

    release = desk.repository.published(TAG)
    assert desk.seen() == desk.whole()
    assert release is not None
    assert (release.name, release.prerelease, release.make_latest) == ("lantern 1.0.0", False, "legacy")
    assert release.body.startswith("What is new.\n")
    assert {asset.media_type for asset in release.assets.values()} == {"application/octet-stream"}
    assert (done.changed, set(done.uploaded), done.deleted, done.remarks) == (True, set(NAMES), (), ())
    assert done.url.endswith(f"/releases/tag/{TAG}")


def test_nothing_is_visible_before_the_last_change(desk: Desk) -> None:
    """Publishing is the last request that changes something, and the only one that makes anything visible."""
    desk.publish()

    assert [line.split()[0] for line in changes(desk.github)] == ["POST", "POST", "POST", "POST", "PATCH"]


def test_a_second_run_changes_nothing(desk: Desk) -> None:
    """Where the release is there already, a few questions are asked and nothing is sent."""
    desk.publish()
    before = len(desk.github.requests)
    again = desk.publish()

    assert (again.changed, again.uploaded) == (False, ())
    assert {one.method for one in desk.github.requests[before:]} == {"GET"}
    assert len(desk.github.requests) - before <= 5


def test_prereleases_are_no_latest(desk: Desk) -> None:
    """A pre-release says so, and does not become the latest."""
    desk.publish(prerelease=True)

    release = desk.repository.published(TAG)
    assert release is not None
    assert (release.prerelease, release.make_latest) == (True, "false")


def test_a_tag_that_is_not_there_is_made_at_the_commit(desk: Desk) -> None:
    """Without the tag, publication makes it where the release comes from."""
    desk.repository.tags.clear()
    desk.publish()

    assert desk.repository.tags == {TAG: COMMIT}


def test_an_annotated_tag_is_followed_to_its_commit(desk: Desk) -> None:
    """What counts is the commit that a tag is about in the end."""
    desk.repository.annotated["ab" * 20] = COMMIT

    assert desk.publish().changed


def test_progress_ends_at_all_bytes(desk: Desk) -> None:
    """The progress never exceeds the total and reaches it."""
    seen: list[tuple[int, int]] = []
    desk.publish(progress=lambda done, total, _label: seen.append((done, total)))

    total = sum(one.size for one in desk.files)
    assert seen[-1] == (total, total)
    assert max(done for done, _ in seen) == total


def test_more_files_than_a_page_has(tmp_path: Path) -> None:
    """Lists are read to their last page: 230 files and 120 releases, a hundred a page."""
    with GithubServer() as github:
        desk = Desk(github, tmp_path)
        mine = draft_of(desk)  # the oldest stands on the last page
        for number in range(120):
            draft_of(desk, tag=f"v0.{number}", draft=False)
        desk.files = [make(tmp_path, f"part-{number:03}") for number in range(230)]
        desk.publish()
        again = desk.publish()

        assert desk.seen() == desk.whole()
        assert again.changed is False
        assert mine.draft is False
        assert github.complaints == []


def test_enterprise_server(tmp_path: Path) -> None:
    """Paths of GitHub Enterprise Server, which has no digests: files are read back and compared."""
    with GithubServer(base="/api/v3", uploads="/api/uploads") as github:
        desk = Desk(github, tmp_path)
        desk.repository.digests = False
        desk.publish()
        again = desk.publish()
        asset = next(iter(desk.repository.published(TAG).assets.values()))  # type: ignore[union-attr]
        asset.data = asset.data[::-1]
        with pytest.raises(GithubError, match="does not have the files") as refused:
            desk.publish()

        assert again.changed is False
        assert refused.value.details == (f"{asset.name}: other bytes",)
        assert github.complaints == []


def test_a_repository_that_has_moved(desk: Desk) -> None:
    """Redirects within the API are followed, with the method and the body of the request."""
    desk.repository.moved = 77

    assert desk.publish().changed
    assert desk.seen() == desk.whole()


# -- what is there already --------------------------------------------------------------------------------------------


def test_a_draft_of_a_dead_run_is_continued(desk: Desk) -> None:
    """What is right stays; half a file, other bytes and a file too many go; what is missing comes."""
    draft = draft_of(desk)
    kept = put(desk, draft, NAMES[0], desk.files[0].path.read_bytes())
    put(desk, draft, NAMES[1], b"", "starter")
    put(desk, draft, NAMES[2], b"x" * desk.files[2].size)
    put(desk, draft, "left-over", b"of another build")
    done = desk.publish()

    assert desk.seen() == desk.whole()
    assert set(done.uploaded) == {NAMES[1], NAMES[2]}
    assert set(done.deleted) == {NAMES[1], NAMES[2], "left-over"}
    assert kept.id in draft.assets


def test_somebody_elses_draft_is_left_alone(desk: Desk) -> None:
    """A draft without our mark is a person's work: neither continued nor deleted, and mentioned."""
    theirs = draft_of(desk, body="Notes in the making")
    done = desk.publish()

    assert desk.seen() == desk.whole()
    assert theirs.draft
    assert theirs.body == "Notes in the making"
    assert ["somebody else made" in remark for remark in done.remarks] == [True]


def test_second_drafts_of_ours_go(desk: Desk) -> None:
    """Of several drafts of dead runs the oldest is continued, the others are deleted."""
    oldest, _ = draft_of(desk), draft_of(desk)
    desk.publish()

    assert list(desk.repository.releases) == [oldest.id]


@pytest.mark.parametrize("immutable", [False, True])
def test_a_published_release_is_never_changed(desk: Desk, immutable: bool) -> None:
    """Files missing, different or too many: refused with their names, and not one request changes anything."""
    desk.repository.immutable = immutable
    desk.publish()
    release = desk.repository.published(TAG)
    assert release is not None
    first, second, _ = release.assets.values()
    first.data = first.data[:-1] + b"?"
    del release.assets[second.id]
    put(desk, release, "stranger", b"hello")
    before = changes(desk.github)
    with pytest.raises(GithubError, match="does not have the files of this release") as refused:
        desk.publish()

    assert set(refused.value.details) == {f"{first.name}: other bytes", f"{second.name}: missing",
                                          "stranger: not of this release"}  # fmt: skip
    assert ("immutable" in refused.value.advice) is immutable
    assert changes(desk.github) == before


def test_immutable_releases(desk: Desk) -> None:
    """With immutable releases nothing else is needed: the draft is whole before it is closed."""
    desk.repository.immutable = True
    done, again = desk.publish(), desk.publish()

    assert (done.immutable, done.changed, again.changed) == (True, True, False)
    assert desk.seen() == desk.whole()


def test_a_spent_tag(desk: Desk) -> None:
    """The tag of a deleted immutable release cannot be used again, which is said; only a draft is left."""
    desk.repository.spent.add(TAG)
    with pytest.raises(GithubError, match="an immutable release has, or had, this tag") as refused:
        desk.publish()

    assert "next version" in refused.value.advice
    assert desk.seen() is None


def test_a_tag_of_another_commit(desk: Desk) -> None:
    """A tag that is about another commit stops everything before anything is made."""
    desk.repository.tags[TAG] = "aa" * 20
    with pytest.raises(GithubError, match="is about commit aaaaaaaaaaaa"):
        desk.publish()

    assert changes(desk.github) == []


def test_a_tag_that_moves_meanwhile(desk: Desk) -> None:
    """A tag that somebody moves during the release is noticed at its end."""

    def moving(call: Call, sink: Sink | None = None) -> Answer:
        if call.method == "PATCH":
            desk.repository.tags[TAG] = "bb" * 20
        return exchange(call, sink)

    with pytest.raises(GithubError, match="is about commit bbbbbbbbbbbb"):
        desk.publish(exchange=moving)


# -- broken off -------------------------------------------------------------------------------------------------------


class Killed(BaseException):
    """The end of a process."""


class Killing:
    """Lets so many requests through; the next one is the last thing that happens, before it is sent or after."""

    def __init__(self, allowed: int, *, after: bool) -> None:
        self.left = allowed
        self.after = after

    def __call__(self, call: Call, sink: Sink | None = None) -> Answer:
        self.left -= 1
        if self.left < 0 and not self.after:
            raise Killed
        answer = exchange(call, sink)
        if self.left < 0:
            raise Killed
        return answer


def boundaries(folder: Path) -> int:
    """How many requests a release of these files takes."""
    folder.mkdir()
    with GithubServer() as github:
        Desk(github, folder).publish()
        return len(github.requests)


@pytest.mark.parametrize("immutable", [False, True])
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_every_request(tmp_path: Path, after: bool, immutable: bool) -> None:
    """Killed before or after any request: everyone sees nothing or all, and the next run completes it."""
    total = boundaries(tmp_path / "count")
    seen = []
    for number in range(total):
        folder = tmp_path / str(number)
        folder.mkdir()
        with GithubServer() as github:
            desk = Desk(github, folder)
            desk.repository.immutable = immutable
            with pytest.raises(Killed):
                desk.publish(exchange=Killing(number, after=after))
            seen.append(desk.seen())
            done = desk.publish()
            assert desk.seen() == desk.whole(), number
            assert desk.repository.drafts(TAG) == [], number
            assert done.changed is (seen[-1] is None), number
            assert github.complaints == []
    assert [one for one in seen if one not in (None, desk.whole())] == []
    assert seen[0] is None
    assert seen[-1] == desk.whole()


FAULTS: dict[str, Callable[[], Fault]] = {
    "lost": lambda: Fault("lost"),
    "reset": lambda: Fault("reset"),
    "truncated": lambda: Fault("truncated"),
    "503": lambda: Fault("status", status=503),
    "502": lambda: Fault("status", status=502),
    "secondary": lambda: Fault("status", status=403, message="You have exceeded a secondary rate limit."),
    "retry-after": lambda: Fault("status", status=429, headers={"Retry-After": "7"}),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_at_every_request(tmp_path: Path, kind: str) -> None:
    """One fault of each kind at each request in turn: the release is made in this run, once, without a left-over."""
    for number in range(boundaries(tmp_path / "count")):
        folder = tmp_path / str(number)
        folder.mkdir()
        with GithubServer() as github:
            desk = Desk(github, folder)
            fault = FAULTS[kind]()
            fault.when = lambda request, number=number: request.number == number  # type: ignore[misc]
            github.fail(fault)
            desk.publish()
            assert fault.hits == 1
            assert desk.seen() == desk.whole(), number
            assert len(desk.repository.releases) == 1, number
            assert github.complaints == []


@pytest.mark.parametrize("kind", ["502", "half", "damaged", "vanished", "lost"])
def test_uploads_that_go_wrong(desk: Desk, kind: str) -> None:
    """Every file's first two uploads leave half a file, damage it or lose it: all of them arrive in the end."""
    desk.github.fail(Fault(kind, when=method("POST", "/assets"), times=6 if kind != "vanished" else 1))
    if kind == "vanished":
        with pytest.raises(GithubError, match="does not have the files that were sent") as refused:
            desk.publish()
        assert len(refused.value.details) == 1
        assert desk.seen() is None
    desk.publish()

    assert desk.seen() == desk.whole()


def test_an_upload_that_never_goes_well(desk: Desk) -> None:
    """The attempts are counted: a sentence in the end, nothing visible, and the next run goes on."""
    desk.github.fail(fault := Fault("502", when=method("POST", "/assets"), times=1000))
    with pytest.raises(GithubError, match=r"could not be uploaded in 6 attempts: the answer was 502"):
        desk.publish()
    assert desk.seen() is None
    fault.times = 0
    desk.publish()

    assert desk.seen() == desk.whole()


def test_two_at_once_end_with_one_release(desk: Desk) -> None:
    """Another run that makes its draft at the same moment: both keep the older of the two."""
    other: list[Release] = []

    def racing(call: Call, sink: Sink | None = None) -> Answer:
        if call.method == "POST" and call.url.endswith("/releases"):
            other.append(draft_of(desk))
        return exchange(call, sink)

    desk.publish(exchange=racing)

    assert list(desk.repository.releases) == [other[0].id]
    assert desk.seen() == desk.whole()


@pytest.mark.parametrize("immutable", [False, True])
def test_three_runs_in_parallel(desk: Desk, immutable: bool) -> None:
    """Three publishers of the same files: all end well, one release is there, and readers never see a part of it."""
    desk.repository.immutable = immutable
    seen: list[dict[str, bytes] | None] = []

    def looking(call: Call, sink: Sink | None = None) -> Answer:
        with desk.github.lock:
            seen.append(desk.seen())
        return exchange(call, sink)

    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(desk.publish, exchange=looking) for _ in range(3)]
        done = [run.result() for run in runs]

    assert any(one.changed for one in done)
    assert [one for one in (*seen, desk.seen()) if one not in (None, desk.whole())] == []
    assert desk.seen() == desk.whole()
    assert desk.publish().changed is False


# -- what GitHub would not take ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a b", "a~b", ".hidden", "dot.", "a..b", "ä", "a/b", ""])
def test_names_that_would_be_renamed(desk: Desk, tmp_path: Path, name: str) -> None:
    """A file that GitHub would rename is refused before anything is sent: signed documents name it otherwise."""
    bad = Upload(name, desk.files[0].path, "text/plain", desk.files[0].size, desk.files[0].sha256)
    with pytest.raises(GithubError, match="would not take") as refused:
        desk.publish(assets=[*desk.files, bad])

    assert refused.value.details == (f"{name}: GitHub would rename it",)
    assert desk.github.requests == []


def test_all_that_is_wrong_is_said_at_once(desk: Desk, tmp_path: Path) -> None:
    """Empty, too large, missing, changed, twice: one line each."""
    empty = make(tmp_path, "empty", b"")
    large = Upload("large", tmp_path / "empty", "text/plain", 2 * 1024**3, "00")
    gone = Upload("gone", tmp_path / "gone", "text/plain", 5, "00")
    grown = Upload("grown", desk.files[0].path, "text/plain", 1, "00")
    with pytest.raises(GithubError) as refused:
        desk.publish(assets=[*desk.files, desk.files[0], empty, large, gone, grown])

    words = [line.split(":")[0] for line in refused.value.details]
    assert words == [NAMES[0], "empty", "large", "gone", "grown"]


def test_too_many_files(desk: Desk, tmp_path: Path) -> None:
    """A thousand files are what a release takes."""
    one = desk.files[0]
    many = [Upload(f"f{number}", one.path, "text/plain", one.size, one.sha256) for number in range(1001)]
    with pytest.raises(GithubError) as refused:
        desk.publish(assets=many)

    assert refused.value.details == ("1001 files, and a release takes 1000",)


def test_a_rename_that_nobody_expected(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that renames what it should keep is caught at the first file, and the file is taken away."""
    monkeypatch.setattr("support.github_server.renamed", lambda name: name.replace("-", "."))
    with pytest.raises(GithubError, match=r"GitHub renamed lantern-1\.0\.0-linux-amd64"):
        desk.publish(assets=desk.files[:1])

    assert desk.seen() is None
    assert [release.assets for release in desk.repository.releases.values()] == [{}]


def test_a_file_that_changes_under_way(desk: Desk) -> None:
    """Other bytes of the same length are not sent to their end."""
    one = desk.files[0]
    one.path.write_bytes(b"?" * one.size)
    with pytest.raises(GithubError, match="changed while it was uploaded"):
        desk.publish()

    assert desk.seen() is None


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("commit", "3f3f", "no full commit id"),
        ("tag", "v 1", "cannot be a tag"),
        ("repo", "lantern", "no repository on GitHub"),
        ("repo", "owner/..", "no repository on GitHub"),
        ("repo", "owner/x/../../user", "no repository on GitHub"),
        ("api", "http://api.example.org", "not encrypted"),
    ],
)
def test_options_that_cannot_be(desk: Desk, option: str, value: str, words: str) -> None:
    """Each is refused before a request carries the token anywhere."""
    with pytest.raises(GithubError, match=words):
        desk.publish(**{option: value})

    assert desk.github.requests == []


def test_notes_that_are_too_long(desk: Desk) -> None:
    """The limit of GitHub is told in advance."""
    with pytest.raises(GithubError, match="GitHub takes 124"):
        publish_release("owner/lantern", TAG, COMMIT, "t", "x" * 125_000, desk.files, token=Token(TOKEN))


def test_dry_run_lists_what_would_be_sent(desk: Desk) -> None:
    """The requests of a first run in their order, without one being sent."""
    lines = dry_run("owner/lantern", TAG, desk.files)
    enterprise = dry_run("owner/lantern", TAG, desk.files, api="https://git.example.org/api/v3/")
    desk.publish()

    assert [line.split()[0] for line in lines] == [line.split()[0] for line in changes(desk.github)]
    assert "https://uploads.github.com/repos/owner/lantern/releases/ID/assets?name=SHA256SUMS" in lines[3]
    assert enterprise[1].startswith("POST https://git.example.org/api/uploads/repos/")
