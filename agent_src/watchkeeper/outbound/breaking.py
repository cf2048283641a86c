"""Faults in the agent's own requests, put in on purpose (faults/). Imported when faults are on.

A delay and a burning processor happen before the request goes out, within its limits. An abort is an answer with that status
that no server has given, with X-Chaos-Injected; a reset is a connection that broke. Breakers, retries and metrics see both as
if they were real: that is what one wants to try.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Self
from urllib.parse import urlsplit

from watchkeeper.config.schema.faults import Side
from watchkeeper.faults.decision import INJECTED, Fault, Subject, by_name
from watchkeeper.faults.state import Faults
from watchkeeper.outbound.calls import Call, what
from watchkeeper.outbound.errors import Failure, RequestError
from watchkeeper.tracing import AnySpan


class Injected:
    """The answer that nobody has given; the part of aiohttp's that is used."""

    def __init__(self, status: int, fault: Fault) -> None:
        self.status = status
        self.headers: Mapping[str, str] = {INJECTED: str(fault)}

    @property
    def content(self) -> Self:
        return self

    async def iter_any(self) -> AsyncIterator[bytes]:
        """No body."""
        nothing: tuple[bytes, ...] = ()
        for piece in nothing:
            yield piece

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_how: object) -> None:
        return None


async def break_it(faults: Faults, call: Call, span: AnySpan) -> Injected | None:
    """Do what the rules say; the answer if there is one already, None: go on with the request.

    Raises:
        RequestError: the connection "broke".
    """
    target = call.target
    path = urlsplit(target.url).path
    subject = Subject(Side.CLIENT, call.method, path, host=target.authority, trace_id=span.trace_id)
    if call.essential and not by_name(faults.settings, subject):
        return None
    fault = faults.decide(subject)
    if not fault:
        return None
    span.event(f"fault put in: {fault}")
    if not await faults.suffer(fault, Side.CLIENT):
        return None
    if fault.reset:
        raise RequestError(f"{what(call)}: connection reset, a fault that was put in", Failure.FAULT)
    return Injected(fault.abort, fault) if fault.abort is not None else None
