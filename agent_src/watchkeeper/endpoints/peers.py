"""Who is at the other end of a connection, and what he may do there.

Rules:
    P1  A Unix socket says by whom (SO_PEERCRED): root and the agent's own user have control.
    P2  Of the rules that match, the highest role counts; where none does, the listener's own role.
    P3  Without a role of the listener's, programs of this machine may read over TCP, others may only take metrics; on a
        Unix socket nobody has more than the probes, because its users can be told apart.
    P4  A certificate counts when it was verified; its SPIFFE ID and its names are what rules ask for.
    P5  Who sends the listener's token has control.
"""

from __future__ import annotations

import hmac
import ipaddress
import os
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from watchkeeper.config.schema.listeners import Access, Listener, PeerRule, TlsMode
from watchkeeper.endpoints.spiffe import matches_any

SO_PEERGROUPS = 59
"""linux/socket.h (asm-generic); Python has no name for it."""
LOCAL_PEERCRED = 1
"""sys/un.h of macOS and the BSDs."""


@dataclass(frozen=True)
class Identity:
    """What a verified certificate says of its owner."""

    spiffe: str | None = None
    names: tuple[str, ...] = ()
    """Its common name and DNS names."""
    expires: float = float("inf")
    """When it ends, in seconds since the epoch."""


@dataclass(frozen=True)
class Credentials:
    """What the kernel says of the process at the other end of a Unix socket."""

    uid: int
    gids: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Peer:
    """One client. `local`: he is on this machine. `who` names him for people and for the rate limit."""

    who: str
    local: bool
    role: Access
    identity: Identity | None = None
    token: str | None = field(default=None, repr=False)
    """What would give him control."""
    hosts: tuple[str, ...] | None = None
    """Names by which he may ask, beside localhost and addresses; None: any."""
    debug: bool = False
    exempt: tuple[str, ...] | None = None
    """Where one has to show a certificate and he has not: the paths that he gets all the same."""

    def with_authorization(self, header: str | None) -> Peer:
        """The same one, who has sent this `Authorization` (P5)."""
        scheme, _, word = (header or "").partition(" ")
        if self.token is None or scheme.lower() != "bearer":
            return self
        right = hmac.compare_digest(word.strip().encode("utf-8", "replace"), self.token.encode())
        return replace(self, role=Access.CONTROL) if right else self


def credentials_of(connection: socket.socket) -> Credentials | None:
    """Who is at the other end of a Unix socket; None where the system does not say."""
    try:
        if hasattr(socket, "SO_PEERCRED"):
            raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            _pid, uid, gid = struct.unpack("iII", raw)
            return Credentials(uid, frozenset({gid}) | _peer_groups(connection))
        return _xucred(connection.getsockopt(0, LOCAL_PEERCRED, 76))
    except (OSError, struct.error):
        return None


def _peer_groups(connection: socket.socket) -> frozenset[int]:
    """The supplementary groups; asking a name service instead could take seconds."""
    try:
        raw = connection.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4096)
    except OSError:  # a kernel before 4.13, or more than 1024 groups
        return frozenset()
    return frozenset(struct.unpack(f"{len(raw) // 4}I", raw))


def _xucred(raw: bytes) -> Credentials:
    """`struct xucred`: version, uid, number of groups, 16 groups."""
    _version, uid, count = struct.unpack_from("IIh", raw)
    return Credentials(uid, frozenset(struct.unpack_from(f"{min(count, 16)}I", raw, 12)))


def decide(
    listener: Listener,
    *,
    address: object = None,
    credentials: Credentials | None = None,
    identity: Identity | None = None,
    numbers: Mapping[str, int] | None = None,
    token: str | None = None,
    encrypted: bool = False,
) -> Peer:
    """What this client is on that listener.

    Args:
        listener: the definition.
        address: what the socket calls the other end; ignored with credentials.
        credentials: on a Unix socket.
        identity: from a verified certificate.
        numbers: uid and gid of the users ("user:NAME") and groups ("group:NAME") that the rules name.
        token: the listener's.
        encrypted: whether the connection is.
    """
    unix = listener.address.startswith("unix:") or credentials is not None
    local = unix or _is_loopback(address)
    role = listener.role or _default_role(unix=unix, local=local)
    if credentials is not None and credentials.uid in (0, os.getuid()):
        role = Access.CONTROL  # P1
    for rule in listener.peers:
        if not role.includes(rule.role) and _matches(rule, credentials, identity, numbers or {}):
            role = rule.role  # P2
    return Peer(
        _name(address, credentials, identity),
        local,
        role,
        identity,
        token,
        hosts=listener.hosts if local and not unix and not encrypted else None,
        debug=listener.debug and local,
        exempt=listener.tls.exempt if listener.tls.mode is TlsMode.STRICT and identity is None else None,
    )


def _default_role(*, unix: bool, local: bool) -> Access:
    """P3."""
    if unix:
        return Access.UNTRUSTED
    return Access.READ if local else Access.METRICS


def _matches(
    rule: PeerRule,
    credentials: Credentials | None,
    identity: Identity | None,
    numbers: Mapping[str, int],
) -> bool:
    if credentials is not None:
        uids = {numbers.get(f"user:{name}", -1) for name in rule.users}
        gids = {numbers.get(f"group:{name}", -1) for name in rule.groups}
        if credentials.uid in uids or credentials.gids & gids:
            return True
    if identity is None:  # P4
        return False
    named = bool(set(rule.names) & set(identity.names))
    return named or (identity.spiffe is not None and matches_any(identity.spiffe, rule.spiffe))


def _is_loopback(address: object) -> bool:
    host = address[0] if isinstance(address, tuple) and address else ""
    try:
        found = ipaddress.ip_address(str(host).partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(found, "ipv4_mapped", None)
    return bool((mapped or found).is_loopback)


def _name(address: object, credentials: Credentials | None, identity: Identity | None) -> str:
    if identity is not None:
        return identity.spiffe or next(iter(identity.names), "a certificate without a name")
    if credentials is not None:
        return f"uid {credentials.uid}"
    return str(address[0]) if isinstance(address, tuple) and address else "local"
