"""A release from dist/ to a channel and on: into a real folder, with real keys, read by the real client."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from ferryman_client import ClientError, UnknownReleaseError
from ferryman_release.errors import ConflictError, PreflightError, VerifyError
from ferryman_release.metadata.channels import promoted, rolled_back, yanked
from ferryman_release.model import TIMESTAMP
from ferryman_release.operate import change, find_release_in, read_release
from ferryman_release.pipeline import STEPS
from ferryman_release.steps.sign import entry_asset
from support.dist_factory import make_dist
from support.releasing import Transaction, World, make_world


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path)


def steps_said(world: World) -> Iterator[tuple[str, str]]:
    """(tick, step) of each line, in order; what was said is forgotten."""
    text = world.said.getvalue()
    world.said.truncate(0)
    world.said.seek(0)
    names = {step.name for step in STEPS}
    for line in text.splitlines():
        words = line.split()
        if len(words) > 3 and words[3] in names:
            yield words[0], words[3]


def version(world: World, channel: str = "canary", state: str = "state") -> str:
    client = world.client(channel, state=state)
    client.strict_refresh()
    return client.channel().version


def promote(transaction: Transaction, number: str, channel: str, percent: int = 100) -> None:
    entry, release = find_release_in(transaction, number)
    state = promoted(
        transaction.state(channel),
        release,
        entry_asset(entry),
        percent=percent,
        moment="2026-11-21T12:00:00Z",
    )
    transaction.set(state)


def test_a_client_gets_what_was_built(world: World) -> None:
    """From the first root to the bytes of the artifact, with nothing but the public address."""
    world.release("1.0.0")

    client = world.client()
    client.strict_refresh()
    (offer,) = [one for one in client.offers("linux-amd64") if one.kind == "executable"]
    path = client.download(offer, world.root / "machine")
    assert path.read_bytes() == (world.root / "dist-1.0.0" / "lantern-1.0.0-linux-amd64").read_bytes()


def test_a_second_run_does_nothing(world: World) -> None:
    """Not an object is written, and the steps say so."""
    world.release("1.0.0")
    before = {path: path.stat().st_mtime_ns for path in world.store.rglob("*") if path.is_file()}
    list(steps_said(world))
    world.release("1.0.0")

    assert {path: path.stat().st_mtime_ns for path in world.store.rglob("*") if path.is_file()} == before
    ended = {step: tick for tick, step in steps_said(world)}
    assert (ended["verify"], ended["flip"]) == ("same", "skip")


def test_a_second_machine_makes_the_same_bytes(world: World) -> None:
    """Without anything of the first run: documents and signatures are the same, so the version is recognised."""
    world.release("1.0.0")
    before = world.objects()
    (world.root / "out" / "release").rename(world.root / "elsewhere")
    world.release("1.0.0")

    assert world.objects() == before


@pytest.mark.parametrize("last", [step.name for step in STEPS[:-1]])
def test_a_run_that_stopped_goes_on(world: World, last: str) -> None:
    """After any step: nobody saw anything, or all of it; and the next run ends it."""
    names = [step.name for step in STEPS]
    world.release("0.9.0")
    world.release("1.0.0", steps=STEPS[: names.index(last) + 1])
    seen = version(world)
    world.release("1.0.0")

    assert seen == ("1.0.0" if names.index(last) >= names.index("flip") else "0.9.0")
    assert version(world) == "1.0.0"


def test_a_version_is_published_once(world: World) -> None:
    """Other bytes under the same number are refused, and nothing of them is in the store."""
    world.release("1.0.0")
    before = world.objects()
    make_dist(
        world.root / "dist-1.0.0",
        "1.0.0",
        targets=world.targets,
        contents={"lantern-1.0.0-linux-amd64": b"other"},
    )

    with pytest.raises(ConflictError, match=r"lantern 1\.0\.0 is in the store already") as caught:
        world.release("1.0.0")
    assert caught.value.advice
    assert world.objects() == before


def test_a_version_that_was_half_staged_with_other_bytes_is_refused(world: World) -> None:
    """Also before release.json: an object of that name holds other bytes, and is not written over."""
    world.release("1.0.0", steps=STEPS[:6])
    there = world.store / "artifacts/lantern/1.0.0/lantern-1.0.0-linux-amd64"
    there.parent.mkdir(parents=True)
    there.write_bytes(b"another publisher's")

    with pytest.raises(ConflictError, match=r"lantern-1\.0\.0-linux-amd64"):
        world.release("1.0.0")
    assert there.read_bytes() == b"another publisher's"


def test_what_does_not_come_back_is_not_made_visible(world: World) -> None:
    """A store that gives other bytes is noticed before the flip, and every such file is named."""
    world.release("0.9.0")
    names = [step.name for step in STEPS]
    world.release("1.0.0", steps=STEPS[: names.index("stage") + 1])
    for name in ("lantern-1.0.0-linux-amd64", "SHA256SUMS"):
        path = world.store / "artifacts/lantern/1.0.0" / name
        path.chmod(0o644)
        path.write_bytes(b"x" * path.stat().st_size)

    with pytest.raises(VerifyError, match="2 files do not come back") as caught:
        world.release("1.0.0")
    assert all("other bytes" in line for line in caught.value.details)
    assert version(world) == "0.9.0"


def test_the_files_of_dist_are_what_the_manifest_says(world: World) -> None:
    """A file that was changed after the build stops the release."""
    job = world.job("1.0.0")
    path = job.options.dist / "lantern-1.0.0-linux-amd64"
    path.write_bytes(path.read_bytes()[:-1] + b"!")

    with pytest.raises(VerifyError, match="not what the build has made"):
        world.release("1.0.0")
    assert not (world.store / TIMESTAMP).exists()


def test_of_two_publishers_one_wins_and_the_other_can_go_on(world: World) -> None:
    """Both prepare on the same state; the second flip is refused, and run again it goes on top of the first."""
    world.release("1.0.0")
    place = world.place()

    def race(transaction: Transaction) -> None:
        promote(transaction, "1.0.0", "beta")
        world.change(lambda rival: promote(rival, "1.0.0", "stable"))

    with pytest.raises(ConflictError, match="Another publisher was faster"):
        change(place, "lantern", race)
    assert version(world, "stable", "s1") == "1.0.0"
    with pytest.raises(ClientError):
        version(world, "beta", "s2")

    world.change(lambda transaction: promote(transaction, "1.0.0", "beta"))
    assert (version(world, "beta", "s2"), version(world, "stable", "s1")) == ("1.0.0", "1.0.0")


def test_a_promotion_copies_no_bytes(world: World) -> None:
    """Only metadata, the channel's history and the pages change; the artifacts are those of the first channel."""
    world.release("1.0.0")
    before = world.objects()
    world.change(lambda transaction: promote(transaction, "1.0.0", "stable"))
    new = {key for key, data in world.objects().items() if before.get(key) != data}

    assert not [key for key in new if key.startswith("artifacts/")]
    assert version(world, "stable") == "1.0.0"


def test_a_channel_goes_back(world: World) -> None:
    """A rollback and a yank are signatures: the client that had the new version is told to leave it."""
    for number in ("1.0.0", "1.1.0", "1.2.0"):
        world.release(number)
    world.change(
        lambda t: t.set(rolled_back(t.state("canary"), releases=lambda entry: read_release(t.store, entry)))
    )
    client = world.client()
    client.strict_refresh()
    assert (client.channel().version, client.channel().withdrawn) == ("1.1.0", ("1.2.0",))

    world.change(
        lambda t: t.set(
            yanked(
                t.state("canary"),
                "1.1.0",
                "eats disks",
                date="2026-11-21",
                releases=lambda e: read_release(t.store, e),
            )
        )
    )
    client.strict_refresh()
    assert client.channel().version == "1.0.0"
    assert [(one.version, one.reason) for one in client.channel().yanked] == [("1.1.0", "eats disks")]


def test_a_refresh_signs_again_what_has_little_time_left(world: World) -> None:
    """The timestamp each time; snapshot and channels only when half of their time is over."""
    world.release("1.0.0")
    before = set(world.objects())
    world.clock.forward(seconds=30)
    world.change(lambda _: None)

    assert set(world.objects()) == before
    assert version(world) == "1.0.0"


def test_an_orphan_of_a_dead_run_is_passed_over(world: World) -> None:
    """Documents that were staged and never became visible do not stop the next run; their numbers are used up."""
    world.release("1.0.0")
    repository = world.place().repository("lantern")
    world.clock.forward(seconds=1)
    with repository.edit() as transaction:  # and then it dies
        promote(transaction, "1.0.0", "canary", 100)
    world.clock.forward(seconds=1)
    world.release("1.1.0")

    assert version(world) == "1.1.0"
    assert (world.store / "metadata/3.canary.json").exists()


def test_a_rollout_reaches_its_part(world: World) -> None:
    """Each machine is in or out by its id; those outside are offered the version before."""
    world.release("1.0.0")
    world.release("1.1.0", percent=30)
    client = world.client()
    client.strict_refresh()
    offers = {one.previous: one for one in client.offers("linux-amd64") if one.kind == "executable"}

    assert (offers[False].version, offers[True].version) == ("1.1.0", "1.0.0")
    assert offers[False].rollout is not None
    assert offers[False].rollout.percent == 30


def test_the_first_problem_does_not_hide_the_second(world: World) -> None:
    """Preflight finds all that is wrong, and nothing is sent."""
    world.settings = {"tag": "v{version}", "changelog": "CHANGES.md", "signers": {}}
    world.targets = ("linux-amd64",)
    world.job("1.0.0")
    world.targets = ("linux-amd64", "linux-arm64")

    with pytest.raises(PreflightError) as caught:
        world.release("1.0.0", channel="nightly")
    text = "\n".join(caught.value.details)
    for words in ("executable for linux-arm64 is missing", "archive for linux-arm64", "no tag v1.0.0", "no CHANGES.md",
                  "no channel 'nightly'", "private key is configured for snapshot", "configured for timestamp",
                  "configured for minisign", "configured for provenance"):  # fmt: skip
        assert words in text
    assert not world.store.exists() or not world.objects()


def test_sums_cover_every_file_of_the_version(world: World) -> None:
    """SHA256SUMS has all but itself, its signature and release.json, each with the digest of what lies there."""
    world.release("1.0.0")
    folder = world.store / "artifacts/lantern/1.0.0"
    listed = dict(reversed(line.split("  ")) for line in (folder / "SHA256SUMS").read_text().splitlines())

    assert set(listed) == {path.name for path in folder.iterdir()} - {
        "SHA256SUMS",
        "SHA256SUMS.minisig",
        "release.json",
    }
    assert listed == {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in listed}


def test_what_was_removed_is_sent_and_verified_again(world: World) -> None:
    """A run's memory of having verified a version does not outlive the version's files."""
    names = [step.name for step in STEPS]
    world.release("1.0.0", steps=STEPS[: names.index("verify") + 1])
    folder = world.store / "artifacts/lantern/1.0.0"
    for path in sorted(folder.iterdir()):
        path.unlink()
    list(steps_said(world))
    world.release("1.0.0")

    assert {step: tick for tick, step in steps_said(world)}["verify"] == "ok"
    assert world.look() == "1.0.0"


def test_a_winner_that_is_overtaken_at_once_is_no_failure(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client then rightly sees the other's release; both are in the history."""
    world.release("1.0.0")
    place = world.place()
    flip = Transaction.flip
    rivals = iter([lambda: world.release("1.1.0")])

    def overtaken(transaction: Transaction) -> None:
        flip(transaction)
        if (rival := next(rivals, None)) is not None:
            rival()

    monkeypatch.setattr(Transaction, "flip", overtaken)
    change(place, "lantern", lambda _: None, channels=("canary",))

    assert version(world) == "1.1.0"


def test_pages_that_were_overtaken_are_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow publisher does not leave an older pointer in the place of a newer one."""
    from ferryman_release import pages

    world.release("1.0.0")
    make = pages.make_site
    rivals = iter([lambda: world.release("1.1.0")])

    def slowly(*words: object) -> object:
        site = make(*words)  # type: ignore[arg-type]
        if (rival := next(rivals, None)) is not None:
            rival()
        return site

    monkeypatch.setattr(pages, "make_site", slowly)
    world.clock.forward(seconds=5)
    place = world.place()
    pages.write_pages(place, world.project(), "lantern")

    assert b"\nversion 1.1.0\n" in (world.store / "channels/canary.signed").read_bytes()


def test_a_channel_without_a_release_says_so(world: World) -> None:
    """It has its keys, and nothing was promoted to it: no sign of an attack, and told as what it is."""
    world.release("1.0.0")

    with pytest.raises(UnknownReleaseError, match="no channel stable, or nothing is released in it"):
        world.client("stable").strict_refresh()
    assert world.look("stable") == ""
