"""What travels between programs: traceparent and tracestate (W3C Trace Context, level 1).

Rules, with the sections of the recommendation:
    W1  traceparent is version-traceid-parentid-flags in lower-case hex; ff is no version, ids of only zeros are none (3.2).
    W2  Version 00 has exactly these four; a later one may have more behind a dash, and is read as if it were 00 (3.2.4).
    W3  A traceparent that cannot be read begins a new trace, and its tracestate is not looked at (3.2.2, 4.3).
    W4  tracestate is handed on unchanged when it is well-formed: at most 32 members, each KEY=VALUE, no key twice (3.3);
        otherwise it is left out and the traceparent is kept. More than 512 characters are not handed on.
"""

from __future__ import annotations

import re
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
MOST_MEMBERS, MOST_CHARACTERS = 32, 512
_PARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?", re.ASCII)
_MEMBER = re.compile(
    r"([a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)


@dataclass(frozen=True)
class SpanContext:
    """Which span, of which trace, and whether it is recorded."""

    trace_id: int
    span_id: int
    sampled: bool
    state: str = ""
    """tracestate, as it came."""
    remote: bool = False
    """Whether it is a span of another program."""


def from_headers(header: Callable[[str], str | None]) -> SpanContext | None:
    """The span of whoever sent a request; None: there is none that can be read."""
    found = _PARENT.fullmatch((header(TRACEPARENT) or "").strip())
    if found is None:
        return None
    version, trace, parent, flags, more = found.groups()
    if version == "ff" or (version == "00" and more is not None):  # W1, W2
        return None
    trace_id, span_id = int(trace, 16), int(parent, 16)
    if not trace_id or not span_id:
        return None
    return SpanContext(trace_id, span_id, bool(int(flags, 16) & 1), _state(header(TRACESTATE)), remote=True)


def to_headers(context: SpanContext, headers: MutableMapping[str, str]) -> None:
    """Write a span into the headers of a request."""
    headers[TRACEPARENT] = f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.sampled):02x}"
    if context.state:
        headers[TRACESTATE] = context.state


def _state(text: str | None) -> str:
    """W4."""
    members = [member.strip(" \t") for member in (text or "").split(",")]
    members = [member for member in members if member]
    keys = [found[1] for member in members if (found := _MEMBER.fullmatch(member))]
    good = len(keys) == len(members) <= MOST_MEMBERS and len(set(keys)) == len(keys)
    joined = ",".join(members)
    return joined if good and len(joined) <= MOST_CHARACTERS else ""
