"""A real client's way through the metadata, from the first root: what it would be offered is what was meant.

Before the flip it sees the store as it is, but for the pointer and the root documents that are to come; after it, what
everyone sees. Before the flip it is also a machine that has been running: it has seen what is published now, and refuses what
goes back behind that.
"""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path

from ferryman_client import Client, ClientError, Offer
from ferryman_client.fetch import Answer, Source
from ferryman_release.errors import VerifyError
from ferryman_release.metadata.channels import ChannelState, Offered
from ferryman_release.place import Place


class Overlay:
    """What ``below`` gives, but for the keys that ``pending`` has the coming bytes of."""

    def __init__(self, below: Source, base: str, pending: Mapping[str, bytes]) -> None:
        self._below = below
        self._pending = {f"{base}{key}": content for key, content in pending.items()}

    def open(self, url: str, *, start: int = 0, etag: str = "") -> AbstractContextManager[Answer]:
        if url in self._pending:
            return contextlib.nullcontext(Answer(status=200, body=iter([self._pending[url]])))
        return self._below.open(url, start=start, etag=etag)


def walk(place: Place, state: ChannelState, *, pending: Mapping[str, bytes] | None = None) -> None:
    """Refresh as a client of the channel, and compare every offer.

    Raises:
        VerifyError: a client is refused, or would be offered something else.
    """
    if not place.readable:
        return
    channel = state.channel.channel
    first = next(iter(place.keys.roots().values()))
    with tempfile.TemporaryDirectory(prefix="ferryman-walk-") as folder:
        fetcher = place.fetcher()
        if pending:
            Client(place.public_url, Path(folder), root=first, channel=channel, fetcher=fetcher).refresh()
        client = Client(
            place.public_url, Path(folder), root=first, channel=channel,
            fetcher=Overlay(fetcher, place.public_url, pending) if pending else fetcher,
        )  # fmt: skip
        try:
            client.strict_refresh()
            targets = dict.fromkeys(one.offer.target for one in state.offers)
            offers = [one for target in targets for one in client.offers(target)]
            version = client.channel().version
        except ClientError as error:
            when = "would be refused" if pending else "is refused"
            raise VerifyError(
                f"A client of {channel} {when}: {error}.",
                advice="Nothing was made visible." if pending else _AFTER,
            ) from error
    wrong = [] if version == state.channel.version else [f"it is offered {version or 'nothing'}"]
    for wanted, previous in ((state.offers, False), (state.previous, True)):
        there = {(one.target, one.kind): one for one in offers if one.previous is previous}
        wrong += [problem for one in wanted if (problem := _problem(one, there))]
    if wrong:
        raise VerifyError(
            f"A client of {channel} does not come to {state.channel.version}.",
            advice="Nothing was made visible." if pending else _AFTER, details=wrong,
        )  # fmt: skip


_AFTER = "See whether a cache before the store keeps old metadata (timestamp.json must not be cached), then run it again."


def _problem(one: Offered, found: Mapping[tuple[str, str], Offer]) -> str:
    offer = found.get((one.offer.target, one.offer.kind))
    if offer is None:
        return f"it is offered no {one.offer.kind} for {one.offer.target}"
    same = (offer.size, offer.sha256, offer.version) == (one.size, one.sha256, one.offer.version)
    return "" if same else f"it is offered another {one.offer.kind} for {one.offer.target}"
