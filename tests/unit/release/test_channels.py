"""What channels offer: each rule of ferryman_release.metadata.channels, and each refusal."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import pytest

from ferryman_build.artifacts import Artifact, Kind, Needs, ProjectInfo, Source
from ferryman_release.errors import ConflictError, UnknownReleaseError
from ferryman_release.metadata import channels
from ferryman_release.metadata.channels import ChannelState, empty_state
from ferryman_release.model import Asset, AssetKind, HistoryEntry, Release, Sunset

MOMENT = "2026-11-21T12:00:00Z"


def release(version: str, targets: tuple[str, ...] = ("linux-amd64", "windows-amd64")) -> Release:
    artifacts = tuple(
        Artifact(kind=Kind.EXECUTABLE, target=target, path=f"lantern-{version}-{target}", size=len(version) * 100,
                 sha256=f"{version}{target}".encode().hex().ljust(64, "0")[:64], collector="standalone",
                 needs=Needs(floor={"glibc": "2.17"}))
        for target in targets
    )  # fmt: skip
    return Release(
        project=ProjectInfo(name="lantern", version=version), source=Source(), released=MOMENT, assets=(),
        artifacts=artifacts,
    )  # fmt: skip


def asset(version: str) -> Asset:
    return Asset(path="release.json", kind=AssetKind.MANIFEST, size=1000, sha256=version.encode().hex())


def promote(state: ChannelState, version: str, percent: int = 100) -> ChannelState:
    return channels.promoted(state, release(version), asset(version), percent=percent, moment=MOMENT)


def made(*versions: str) -> ChannelState:
    """A channel that has offered these, the last one now."""
    state = empty_state("lantern", "stable")
    for version in versions:
        state = promote(state, version)
    return state


def read(entry: HistoryEntry) -> Release:
    return release(entry.version)


def offered(state: ChannelState) -> set[str]:
    return {one.offer.version for one in state.offers}


def history(state: ChannelState) -> list[str]:
    return [one.version for one in state.history.releases]


def test_a_promotion_offers_every_artifact_of_the_release() -> None:
    """Rule 2: size, digest and path of an offer are those of the release; its needs are the measured ones."""
    state = made("1.0")

    assert [(one.offer.target, one.size, one.offer.path) for one in state.offers] == [
        ("linux-amd64", 300, "lantern/1.0/lantern-1.0-linux-amd64"),
        ("windows-amd64", 300, "lantern/1.0/lantern-1.0-windows-amd64"),
    ]
    assert [one.sha256 for one in state.offers] == [one.sha256 for one in release("1.0").artifacts]
    assert state.offers[0].offer.needs == {"glibc": "2.17"}
    assert all(one.offer.rollout is None for one in state.offers)
    assert (state.previous, state.channel.version) == ((), "1.0")


def test_a_part_of_the_machines_gets_the_new_one_and_the_rest_stays() -> None:
    """Rule 1: both are offered, and the share and the seed stand in the new one's offers."""
    state = promote(made("1.0"), "1.1", percent=10)

    assert offered(state) == {"1.1"}
    assert {one.offer.version for one in state.previous} == {"1.0"}
    assert {
        (one.offer.rollout.percent, one.offer.rollout.seed) for one in state.offers if one.offer.rollout
    } == {(10, "1.1")}
    assert (state.channel.version, state.channel.previous) == ("1.1", "1.0")


def test_a_rollout_grows_over_the_same_base_and_ends() -> None:
    """More percent of the same version keeps its base and its seed, so that nobody who has it loses it; all ends it."""
    half = promote(promote(made("1.0"), "1.1", percent=10), "1.1", percent=50)
    whole = promote(half, "1.1")

    assert {one.offer.version for one in half.previous} == {"1.0"}
    assert {one.offer.rollout for one in half.offers} == {channels.Rollout(percent=50, seed="1.1")}
    assert (whole.previous, whole.channel.previous) == ((), "")
    assert history(whole) == ["1.1", "1.0"]


def test_a_rollout_over_a_running_one_keeps_its_base() -> None:
    """What only a part of the machines was to have does not become everybody's by the next version."""
    state = promote(promote(made("1.0"), "1.1", percent=10), "1.2", percent=5)

    assert {one.offer.version for one in state.previous} == {"1.0"}
    assert state.channel.previous == "1.0"


def test_the_first_version_of_a_channel_is_for_all() -> None:
    """There is nothing that the others could stay with."""
    state = channels.promoted(
        empty_state("lantern", "stable"), release("1.0"), asset("1.0"), percent=10, moment=MOMENT
    )

    assert all(one.offer.rollout is None for one in state.offers)


def test_the_history_has_each_version_once_newest_promotion_first() -> None:
    """Rule 5: a version that is promoted again moves to the top and keeps the day of its first promotion."""
    state = made("1.0", "1.1")
    again = channels.promoted(state, release("1.0"), asset("1.0"), moment="2027-01-01T00:00:00Z")

    assert history(again) == ["1.0", "1.1"]
    assert again.history.releases[0].promoted == MOMENT


def test_a_version_has_one_release_file() -> None:
    """The same version with other bytes is refused."""
    with pytest.raises(ConflictError, match=r"another release\.json"):
        channels.promoted(made("1.0"), release("1.0"), asset("other"), moment=MOMENT)


def test_yanking_what_is_offered_goes_back_to_the_one_before() -> None:
    """The reason and the day are said, and the history still has the version."""
    state = channels.yanked(made("1.0", "1.1"), "1.1", "eats disks", date="2026-11-22", releases=read)

    assert offered(state) == {"1.0"}
    assert [(one.version, one.reason, one.date) for one in state.channel.yanked] == [
        ("1.1", "eats disks", "2026-11-22")
    ]
    assert history(state) == ["1.1", "1.0"]


def test_yanking_an_old_version_changes_no_offer() -> None:
    """Machines that have it are told, all others do not notice."""
    before = made("1.0", "1.1")
    state = channels.yanked(before, "1.0", "weak keys", date="2026-11-22", releases=read)

    assert state.offers == before.offers
    assert [one.version for one in state.channel.yanked] == ["1.0"]


def test_yanking_the_base_of_a_rollout_ends_it() -> None:
    """What the others would stay with is gone: the new one is for everyone."""
    state = channels.yanked(
        promote(made("1.0"), "1.1", percent=10), "1.0", "weak keys", date="2026-11-22", releases=read
    )

    assert state.previous == ()
    assert {one.offer.rollout for one in state.offers} == {None}
    assert state.channel.previous == ""


def test_yanking_what_is_rolled_out_stops_the_rollout() -> None:
    """All machines are offered the base again."""
    state = channels.yanked(
        promote(made("1.0"), "1.1", percent=10), "1.1", "eats disks", date="2026-11-22", releases=read
    )

    assert (offered(state), state.previous, state.channel.previous) == ({"1.0"}, (), "")


def test_a_yanked_version_is_not_offered_again() -> None:
    """Rule 3."""
    state = channels.yanked(made("1.0", "1.1"), "1.1", "eats disks", date="2026-11-22", releases=read)

    with pytest.raises(ConflictError, match="eats disks"):
        promote(state, "1.1")


def test_a_second_reason_takes_the_place_of_the_first() -> None:
    """A version is yanked once."""
    state = channels.yanked(made("1.0", "1.1"), "1.0", "one", date="2026-11-22", releases=read)
    state = channels.yanked(state, "1.0", "two", date="2026-11-23", releases=read)

    assert [(one.version, one.reason) for one in state.channel.yanked] == [("1.0", "two")]


def test_a_rollback_withdraws_what_is_offered() -> None:
    """Rule 4: a second one goes a step further back, past what was withdrawn and what was yanked."""
    state = made("1.0", "1.1", "1.2", "1.3")
    state = channels.yanked(state, "1.1", "weak keys", date="2026-11-22", releases=read)
    once = channels.rolled_back(state, releases=read)
    twice = channels.rolled_back(once, releases=read)

    assert (offered(once), once.channel.withdrawn) == ({"1.2"}, ("1.3",))
    assert (offered(twice), twice.channel.withdrawn) == ({"1.0"}, ("1.3", "1.2"))


def test_a_withdrawn_version_that_is_promoted_again_is_no_longer_withdrawn() -> None:
    """Else machines would go back from what they are offered."""
    state = promote(channels.rolled_back(made("1.0", "1.1"), releases=read), "1.1")

    assert state.channel.withdrawn == ()


@pytest.mark.parametrize(
    ("action", "words"),
    [
        (lambda: channels.rolled_back(empty_state("lantern", "stable"), releases=read), "offers nothing"),
        (lambda: channels.rolled_back(made("1.0"), releases=read), "no release before 1.0"),
        (lambda: channels.yanked(made("1.0"), "1.0", "bad", date="2026-11-22", releases=read), "no release before 1.0"),
        (lambda: channels.yanked(made("1.0"), "2.0", "bad", date="2026-11-22", releases=read), "never had 2.0"),
        (lambda: channels.with_minimum(made("1.0"), "2.0"), "never had 2.0"),
        (lambda: channels.with_sunset(made("1.0"), Sunset(target="linux-armv7", last="2.0", reason="old")), "never had 2.0"),
    ],
    ids=["nothing to take back", "nothing before", "nothing in its place", "yank unknown", "minimum unknown", "sunset unknown"],
)  # fmt: skip
def test_what_cannot_be_is_refused(action: Callable[[], object], words: str) -> None:
    """A channel never ends up without an offer, and only has what it has had."""
    with pytest.raises(UnknownReleaseError, match=words) as caught:
        action()

    assert caught.value.advice


def test_a_minimum_that_nobody_could_have_is_refused() -> None:
    """Rule 6: it is not above what every machine is offered."""
    state = promote(made("1.0"), "1.1", percent=10)

    with pytest.raises(ConflictError, match=r"1\.1 is above 1\.0"):
        channels.with_minimum(state, "1.1")
    assert channels.with_minimum(promote(state, "1.1"), "1.1").channel.minimum == "1.1"


def test_a_rollback_below_the_minimum_lowers_it() -> None:
    """Rule 6: else machines would have to update to what is not offered."""
    state = channels.rolled_back(channels.with_minimum(made("1.0", "1.1"), "1.1"), releases=read)

    assert (state.channel.version, state.channel.minimum) == ("1.0", "1.0")


def test_the_minimum_is_compared_as_versions_are() -> None:
    """1.10 is above 1.9, and a candidate is below its release."""
    ordered = ["banana", "1.9", "1.10rc1", "1.10", "2.0.dev1", "2.0"]

    assert sorted(set(ordered), key=channels.version_key) == ordered


def test_a_platform_has_one_last_version() -> None:
    """A second rule for the same machines takes the place of the first; another floor is another rule."""
    state = made("1.0", "1.1")
    for rule in (
        Sunset(target="linux-amd64", last="1.0", reason="old", below={"glibc": "2.28"}),
        Sunset(target="linux-amd64", last="1.1", reason="older", below={"glibc": "2.28"}),
        Sunset(target="linux-armv7", last="1.0", reason="gone"),
    ):
        state = channels.with_sunset(state, rule)

    assert [(one.target, one.last) for one in state.channel.sunset] == [
        ("linux-amd64", "1.1"),
        ("linux-armv7", "1.0"),
    ]


def test_what_is_in_use_is_all_that_a_client_may_be_sent_to() -> None:
    """The offer, the base of a rollout, the minimum, and the last version of a platform."""
    state = promote(made("0.8", "0.9", "1.0"), "1.1", percent=10)
    state = channels.with_minimum(state, "0.9")
    state = channels.with_sunset(state, Sunset(target="linux-armv7", last="0.8", reason="gone"))

    assert channels.in_use(state) == {"1.1", "1.0", "0.9", "0.8"}


def test_a_history_forgets() -> None:
    """Nothing else of the channel changes."""
    before = made("1.0", "1.1", "1.2")
    state = channels.without(before, frozenset({"1.0"}))

    assert history(state) == ["1.2", "1.1"]
    assert msgspec.structs.replace(state, history=before.history) == before
