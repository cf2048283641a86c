"""Rules of listeners."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding, address_rule
from watchkeeper.config.schema.listeners import Listener, PeerRule, ServerTls, TlsMode

LONGEST_PATH = 100
"""Characters of the path of a Unix socket; sun_path has 108 bytes on Linux and 104 on macOS."""


def _listener(path: Path, listener: Listener) -> Iterator[Finding]:
    at = (*path, "address")
    kind, _, rest = listener.address.partition(":")
    if kind == "unix":
        yield from _unix(path, listener, rest)
        return
    if kind == "systemd":
        if not rest:
            yield at, "systemd:NAME wants the FileDescriptorName of the .socket unit"
        return
    yield from address_rule(at, listener.address, lowest_port=0)
    for index, rule in enumerate(listener.peers):
        if rule.users or rule.groups:
            yield (*path, "peers", index), "users and groups are known on a Unix socket only"
        if (rule.spiffe or rule.names) and not listener.tls.ca_file:
            yield (*path, "peers", index), "spiffe and names come from certificates: that needs tls.ca_file"


def _unix(path: Path, listener: Listener, place: str) -> Iterator[Finding]:
    at = (*path, "address")
    if not place.startswith("/"):
        yield at, "the path of a Unix socket begins with /: unix:/run/watchkeeper/control.sock"
    if len(place) > LONGEST_PATH:
        yield at, f"the path of a Unix socket has at most {LONGEST_PATH} characters"
    if listener.tls.mode is not TlsMode.OFF:
        yield (*path, "tls"), "a Unix socket never leaves the machine and is not encrypted"
    if listener.token_file is not None:
        yield (*path, "token_file"), "a Unix socket knows its users; no token is needed"


def _tls(path: Path, tls: ServerTls) -> Iterator[Finding]:
    if tls.mode is TlsMode.OFF:
        return
    for name in ("cert_file", "key_file"):
        if getattr(tls, name) is None:
            yield path, f"the mode {tls.mode} needs {name}"
    if tls.mode is TlsMode.STRICT and tls.ca_file is None:
        yield path, "the mode strict needs ca_file: who signs the certificates of clients"
    if tls.spiffe and tls.ca_file is None:
        yield (*path, "spiffe"), "SPIFFE IDs come from certificates: that needs ca_file"
    yield from _patterns((*path, "spiffe"), tls.spiffe)
    if tls.exempt and tls.mode is not TlsMode.STRICT:
        yield (*path, "exempt"), "there is nothing to be exempt from: only the mode strict wants certificates"
    for index, exempt in enumerate(tls.exempt):
        if not exempt.startswith("/"):
            yield (*path, "exempt", index), "a path begins with /"


def _peer(path: Path, rule: PeerRule) -> Iterator[Finding]:
    if not (rule.users or rule.groups or rule.spiffe or rule.names):
        yield path, "nobody is named: write users, groups, spiffe or names"
    yield from _patterns((*path, "spiffe"), rule.spiffe)


def _patterns(path: Path, patterns: tuple[str, ...]) -> Iterator[Finding]:
    if not patterns:
        return
    from watchkeeper.endpoints.spiffe import is_pattern

    for index, pattern in enumerate(patterns):
        if not is_pattern(pattern):
            message = f"{pattern!r} is not spiffe://TRUST-DOMAIN/PATH, with * for a part and ** at the end"
            yield (*path, index), message


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {
    Listener: _listener,
    ServerTls: _tls,
    PeerRule: _peer,
}
