"""What a repository says, as frozen values; reading.py makes them.

Field names are those of the documents (docs/release.md), with underscores for hyphens. Times in the documents are
ISO 8601 in UTC and stay text here; sizes are in bytes, digests are SHA-256 in hexadecimal.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

KINDS = ("archive", "executable", "pyz")
RUNNABLE = frozenset({"executable", "pyz"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Rollout:
    """Which part of the machines gets an offer; choice.py says how a machine finds out whether it is in."""

    percent: float
    seed: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Offer:
    """One artifact that a channel offers: ``path`` is relative to `<prefix>/artifacts`, ``size`` in bytes.

    ``needs`` maps glibc, musl, macos or windows to the lowest version on which it runs. ``previous`` is true for what
    machines outside of a rollout get.
    """

    name: str
    version: str
    target: str
    kind: str
    path: str
    size: int
    sha256: str
    released: str = ""
    needs: Mapping[str, str] = field(default_factory=dict)
    rollout: Rollout | None = None
    previous: bool = False

    @property
    def file_name(self) -> str:
        """The artifact's own name."""
        return self.path.rpartition("/")[2]

    @property
    def mode(self) -> int:
        """Permission bits of the file, before the umask."""
        return 0o755 if self.kind in RUNNABLE else 0o644


@dataclass(frozen=True, kw_only=True, slots=True)
class Yanked:
    """A version that nobody should have."""

    version: str
    reason: str = ""
    date: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Sunset:
    """A platform that gets no newer version than ``last``: a target, or those of it that are ``below`` a floor."""

    target: str
    last: str
    reason: str = ""
    below: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChannelInfo:
    """What holds for a channel as a whole; ``history`` is the path of the document with all its releases."""

    channel: str
    version: str
    previous: str = ""
    minimum: str = ""
    withdrawn: tuple[str, ...] = ()
    yanked: tuple[Yanked, ...] = ()
    sunset: tuple[Sunset, ...] = ()
    history: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class HistoryEntry:
    """A release that the channel has had; ``path`` is that of its release.json, relative to the prefix."""

    version: str
    path: str
    size: int
    sha256: str
    released: str = ""
    promoted: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class History:
    """All releases of a channel, newest first."""

    name: str
    channel: str
    releases: tuple[HistoryEntry, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class Asset:
    """One file of a release; ``about`` is the file that it describes or signs."""

    path: str
    kind: str
    size: int
    sha256: str
    about: str = ""
    media_type: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Release:
    """All files of a version. ``offers`` are its artifacts in the form that :meth:`Client.download` takes."""

    name: str
    version: str
    released: str
    commit: str = ""
    assets: tuple[Asset, ...] = ()
    offers: tuple[Offer, ...] = ()

    def asset(self, path: str) -> Asset | None:
        """The file of that name."""
        return next((asset for asset in self.assets if asset.path == path), None)

    def offer(self, target: str, kind: str) -> Offer | None:
        """The artifact for a target, of a kind."""
        return next((one for one in self.offers if (one.target, one.kind) == (target, kind)), None)
