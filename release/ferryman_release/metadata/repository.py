"""The metadata in the store: read and checked as a whole, changed as a whole.

    root, targets   from keys/, signed offline; the store has copies
    <channel>       one document a channel, edited here
    snapshot        names the version of each of them
    timestamp       names the snapshot: the one object that is ever replaced

Rules of a transaction:

1. Nothing that exists is overwritten but timestamp.json, and that only if it is the one that was read (If-Match).
2. Until it is replaced no client sees anything of the transaction; when it is, all of it.
3. A version number that some dead or rival run has used for other bytes is passed over: versions may have gaps.
4. Root documents go up last before the timestamp: a client takes a new root as soon as it can see it, and must not wait
   long for metadata that the root's keys have signed.
5. A rival that was faster keeps its release; this run has lost nothing but the flip, and can be run again on top.
6. A channel whose document was signed by a key that is not its own any more is signed again, whatever the change was for:
   with the new targets clients would refuse it. What a revoked key has signed is read only when a person says so.
7. What a snapshot has named the next one names too, also when keys/ has let go of the channel: a machine refuses a snapshot in
   which something is missing. Nobody vouches for the document any more, and nobody reads it.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
from securesystemslib.signer import Signer
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, Targets, Timestamp

from ferryman_release.errors import ConflictError, KeyProblemError, MetadataError, UnknownReleaseError
from ferryman_release.keys.folder import KeyFolder
from ferryman_release.keys.lifetimes import days_of
from ferryman_release.metadata.channels import ChannelState, empty_state
from ferryman_release.metadata.documents import (
    channel_target,
    from_targets,
    history_object,
    read_history,
    to_targets,
)
from ferryman_release.metadata.guards import check_clock, check_keys
from ferryman_release.model import METADATA, TIMESTAMP
from ferryman_release.store.base import Store, headers_for

SNAPSHOT = "snapshot"
_MOST_GAPS = 50  # versions that dead runs may have used up

SignersOf = Callable[[str], Sequence[Signer]]
"""The signers of a role, by its name; raises KeyProblemError."""


class Signing(msgspec.Struct, frozen=True, kw_only=True):
    """What a transaction signs with: signers by role, the days that documents hold, and the clock (aware, UTC)."""

    signers: SignersOf
    days: Mapping[str, int]
    now: Callable[[], datetime]

    def expiry(self, role: str) -> datetime:
        """When a document of ``role`` that is signed now expires, in whole seconds."""
        return self.now().replace(microsecond=0) + timedelta(days=days_of(role, self.days))


class Current(msgspec.Struct, frozen=True, kw_only=True):
    """The metadata that clients see now. ``etag`` is that of timestamp.json, None when nothing was ever published.

    ``channels`` and ``documents`` have the state and the document of each channel that has one.
    """

    etag: str | None = None
    timestamp: Metadata[Timestamp] | None = None
    snapshot: Metadata[Snapshot] | None = None
    channels: Mapping[str, ChannelState] = {}
    documents: Mapping[str, Metadata[Any]] = {}

    @property
    def number(self) -> int:
        """The timestamp's version; 0 when there is none."""
        return self.timestamp.signed.version if self.timestamp else 0


class Repository:
    """The metadata below ``store``, as the keys in ``keys`` vouch for it; ``name`` is the program's."""

    def __init__(self, store: Store, keys: KeyFolder, name: str, signing: Signing) -> None:
        self.store = store
        self.keys = keys
        self.name = name
        self.signing = signing

    # -- reading -------------------------------------------------------------------------------------------------------

    def load(self) -> Current:
        """What is published.

        Raises:
            MetadataError: something in the store is not signed by the keys of its role, or missing.
        """
        found = self.store.get(TIMESTAMP)
        if found is None:
            return Current()
        content, etag = found
        timestamp = self._verified("timestamp", content, Timestamp)
        meta = timestamp.signed.snapshot_meta
        snapshot = self._versioned(SNAPSHOT, meta, Snapshot)
        channels, documents = {}, {}
        for role in self.keys.channels():
            if (listed := snapshot.signed.meta.get(f"{role}.json")) is None:
                continue
            document = self._versioned(role, listed, Targets)
            channels[role] = self._state(role, document.signed)
            documents[role] = document
        return Current(
            etag=etag, timestamp=timestamp, snapshot=snapshot, channels=channels, documents=documents
        )

    def state(self, current: Current, channel: str) -> ChannelState:
        """The channel's state, an empty one when nothing was published to it.

        Raises:
            UnknownReleaseError: the keys know no such channel.
        """
        if channel not in self.keys.channels():
            raise UnknownReleaseError(
                f"There is no channel {channel!r}.",
                advice=f"There are: {', '.join(self.keys.channels())}. `ferryman keys` adds one.",
            )
        return current.channels.get(channel) or empty_state(self.name, channel)

    def _versioned(self, role: str, meta: MetaFile, kind: type[Snapshot | Targets]) -> Metadata[Any]:
        name = f"{METADATA}/{meta.version}.{role}.json"
        found = self.store.get(name)
        if found is None:
            raise MetadataError(
                f"{name} is missing, and what is published names it.",
                advice="Somebody removed it by hand; put it back from a copy, or publish again with `ferryman refresh`.",
            )
        try:
            meta.verify_length_and_hashes(found[0])
        except RepositoryError as error:
            raise MetadataError(f"{name} was changed: {error}.", advice=_TAMPERED) from error
        return self._verified(role, found[0], kind)

    def _verified(self, role: str, content: bytes, kind: type) -> Metadata[Any]:
        """The document, if the keys of its role have signed it: those of today, else those before a rotation."""
        try:
            document: Metadata[Any] = Metadata.from_bytes(content)
            if not isinstance(document.signed, kind):
                raise MetadataError(f"{role} has the metadata of another role.", advice=_TAMPERED)
            if not believed(document, role, self._delegators(role)) and believed(
                document, role, self._delegators(role, revoked=True)
            ):
                raise MetadataError(
                    f"The metadata of {role} in the store was signed by a key that was revoked.",
                    advice=_REVOKED,
                )
            _verify_by_any(document, role, self._delegators(role))
        except RepositoryError as error:
            raise MetadataError(
                f"The metadata of {role} in the store cannot be trusted: {error}.", advice=_TAMPERED
            ) from error
        return document

    def _delegators(self, role: str, *, revoked: bool | None = None) -> list[Root | Targets]:
        if role in self.keys.channels():
            return list(self.keys.all_targets(revoked=revoked))
        return list(self.keys.all_roots(revoked=revoked))

    def outdated(self, current: Current) -> list[str]:
        """The channels whose documents were signed by keys that are not theirs any more: clients will refuse them."""
        delegator: Targets = self.keys.targets().signed
        return [role for role, found in current.documents.items() if not believed(found, role, [delegator])]

    def _state(self, role: str, targets: Targets) -> ChannelState:
        target, history = channel_target(role, targets.targets)
        found = self.store.get(history)
        if found is None:
            raise MetadataError(f"{history}, the history of {role}, is missing.", advice=_TAMPERED)
        return from_targets(role, targets.targets, read_history(found[0], target, role))

    def check_publisher(self, current: Current) -> None:
        """Raises MetadataError when what this machine would sign goes back behind ``current`` (see `guards`)."""
        check_clock(self.store, self.signing.now())
        check_keys(self.store, self.keys, current.snapshot)

    # -- changing ------------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def edit(self) -> Iterator[Transaction]:
        """A transaction over what is published now; at its end the documents are signed and put into the store.

        What it leaves is not visible: :meth:`Transaction.flip` makes it so.

        Raises:
            ConflictError, KeyProblemError, MetadataError, StoreError: as reading and signing do.
        """
        transaction = Transaction(self, self.load())
        self.check_publisher(transaction.current)
        yield transaction
        transaction.stage()


class Transaction:
    """Changes of channels that become visible together.

    ``current`` is what they were made on; ``pending`` maps keys to the content of what only :meth:`flip` puts into the
    store, the root documents and the pointer: those of the moment of signing, whatever happens to keys/ meanwhile.
    """

    def __init__(self, repository: Repository, current: Current) -> None:
        self.current = current
        self._repository = repository
        self._changed: dict[str, ChannelState] = {}
        self.pending: Mapping[str, bytes] = {}

    @property
    def store(self) -> Store:
        """Where it goes."""
        return self._repository.store

    def now(self) -> datetime:
        """The clock that it is signed with."""
        return self._repository.signing.now()

    def expiry(self, role: str) -> datetime:
        """When a document of ``role`` that is signed now expires."""
        return self._repository.signing.expiry(role)

    def state(self, channel: str) -> ChannelState:
        """The channel as this transaction leaves it."""
        return self._changed.get(channel) or self._repository.state(self.current, channel)

    @property
    def changed(self) -> tuple[str, ...]:
        """The channels that have a new state."""
        return tuple(self._changed)

    def set(self, state: ChannelState) -> None:
        """Let this be the state of its channel."""
        self._changed[state.channel.channel] = state

    def stage(self) -> None:
        """Sign and put everything into the store but the pointer (rules 1 to 3, 6)."""
        for role in self._repository.outdated(self.current):
            self._changed.setdefault(role, self.state(role))
        for state in self._changed.values():
            key, content = history_object(state.history)
            self._create(key, content)
        meta = self._channel_meta()
        for role, state in self._changed.items():
            meta[f"{role}.json"] = self._channel(role, state)
        snapshot = self._snapshot(meta)
        expires = self._repository.signing.expiry("timestamp")
        timestamp = Timestamp(self.current.number + 1, expires=expires, snapshot_meta=snapshot)
        roots = self._repository.keys.roots().items()
        self.pending = {
            **{f"{METADATA}/{number}.root.json": content for number, content in roots},
            TIMESTAMP: self._signed("timestamp", timestamp),
        }

    def flip(self) -> None:
        """Replace the pointer (rules 1, 4, 5).

        Raises:
            ConflictError: somebody else has published since :attr:`current` was read.
        """
        for key, content in self.pending.items():
            if key != TIMESTAMP:
                self._create(key, content)
        try:
            self._repository.store.replace(
                TIMESTAMP, self.pending[TIMESTAMP], headers_for(TIMESTAMP), etag=self.current.etag
            )
        except ConflictError as error:
            raise ConflictError(
                "Another publisher was faster: it has published while this run prepared its own.",
                advice="Run the same command again. What was uploaded is kept, and goes on top of the other release.",
            ) from error

    def _channel_meta(self) -> dict[str, MetaFile]:
        version, content = self._repository.keys.targets_bytes()
        self._create(f"{METADATA}/{version}.targets.json", content)
        kept = self.current.snapshot.signed.meta if self.current.snapshot else {}  # rule 7
        return {**kept, "targets.json": MetaFile.from_data(version, content, ["sha256"])}

    def _channel(self, role: str, state: ChannelState) -> MetaFile:
        expires = self._repository.signing.expiry(role)
        before = self.current.documents.get(role)
        first = before.signed.version + 1 if before else 1
        return self._numbered(role, first, lambda version: to_targets(state, version, expires))

    def _snapshot(self, meta: dict[str, MetaFile]) -> MetaFile:
        now, expires = self._repository.signing.now(), self._repository.signing.expiry(SNAPSHOT)
        before = 0
        if self.current.snapshot and self.current.timestamp:
            before = self.current.snapshot.signed.version
            half = now + (expires - now) / 2
            if self._still_good(self.current.snapshot, meta) and self.current.snapshot.signed.expires > half:
                return self.current.timestamp.signed.snapshot_meta
        return self._numbered(
            SNAPSHOT, before + 1, lambda version: Snapshot(version, expires=expires, meta=meta)
        )

    def _still_good(self, snapshot: Metadata[Snapshot], meta: dict[str, MetaFile]) -> bool:
        """Whether it says the same and today's keys have signed it: a refresh then needs no new one."""
        try:
            _verify_by_any(snapshot, SNAPSHOT, self._repository._delegators(SNAPSHOT)[:1])
        except RepositoryError:
            return False
        return snapshot.signed.meta == meta

    def _numbered(self, role: str, first: int, make: Callable[[int], Targets | Snapshot]) -> MetaFile:
        """Sign and store under the first version that is free (rule 3)."""
        for version in range(first, first + _MOST_GAPS):
            content = self._signed(role, make(version))
            with contextlib.suppress(ConflictError):
                self._create(f"{METADATA}/{version}.{role}.json", content)
                return MetaFile.from_data(version, content, ["sha256"])
        raise ConflictError(
            f"{_MOST_GAPS} versions of {role} after {first - 1} are taken by runs that never published.",
            advice="`ferryman gc` removes what dead runs have left.",
        )

    def _signed(self, role: str, signed: Targets | Snapshot | Timestamp) -> bytes:
        document: Metadata[Any] = Metadata(signed)
        for signer in self._repository.signing.signers(role):
            document.sign(signer, append=True)
        content = document.to_bytes()
        try:
            _verify_by_any(document, role, self._repository._delegators(role)[:1])
        except RepositoryError as error:
            raise KeyProblemError(
                f"What this run signs as {role} would not be believed: {error}.",
                advice="`ferryman keys status` shows which keys the role has; give those to [tool.ferryman.release.signers].",
            ) from error
        return content

    def _create(self, key: str, content: bytes) -> None:
        self._repository.store.create(
            key, content, headers_for(key), sha256=hashlib.sha256(content).hexdigest()
        )


_TAMPERED = "Somebody changed the store, or keys/ is not that of this store. Compare keys/ with the commit that published last."

_REVOKED = (
    "Look at what it says: `ferryman releases --believe-revoked`. If that is what you have published, `ferryman refresh "
    "--believe-revoked` signs it with the new keys."
)


def believed(document: Metadata[Any], role: str, delegators: Sequence[Root | Targets]) -> bool:
    """Whether any of ``delegators`` vouches for the document."""
    try:
        _verify_by_any(document, role, delegators)
    except RepositoryError:
        return False
    return True


def _verify_by_any(document: Metadata[Any], role: str, delegators: Sequence[Root | Targets]) -> None:
    """Newest first. After a rotation the store still has what the old keys signed, and the next flip replaces it."""
    problem: RepositoryError | None = None
    for delegator in delegators:
        try:
            delegator.verify_delegate(role, document.signed_bytes, document.signatures)
        except (RepositoryError, ValueError) as error:
            problem = problem or (
                error if isinstance(error, RepositoryError) else RepositoryError(str(error))
            )
        else:
            return
    raise problem or RepositoryError(f"no document delegates to {role}")
