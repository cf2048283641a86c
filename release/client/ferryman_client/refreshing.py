"""How a new trusted state comes about: place after place, in the state folder or in a copy of it, and examined last.

What python-tuf checks is not checked again. Added is what it cannot know: the caller's clock, the versions that this
machine remembers although the cache of metadata was lost, and whether the documents say what their places mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ferryman_client.contents import channel_of, offers_of
from ferryman_client.errors import (
    ClientError,
    ExpiredError,
    MetadataError,
    NoTrustError,
    StateError,
    UnknownReleaseError,
    UnreachableError,
)
from ferryman_client.fetch import Source
from ferryman_client.machine import TARGET_IDS
from ferryman_client.state import Role, StateDir, Target, Trusted

if TYPE_CHECKING:
    from tuf.ngclient import FetcherInterface

LOCK_TIMEOUT = 30.0  # seconds: a refresh of another process takes one or two


@dataclass(frozen=True, kw_only=True, slots=True)
class Refresher:
    """What a refresh needs; the fields are the arguments of :class:`ferryman_client.Client`."""

    urls: Sequence[str]
    state: StateDir
    root: bytes | None
    channel: str
    kinds: Sequence[str]
    fetcher: Source | FetcherInterface
    clock: Callable[[], float]

    def run(self, old: Trusted | None, target: str) -> Trusted:
        """A new state from the first place that has a valid one.

        Args:
            old: the last one, below whose versions nothing is accepted.
            target: the machine's, whose offers must be readable.

        Raises:
            ClientError: the first place's failure, when no place has a valid state.
        """
        first: ClientError | None = None
        for url in self.urls:
            try:
                roles, targets = self._somewhere(url, target)
                new = Trusted(channel=self.channel, checked=self.clock(), roles=roles, targets=targets)
                self._examine(old, new, target)
                return new
            except (UnreachableError, MetadataError, UnknownReleaseError) as error:
                first = first or error
        assert first is not None, "there is at least one place"
        raise first

    def _somewhere(self, url: str, target: str) -> tuple[dict[str, Role], dict[str, Target]]:
        """In the state folder; where that cannot be written, in a temporary copy of it."""
        if self.root is None and not _there(self.state.metadata / "root.json"):
            raise NoTrustError(
                f"There is no root metadata in {self.state.metadata}.",
                advice="Give `root`: the bytes of root.json.",
            )
        try:
            with self.state.lock(LOCK_TIMEOUT):
                self.state.metadata.mkdir(exist_ok=True)
                return self._tuf(self.state.metadata, url, target)
        except (OSError, StateError) as error:
            return self._in_copy(url, target, error)

    def _in_copy(self, url: str, target: str, cause: Exception) -> tuple[dict[str, Role], dict[str, Target]]:
        import tempfile

        try:
            with tempfile.TemporaryDirectory(prefix="ferryman-client-") as scratch:
                folder = Path(scratch, "metadata")
                _copy(self.state.metadata, folder)
                return self._tuf(folder, url, target)
        except (OSError, StateError):
            raise StateError(
                f"Neither {self.state.path} nor a temporary folder can be written.",
                advice="Make room, or check who owns them.",
            ) from cause

    def _tuf(self, folder: Path, url: str, target: str) -> tuple[dict[str, Role], dict[str, Target]]:
        from ferryman_client import trust  # imports python-tuf: only a refresh pays for it

        targets = dict.fromkeys((target or TARGET_IDS[0], *TARGET_IDS))
        paths = trust.names(self.channel, targets, self.kinds)
        return trust.refresh(folder, url, trust.as_bridge(self.fetcher), self.root, self.channel, paths)

    def _examine(self, old: Trusted | None, new: Trusted, target: str) -> None:
        if self.clock() > new.expires:
            raise ExpiredError(
                f"The repository's {new.expiring} metadata has expired.", advice="Check this machine's clock."
            )
        if old and (role := gone_back(old, new)):
            raise MetadataError(
                f"The repository's {role} metadata is older than what this machine has seen.",
                advice="A mirror is behind, or somebody serves an old repository.",
            )
        channel_of(new)
        offers_of(new, target, self.kinds)


def _there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # a folder that may not be looked into, or a name that no file can have
        return False


def _copy(source: Path, destination: Path) -> None:
    """What can be read of python-tuf's cache; a name that is no file (anymore) is left out."""
    import shutil

    destination.mkdir()
    for folder, inside in ((source, destination), (source / "root_history", destination / "root_history")):
        with suppress(OSError):
            names = [path for path in folder.iterdir() if path.is_file()]
            inside.mkdir(exist_ok=True)
            for path in names:
                shutil.copyfile(path, inside / path.name)


def gone_back(old: Trusted, new: Trusted) -> str:
    """The role that is older than it was; a newer root may begin the others anew (recovery from a fast-forward)."""
    before, after = old.roles, new.roles
    if after["root"].version > before["root"].version:
        return ""
    return next((name for name in before if name in after and after[name].version < before[name].version), "")
