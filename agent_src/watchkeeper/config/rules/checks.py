"""Rules of checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding, address_rule, environment_rule
from watchkeeper.config.schema.checks import AnyCheck, ExecCheck, HttpCheck, Role, TcpCheck


def _check(path: Path, check: AnyCheck) -> Iterator[Finding]:
    if check.role is not Role.READINESS and check.success_threshold != 1:
        # kubernetes pkg/apis/core/validation: success threshold of liveness and startup must be 1.
        yield (*path, "success_threshold"), f"a {check.role} check takes only 1"
    if check.role is not Role.READINESS and path[0] == "checks":
        message = (
            f"a check outside a service has the role readiness; a {check.role} check has nothing to act on"
        )
        yield (*path, "role"), message


def _http(path: Path, check: HttpCheck) -> Iterator[Finding]:
    yield from _check(path, check)
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
    for name, value in check.headers.items():
        if not name or any(letter in name + value for letter in "\r\n") or ":" in name:
            yield (*path, "headers", name), "a header has a name without a colon, and no line break"


def _tcp(path: Path, check: TcpCheck) -> Iterator[Finding]:
    yield from _check(path, check)
    yield from address_rule((*path, "address"), check.address, lowest_port=1)


def _exec(path: Path, check: ExecCheck) -> Iterator[Finding]:
    yield from _check(path, check)
    yield from environment_rule((*path, "environment"), check.environment)


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {
    HttpCheck: _http,
    TcpCheck: _tcp,
    ExecCheck: _exec,
}
