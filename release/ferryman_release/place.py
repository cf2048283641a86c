"""Where releases go, and who signs them: the store, its public address, the keys and the clock, opened once."""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from securesystemslib.signer import Signer

from ferryman_build.project import Project
from ferryman_build.settings import ReleaseSettings
from ferryman_client import ClientError
from ferryman_client.fetch import HttpFetcher, Source
from ferryman_release.keys.folder import KeyFolder
from ferryman_release.metadata.repository import Repository, Signing
from ferryman_release.signing.roles import role_signers
from ferryman_release.signing.secrets import Secrets
from ferryman_release.store.base import Store, headers_for
from ferryman_release.store.opening import open_store, public_url

Now = Callable[[], datetime]


def utc_now() -> datetime:
    """The clock: aware, in UTC."""
    return datetime.now(UTC)


class Seen(msgspec.Struct, frozen=True, kw_only=True):
    """What a store was seen to do, for people; ``skew`` is how many seconds its clock is ahead, None when nobody looked.

    ``unread`` says why everyone cannot read what was written; '' when everyone can.
    """

    rows: tuple[tuple[str, str], ...]
    skew: float | None = None
    unread: str = ""


_PROBE = b"May this user write here, and everyone read it? It is removed again.\n"


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """``public_url`` ends with a slash and is where everyone reads; ``root`` is the project's folder."""

    store: Store
    public_url: str
    keys: KeyFolder
    settings: ReleaseSettings
    secrets: Secrets
    signing: Signing
    root: Path
    now: Now = utc_now
    readable: bool = True

    def repository(self, name: str) -> Repository:
        """The metadata of the program ``name``."""
        return Repository(self.store, self.keys, name, self.signing)

    def rehearsal(self, store: Store) -> Place:
        """The same place behind a store that writes nothing, so that nobody can read back what was written."""
        return msgspec.structs.replace(self, store=store, readable=False)

    def fetcher(self) -> Source:
        """What reads the public address, as a client does."""
        return HttpFetcher()

    def probe(self, *, write: bool) -> Seen:
        """Ask the store what it can do; with ``write`` also put a small object there and take it away again.

        Raises:
            StoreError: it does not answer, or refuses.
        """
        skew, unread = None, ""
        if write and self.readable:
            key = f"probe/{uuid.uuid4().hex}.txt"
            self.store.put(key, _PROBE, headers_for(key))
            try:
                entry = self.store.head(key)
                unread = self._unread(key)
            finally:
                self.store.delete(key)
            here = self.store.url.startswith("file:")  # a folder has this machine's clock
            skew = entry.modified - self.now().timestamp() if entry and not here else None
        return Seen(rows=self._able(write), skew=skew, unread=unread)

    def _able(self, write: bool) -> tuple[tuple[str, str], ...]:
        """What the store keeps of its word; one that was never asked is asked by writing small objects."""
        known = None if write else getattr(self.store, "known", None)
        found = known() if known else self.store.capabilities()
        return (
            found.rows()
            if found
            else (("what the store keeps of its word", "not asked: nothing has to be written"),)
        )

    def _unread(self, key: str) -> str:
        """'' or why everyone cannot read what was just written."""
        try:
            with self.fetcher().open(f"{self.public_url}{key}") as answer:
                found = b"".join(answer.body)
        except ClientError as error:
            return str(error).rstrip(".")
        return "" if found == _PROBE else f"{self.public_url} answers with other bytes than were written"


def open_place(
    project: Project,
    settings: ReleaseSettings | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    secrets: Secrets | None = None,
    keys: Path | None = None,
    now: Now = utc_now,
) -> Place:
    """The place that the project's settings name; nothing is asked of the store and no key is opened yet.

    Raises:
        ConfigError: the settings name no place.
    """
    chosen = settings or project.settings.release
    env = os.environ if environ is None else environ
    folder = KeyFolder(keys or project.root / chosen.keys)
    opened = secrets or Secrets.usual()
    return Place(
        store=open_store(chosen, project.root, env),
        public_url=public_url(chosen, project.root),
        keys=folder,
        settings=chosen,
        secrets=opened,
        signing=Signing(
            signers=_remembered(chosen, folder, opened, project.root), days=chosen.expires, now=now
        ),
        root=project.root,
        now=now,
    )


def _remembered(
    settings: ReleaseSettings, folder: KeyFolder, secrets: Secrets, root: Path
) -> Callable[[str], Sequence[Signer]]:
    """A key that a person has unlocked once stays so for the run."""

    @functools.cache
    def signers(role: str) -> Sequence[Signer]:
        return role_signers(settings, folder, role, secrets, root=root)

    return signers
