"""Rules that several sections share."""

from __future__ import annotations

from collections.abc import Iterator

from watchkeeper.config.document import Path
from watchkeeper.config.schema.common import split_address

Finding = tuple[Path, str]


def address_rule(path: Path, text: str, *, lowest_port: int) -> Iterator[Finding]:
    """HOST:PORT, with a port of at least `lowest_port`."""
    try:
        _, port = split_address(text)
    except ValueError as error:
        yield path, f"{error}; write 127.0.0.1:9470 or [::1]:9470"
        return
    if port < lowest_port:
        yield path, "port 0 cannot be connected to"


def environment_rule(path: Path, environment: dict[str, str]) -> Iterator[Finding]:
    """Names that an environment can have."""
    for name in environment:
        if not name or "=" in name:
            yield (*path, name), "the name of an environment variable is not empty and has no ="
