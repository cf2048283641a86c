"""Rules of faults."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

from watchkeeper.config.document import Path
from watchkeeper.config.rules.common import Finding
from watchkeeper.config.schema.faults import FaultRule, FaultSettings, Side

_TRACE = re.compile(r"[0-9a-f]{32}")


def _settings(path: Path, settings: FaultSettings) -> Iterator[Finding]:
    yield from _methods(path, settings.methods)
    for index, trace in enumerate(settings.trace_ids):
        if not _TRACE.fullmatch(trace):
            yield (
                (*path, "trace_ids", index),
                f"{trace!r} is not a trace id: 32 hexadecimal digits, in lower case",
            )


def _rule(path: Path, rule: FaultRule) -> Iterator[Finding]:
    yield from _methods(path, rule.methods)
    if not (rule.delay or rule.abort or rule.reset or rule.cpu):
        yield path, "this rule does nothing: write delay, abort, reset or cpu"
    if rule.abort is not None and rule.reset:
        yield (*path, "reset"), "a connection that is torn has no status: write abort or reset"
    if rule.hosts and rule.side is Side.SERVER:
        yield (*path, "hosts"), "hosts are those of requests that the agent makes: side: client"


def _methods(path: Path, methods: tuple[str, ...]) -> Iterator[Finding]:
    for index, method in enumerate(methods):
        if not method.isalpha() or method != method.upper():
            yield (*path, "methods", index), f"{method!r} is no method: write it in capitals, GET"


RULES: dict[type, Callable[[Path, Any], Iterator[Finding]]] = {FaultSettings: _settings, FaultRule: _rule}
