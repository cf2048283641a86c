"""Rules of checks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding, address_rule, environment_rule
from watchkeeper.config.schema.checks import (
    Action,
    AnyCheck,
    CertificateCheck,
    CheckSpec,
    DiskCheck,
    DnsCheck,
    ExecCheck,
    FileCheck,
    GrpcCheck,
    HttpCheck,
    IcmpCheck,
    MemoryCheck,
    ProcessCheck,
    Role,
    TcpCheck,
)
from watchkeeper.config.schema.common import TlsClient
from watchkeeper.jsonpath import parse_path

Rule = Callable[[Path, Any], Iterator[Finding]]
COMMON = frozenset(CheckSpec.__struct_fields__)
"""The fields that every check has."""


def _check(path: Path, check: AnyCheck) -> Iterator[Finding]:
    """What holds for every kind."""
    acting = check.role is not Role.READINESS
    if acting and check.success_threshold != 1:
        # kubernetes pkg/apis/core/validation: success threshold of liveness and startup must be 1.
        yield (*path, "success_threshold"), f"a {check.role} check takes only 1"
    if acting and path[0] == "checks":
        message = (
            f"a check outside a service has the role readiness; a {check.role} check has nothing to act on"
        )
        yield (*path, "role"), message
    if not acting and check.action is Action.RESTART:
        yield (
            (*path, "action"),
            "a readiness check only reports; give it the role liveness, or another action",
        )
    if 0 < check.failure_window < check.failure_threshold:
        message = f"{check.failure_threshold} failures do not fit into {check.failure_window} outcomes"
        yield (*path, "failure_window"), message


def _regex(path: Path, text: str | None) -> Iterator[Finding]:
    try:
        re.compile(text or "")
    except re.error as error:
        yield path, f"{text!r} is no regular expression: {error}"


def _tls(path: Path, tls: TlsClient) -> Iterator[Finding]:
    if (tls.cert_file is None) != (tls.key_file is None):
        yield (*path, "tls"), "cert_file and key_file belong together: name both, or neither"


def _http(path: Path, check: HttpCheck) -> Iterator[Finding]:
    yield from _check(path, check)
    yield from _url(path, check)
    yield from _tls(path, check.tls)
    for name, value in check.headers.items():
        if not name or any(letter in name + value for letter in "\r\n") or ":" in name or not name.isascii():
            yield (*path, "headers", name), "a header has a name without a colon, and no line break"
    given = [name for name in check.headers if name.lower() == "authorization"]
    given += [name for name in ("basic_auth", "bearer_token") if getattr(check, name) is not None]
    if len(given) > 1:
        yield (*path, given[-1]), f"{' and '.join(given)} are two ways to say who asks: leave one"
    if check.bearer_token and not (check.bearer_token.isascii() and check.bearer_token.isprintable()):
        yield (*path, "bearer_token"), "a token is printable ASCII; a file may end with one line break"
    yield from _expectations(path, check)


def _url(path: Path, check: HttpCheck) -> Iterator[Finding]:
    at = (*path, "url")
    try:
        url = urlsplit(check.url)
        port = url.port
    except ValueError as error:
        yield at, f"{check.url!r} is no URL: {error}"
        return
    if url.scheme not in ("http", "https") or not url.hostname:
        yield at, f"{check.url!r} is not http://HOST/... or https://HOST/..."
    elif port == 0:
        yield at, "port 0 cannot be connected to"
    elif "@" in url.netloc:
        yield at, "a user and a password go into basic_auth, where they are not shown"
    elif any(letter.isspace() or not letter.isprintable() for letter in check.url):
        yield at, "a URL has no spaces or control characters; write %20"
    elif not _known_to_dns(url.netloc):
        yield (
            at,
            f"{url.hostname!r} is no name: its parts have 1 to 63 characters, written as xn--... where not ASCII",
        )
    if url.scheme == "http" and (check.certificate_days, check.certificate_warn_days) != (None, None):
        yield at, "certificate_days and certificate_warn_days need an https URL"


def _known_to_dns(authority: str) -> bool:
    try:
        authority.encode("idna")
    except UnicodeError:
        return authority.isascii()  # an address in brackets, or what only the resolver can judge
    return True


def _expectations(path: Path, check: HttpCheck) -> Iterator[Finding]:
    for index, item in enumerate(check.status):
        if isinstance(item, str) and item[:3] > item[4:]:
            yield (*path, "status", index), f"{item!r} ends before it begins"
    for name, pattern in check.expect_headers.items():
        yield from _regex((*path, "expect_headers", name), pattern)
    yield from _regex((*path, "expect_body"), check.expect_body)
    yield from _regex((*path, "reject_body"), check.reject_body)
    for index, rule in enumerate(check.expect_json):
        at = (*path, "expect_json", index)
        yield from _regex((*at, "matches"), rule.matches)
        try:
            parse_path(rule.path)
        except ValueError as error:
            yield (*at, "path"), str(error)


def _address(path: Path, address: str) -> Iterator[Finding]:
    """HOST:PORT or unix:PATH."""
    if address.startswith("unix:"):
        if len(address) == len("unix:"):
            yield path, "unix: is followed by the path of a socket"
        return
    yield from address_rule(path, address, lowest_port=1)


def _tcp(path: Path, check: TcpCheck) -> Iterator[Finding]:
    yield from _check(path, check)
    yield from _address((*path, "address"), check.address)
    yield from _regex((*path, "expect"), check.expect)


def _exec(path: Path, check: ExecCheck) -> Iterator[Finding]:
    yield from _check(path, check)
    yield from environment_rule((*path, "environment"), check.environment)
    yield from environment_rule((*path, "secrets"), dict.fromkeys(check.secrets, ""))


def _process(path: Path, check: ProcessCheck) -> Iterator[Finding]:
    yield from _check(path, check)
    yield from _regex((*path, "cmdline"), check.cmdline)
    if check.name is None and check.pidfile is None and check.cmdline is None:
        yield path, "say which processes are meant: name, pidfile or cmdline"
    if check.maximum is not None and check.maximum < check.minimum:
        yield (*path, "maximum"), "the maximum is less than the minimum"


def _file(path: Path, check: FileCheck) -> Iterator[Finding]:
    yield from _check(path, check)
    if not check.exists:
        common = {*COMMON, "path", "exists"}
        for name in check.__struct_fields__:
            if name not in common and getattr(check, name) is not None:
                yield (*path, name), "a file that must not be there has nothing else to look at"
    for low, high in (("min_age", "max_age"), ("min_size", "max_size")):
        least, most = getattr(check, low), getattr(check, high)
        if least is not None and most is not None and most < least:
            yield (*path, high), f"{high} is less than {low}"


def _limits(path: Path, check: DiskCheck | MemoryCheck) -> Iterator[Finding]:
    yield from _check(path, check)
    own = [name for name in check.__struct_fields__ if name not in COMMON and name != "path"]
    if all(getattr(check, name) is None for name in own):
        yield path, f"there is nothing to hold it to: give it one of {', '.join(own)}"


def _certificate(path: Path, check: CertificateCheck) -> Iterator[Finding]:
    yield from _check(path, check)
    yield from _tls(path, check.tls)
    if (check.file is None) == (check.address is None):
        yield path, "name either a file or the address of a server"
    if check.address is not None:
        yield from address_rule((*path, "address"), check.address, lowest_port=1)


def _dns(path: Path, check: DnsCheck) -> Iterator[Finding]:
    yield from _check(path, check)
    name = check.name.rstrip(".")
    try:
        labels = name.encode("ascii").split(b".")
    except UnicodeEncodeError:
        yield (*path, "name"), f"write {check.name!r} in ASCII, as DNS has it: xn--..."
        return
    if not name or any(not 0 < len(label) < 64 for label in labels):
        yield (*path, "name"), f"{check.name!r} is no name: its parts have 1 to 63 characters"
    if check.server is not None:
        yield from address_rule((*path, "server"), check.server, lowest_port=1)
    if check.exact and not check.expect:
        yield (*path, "exact"), "exact needs expect"


def _icmp(path: Path, check: IcmpCheck) -> Iterator[Finding]:
    yield from _check(path, check)
    if check.timeout <= 0.1 * (check.count - 1):
        yield (*path, "timeout"), f"{check.count} requests, 100 ms apart, need a longer timeout"


def _grpc(path: Path, check: GrpcCheck) -> Iterator[Finding]:
    yield from _check(path, check)
    yield from _tls(path, check.tls)
    yield from _address((*path, "address"), check.address)


RULES: dict[type, Rule] = {
    HttpCheck: _http,
    TcpCheck: _tcp,
    ExecCheck: _exec,
    ProcessCheck: _process,
    FileCheck: _file,
    DiskCheck: _limits,
    MemoryCheck: _limits,
    CertificateCheck: _certificate,
    DnsCheck: _dns,
    IcmpCheck: _icmp,
    GrpcCheck: _grpc,
}
