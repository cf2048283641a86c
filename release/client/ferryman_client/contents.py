"""What a trusted state says, in the client's words; documents that contradict their place are refused."""

from __future__ import annotations

from collections.abc import Sequence

from ferryman_client.errors import MetadataError, UnknownReleaseError
from ferryman_client.model import ChannelInfo, Offer
from ferryman_client.reading import read_channel, read_offer
from ferryman_client.state import Target, Trusted

_TELL = "Tell whoever publishes it."


def channel_target(state: Trusted) -> Target:
    """The target of the channel itself: its hash is that of the history."""
    path = f"{state.channel}/channel"
    if path not in state.targets:
        raise UnknownReleaseError(f"There is no {path}.", advice="Check the channel's name.")
    return state.targets[path]


def channel_of(state: Trusted) -> ChannelInfo:
    """What holds for the channel as a whole."""
    found = read_channel(channel_target(state).custom, f"{state.channel}/channel")
    if found.channel != state.channel:
        raise MetadataError(f"{state.channel}/channel speaks of the channel {found.channel}.", advice=_TELL)
    return found


def offers_of(state: Trusted, target: str, kinds: Sequence[str]) -> tuple[Offer, ...]:
    """What is offered to a target: of each kind the offer, and behind it the previous one of a rollout."""
    found = []
    for kind in kinds:
        for path in (f"{state.channel}/{target}/{kind}", f"{state.channel}/{target}/{kind}/previous"):
            if (one := state.targets.get(path)) is None:
                continue
            offer = read_offer(one.custom, one.length, one.sha256, path, previous=path.endswith("/previous"))
            if (offer.target, offer.kind) != (target, kind):
                raise MetadataError(f"{path} offers {offer.target} {offer.kind}.", advice=_TELL)
            found.append(offer)
    return tuple(found)
