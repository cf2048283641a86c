"""A channel's state as a TUF document, and back.

The role `<channel>` signs `<channel>/channel`, whose custom data is the Channel and whose digest is that of the history,
and `<channel>/<target>/<kind>` for each offer, with `/previous` behind it for the machines outside of a rollout.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime

import msgspec
from tuf.api.metadata import TargetFile, Targets

from ferryman_release.errors import MetadataError
from ferryman_release.metadata.channels import ChannelState, Offered
from ferryman_release.model import CHANNELS, Channel, History, Offer, to_json

_PREVIOUS = "previous"
_NEWER = "If a newer Ferryman has published, update this one."


def history_object(history: History) -> tuple[str, bytes]:
    """(key in the store, content) of a history; the key has the content's digest."""
    content = to_json(history)
    return f"{CHANNELS}/{history.channel}/{hashlib.sha256(content).hexdigest()}.json", content


def to_targets(state: ChannelState, version: int, expires: datetime) -> Targets:
    """The signed part of the channel's metadata."""
    key, content = history_object(state.history)
    channel = msgspec.structs.replace(state.channel, history=key)
    name = channel.channel
    files = [
        _target(f"{name}/channel", len(content), hashlib.sha256(content).hexdigest(), channel),
        *_rows(name, state.offers, ""),
        *_rows(name, state.previous, f"/{_PREVIOUS}"),
    ]
    return Targets(version, expires=expires, targets={file.path: file for file in files})


def _rows(channel: str, offers: Iterable[Offered], behind: str) -> Iterator[TargetFile]:
    for one in offers:
        path = f"{channel}/{one.offer.target}/{one.offer.kind}{behind}"
        yield _target(path, one.size, one.sha256, one.offer)


def _target(path: str, size: int, sha256: str, custom: msgspec.Struct) -> TargetFile:
    return TargetFile(size, {"sha256": sha256}, path, {"custom": msgspec.to_builtins(custom)})


def from_targets(name: str, targets: Mapping[str, TargetFile], history: History) -> ChannelState:
    """The state that a channel's metadata has.

    Raises:
        MetadataError: it is not of the form that :func:`to_targets` writes.
    """
    try:
        channel = msgspec.convert(targets[f"{name}/channel"].custom, Channel)
        current = [_offered(file) for path, file in targets.items() if path.count("/") == 2]
        previous = [_offered(file) for path, file in targets.items() if path.count("/") == 3]
    except (KeyError, msgspec.ValidationError) as error:
        raise MetadataError(
            f"The metadata of {name} is not what Ferryman writes: {error}.",
            advice=_NEWER,
        ) from error
    return ChannelState(channel=channel, history=history, offers=tuple(current), previous=tuple(previous))


def _offered(file: TargetFile) -> Offered:
    return Offered(offer=msgspec.convert(file.custom, Offer), size=file.length, sha256=file.hashes["sha256"])


def channel_target(name: str, targets: Mapping[str, TargetFile]) -> tuple[TargetFile, str]:
    """The target of the channel itself, and the key of its history.

    Raises:
        MetadataError: it is not of the form that :func:`to_targets` writes.
    """
    target = targets.get(f"{name}/channel")
    history = (target.custom or {}).get("history") if target else None
    if target is None or not isinstance(history, str) or "sha256" not in target.hashes:
        raise MetadataError(f"The metadata of {name} is not what Ferryman writes.", advice=_NEWER)
    return target, history


def read_history(content: bytes, target: TargetFile, channel: str) -> History:
    """The history whose digest the channel's metadata has.

    Raises:
        MetadataError: these are other bytes, or of a form that this Ferryman does not know.
    """
    if (len(content), hashlib.sha256(content).hexdigest()) != (target.length, target.hashes["sha256"]):
        raise MetadataError(
            f"The history of {channel} is not the one that was signed.",
            advice="Somebody changed the store by hand; put the object back from a copy, or publish again.",
        )
    try:
        return msgspec.json.decode(content, type=History)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MetadataError(
            f"The history of {channel} is not what Ferryman writes: {error}.", advice=_NEWER
        ) from error
