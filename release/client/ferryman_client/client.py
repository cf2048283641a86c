"""The client: one object per repository, channel and machine. docs/client.md is its guide.

Two families of methods. Those for a program that is running (:meth:`Client.refresh`, :meth:`Client.status`, and
:meth:`Client.choose` with an installed version) raise nothing that a network, a clock or a disk can cause: they serve
the last state that was trusted and say what is wrong. Those for installers and checks (:meth:`Client.strict_refresh`,
a choice for a first install, :meth:`Client.download`) raise a :class:`ClientError` with a sentence, a cure and a code.
"""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from ferryman_client import choice as rules
from ferryman_client.choice import Action, Choice
from ferryman_client.download import Progress, download, file_digest
from ferryman_client.errors import (
    ClientError,
    ExpiredError,
    MetadataError,
    NoTrustError,
    StateError,
    UnknownReleaseError,
    UnreachableError,
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
    read_channel,
    read_history,
    read_offer,
    read_release,
)
from ferryman_client.state import Role, StateDir, Target, Trusted
from ferryman_client.status import Identity, Status, describe, expired_at
from ferryman_client.versions import same

if TYPE_CHECKING:
    from tuf.ngclient import FetcherInterface

LOCK_TIMEOUT = 30.0  # seconds: a refresh of another process takes one or two
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
        self.root, self.channel_name, self.clock, self.kinds = root, _plain(channel), clock, tuple(kinds)
        self.fetcher = fetcher or HttpFetcher()
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
        with self._busy:
            self._fresh, self._problem = False, None
            try:
                trusted = self._fetched()
            except ClientError as error:
                self._problem = error
                raise
            finally:
                self._hang_up()
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
        with suppress(ClientError):
            version = self.channel().version if trusted else ""
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

    def _fetched(self) -> Trusted:
        """A new trusted state from the first place that has a valid one; the first place's failure otherwise."""
        first: ClientError | None = None
        for url in self.urls:
            try:
                roles, targets = self._from(url)
                trusted = Trusted(
                    channel=self.channel_name, checked=self.clock(), roles=roles, targets=targets
                )
                self._examine(trusted)
                return trusted
            except (UnreachableError, MetadataError, UnknownReleaseError) as error:
                first = first or error
        assert first is not None, "there is at least one place"
        raise first

    def _from(self, url: str) -> tuple[dict[str, Role], dict[str, Target]]:
        """Refresh in the state folder; where that cannot be written, in a temporary copy of it."""
        if self.root is None and not (self.state.metadata / "root.json").exists():
            raise NoTrustError(
                f"There is no root metadata in {self.state.metadata}.",
                advice="Give `root`: the bytes of root.json.",
            )
        try:
            with self.state.lock(LOCK_TIMEOUT):
                self.state.metadata.mkdir(exist_ok=True)
                return self._refreshed(self.state.metadata, url)
        except (OSError, StateError) as error:
            return self._in_copy(url, error)

    def _in_copy(self, url: str, cause: Exception) -> tuple[dict[str, Role], dict[str, Target]]:
        try:
            with tempfile.TemporaryDirectory(prefix="ferryman-client-") as scratch:
                folder = Path(scratch, "metadata")
                with suppress(OSError, shutil.Error):
                    shutil.copytree(self.state.metadata, folder, symlinks=True)
                folder.mkdir(exist_ok=True)
                return self._refreshed(folder, url)
        except OSError:
            raise StateError(
                f"Neither {self.state.path} nor a temporary folder can be written.", advice="Make room."
            ) from cause

    def _refreshed(self, folder: Path, url: str) -> tuple[dict[str, Role], dict[str, Target]]:
        from ferryman_client import trust  # imports python-tuf: only a refresh pays for it

        targets = dict.fromkeys((self.machine.target or TARGET_IDS[0], *TARGET_IDS))
        paths = trust.names(self.channel_name, targets, self.kinds)
        bridge = trust.as_bridge(self.fetcher)
        return trust.refresh(folder, url, bridge, self.root, self.channel_name, paths)

    def _examine(self, new: Trusted) -> None:
        """What python-tuf cannot know: our clock, our memory, and our documents."""
        if self.clock() > new.expires:
            raise ExpiredError(
                f"The repository's {new.expiring} metadata has expired.", advice="Check this machine's clock."
            )
        old = self._known()
        if old and (role := _gone_back(old, new)):
            raise MetadataError(
                f"The repository's {role} metadata is older than what this machine has seen.",
                advice="A mirror is behind, or somebody serves an old repository.",
            )
        self._channel_of(new)
        self._offers_of(new, self.machine.target)

    # --- what is known ------------------------------------------------------------------------------------------------

    def channel(self) -> ChannelInfo:
        """The channel, as the last trusted state has it; NoTrustError when there is none."""
        return self._channel_of(self._state())

    def offers(self, target: str | None = None) -> tuple[Offer, ...]:
        """What the channel offers a target (this machine's, if none is named), the previous ones of a rollout included."""
        return self._offers_of(self._state(), self.machine.target if target is None else target)

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
        state = self._state()
        expired = expired_at(state, self.clock())
        if expired and installed is None:
            raise ExpiredError(
                f"The {state.expiring} metadata of {self.channel_name} has expired; nothing is installed from it.",
                advice="Refresh. If that fails too, check this machine's clock, or tell whoever publishes.",
            )
        offers = [one for one in self.offers() if one.kind == kind]
        made = rules.choose(self.channel(), offers, self.machine, installed, expired=expired)
        if not made.changes or made.offer:
            return made
        offer = self.release(made.version).offer(self.machine.target, kind)  # rule 7: an older release
        missing = rules.lacks(offer, self.machine) if offer else "has nothing for this machine."
        if missing:
            return replace(made, action=Action.STAY, reason=f"{made.version} {missing}")
        return replace(made, offer=offer)

    def history(self) -> History:
        """All releases of the channel, newest first; one request, if the document is not here yet."""
        document = self._state().targets[f"{self.channel_name}/channel"]
        path = self.channel().history
        if not path:
            return History(name="", channel=self.channel_name)
        return read_history(self._document(path, document.length, document.sha256), path)

    def release(self, version: str) -> Release:
        """All files of a release that the channel has had: digest by digest from signed metadata.

        Raises:
            UnknownReleaseError: the channel never had it.
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

    def _state(self) -> Trusted:
        trusted = self._known()
        if trusted is None:
            raise NoTrustError(f"Nothing is known of {self.channel_name} yet.", advice="Refresh first.")
        return trusted

    def _channel_of(self, state: Trusted) -> ChannelInfo:
        path = f"{self.channel_name}/channel"
        if path not in state.targets:
            raise UnknownReleaseError(f"There is no {path}.", advice="Check the channel's name.")
        found = read_channel(state.targets[path].custom, path)
        if found.channel != self.channel_name:
            raise MetadataError(
                f"{path} speaks of the channel {found.channel}.", advice="Tell whoever publishes it."
            )
        return found

    def _offers_of(self, state: Trusted, target: str) -> tuple[Offer, ...]:
        found = []
        for kind in self.kinds:
            for path in (
                f"{self.channel_name}/{target}/{kind}",
                f"{self.channel_name}/{target}/{kind}/previous",
            ):
                if (one := state.targets.get(path)) is None:
                    continue
                offer = read_offer(
                    one.custom, one.length, one.sha256, path, previous=path.endswith("/previous")
                )
                if (offer.target, offer.kind) != (target, kind):
                    raise MetadataError(
                        f"{path} offers {offer.target} {offer.kind}.", advice="Tell whoever publishes it."
                    )
                found.append(offer)
        return tuple(found)

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
        path = Path(into) / _plain(name or offer.file_name)
        urls = [f"{url}{ARTIFACTS}/{quote(offer.path)}" for url in self.urls]
        return download(
            self._source(),
            urls,
            path,
            size=offer.size,
            sha256=offer.sha256,
            mode=offer.mode,
            progress=progress,
        )

    def verify(self, path: Path | str, *, version: str | None = None) -> Identity:
        """Which released file this is: a hash that leads to signed metadata.

        Args:
            version: look only there; otherwise at what is offered, and then at every release of the channel, newest first.

        Raises:
            VerifyError: it is none of them.
        """
        path = Path(path)
        try:
            digest, size = file_digest(path), path.stat().st_size
        except OSError as error:
            raise UsageError(f"{path} cannot be read: {error.strerror}.", advice="Check its name.") from error
        state = self._state()
        if expired_at(state, self.clock()):
            raise ExpiredError(
                f"The {state.expiring} metadata of {self.channel_name} has expired.", advice="Refresh first."
            )
        for identity in self._files(version):
            if (identity.sha256, identity.size) == (digest, size):
                return replace(identity, bad=rules.bad(self.channel(), identity.version))
        where = f"{self.channel_name} {version}" if version else self.channel_name
        raise VerifyError(f"{path} is no file of {where}.", advice="Do not use it; download it again.")

    def _files(self, version: str | None) -> Iterable[Identity]:
        if version is None:
            for target in TARGET_IDS:
                yield from map(Identity.of_offer, self.offers(target))
        entries = [self._entry(version)] if version else self.history().releases
        for entry in entries:
            release = self._release(entry)
            yield from map(Identity.of_offer, release.offers)
            yield from (Identity.of_asset(asset, release) for asset in release.assets)

    def _document(self, path: str, size: int, sha256: str) -> bytes:
        """A small file by its digest: from the state folder, or from the repository."""
        if (kept := self.state.document(sha256)) is not None:
            return kept
        first: ClientError | None = None
        for url in self.urls:
            try:
                data = _read(self._source(), f"{url}{quote(path)}", size, sha256)
            except (UnreachableError, VerifyError) as error:
                first = first or error
                continue
            with suppress(OSError):
                self.state.keep_document(sha256, data)
            return data
        assert first is not None, "there is at least one place"
        raise first

    def _hang_up(self) -> None:
        """Keep no connection open between two calls, which may be hours apart."""
        if isinstance(self.fetcher, HttpFetcher):
            self.fetcher.close()

    def _source(self) -> Source:
        if isinstance(self.fetcher, HttpFetcher) or hasattr(self.fetcher, "open"):
            return self.fetcher
        from ferryman_client import trust

        return trust.Foreign(self.fetcher)


def _plain(name: str) -> str:
    """``name``, if it is one that a file may have in any folder on any system."""
    if name in ("", ".", "..") or any(sign in name for sign in '/\\:*?"<>|\0') or name != name.strip():
        raise UsageError(
            f"{name!r} cannot be used as a name.", advice="Give a plain name without separators."
        )
    return name


def _gone_back(old: Trusted, new: Trusted) -> str:
    """The role that is older than it was; a newer root may begin its roles anew (recovery from a fast-forward)."""
    before, after = old.roles, new.roles
    if after["root"].version > before["root"].version:
        return ""
    return next((name for name in before if name in after and after[name].version < before[name].version), "")


def _read(source: Source, url: str, size: int, sha256: str) -> bytes:
    """A document of exactly these bytes."""
    got = bytearray()
    with source.open(url) as answer:
        for chunk in answer.body:
            got += chunk
            if len(got) > size:
                break
    if hashlib.sha256(got).hexdigest() != sha256:
        raise VerifyError(
            f"{url} is not what is signed.", advice="Nothing was taken from it; try another mirror."
        )
    return bytes(got)
