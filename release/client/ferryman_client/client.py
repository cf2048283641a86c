"""The client: one object per repository, channel and machine. docs/client.md is its guide.

Two families of methods. Those for a program that is running (:meth:`Client.refresh`, :meth:`Client.status`, and
:meth:`Client.choose` with an installed version) raise nothing that a network, a clock or a disk can cause: they serve
the last state that was trusted and say what is wrong. Those for installers and checks (:meth:`Client.strict_refresh`,
a choice for a first install, :meth:`Client.download`) raise a :class:`ClientError` with a sentence, a cure and a code.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ferryman_client import choice as rules
from ferryman_client.choice import Action, Choice
from ferryman_client.contents import channel_of, channel_target, offers_of
from ferryman_client.documents import document
from ferryman_client.download import Progress, download, file_digest
from ferryman_client.errors import (
    ClientError,
    ExpiredError,
    NoTrustError,
    StateError,
    UnknownReleaseError,
    UsageError,
    VerifyError,
)
from ferryman_client.fetch import HttpFetcher, Source
from ferryman_client.machine import TARGET_IDS, Machine
from ferryman_client.model import (
    KINDS,
    ChannelInfo,
    History,
    HistoryEntry,
    Offer,
    Release,
)
from ferryman_client.reading import plain_name, read_history, read_release
from ferryman_client.refreshing import Refresher
from ferryman_client.state import StateDir, Trusted
from ferryman_client.status import Identity, Status, describe, expired_at
from ferryman_client.versions import same

if TYPE_CHECKING:
    from tuf.ngclient import FetcherInterface

ARTIFACTS = "artifacts"


class Client:
    """What a machine knows of a repository.

    Args:
        url: the prefix of the repository: http, https or file.
        state_dir: a folder for this repository alone; it is made when it is first needed.
        root: the root metadata to trust, as the program or the installer carries it; None trusts the one in ``state_dir``.
        channel: which channel this machine follows.
        mirrors: further prefixes with the same objects, tried in order.
        fetcher: where bytes come from: a :class:`Source` or python-tuf's `FetcherInterface`.
        clock: seconds since the epoch. It can make metadata expire earlier than the system's clock, never later.
        machine: which machine this is; None detects it when it is asked for.
        kinds: what may be offered.
    """

    def __init__(
        self,
        url: str,
        state_dir: Path | str,
        *,
        root: bytes | None,
        channel: str = "stable",
        mirrors: Sequence[str] = (),
        fetcher: Source | FetcherInterface | None = None,
        clock: Callable[[], float] = time.time,
        machine: Machine | None = None,
        kinds: Sequence[str] = KINDS,
    ) -> None:
        self.urls = tuple(one if one.endswith("/") else f"{one}/" for one in (url, *mirrors))
        self.state = StateDir(Path(state_dir))
        self.channel_name, self.clock, self.kinds = plain_name(channel), clock, tuple(kinds)
        self.fetcher = fetcher or HttpFetcher()
        self._refresher = Refresher(
            urls=self.urls, state=self.state, root=root, channel=channel, kinds=self.kinds, fetcher=self.fetcher,
            clock=clock,
        )  # fmt: skip
        self._machine = machine
        self._trusted: Trusted | None = None
        self._fresh = False
        self._problem: ClientError | None = None
        self._busy = threading.Lock()

    @property
    def machine(self) -> Machine:
        """This machine; detected once."""
        if self._machine is None:
            self._machine = Machine.detect(self.state.path)
        return self._machine

    # --- refreshing ---------------------------------------------------------------------------------------------------

    def refresh(self) -> Status:
        """Compare with the repository; whatever goes wrong is in the answer's ``problem``, and the old state is served."""
        with suppress(ClientError):
            self.strict_refresh()
        return self.status()

    def strict_refresh(self) -> Status:
        """Compare with the repository, for whoever installs or checks.

        Raises:
            UnreachableError, ExpiredError, MetadataError, UnknownReleaseError, NoTrustError, BusyError, StateError:
                there is no state that is valid now.
        """
        with self._busy, self._hanging_up():
            self._fresh, self._problem = False, None
            try:
                trusted = self._refresher.run(self._known(), self.machine.target)
            except ClientError as error:
                self._problem = error
                raise
            self._trusted, self._fresh = trusted, True
            try:
                self.state.save(trusted)
            except OSError as error:
                self._problem = StateError(
                    f"The state folder cannot be written: {error.strerror or error}.",
                    advice="What was fetched is kept in memory. Make room, or check who owns it.",
                )
        return self.status()

    def status(self) -> Status:
        """What is known, and how well; asks nobody."""
        trusted = self._known()
        version = ""
        if trusted:
            with suppress(ClientError):
                version = channel_of(trusted).version
        return describe(
            trusted,
            channel=self.channel_name,
            version=version,
            fresh=self._fresh,
            error=self._problem,
            now=self.clock(),
            server=getattr(self.fetcher, "date", None),
        )

    def _known(self) -> Trusted | None:
        if self._trusted is None:
            self._trusted = self.state.load(self.channel_name)
        return self._trusted

    def _state(self, *, valid: bool = False) -> Trusted:
        """The last trusted state; with ``valid`` only if it has not expired."""
        trusted = self._known()
        if trusted is None:
            raise NoTrustError(f"Nothing is known of {self.channel_name} yet.", advice="Refresh first.")
        if valid and expired_at(trusted, self.clock()):
            raise ExpiredError(
                f"The {trusted.expiring} metadata of {self.channel_name} has expired; nothing is installed from it.",
                advice="Refresh. If that fails too, check this machine's clock, or tell whoever publishes.",
            )
        return trusted

    # --- what is known ------------------------------------------------------------------------------------------------

    def channel(self) -> ChannelInfo:
        """The channel, as the last trusted state has it; NoTrustError when there is none."""
        return channel_of(self._state())

    def offers(self, target: str | None = None) -> tuple[Offer, ...]:
        """What the channel offers a target (this machine's, if none is named), the previous ones of a rollout included."""
        return offers_of(self._state(), self.machine.target if target is None else target, self.kinds)

    def choose(self, kind: str, installed: str | None = None) -> Choice:
        """What this machine should do about an artifact of ``kind``; the rules are in :mod:`ferryman_client.choice`.

        Args:
            installed: the version that is installed; with it nothing is raised that this machine could not help.

        Raises:
            NoTrustError, ExpiredError, UnreachableError, MetadataError: a first install, and no valid state.
        """
        if kind not in self.kinds:
            raise UsageError(f"There is no kind called {kind}.", advice=f"Kinds are {', '.join(self.kinds)}.")
        try:
            return self._choose(kind, installed)
        except ClientError as error:
            if installed is None:
                raise
            return Choice(action=Action.STAY, reason=str(error))

    def _choose(self, kind: str, installed: str | None) -> Choice:
        state = self._state(valid=installed is None)
        offers = [one for one in self.offers() if one.kind == kind]
        expired = expired_at(state, self.clock())
        made = rules.choose(channel_of(state), offers, self.machine, installed, expired=expired)
        if not made.changes or made.offer:
            return made
        offer = self.release(made.version).offer(self.machine.target, kind)  # rule 7: an older release
        missing = rules.lacks(offer, self.machine) if offer else "has nothing for this machine."
        if missing:
            return replace(made, action=Action.STAY, reason=f"{made.version} {missing}")
        return replace(made, offer=offer)

    def history(self) -> History:
        """All releases of the channel, newest first; one request, if the document is not here yet."""
        state = self._state()
        about, path = channel_target(state), channel_of(state).history
        if not path:
            return History(name="", channel=self.channel_name)
        return read_history(self._document(path, about.length, about.sha256), path)

    def release(self, version: str) -> Release:
        """All files of a release that the channel has had: digest by digest from signed metadata.

        Raises:
            UnknownReleaseError: the channel never had it.
            UnreachableError, VerifyError: a document on the way is not to be had.
        """
        return self._release(self._entry(version))

    def _entry(self, version: str) -> HistoryEntry:
        entry = next((one for one in self.history().releases if same(one.version, version)), None)
        if entry is None:
            raise UnknownReleaseError(
                f"{self.channel_name} has never had {version}.",
                advice="`ferryman-client history` lists what it had.",
            )
        return entry

    def _release(self, entry: HistoryEntry) -> Release:
        return read_release(self._document(entry.path, entry.size, entry.sha256), entry.path)

    # --- files --------------------------------------------------------------------------------------------------------

    def download(
        self, offer: Offer, into: Path | str, *, name: str | None = None, progress: Progress | None = None
    ) -> Path:
        """Fetch an artifact into the folder ``into``; goes on where an earlier attempt stopped, verifies, then renames.

        Args:
            name: what the file is to be called; its own name otherwise.
            progress: called with the bytes that are there and those that there will be.

        Raises:
            UnreachableError, VerifyError, SpaceError, BusyError, StateError.
        """
        path = Path(into) / plain_name(name or offer.file_name)
        urls = [f"{url}{ARTIFACTS}/{quote(offer.path)}" for url in self.urls]
        with self._hanging_up():
            return download(
                self._source(), urls, path, size=offer.size, sha256=offer.sha256, mode=offer.mode, progress=progress
            )  # fmt: skip

    def verify(self, path: Path | str, *, version: str | None = None) -> Identity:
        """Which released file this is: a hash that leads to signed metadata.

        Args:
            version: look only there; otherwise at what is offered, and then at every release of the channel, newest first.

        Raises:
            VerifyError: it is none of them.
            NoTrustError, ExpiredError: there is no valid state to compare with.
        """
        path = Path(path)
        channel = channel_of(self._state(valid=True))
        try:
            digest, size = file_digest(path), path.stat().st_size
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}.", advice="Check its name.") from error
        for identity in self._files(version):
            if (identity.sha256, identity.size) == (digest, size):
                return replace(identity, bad=rules.bad(channel, identity.version))
        where = f"{self.channel_name} {version}" if version else self.channel_name
        raise VerifyError(f"{path} is no file of {where}.", advice="Do not use it; download it again.")

    def _files(self, version: str | None) -> Iterator[Identity]:
        if version is None:
            for target in TARGET_IDS:
                yield from map(Identity.of_offer, self.offers(target))
        entries = [self._entry(version)] if version else self.history().releases
        for entry in entries:
            release = self._release(entry)
            yield from map(Identity.of_offer, release.offers)
            yield from (Identity.of_asset(asset, release) for asset in release.assets)

    def _document(self, path: str, size: int, sha256: str) -> bytes:
        with self._hanging_up():
            return document(self._source(), self.urls, self.state, path, size, sha256)

    @contextmanager
    def _hanging_up(self) -> Iterator[None]:
        """Keep no connection open between two calls, which may be hours apart."""
        try:
            yield
        finally:
            if isinstance(self.fetcher, HttpFetcher):
                self.fetcher.close()

    def _source(self) -> Source:
        if hasattr(self.fetcher, "open"):
            return self.fetcher
        from ferryman_client import trust

        return trust.Foreign(self.fetcher)
