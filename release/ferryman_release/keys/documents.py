"""Root and targets as this project has them: which keys, which thresholds, which channels. Pure; nothing is signed here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime

from securesystemslib.signer import Key
from tuf.api.metadata import DelegatedRole, Delegations, Role, Root, Targets

from ferryman_release.keys.names import OFFLINE, ONLINE, ROOT, TARGETS, channel_paths

THRESHOLD = 2


def new_root(
    offline: Sequence[Key], online: Mapping[str, Key], *, expires: datetime, threshold: int = THRESHOLD
) -> Root:
    """Version 1: ``offline`` keys sign root and targets, ``threshold`` of them at a time; ``online`` has one for each other role."""
    roles = {role: Role([key.keyid for key in offline], threshold) for role in OFFLINE}
    roles |= {role: Role([online[role].keyid], 1) for role in ONLINE}
    keys = {key.keyid: key for key in (*offline, *(online[role] for role in ONLINE))}
    return Root(version=1, expires=expires, keys=keys, roles=roles, consistent_snapshot=True)


def new_targets(channels: Mapping[str, Key], *, expires: datetime) -> Targets:
    """Version 1: no targets of its own, one terminating role for each channel with its key."""
    signed = Targets(version=1, expires=expires, delegations=Delegations({}, {}))
    for channel, key in channels.items():
        add_channel(signed, channel, key)
    return signed


def add_channel(targets: Targets, channel: str, key: Key) -> None:
    """Delegate what is below ``channel/`` to ``key``. Terminating: nobody else is asked for a target of it."""
    delegations = targets.delegations
    assert delegations is not None
    assert delegations.roles is not None
    delegations.roles[channel] = DelegatedRole(channel, [], 1, terminating=True, paths=channel_paths(channel))
    targets.add_key(key, channel)


def remove_channel(targets: Targets, channel: str) -> None:
    """Delegate nothing to ``channel`` any more; keys that no other channel has go with it."""
    for keyid in list(targets.get_delegated_role(channel).keyids):
        targets.revoke_key(keyid, channel)
    assert targets.delegations is not None
    assert targets.delegations.roles is not None
    del targets.delegations.roles[channel]


def replace_keys(signed: Root | Targets, role: str, keys: Sequence[Key]) -> None:
    """Let ``keys`` be the keys of ``role``, and no others."""
    for key in keys:
        signed.add_key(key, role)
    wanted = {key.keyid for key in keys}
    for keyid in [old for old in signed.get_delegated_role(role).keyids if old not in wanted]:
        signed.revoke_key(keyid, role)


def role_keys(signed: Root | Targets, role: str) -> tuple[Key, ...]:
    """The keys of ``role``."""
    return tuple(signed.get_key(keyid) for keyid in signed.get_delegated_role(role).keyids)


def roles_of(keyid: str, root: Root, targets: Targets) -> tuple[str, ...]:
    """Every role that the key signs for."""
    delegated = (targets.delegations and targets.delegations.roles) or {}
    order = (ROOT, TARGETS, *ONLINE)
    return tuple(
        [name for name in order if keyid in root.roles[name].keyids]
        + [name for name, role in delegated.items() if keyid in role.keyids]
    )
