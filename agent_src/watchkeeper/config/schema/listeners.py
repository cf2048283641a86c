"""Where the endpoints are, who may ask there, and how it is encrypted."""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta, field

from watchkeeper.config.schema.common import SIZE, Address, PositiveDuration, StrictStruct, Text


class Access(enum.StrEnum):
    """What somebody may do, from little to much; each includes those before it (Pebble's identities have the same)."""

    UNTRUSTED = "untrusted"
    """/livez, /readyz, /health without details."""
    METRICS = "metrics"
    """/metrics."""
    READ = "read"
    """/status, /events, /logs, the page, /health with details."""
    CONTROL = "control"
    """/control/* and /debug/pprof/*."""

    def includes(self, needed: Access) -> bool:
        """Whether who has this may do what needs `needed`."""
        order = list(Access)
        return order.index(self) >= order.index(needed)


class TlsMode(enum.StrEnum):
    """What a listener speaks (the modes of Istio's PeerAuthentication)."""

    OFF = "off"
    """Plain HTTP."""
    PERMISSIVE = "permissive"
    """TLS and plain HTTP on one port; a client's certificate is asked for and may be missing."""
    STRICT = "strict"
    """TLS, and a client's certificate."""


class ServerTls(StrictStruct, frozen=True, kw_only=True):
    """How a listener is encrypted. The files are read again when they change; no connection is lost by that."""

    mode: TlsMode = TlsMode.STRICT
    cert_file: str | None = None
    """The listener's certificate and what is between it and the root, in PEM."""
    key_file: str | None = None
    """Its private key in PEM, without a password."""
    ca_file: str | None = None
    """Who signs clients' certificates, in PEM. Without it nobody's certificate counts; strict needs it."""
    spiffe: tuple[Text, ...] = ()
    """SPIFFE IDs that may come: spiffe://TRUST-DOMAIN/PATH, * for one part of the path, ** at the end for all that follow.
    Empty: every certificate that ca_file vouches for."""
    exempt: tuple[Text, ...] = ()
    """Paths that strict also gives to a client without a certificate, still over TLS: ["/livez", "/readyz"]."""
    check_interval: PositiveDuration = 2.0
    """How often the files are looked at for a change."""
    handshake_timeout: PositiveDuration = 5.0


class PeerRule(StrictStruct, frozen=True, kw_only=True):
    """Who gets a role. Whoever matches one of the lists does; of several rules the highest role counts."""

    role: Access
    users: tuple[Text, ...] = ()
    """Users of this machine, by name or number, on a Unix socket."""
    groups: tuple[Text, ...] = ()
    """Groups, by name or number, on a Unix socket."""
    spiffe: tuple[Text, ...] = ()
    """SPIFFE IDs, as in tls.spiffe."""
    names: tuple[Text, ...] = ()
    """Common names or DNS names of clients' certificates."""


class ListenerLimits(StrictStruct, frozen=True, kw_only=True):
    """What one client, or all of them, may take."""

    connections: Annotated[int, Meta(ge=1, le=100_000)] = 200
    """At the same time. Past it the one that has been idle for longest makes room."""
    header_timeout: PositiveDuration = 10.0
    """For the head of a request, from its first byte."""
    idle_timeout: PositiveDuration = 75.0
    """Between two requests on one connection."""
    request_timeout: PositiveDuration = 30.0
    """For an answer."""
    body: Annotated[int, Meta(ge=1, le=16_777_216, extra=SIZE)] = 65_536
    """Of the body of a request."""
    rate: Annotated[float, Meta(ge=0.01, le=1_000_000)] = 10.0
    """Requests per second, from each address or identity. Programs of this machine are held to it only where they control."""
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] = 50
    """Requests that may come at once."""
    limit_local: bool = False
    """Whether programs of this machine are held to it for everything."""


class Listener(StrictStruct, frozen=True, kw_only=True):
    """One socket that answers; agent.listen is one as well, without any of this."""

    address: Address
    """HOST:PORT, [IPv6]:PORT, unix:PATH, or systemd:NAME for a socket that systemd hands over."""
    role: Access | None = None
    """What everybody has who can connect and is not in `peers`. None: read for programs of this machine over TCP, metrics
    for other machines, and nothing but the probes on a Unix socket."""
    peers: tuple[PeerRule, ...] = ()
    """Who has more. On a Unix socket root and the agent's own user always have control."""
    tls: ServerTls = field(default_factory=lambda: ServerTls(mode=TlsMode.OFF))
    limits: ListenerLimits = field(default_factory=ListenerLimits)
    socket_mode: Annotated[str, Meta(pattern=r"^0?[0-7]{3}$")] = "0600"
    """The mode of a Unix socket, in octal and as text."""
    socket_owner: str | None = None
    """User of a Unix socket, by name or number; None: the agent's."""
    socket_group: str | None = None
    token_file: str | None = None
    """A file with a word; who sends it as `Authorization: Bearer WORD` has control. It is made where it is missing."""
    hosts: tuple[Text, ...] = ()
    """Names by which programs of this machine may ask over plain TCP, beside localhost and addresses; ["*"]: any. Without
    this a page of somebody else, whose name was pointed here, could read everything in its reader's browser."""
    debug: bool = False
    """Whether /debug/pprof/* is given to programs of this machine without the role control."""
