"""What a channel offers, and the edits of it: pure functions from one state of the channel to the next.

Rules:

1. A channel offers one version; while a rollout runs it offers the one before to the machines outside of it.
2. Promotion takes a release as it is: its bytes are those of release.json, and nothing is built or copied.
3. A version that was yanked from a channel is not offered there again: what repairs it has a version of its own.
4. A rollback withdraws the version that is offered and goes to what every machine may have, while a rollout runs, else to
   the newest version before it; never to one that is yanked or withdrawn. Machines that have the withdrawn version go back
   with it.
5. The history has every version that the channel has offered, newest promotion first, and each once.
6. The minimum is a version of the history, and not above what is offered. A rollback lowers it; a promotion does not.
7. A channel is one program's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

import msgspec
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from ferryman_build.artifacts import Struct
from ferryman_release.errors import ConflictError, UnknownReleaseError
from ferryman_release.model import (
    RELEASE,
    Asset,
    Channel,
    History,
    HistoryEntry,
    Offer,
    Release,
    Rollout,
    Sunset,
    Yanked,
)


class Offered(Struct, frozen=True, kw_only=True):
    """An offer, and the artifact that it is about: ``size`` in bytes, ``sha256`` in hex."""

    offer: Offer
    size: int
    sha256: str


class ChannelState(Struct, frozen=True, kw_only=True):
    """Everything that one channel's metadata says. ``previous`` is offered outside of a rollout (rule 1)."""

    channel: Channel
    history: History
    offers: tuple[Offered, ...] = ()
    previous: tuple[Offered, ...] = ()


# Of a release, by its version: what yank and rollback need of the one that they go back to.
Releases = Callable[[HistoryEntry], Release]


def empty_state(name: str, channel: str) -> ChannelState:
    """A channel that has never offered anything."""
    return ChannelState(
        channel=Channel(channel=channel, version=""), history=History(name=name, channel=channel)
    )


def promoted(
    state: ChannelState, release: Release, asset: Asset, *, percent: int = 100, moment: str
) -> ChannelState:
    """The channel when it offers ``release`` to ``percent`` of the machines (rules 1, 2, 3, 5, 6, 7).

    ``asset`` is release.json itself, as it lies in the store; ``moment`` is ISO 8601 in UTC.

    Raises:
        ConflictError: the version was yanked, or is below the minimum, or another program's.
    """
    version = release.project.version
    refuse_yanked([state], version)  # rule 3
    _refuse_foreign(state, release.project.name)  # rule 7
    if (least := state.channel.minimum) and version_key(version) < version_key(least):  # rule 6
        raise ConflictError(
            f"{version} is below {least}, which machines on {state.channel.channel} must have at least.",
            advice="Take that back first, if you mean it: `ferryman minimum none`.",
        )
    base = _base(state, version)
    partial = percent < 100 and bool(base)
    rollout = Rollout(percent=percent, seed=version) if partial else None
    channel = msgspec.structs.replace(
        state.channel,
        version=version,
        previous=_version_of(base) if partial else "",
        withdrawn=tuple(one for one in state.channel.withdrawn if one != version),
    )
    return ChannelState(
        channel=channel,
        history=_with_entry(state.history, release, asset, moment),
        offers=tuple(_offers(release, rollout)),
        previous=base if partial else (),
    )


def refuse_yanked(states: Iterable[ChannelState], version: str) -> None:
    """Raises ConflictError when any of these channels has had ``version`` and yanked it: then no machine should have it."""
    for state in states:
        for one in state.channel.yanked:
            if one.version == version:
                raise ConflictError(
                    f"{version} was yanked from {state.channel.channel}: {one.reason}.",
                    advice="Release the repaired program under a new version.",
                )


def _refuse_foreign(state: ChannelState, name: str) -> None:
    if not same_program(state.history.name, name):
        raise ConflictError(
            f"{state.channel.channel} is a channel of {state.history.name}, and this is {name}.",
            advice="Give each program a place of its own: [tool.ferryman.release] url.",
        )


def same_program(one: str, other: str) -> bool:
    """Whether both are names of one project, as the packaging standards compare them."""
    return canonicalize_name(one) == canonicalize_name(other)


def _base(state: ChannelState, version: str) -> tuple[Offered, ...]:
    """What the machines outside of a rollout get: what every machine may have now, also while another rollout runs."""
    return state.previous or (() if state.channel.version == version else state.offers)


def _version_of(offers: tuple[Offered, ...]) -> str:
    return offers[0].offer.version if offers else ""


def _offers(release: Release, rollout: Rollout | None) -> Iterator[Offered]:
    name, version = release.project.name, release.project.version
    for artifact in release.artifacts:
        offer = Offer(
            name=name, version=version, target=artifact.target, kind=artifact.kind.value,
            path=f"{name}/{version}/{artifact.path}", released=release.released, needs=dict(artifact.needs.floor),
            rollout=rollout,
        )  # fmt: skip
        yield Offered(offer=offer, size=artifact.size, sha256=artifact.sha256)


def _with_entry(history: History, release: Release, asset: Asset, moment: str) -> History:
    version = release.project.version
    known = next((entry for entry in history.releases if entry.version == version), None)
    entry = known or HistoryEntry(
        version=version, released=release.released, promoted=moment, path=f"{release.folder}/{RELEASE}",
        size=asset.size, sha256=asset.sha256,
    )  # fmt: skip
    if (entry.size, entry.sha256) != (asset.size, asset.sha256):
        raise ConflictError(
            f"{version} is in {history.channel} with another {RELEASE}.",
            advice="A version is made once. Release this one under a new number.",
        )
    rest = tuple(one for one in history.releases if one.version != version)
    return msgspec.structs.replace(history, releases=(entry, *rest))  # rule 5


def yanked(state: ChannelState, version: str, reason: str, *, date: str, releases: Releases) -> ChannelState:
    """The channel when nobody should have ``version`` any more; what it offers instead is the newest one before.

    Raises:
        UnknownReleaseError: the channel never had it, or has nothing to offer in its place.
    """
    find_entry(state.history, version)
    rest = tuple(one for one in state.channel.yanked if one.version != version)
    marked = msgspec.structs.replace(
        state.channel, yanked=(*rest, Yanked(version=version, reason=reason, date=date))
    )
    after = msgspec.structs.replace(state, channel=marked)
    if state.channel.previous == version:  # the rollout loses its base: what is rolled out is for everyone
        return _everyone(after)
    return _back(after, releases) if state.channel.version == version else after


def rolled_back(state: ChannelState, *, releases: Releases) -> ChannelState:
    """The channel when it takes back what it offers (rule 4).

    Raises:
        UnknownReleaseError: it offers nothing, or nothing came before.
    """
    version = state.channel.version
    if not version:
        raise UnknownReleaseError(
            f"{state.channel.channel} offers nothing that could be taken back.",
            advice="`ferryman releases` lists what the channels offer.",
        )
    withdrawn = (*(one for one in state.channel.withdrawn if one != version), version)
    after = msgspec.structs.replace(
        state, channel=msgspec.structs.replace(state.channel, withdrawn=withdrawn)
    )
    return _back(after, releases)


def _back(state: ChannelState, releases: Releases) -> ChannelState:
    """Offer what rule 4 says."""
    good = [one for one in state.history.releases if one.version not in _gone(state)]
    base = (one for one in good if one.version == state.channel.previous)
    entry = next(base, None) or next(iter(good), None)
    if entry is None:
        raise UnknownReleaseError(
            f"{state.channel.channel} has no release before {state.channel.version} to go back to.",
            advice="Publish a repaired version; a channel cannot offer nothing to machines that have something.",
        )
    release = releases(entry)
    channel = msgspec.structs.replace(state.channel, version=entry.version, previous="")
    return msgspec.structs.replace(
        state, channel=_capped(channel), offers=tuple(_offers(release, None)), previous=()
    )


def _gone(state: ChannelState) -> set[str]:
    """What nobody should have."""
    return {one.version for one in state.channel.yanked} | set(state.channel.withdrawn)


def _everyone(state: ChannelState) -> ChannelState:
    offers = tuple(
        msgspec.structs.replace(one, offer=msgspec.structs.replace(one.offer, rollout=None))
        for one in state.offers
    )
    channel = msgspec.structs.replace(state.channel, previous="")
    return msgspec.structs.replace(state, channel=channel, offers=offers, previous=())


def _capped(channel: Channel) -> Channel:
    """A minimum above what is offered could be kept by nobody (rule 6)."""
    if channel.minimum and version_key(channel.minimum) > version_key(channel.version):
        return msgspec.structs.replace(channel, minimum=channel.version)
    return channel


def with_minimum(state: ChannelState, version: str) -> ChannelState:
    """The channel when machines below ``version`` have to update (rule 6); '' takes the minimum away.

    Raises:
        UnknownReleaseError: the channel never had that version.
        ConflictError: it is above what the channel offers to everyone.
    """
    if version:
        find_entry(state.history, version)
        everyone = state.channel.previous or state.channel.version
        if version_key(version) > version_key(everyone):
            raise ConflictError(
                f"{version} is above {everyone}, which {state.channel.channel} offers to every machine.",
                advice=f"Promote {version} to all machines first.",
            )
    return msgspec.structs.replace(state, channel=msgspec.structs.replace(state.channel, minimum=version))


def with_sunset(state: ChannelState, sunset: Sunset) -> ChannelState:
    """The channel when a platform gets nothing newer than ``sunset.last``.

    Raises:
        UnknownReleaseError: the channel never had that version.
        ConflictError: it was yanked or taken back.
    """
    find_entry(state.history, sunset.last)
    if sunset.last in _gone(state):
        raise ConflictError(
            f"{sunset.last} was yanked or taken back from {state.channel.channel}; no platform can end with it.",
            advice="Name a version that machines may have: `ferryman releases` lists them.",
        )
    rest = tuple(
        one for one in state.channel.sunset if (one.target, one.below) != (sunset.target, sunset.below)
    )
    channel = msgspec.structs.replace(state.channel, sunset=(*rest, sunset))
    return msgspec.structs.replace(state, channel=channel)


def without(state: ChannelState, versions: frozenset[str]) -> ChannelState:
    """The channel when its history forgets ``versions``, whose files will be removed."""
    releases = tuple(one for one in state.history.releases if one.version not in versions)
    history = msgspec.structs.replace(state.history, releases=releases)
    return msgspec.structs.replace(state, history=history)


def in_use(state: ChannelState) -> frozenset[str]:
    """The versions that a client may be sent to: they are never removed."""
    channel = state.channel
    named = (channel.version, channel.previous, channel.minimum, *(one.last for one in channel.sunset))
    return frozenset(version for version in named if version)


def find_entry(history: History, version: str) -> HistoryEntry:
    """The entry of ``version``.

    Raises:
        UnknownReleaseError: there is none.
    """
    for entry in history.releases:
        if entry.version == version:
            return entry
    known = ", ".join(one.version for one in history.releases[:5]) or "none"
    raise UnknownReleaseError(
        f"{history.channel} never had {version}.", advice=f"Its newest releases: {known}."
    )


def version_key(version: str) -> tuple[int, Version | str]:
    """What versions are ordered by: as the packaging standards say; what is no such version comes before all of them."""
    try:
        return 1, Version(version)
    except InvalidVersion:
        return 0, version
