"""What no client can come to any more, and what is therefore removed.

Rules:

1. A version is kept while a channel offers it, falls back on it, demands it or ends a platform with it; and the newest
   ``keep`` of each channel's history.
2. The current snapshot and each that has not expired are kept, with everything that they name: channel documents, their histories, and the
   versions in them. So a version that the histories forget keeps its files until nobody can hold a document that names it.
3. Root documents are kept for ever: a client walks them all.
4. What is younger than :data:`UNFINISHED` is kept: a publishing may be about to name it. release.json goes first, so that
   nobody takes what is left for whole. So do the small objects by which a killed preflight asked whether it may write.
5. Locks, and everything that is not of these kinds, is not touched.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, Snapshot, Targets

from ferryman_release.errors import MetadataError
from ferryman_release.metadata.channels import in_use, same_program, version_key
from ferryman_release.metadata.documents import channel_target, read_history
from ferryman_release.metadata.repository import Current
from ferryman_release.model import ARTIFACTS, CHANNELS, METADATA, RELEASE
from ferryman_release.store.base import Entry, Store

UNFINISHED = timedelta(days=2)
_DOCUMENT = re.compile(rf"{METADATA}/(\d+)\.([a-z0-9-]+)\.json")
_FILE = re.compile(rf"{ARTIFACTS}/([^/]+)/([^/]+)/([^/]+)")
_PROBE = re.compile(r"probe/[0-9a-f]{32}\.txt")
_HISTORY = re.compile(rf"{CHANNELS}/[^/]+/[0-9a-f]{{64}}\.json")


class Reach(msgspec.Struct, frozen=True, kw_only=True):
    """What snapshots within their validity name: keys of documents and histories, and versions (rule 2)."""

    keys: frozenset[str] = frozenset()
    versions: frozenset[str] = frozenset()


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """``forget``: versions that leave the histories; ``remove``: objects; ``kept``: version → why."""

    forget: frozenset[str]
    remove: tuple[Entry, ...]
    kept: Mapping[str, str]

    @property
    def size(self) -> int:
        """Bytes that are freed."""
        return sum(entry.size for entry in self.remove)


def reach(store: Store, objects: Iterable[Entry], current: Current, now: datetime) -> Reach:
    """Follow the current snapshot, and every one that has not expired. Whether it was signed is not asked: too much is kept at worst."""
    keys: set[str] = set()
    versions: set[str] = set()
    used = current.timestamp.signed.snapshot_meta.version if current.timestamp else 0
    for entry in objects:
        found = _DOCUMENT.fullmatch(entry.key)
        if not found or found[2] != "snapshot":
            continue
        snapshot = _document(store, entry.key)
        if not isinstance(snapshot, Snapshot) or (snapshot.expires <= now and int(found[1]) != used):
            continue
        keys.add(entry.key)
        for name, meta in snapshot.meta.items():
            keys.add(f"{METADATA}/{meta.version}.{name}")
    for key in sorted(keys):
        for history_key, named in _named(store, key):
            keys.add(history_key)
            versions |= named
    return Reach(keys=frozenset(keys), versions=frozenset(versions))


def _document(store: Store, key: str) -> object:
    found = store.get(key)
    try:
        return Metadata.from_bytes(found[0]).signed if found else None
    except RepositoryError:
        return None


def _named(store: Store, key: str) -> Iterator[tuple[str, frozenset[str]]]:
    """(key of its history, versions that it and its history name) of a channel's document.

    A history that is broken names nothing to a client either; what the document itself offers is kept all the same.
    """
    channel = key.split(".", 1)[1].removesuffix(".json") if "." in key else ""
    signed = _document(store, key)
    if channel in ("snapshot", "targets") or not isinstance(signed, Targets):
        return
    offers = frozenset(str((one.custom or {}).get("version", "")) for one in signed.targets.values())
    try:
        target, place = channel_target(channel, signed.targets)
        found = store.get(place)
        history = read_history(found[0] if found else b"", target, channel)
    except MetadataError:
        yield key, offers
        return
    yield place, offers | {one.version for one in history.releases}


def plan(
    current: Current, objects: Sequence[Entry], reached: Reach, *, name: str, keep: int, now: datetime
) -> Plan:
    """What goes and what stays, and why."""
    kept = dict(_kept(current, reached, keep))
    named = {one.version for state in current.channels.values() for one in state.history.releases}
    wanted = dict(_wanted(current, keep))
    remove = [*_documents(objects, reached, now), *_files(objects, name, kept, now)]
    return Plan(
        forget=frozenset(named - set(wanted)),
        remove=tuple(remove),
        kept=kept,
    )


def _wanted(current: Current, keep: int) -> Iterator[tuple[str, str]]:
    """Rule 1; the stronger reason last."""
    for role, state in current.channels.items():
        for entry in state.history.releases[:keep]:
            yield entry.version, f"one of the newest {keep} of {role}"
    for role, state in current.channels.items():
        for version in in_use(state):
            yield version, f"in use by {role}"


def _kept(current: Current, reached: Reach, keep: int) -> Iterator[tuple[str, str]]:
    for version in reached.versions:
        yield version, "named by metadata that still hold"
    yield from _wanted(current, keep)


def _documents(objects: Iterable[Entry], reached: Reach, now: datetime) -> Iterator[Entry]:
    """Rules 2, 3 and 4."""
    for entry in objects:
        found = _DOCUMENT.fullmatch(entry.key)
        kinds = (found and found[2] != "root", _HISTORY.fullmatch(entry.key), _PROBE.fullmatch(entry.key))
        ours = any(kinds)
        if ours and entry.key not in reached.keys and entry.modified < (now - UNFINISHED).timestamp():
            yield entry


def _files(objects: Iterable[Entry], name: str, kept: Mapping[str, str], now: datetime) -> Iterator[Entry]:
    """Rules 1, 2 and 4."""
    folders: dict[str, list[Entry]] = {}
    for entry in objects:
        if (found := _FILE.fullmatch(entry.key)) and same_program(found[1], name):
            folders.setdefault(found[2], []).append(entry)
    for version, files in folders.items():
        fresh = max(entry.modified for entry in files) >= (now - UNFINISHED).timestamp()
        if version not in kept and not fresh:
            yield from sorted(files, key=lambda entry: not entry.key.endswith(f"/{RELEASE}"))


def oldest_first(versions: Iterable[str]) -> list[str]:
    """For people."""
    return sorted(versions, key=version_key)
