"""What a ceremony does to root, targets and the list of keys. Each function works inside a block of keys.edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from securesystemslib.signer import Key
from tuf.api.metadata import Root, Targets

from ferryman_build.errors import UsageError
from ferryman_release.errors import KeyProblemError
from ferryman_release.keys.documents import (
    THRESHOLD,
    add_channel,
    new_root,
    new_targets,
    remove_channel,
    replace_keys,
    role_keys,
    roles_of,
)
from ferryman_release.keys.edit import Change
from ferryman_release.keys.minisign import MinisignKey
from ferryman_release.keys.names import BESIDE, MINISIGN, OFFLINE, ONLINE, ROOT

_ALONE = "minisign and provenance have keys of their own: people trust them without the rest."


class Named(NamedTuple):
    """A public key and what people call it."""

    name: str
    key: Key


def begin(
    change: Change,
    offline: Sequence[Named],
    online: Mapping[str, Key],
    channels: Sequence[str],
    *,
    threshold: int = THRESHOLD,
) -> None:
    """The first root and targets. ``online`` has a key for each role that is no offline one, channels among them.

    Raises:
        KeyProblemError: too few holders, or one key twice.
    """
    keys = [one.key for one in offline]
    _require_holders(keys, threshold)
    if mixed := {key.keyid for key in keys} & {key.keyid for key in online.values()}:
        raise KeyProblemError(
            f"The key {min(mixed)[:12]} is to be offline and online.",
            advice="Make another key for one of the two.",
        )
    for role in BESIDE:
        if [key.keyid for key in online.values()].count(online[role].keyid) > 1:
            raise KeyProblemError(f"The key of {role} has another role as well.", advice=_ALONE)
    change.root = new_root(keys, online, expires=change.now, threshold=threshold)
    change.targets = new_targets({name: online[name] for name in channels}, expires=change.now)
    for one in offline:
        change.note(one.key, one.name, OFFLINE)
    for role, key in online.items():
        change.note(key, role, [name for name, other in online.items() if other.keyid == key.keyid])
    change.minisign = _minisign(online[MINISIGN])


def rotate(change: Change, role: str, key: Key) -> tuple[str, ...]:
    """Let ``key`` alone sign for an online role or a channel; the ids of the keys that it takes the place of.

    Raises:
        UsageError: there is no such role, or it is an offline one.
        KeyProblemError: it is the role's key already, or was revoked, or is an offline one.
    """
    old = role_ids(change, role)
    if key.keyid in old:
        raise KeyProblemError(f"{role} has this key already.", advice="Make a new one.")
    others = {*roles_of(key.keyid, change.root, change.targets), *_beside(change, key.keyid)}
    if others & set(OFFLINE):
        raise KeyProblemError(
            "The new key is an offline key.", advice="Make a new one: an online key is at risk."
        )
    if others and (role in BESIDE or others & set(BESIDE)):
        raise KeyProblemError(f"The new key of {role} is that of {', '.join(sorted(others))}.", advice=_ALONE)
    if role in BESIDE:
        change.note(key, role, (role,))
        change.minisign = _minisign(key) if role == MINISIGN else change.minisign
    else:
        replace_keys(_document(change, role), role, [key])
        change.note(key, role, roles_of(key.keyid, change.root, change.targets))
    for keyid in old:
        _forget_unused(change, keyid, role)
    return old


def replace_holder(change: Change, old: str, new: Named) -> None:
    """Let ``new`` sign root and targets in the place of the key ``old``.

    Raises:
        KeyProblemError: ``new`` is a holder already, or was revoked.
    """
    _require_fresh(change, new)
    keys = list(role_keys(change.root, ROOT))
    kept = [new.key if key.keyid == old else key for key in keys]
    for role in OFFLINE:
        replace_keys(change.root, role, kept)
    change.note(new.key, new.name, OFFLINE)
    change.note_end(old)


def add_holder(change: Change, new: Named) -> None:
    """One more holder of an offline key; the threshold stays."""
    _require_fresh(change, new)
    for role in OFFLINE:
        change.root.add_key(new.key, role)
    change.note(new.key, new.name, OFFLINE)


def revoke(change: Change, keyid: str, reason: str, replacement: Named | None = None) -> tuple[str, ...]:
    """Take a key out of every role that it has, and say that what it signed no longer counts; the roles.

    An online role needs a ``replacement``. A holder may go without one while the threshold can still be met.

    Raises:
        KeyProblemError: a role would be left with too few keys.
    """
    roles = tuple(role for role in every_role(change) if keyid in role_ids(change, role))
    if set(roles) & set(OFFLINE):
        if replacement:
            replace_holder(change, keyid, replacement)
        else:
            keys = [key for key in role_keys(change.root, ROOT) if key.keyid != keyid]
            _require_holders(keys, change.root.roles[ROOT].threshold)
            for role in OFFLINE:
                change.root.revoke_key(keyid, role)
    elif roles:
        if replacement is None:
            raise KeyProblemError(
                f"{', '.join(roles)} would have no key.", advice="Name the new one with --new or --public."
            )
        for role in roles:
            rotate(change, role, replacement.key)
    change.note_end(keyid, reason=reason)
    return roles


def set_channels(
    change: Change, channels: Sequence[str], keys: Mapping[str, Key]
) -> tuple[list[str], list[str]]:
    """Let ``channels`` be the channels; ``keys`` has one for each that is new. (added, removed)."""
    present = channel_names(change.targets)
    added = [name for name in channels if name not in present]
    removed = [name for name in present if name not in channels]
    for name in removed:
        ids = role_ids(change, name)
        remove_channel(change.targets, name)
        for keyid in ids:
            _forget_unused(change, keyid, name)
    for name in added:
        add_channel(change.targets, name, keys[name])
        change.note(keys[name], name, roles_of(keys[name].keyid, change.root, change.targets))
    return added, removed


# --- questions ----------------------------------------------------------------------------------------------------------


def channel_names(targets: Targets) -> tuple[str, ...]:
    """The channels, in the order of the delegations."""
    return tuple((targets.delegations and targets.delegations.roles) or ())


def every_role(change: Change) -> tuple[str, ...]:
    """Every role that has keys."""
    return (*OFFLINE, *ONLINE, *channel_names(change.targets), *BESIDE)


def role_ids(change: Change, role: str) -> tuple[str, ...]:
    """The ids of the keys of ``role``.

    Raises:
        UsageError: there is no such role.
    """
    if role in BESIDE:
        return tuple(one.id for one in change.known.values() if role in one.roles and not one.retired)
    if role not in every_role(change):
        raise UsageError(f"There is no role {role!r}.", advice=f"There are {', '.join(every_role(change))}.")
    return tuple(key.keyid for key in role_keys(_document(change, role), role))


def find_key(change: Change, text: str) -> str:
    """The id of the key that ``text`` names: a name, or the beginning of an id.

    Raises:
        UsageError: none, or several.
    """
    found = {one.id for one in change.known.values() if one.name == text and not one.retired}
    found = found or {keyid for keyid in change.known if len(text) >= 6 and keyid.startswith(text)}
    if len(found) != 1:
        raise UsageError(
            f"{text!r} names {'several keys' if found else 'no key'}.",
            advice="`ferryman keys status` lists the ids; six characters or more of one are enough.",
        )
    return found.pop()


# --- parts --------------------------------------------------------------------------------------------------------------


def _document(change: Change, role: str) -> Root | Targets:
    return change.root if role in (*OFFLINE, *ONLINE) else change.targets


def _forget_unused(change: Change, keyid: str, role: str) -> None:
    """The key has lost ``role``; when that was its last one, it is retired."""
    if not roles_of(keyid, change.root, change.targets) and _beside(change, keyid) <= {role}:
        change.note_end(keyid)


def _beside(change: Change, keyid: str) -> set[str]:
    known = change.known.get(keyid)
    return set(known.roles if known and not known.retired else ()) & set(BESIDE)


def _minisign(key: Key) -> MinisignKey:
    return MinisignKey.of(bytes.fromhex(key.keyval["public"]))


def _require_fresh(change: Change, new: Named) -> None:
    """A holder's key has no role: one that is online, for people or for provenance too, is not offline."""
    if roles_of(new.key.keyid, change.root, change.targets) or _beside(change, new.key.keyid):
        raise KeyProblemError(f"The key of {new.name} has a role already.", advice="Make a new one.")


def _require_holders(keys: Sequence[Key], threshold: int) -> None:
    if len({key.keyid for key in keys}) < len(keys):
        raise KeyProblemError("One key is there twice.", advice="Each holder has a key of their own.")
    if threshold < 1 or len(keys) < threshold:
        raise KeyProblemError(
            f"{len(keys)} keys cannot give {threshold} signatures.",
            advice="Bring more keys, or a lower threshold; three keys of which two sign is the usual way.",
        )
