"""Who may not publish on top of what is there: a publisher of yesterday, by its clock or by its keys.

What such a one signs holds for whoever comes anew, and is refused by every machine that has seen more.
"""

from __future__ import annotations

from datetime import datetime

from tuf.api.metadata import Metadata, Snapshot

from ferryman_release.errors import MetadataError
from ferryman_release.keys.folder import KeyFolder
from ferryman_release.model import METADATA, TIMESTAMP
from ferryman_release.store.base import Store

BEHIND = 300.0  # seconds; also what preflight forgives
_PULL = "Bring this checkout up to date: keys/ has to be that of the commit that published last."


def check_clock(store: Store, now: datetime) -> None:
    """The store has the moment of the last publishing: a clock before that signs what has expired sooner than it should.

    Raises:
        MetadataError: this machine's clock is behind it.
    """
    found = store.head(TIMESTAMP)
    behind = found.modified - now.timestamp() if found else 0.0
    if behind > BEHIND:
        raise MetadataError(
            f"This machine's clock is {behind / 3600:.1f} hours behind what was published last.",
            advice="Set it (timedatectl, chronyc makestep): what is signed with it would expire too early.",
        )


def check_keys(store: Store, keys: KeyFolder, snapshot: Metadata[Snapshot] | None) -> None:
    """The documents of keys/ are not older than those that machines have seen.

    Raises:
        MetadataError: they are.
    """
    newest = max(keys.roots())
    if store.head(f"{METADATA}/{newest + 1}.root.json") is not None:
        raise MetadataError(
            f"{newest + 1}.root.json is published, and {keys.path} has not got it.", advice=_PULL
        )
    published = snapshot.signed.meta["targets.json"].version if snapshot else 0
    version, _ = keys.targets_bytes()
    if version < published:
        raise MetadataError(
            f"{published}.targets.json is published, and the newest in {keys.path} is {version}.",
            advice=_PULL,
        )
