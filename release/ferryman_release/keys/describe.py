"""What a draft changes, in sentences: what a holder reads before signing; and the table of `ferryman keys status`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from tuf.api.metadata import Metadata, Role, Root, Targets

from ferryman_build.artifacts import Struct
from ferryman_release.keys.edit import Wanted, drafts, pending_known, wanted
from ferryman_release.keys.folder import KEYS, MINISIGN_PUB, KeyFolder, KnownKey
from ferryman_release.keys.lifetimes import Alarm, alarms
from ferryman_release.keys.minisign import MinisignKey
from ferryman_release.keys.names import BESIDE, OFFLINE, PROVENANCE, ROOT


class RoleRow(Struct, frozen=True, kw_only=True):
    """A role: its keys by name and id, how many must sign, and its document if the key folder has it.

    ``expires`` is ISO 8601, ``left`` days; both are empty where the document is in the store.
    """

    role: str
    threshold: int
    keys: dict[str, str]
    version: int | None = None
    expires: str = ""
    left: float | None = None


class Status(Struct, frozen=True, kw_only=True):
    """What `ferryman keys status --json` prints."""

    schema_version: int = 1
    roles: tuple[RoleRow, ...]
    wanted: tuple[Wanted, ...]
    alarms: tuple[Alarm, ...]
    revoked: tuple[KnownKey, ...]


def status(
    folder: KeyFolder,
    now: datetime,
    days: Mapping[str, int],
    published: Mapping[str, Metadata[Any]] | None = None,
) -> Status:
    """How the keys are. ``published`` has the documents of the store that are to be looked at as well, by role."""
    documents: dict[str, Metadata[Any]] = {}
    if folder.exists():
        documents = {ROOT: folder.root(), "targets": folder.targets(), **(published or {})}
    return Status(
        roles=tuple(_rows(folder, documents, now)) if documents else (),
        wanted=tuple(wanted(folder)),
        alarms=tuple(alarms(documents, now, days)),
        revoked=tuple(one for one in folder.known().keys if one.revoked),
    )


def _rows(folder: KeyFolder, documents: Mapping[str, Metadata[Any]], now: datetime) -> Iterator[RoleRow]:
    names = {one.id: one.name for one in folder.known().keys}
    root, targets = folder.root().signed, folder.targets().signed
    for role in (*root.roles, *folder.channels(), *BESIDE):
        keys = folder.keys(role)
        demanded = 1 if role in BESIDE else _delegator(role, root, targets).get_delegated_role(role).threshold
        row = RoleRow(
            role=role, threshold=demanded, keys={names.get(key.keyid, "?"): key.keyid for key in keys}
        )
        yield _with_document(row, documents[role], now) if role in documents else row


def _delegator(role: str, root: Root, targets: Targets) -> Root | Targets:
    return root if role in root.roles else targets


def _with_document(row: RoleRow, document: Metadata[Any], now: datetime) -> RoleRow:
    signed = document.signed
    return RoleRow(
        role=row.role, threshold=row.threshold, keys=row.keys, version=signed.version,
        expires=signed.expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
        left=round((signed.expires - now).total_seconds() / 86400, 3),
    )  # fmt: skip


# --- what a draft changes -----------------------------------------------------------------------------------------------


def changes(folder: KeyFolder) -> list[str]:
    """One line for each thing that the drafts change."""
    names = {one.id: one.name for one in pending_known(folder).keys}
    lines: list[str] = []
    for role, draft in drafts(folder).items():
        before = _before(folder, role)
        label = f"{draft.signed.version}.{role}.json"
        lines += [f"{label}: {line}" for line in _differences(before, _roles(draft.signed), names)]
        lines.append(f"{label}: holds until {draft.signed.expires:%Y-%m-%d}")
    return [*lines, *_beside(folder)]


def _beside(folder: KeyFolder) -> Iterator[str]:
    """What comes along with the drafts and is signed by nobody: the key that people trust, and those of the provenance."""
    path = folder.drafts / MINISIGN_PUB
    if path.exists() and path.read_bytes() != _bytes(folder.path / MINISIGN_PUB):
        yield f"{MINISIGN_PUB}: people are to trust {MinisignKey.parse(path.read_text(encoding='utf-8')).name}"
    before = {one.id: one for one in folder.known().keys}
    for one in pending_known(folder).keys:
        if PROVENANCE in one.roles and one != before.get(one.id):
            state = "counts for nothing as" if one.revoked else "signs no more" if one.retired else "may sign"
            yield f"{KEYS}: {one.name} ({one.id[:12]}) {state} provenance"


def _bytes(path: Path) -> bytes:
    return path.read_bytes() if path.exists() else b""


def _before(folder: KeyFolder, role: str) -> Mapping[str, Role]:
    if not folder.versions(role):
        return {}
    return _roles(folder.root().signed if role == ROOT else folder.targets().signed)


def _roles(signed: Root | Targets) -> Mapping[str, Role]:
    if isinstance(signed, Root):
        return signed.roles
    return (signed.delegations and signed.delegations.roles) or {}


def _differences(
    before: Mapping[str, Role], after: Mapping[str, Role], names: Mapping[str, str]
) -> Iterator[str]:
    def called(keyid: str) -> str:
        return f"{names.get(keyid, 'a key')} ({keyid[:12]})"

    for name in dict.fromkeys((*before, *after)):
        old, new = before.get(name), after.get(name)
        if new is None:
            yield f"the channel {name} goes"
            continue
        gained = [keyid for keyid in new.keyids if old is None or keyid not in old.keyids]
        lost = [keyid for keyid in old.keyids if keyid not in new.keyids] if old else []
        yield from (f"{called(keyid)} may sign {name}" for keyid in gained)
        yield from (f"{called(keyid)} may no longer sign {name}" for keyid in lost)
        if (old is None and name in OFFLINE) or (old is not None and old.threshold != new.threshold):
            yield f"{name} needs {new.threshold} signatures"
