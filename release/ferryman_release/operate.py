"""One change of what channels offer, from reading the metadata to the pages that are made from it.

    load ─▶ edit ─▶ sign and store (invisible) ─▶ walk as a client would, with the pointer that is to come
         ─▶ flip ─▶ walk as everyone ─▶ pages

Publishing, promoting, yanking, going back and refreshing differ in the edit alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable

import msgspec

from ferryman_release.errors import MetadataError, UnknownReleaseError, VerifyError
from ferryman_release.metadata.channels import ChannelState, promoted, refuse_yanked
from ferryman_release.metadata.repository import Current, Repository, Transaction
from ferryman_release.model import RELEASE, TIMESTAMP, Asset, HistoryEntry, Release
from ferryman_release.place import Place
from ferryman_release.store.base import Store
from ferryman_release.walk import walk

Edit = Callable[[Transaction], None]


def change(place: Place, name: str, edit: Edit, *, channels: Iterable[str] = ()) -> None:
    """Make the change visible, whole; ``channels`` are walked in any case, beside those that the edit has changed.

    Raises:
        ConflictError: another publisher was faster; nothing of this run is visible.
        VerifyError: a client would not come to what the metadata say; nothing is visible.
        KeyProblemError, MetadataError, StoreError: as reading, signing and storing do.
    """
    repository = place.repository(name)
    with repository.edit() as transaction:
        edit(transaction)
    concerned = tuple(dict.fromkeys((*channels, *transaction.changed)))
    for channel in concerned:
        try:
            walk(place, transaction.state(channel), pending=transaction.pending)
        except VerifyError:  # a machine has seen what a faster publisher made: the flip says so
            if not _outrun(place, transaction):
                raise
    transaction.flip()
    for channel in concerned:
        try:
            walk(place, transaction.state(channel))
        except VerifyError:
            if not _overtaken(place, transaction):
                raise


def offer(transaction: Transaction, channel: str, release: Release, asset: Asset, *, percent: int) -> str:
    """Let the channel offer a release, in the transaction; what was done, in words.

    Raises:
        ConflictError: some channel has yanked the version, or this one cannot offer it.
        UnknownReleaseError: there is no such channel.
    """
    version = release.project.version
    refuse_yanked(transaction.current.channels.values(), version)
    before = transaction.state(channel)
    moment = transaction.now().strftime("%Y-%m-%dT%H:%M:%SZ")
    after = promoted(before, release, asset, percent=percent, moment=moment)
    transaction.set(after)
    return f"{channel} offers {version}{_share(before, after, percent)}"


def _share(before: ChannelState, after: ChannelState, percent: int) -> str:
    """To whom, when not simply to all."""
    if after.channel.previous:
        return f" to {percent} % of the machines; all others stay with {after.channel.previous}"
    if percent >= 100:
        return ""
    if before.channel.version == after.channel.version:
        return " to every machine already"
    return " to every machine: it has nothing that others could stay with"


def _outrun(place: Place, transaction: Transaction) -> bool:
    """Whether somebody has published since the transaction was begun: then its flip will be refused."""
    found = place.store.get(TIMESTAMP)
    return (found[1] if found else None) != transaction.current.etag


def _overtaken(place: Place, transaction: Transaction) -> bool:
    """Whether somebody has published on top meanwhile: then a client rightly sees something else."""
    found = place.store.get(TIMESTAMP)
    return found is not None and found[0] != transaction.pending[TIMESTAMP]


def read_release(store: Store, entry: HistoryEntry) -> Release:
    """The release.json that a signed history names.

    Raises:
        VerifyError: the object is missing, or is another one.
        MetadataError: a newer Ferryman wrote it.
    """
    found = store.get(entry.path)
    if found is None:
        raise VerifyError(
            f"{entry.path} is missing.",
            advice="Put it back from a copy; `ferryman verify` says what else is wrong.",
        )
    content = found[0]
    if (len(content), hashlib.sha256(content).hexdigest()) != (entry.size, entry.sha256):
        raise VerifyError(
            f"{entry.path} is not the {RELEASE} that was signed.",
            advice="Somebody changed the store; put the object back from a copy.",
        )
    try:
        return msgspec.json.decode(content, type=Release)
    except msgspec.DecodeError as error:
        raise MetadataError(
            f"{entry.path} is of a form that this Ferryman does not know: {error}.", advice="Update Ferryman."
        ) from error


def find_release(repository: Repository, current: Current, version: str) -> tuple[HistoryEntry, Release]:
    """A version that some channel has offered, with its entry.

    Raises:
        UnknownReleaseError: none ever has.
    """
    return _found(repository.store, current, version)


def find_release_in(transaction: Transaction, version: str) -> tuple[HistoryEntry, Release]:
    """The same on what a transaction was made on."""
    return _found(transaction.store, transaction.current, version)


def _found(store: Store, current: Current, version: str) -> tuple[HistoryEntry, Release]:
    for state in current.channels.values():
        for entry in state.history.releases:
            if entry.version == version:
                return entry, read_release(store, entry)
    known = sorted({e.version for state in current.channels.values() for e in state.history.releases})
    raise UnknownReleaseError(
        f"No channel ever offered {version}.",
        advice=f"`ferryman release` publishes a version first. There are: {', '.join(known[-8:]) or 'none'}.",
    )
