"""What the types alone cannot say: rules between fields, and the form of addresses.

The rules of a struct are applied as soon as the struct itself could be made, so that a wrong type elsewhere in the file
hides none of their findings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

from watchkeeper.config.document import Path
from watchkeeper.config.model import (
    AgentSettings,
    AnyCheck,
    ExecCheck,
    HttpCheck,
    Role,
    ServiceDefinition,
    TcpCheck,
    split_address,
)

Finding = tuple[Path, str]


def _service(path: Path, service: ServiceDefinition) -> Iterator[Finding]:
    if service.backoff.maximum < service.backoff.initial:
        yield (*path, "backoff", "maximum"), "the maximum is shorter than the initial delay"
    yield from _environment((*path, "environment"), service.environment)


def _agent(path: Path, settings: AgentSettings) -> Iterator[Finding]:
    yield from _address((*path, "listen"), settings.listen, lowest_port=0)


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
    yield from _address((*path, "address"), check.address, lowest_port=1)


def _exec(path: Path, check: ExecCheck) -> Iterator[Finding]:
    yield from _check(path, check)
    yield from _environment((*path, "environment"), check.environment)


def _address(path: Path, text: str, *, lowest_port: int) -> Iterator[Finding]:
    try:
        _, port = split_address(text)
    except ValueError as error:
        yield path, f"{error}; write 127.0.0.1:9470 or [::1]:9470"
        return
    if port < lowest_port:
        yield path, "port 0 cannot be connected to"


def _environment(path: Path, environment: dict[str, str]) -> Iterator[Finding]:
    for name in environment:
        if not name or "=" in name:
            yield (*path, name), "the name of an environment variable is not empty and has no ="


def no_rules(_path: Path, _value: object) -> Iterator[Finding]:
    """For a struct whose types say everything."""
    return iter(())


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {
    AgentSettings: _agent,
    ServiceDefinition: _service,
    HttpCheck: _http,
    TcpCheck: _tcp,
    ExecCheck: _exec,
}
