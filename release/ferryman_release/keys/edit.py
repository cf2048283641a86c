"""Changes of root and targets: made in one block, signed by as many as it takes, valid all at once or not at all.

    with edit(folder, settings, now, signers) as change:
        replace_keys(change.root, "timestamp", [key])

At the end of the block each document that changed gets the next version and a new expiry, is signed by ``signers`` and put
into keys/draft/. A draft is nothing to anybody until it has every signature that it needs:

1. root N+1: the threshold of root N, and its own (TUF specification, 5.3.4).
2. targets: the threshold of the newest root, the draft's if there is one. A root that leaves the present targets with too
   few valid signatures takes a new version of them along.
   Nothing is signed that does not have the form of :mod:`ferryman_release.keys.form`, whoever has written it.
3. Then all drafts move into keys/metadata/ together, root first. Whoever is interrupted there says `keys sign` again.
4. A further change before that goes on top of the drafts, whose signatures were for something else and are dropped.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any

import msgspec
from securesystemslib.signer import Key, Signer
from tuf.api.metadata import Delegations, Metadata, Root, Targets

from ferryman_build.artifacts import Struct
from ferryman_build.settings import ReleaseSettings
from ferryman_release.errors import KeyProblemError, MetadataError
from ferryman_release.keys.folder import KEYS, MINISIGN_PUB, KeyFolder, KeysFile, KnownKey, parse, write
from ferryman_release.keys.form import require_form
from ferryman_release.keys.lifetimes import expiry
from ferryman_release.keys.minisign import MinisignKey
from ferryman_release.keys.names import OFFLINE, ROOT, TARGETS
from ferryman_release.signing.roles import require_counted

_KINDS: dict[str, type[Any]] = {ROOT: Root, TARGETS: Targets}


class Wanted(Struct, frozen=True, kw_only=True):
    """Signatures that a draft still needs: ``missing`` of those who ``could`` (names), as the ``role`` of ``by`` demands."""

    document: str
    by: str
    role: str
    missing: int
    could: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.document} wants {self.missing} of {', '.join(self.could)} (the {self.role} keys of {self.by})"


class Change:
    """What a block may change. ``renew`` names documents that get a new version although nothing in them changed."""

    def __init__(self, root: Root, targets: Targets, known: KeysFile, now: datetime) -> None:
        self.root = root
        self.targets = targets
        self.now = now
        self.known = {one.id: one for one in known.keys}
        self.minisign: MinisignKey | None = None
        self.renew: set[str] = set()

    @property
    def day(self) -> str:
        """Today, as keys.json has it."""
        return self.now.date().isoformat()

    def note(self, key: Key, name: str, roles: Sequence[str]) -> None:
        """Remember a key that begins to sign.

        Raises:
            KeyProblemError: it was revoked.
        """
        old = self.known.get(key.keyid)
        if old is not None and old.revoked:
            raise KeyProblemError(
                f"The key {key.keyid[:12]} ({old.name}) was revoked on {old.revoked}: {old.reason}.",
                advice="Make a new key; one that was revoked never comes back.",
            )
        self.known[key.keyid] = KnownKey(
            id=key.keyid, name=old.name if old else name, roles=tuple(roles), keytype=key.keytype, scheme=key.scheme,
            public=key.keyval["public"], added=old.added if old else self.day,
        )  # fmt: skip

    def note_end(self, keyid: str, *, reason: str = "") -> None:
        """Remember that a key signs no more; with a ``reason``: that nothing it signed counts any more."""
        old = self.known.get(keyid)
        if old is None:
            return
        changes = {"revoked": self.day, "reason": reason} if reason else {}
        self.known[keyid] = msgspec.structs.replace(old, retired=old.retired or self.day, **changes)


@contextlib.contextmanager
def edit(
    folder: KeyFolder, settings: ReleaseSettings, now: datetime, signers: Iterable[Signer] = ()
) -> Iterator[Change]:
    """A block that changes root and targets (see the head of this module). An exception in it changes nothing.

    Raises:
        KeyProblemError: a signer is nobody's who may sign, or a key in the block may not be used.
        MetadataError: what is in the folder is broken.
    """
    documents: dict[str, Any] = {role: _current(folder, role) for role in OFFLINE}
    before = {role: document.to_dict() for role, document in documents.items()}
    change = Change(documents[ROOT], documents[TARGETS], pending_known(folder), now)
    yield change
    changed = drafts(folder)
    for role, document in ((ROOT, change.root), (TARGETS, change.targets)):
        if (
            document.to_dict() != before[role]
            or role in change.renew
            or _left_alone(folder, role, change.root)
        ):
            document.version = latest(folder, role) + 1
            document.expires = expiry(role, settings, now)
            changed[role] = Metadata(document)
    known = KeysFile(keys=tuple(change.known.values()))
    files = {KEYS: msgspec.json.format(msgspec.json.encode(known), indent=2) + b"\n"}
    if change.minisign:
        files[MINISIGN_PUB] = change.minisign.text().encode()
    _finish(folder, changed, signers, files)


def sign(folder: KeyFolder, signers: Iterable[Signer]) -> list[Wanted]:
    """Sign every draft with those of ``signers`` that may, then let the drafts be valid if they can; else who is missing.

    Raises:
        KeyProblemError: a signer may sign none of the drafts.
        MetadataError: a draft is broken.
    """
    return _finish(folder, drafts(folder), signers, {})


def _finish(
    folder: KeyFolder, documents: dict[str, Metadata[Any]], signers: Iterable[Signer], files: dict[str, bytes]
) -> list[Wanted]:
    """Sign, and only then write: a signer that is nobody's leaves the folder as it was."""
    _require_counted(documents)
    root = documents[ROOT].signed if ROOT in documents else folder.root().signed if documents else None
    require_form(documents, root, {role: latest(folder, role) for role in OFFLINE})
    for signer in signers:
        signed = [role for role in documents if _sign(folder, role, documents, signer)]
        if documents and not signed:
            raise KeyProblemError(
                f"The key {signer.public_key.keyid[:12]} signs none of the drafts.",
                advice="`ferryman keys status` names the keys that may sign them.",
            )
    for role, document in documents.items():
        _store_draft(folder, role, document)
    for name, content in files.items():
        write(folder.drafts / name, content)
    missing = wanted(folder)
    if not missing:
        _settle(folder, documents)
    return missing


def drafts(folder: KeyFolder) -> dict[str, Metadata[Any]]:
    """The documents that wait for signatures, by role.

    Raises:
        MetadataError: one of them is broken.
    """
    found: dict[str, Metadata[Any]] = {}
    for role in OFFLINE:
        numbers = folder.versions(role, draft=True)
        if numbers and max(numbers) > latest(folder, role):
            path = numbers[max(numbers)]
            found[role] = parse(path.read_bytes(), _KINDS[role], f"draft/{path.name}")
    return found


def wanted(folder: KeyFolder) -> list[Wanted]:
    """What the drafts still need; nothing when there are none."""
    documents = drafts(folder)
    names = {one.id: one.name for one in pending_known(folder).keys}
    missing = []
    for role, document in documents.items():
        for by, delegator in _delegators(folder, role, documents):
            result = delegator.get_verification_result(role, document.signed_bytes, document.signatures)
            if not result:
                missing.append(
                    Wanted(
                        document=f"{document.signed.version}.{role}.json", by=by, role=role, missing=result.missing,
                        could=tuple(names.get(keyid, keyid[:12]) for keyid in result.unsigned),
                    )
                )  # fmt: skip
    return missing


def latest(folder: KeyFolder, role: str) -> int:
    """The newest valid version of a role; 0 before the first ceremony."""
    return max(folder.versions(role), default=0)


# --- parts --------------------------------------------------------------------------------------------------------------


def _current(folder: KeyFolder, role: str) -> Root | Targets:
    """A copy of what a change begins with: the draft, else what is valid, else nothing."""
    if (draft := drafts(folder).get(role)) is not None:
        return draft.signed  # type: ignore[no-any-return]
    if not latest(folder, role):
        return Root() if role == ROOT else Targets(delegations=Delegations({}, {}))
    if role == ROOT:
        folder.root()  # the chain holds, or nothing is built on it
        return parse(folder.roots()[latest(folder, ROOT)], Root, role).signed  # type: ignore[no-any-return]
    return parse(folder.targets_bytes()[1], Targets, role).signed  # type: ignore[no-any-return]


def _left_alone(folder: KeyFolder, role: str, root: Root) -> bool:
    """Whether these are targets that ``root`` no longer vouches for (rule 2)."""
    if role != TARGETS or not latest(folder, TARGETS) or TARGETS in drafts(folder):
        return False
    current = parse(folder.targets_bytes()[1], Targets, TARGETS)
    return not root.get_verification_result(TARGETS, current.signed_bytes, current.signatures)


def _delegators(folder: KeyFolder, role: str, documents: dict[str, Metadata[Any]]) -> list[tuple[str, Root]]:
    """Whose keys must have signed a draft (rules 1 and 2), with the name of each document."""
    version = latest(folder, ROOT)
    valid = [(f"root {version}", folder.root().signed)] if version else []
    new = [(f"root {documents[ROOT].signed.version}", documents[ROOT].signed)] if ROOT in documents else []
    return valid + new if role == ROOT else new or valid


def _sign(folder: KeyFolder, role: str, documents: dict[str, Metadata[Any]], signer: Signer) -> bool:
    """Whether ``signer`` may sign the draft; then it has."""
    keyid = signer.public_key.keyid
    if not any(keyid in root.roles[role].keyids for _, root in _delegators(folder, role, documents)):
        return False
    documents[role].sign(signer, append=True)
    return True


def _require_counted(documents: dict[str, Metadata[Any]]) -> None:
    """No draft lets a key sign that clients do not count, whoever has written it."""
    for document in documents.values():
        holder = document.signed if isinstance(document.signed, Root) else document.signed.delegations
        for key in holder.keys.values() if holder else ():
            require_counted(key, f"{document.signed.version}.{document.signed.type}.json")


def _store_draft(folder: KeyFolder, role: str, document: Metadata[Any]) -> None:
    for path in folder.versions(role, draft=True).values():
        path.unlink()
    write(folder.drafts / f"{document.signed.version}.{role}.json", document.to_bytes())


def _settle(folder: KeyFolder, documents: dict[str, Metadata[Any]]) -> None:
    """Let the drafts be valid (rule 3)."""
    for role in (role for role in OFFLINE if role in documents):
        name = f"{documents[role].signed.version}.{role}.json"
        write(folder.metadata / name, (folder.drafts / name).read_bytes())
    for name in (KEYS, MINISIGN_PUB):
        if (folder.drafts / name).exists():
            write(folder.path / name, (folder.drafts / name).read_bytes())
    for path in sorted(folder.drafts.iterdir()) if folder.drafts.is_dir() else ():
        path.unlink()
    with contextlib.suppress(OSError):
        folder.drafts.rmdir()
    if documents:
        KeyFolder(folder.path).targets()  # what was just written holds, all of it


def pending_known(folder: KeyFolder) -> KeysFile:
    """keys.json with what the drafts add to it."""
    path = folder.drafts / KEYS
    try:
        return msgspec.json.decode(path.read_bytes(), type=KeysFile)
    except FileNotFoundError:
        return folder.known()
    except msgspec.DecodeError as error:
        raise MetadataError(
            f"{path} is broken: {error}.", advice="Restore it from version control, or remove keys/draft."
        ) from error
