"""Rules of outputs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding, address_rule
from watchkeeper.config.rules.registries import url_rule
from watchkeeper.config.schema.outputs import LokiOutput, OtlpOutput, PostedOutput, SyslogOutput, Transport

_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*")


def _syslog(path: Path, output: SyslogOutput) -> Iterator[Finding]:
    if output.transport is Transport.UNIX:
        if not output.address.startswith("/"):
            yield (*path, "address"), "with transport unix this is the path of a socket, such as /dev/log"
    else:
        yield from address_rule((*path, "address"), output.address, lowest_port=1)


def _posted(path: Path, output: PostedOutput) -> Iterator[Finding]:
    yield from url_rule((*path, "url"), output.url, with_path=True)
    for name, value in output.headers.items():
        if not name or any(letter in name + value for letter in "\r\n") or ":" in name:
            yield (*path, "headers", name), "a header has a name without a colon, and no line break"


def _loki(path: Path, output: LokiOutput) -> Iterator[Finding]:
    yield from _posted(path, output)
    for name in output.labels:
        if not _LABEL.fullmatch(name) or name in ("service", "level"):
            yield (
                (*path, "labels", name),
                "a label is letters, digits and underscores; service and level are set by the agent",
            )


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {
    SyslogOutput: _syslog,
    OtlpOutput: _posted,
    LokiOutput: _loki,
}
