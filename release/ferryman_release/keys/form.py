"""The form of root and targets that ceremonies make, and no other is signed.

A draft is a file that somebody has committed. What `ferryman keys sign` tells a holder (:mod:`ferryman_release.keys.describe`)
is who may sign, how many must, and until when; so a draft may differ in that alone. Rules:

1. Root has the four roles of TUF. Root and targets have the same keys and threshold; snapshot and timestamp have one key
   each, which is none of those. Snapshots are consistent.
2. Targets have no targets of their own. Each delegation is one channel: terminating, one key, the paths of its own name.
3. The id of a key follows from the key, so that one key is not counted twice.
4. Nothing else is in them, and the version is the next one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Metadata, Role, Root, Targets

from ferryman_release.errors import MetadataError
from ferryman_release.keys.folder import ed25519
from ferryman_release.keys.names import OFFLINE, ONLINE, ROOT, TARGETS, channel_paths

_ADVICE = "Sign nothing of it: ask who has committed keys/draft, or remove that folder and begin again."


def require_form(
    documents: Mapping[str, Metadata[Any]], root: Root | None, latest: Mapping[str, int]
) -> None:
    """Each of ``documents`` (by role) is one that a ceremony makes.

    Args:
        root: the newest root, the draft's if there is one; None before the first ceremony.
        latest: the newest valid version of each role.

    Raises:
        MetadataError: with one line for each thing that is not as it must be.
    """
    found = [
        f"{document.signed.version}.{role}.json: {problem}"
        for role, document in documents.items()
        for problem in _problems(role, document, root, latest.get(role, 0) + 1)
    ]
    if found:
        raise MetadataError(
            "A draft is not one that Ferryman makes, and was not signed.", details=found, advice=_ADVICE
        )


def _problems(role: str, document: Metadata[Any], root: Root | None, version: int) -> Iterator[str]:
    signed = document.signed
    if signed.version != version:
        yield f"it is version {signed.version}, and {version} is the next one"
    if signed.unrecognized_fields or document.unrecognized_fields:
        yield "it has fields that nobody knows"
    if role == ROOT:
        yield from _root_problems(signed)
    else:
        yield from _targets_problems(signed, root)


# --- root ---------------------------------------------------------------------------------------------------------------


def _root_problems(root: Root) -> Iterator[str]:
    if not root.consistent_snapshot:
        yield "its snapshots are not consistent"
    if set(root.roles) != {*OFFLINE, *ONLINE}:
        yield f"its roles are {', '.join(sorted(root.roles))}"
        return
    first, second = root.roles[ROOT], root.roles[TARGETS]
    if (set(first.keyids), first.threshold) != (set(second.keyids), second.threshold):
        yield "root and targets do not have the same keys and threshold"
    if not 1 <= first.threshold <= len(first.keyids):
        yield f"{len(first.keyids)} keys cannot give {first.threshold} signatures"
    for name in ONLINE:
        yield from _online_problems(name, root.roles[name], first.keyids)
    yield from _key_problems(root.keys, root.roles)


def _online_problems(name: str, role: Role, offline: list[str]) -> Iterator[str]:
    if len(role.keyids) != 1 or role.threshold != 1:
        yield f"{name} has {len(role.keyids)} keys, of which {role.threshold} sign; there must be one"
    if set(role.keyids) & set(offline):
        yield f"an offline key may sign {name}"


def _key_problems(keys: Mapping[str, Key], roles: Mapping[str, Role]) -> Iterator[str]:
    for keyid, key in keys.items():
        if key.unrecognized_fields or not _is_own_id(keyid, key):
            yield f"the key {keyid[:12]} is not called by its own id"
    used = {keyid for role in roles.values() for keyid in role.keyids}
    if used != set(keys):
        yield "it has keys without a role, or roles without their keys"
    if any(role.unrecognized_fields for role in roles.values()):
        yield "it has roles with fields that nobody knows"


def _is_own_id(keyid: str, key: Key) -> bool:
    try:
        return keyid == key.keyid == ed25519(bytes.fromhex(key.keyval["public"])).keyid
    except ValueError:  # no 32 bytes in hexadecimal
        return False


# --- targets ------------------------------------------------------------------------------------------------------------


def _targets_problems(targets: Targets, root: Root | None) -> Iterator[str]:
    if targets.targets:
        yield f"it offers files itself, before any channel: {', '.join(sorted(targets.targets)[:3])}"
    delegations = targets.delegations
    if delegations is None or delegations.roles is None or delegations.succinct_roles is not None:
        yield "it has no channels"
        return
    if delegations.unrecognized_fields:
        yield "it has fields that nobody knows"
    offline = list(root.roles[ROOT].keyids) if root else []
    for name, role in delegations.roles.items():
        yield from _channel_problems(name, role)
        yield from _online_problems(name, role, offline)
    yield from _key_problems(delegations.keys, delegations.roles)


def _channel_problems(name: str, role: DelegatedRole) -> Iterator[str]:
    if not role.terminating:
        yield f"other roles are asked after the channel {name}"
    if role.paths != channel_paths(name) or role.path_hash_prefixes is not None:
        paths = ", ".join((role.paths or role.path_hash_prefixes or [])[:4])
        yield f"the channel {name} may speak of {paths}"
