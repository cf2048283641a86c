"""A repository in memory that a key folder signs for, and python-tuf's client that walks it: what keys mean to a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from securesystemslib.signer import Signer
from tuf.api.exceptions import DownloadHTTPError
from tuf.api.metadata import Metadata, MetaFile, Snapshot, TargetFile, Targets, Timestamp
from tuf.ngclient import FetcherInterface, Updater

from ferryman_release.keys.folder import KeyFolder

BASE = "http://memory/metadata/"
SignersOf = Callable[[str], Sequence[Signer]]


class Memory(FetcherInterface):
    """Objects by their path below `metadata/`; ``asked`` has every request."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []
        self._version = 0

    def _fetch(self, url: str) -> Iterator[bytes]:
        name = url.removeprefix(BASE)
        self.asked.append(name)
        if name not in self.objects:
            raise DownloadHTTPError(f"no {name}", 404)
        return iter([self.objects[name]])

    def publish(
        self, folder: KeyFolder, signers: SignersOf, now: datetime, *, content: str = "", version: int = 0
    ) -> None:
        """Everything that a release puts into the store, each channel with one target that says ``content``."""
        self._version = version or self._version + 1
        for number, data in folder.roots().items():
            self.objects[f"{number}.root.json"] = data
        number, data = folder.targets_bytes()
        self.objects[f"{number}.targets.json"] = data
        meta = {"targets.json": MetaFile(number)}
        for channel in folder.channels():
            target = TargetFile.from_data(f"{channel}/channel", content.encode())
            self._sign(
                channel,
                Targets(self._version, expires=now + timedelta(days=90), targets={target.path: target}),
                signers,
            )
            meta[f"{channel}.json"] = MetaFile(self._version)
        self._sign("snapshot", Snapshot(self._version, expires=now + timedelta(days=30), meta=meta), signers)
        self.timestamp(signers, now)

    def timestamp(self, signers: SignersOf, now: datetime, *, version: int = 0) -> None:
        """A new pointer to the newest snapshot."""
        pointer = Timestamp(
            version or self._version, expires=now + timedelta(days=7), snapshot_meta=MetaFile(self._version)
        )
        self._sign("timestamp", pointer, signers)

    def _sign(self, role: str, signed: Any, signers: SignersOf) -> None:
        document = Metadata(signed)
        for signer in signers(role):
            document.sign(signer, append=True)
        name = "timestamp.json" if role == "timestamp" else f"{signed.version}.{role}.json"
        self.objects[name] = document.to_bytes()


class Machine:
    """A client: what it was installed with, what it remembers, and its clock."""

    def __init__(self, memory: Memory, bootstrap: bytes, cache: Path) -> None:
        self.memory = memory
        self.bootstrap = bootstrap
        self.cache = cache
        cache.mkdir(parents=True, exist_ok=True)

    def refresh(self, now: datetime) -> int:
        """The version of the root that it trusts after a refresh; raises what python-tuf raises."""
        return self._updater(now)._trusted_set.root.version

    def content_length(self, channel: str, now: datetime) -> int | None:
        """The length of the channel's target after a refresh; None when nobody may say it."""
        info = self._updater(now).get_targetinfo(f"{channel}/channel")
        return info.length if info else None

    def _updater(self, now: datetime) -> Updater:
        updater = Updater(str(self.cache), BASE, fetcher=self.memory, bootstrap=self.bootstrap)
        updater._trusted_set.reference_time = now
        updater.refresh()
        return updater


def signers_of(known: Mapping[str, Signer]) -> SignersOf:
    """Signers by role."""
    return lambda role: [known[role]]
