"""Faults that are put in on purpose. Off by default."""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta

from watchkeeper.config.schema.common import DURATION, Duration, PositiveDuration, StrictStruct, Text
from watchkeeper.config.schema.listeners import Access

Percent = Annotated[float, Meta(ge=0, le=100)]


class Side(enum.StrEnum):
    """Where a fault is put in."""

    SERVER = "server"
    """Into what the agent answers."""
    CLIENT = "client"
    """Into what the agent asks of others."""


class FaultRule(StrictStruct, frozen=True, kw_only=True):
    """A fault that needs no header: it happens to `percent` of the requests that it means."""

    side: Side = Side.SERVER
    percent: Percent = 100.0
    """Of the requests; max_percent caps it."""
    delay: Duration = 0.0
    """Before the answer, or before the request goes out; max_delay caps it."""
    abort: Annotated[int, Meta(ge=400, le=599)] | None = None
    """The status that is answered instead."""
    reset: bool = False
    """Whether the connection is torn."""
    cpu: Duration = 0.0
    """So long one processor is kept busy; max_cpu caps it."""
    paths: tuple[Text, ...] = ()
    """What it means, * standing for anything. Empty: all that the section allows."""
    methods: tuple[Text, ...] = ()
    hosts: tuple[Text, ...] = ()
    """On the client's side: HOST or HOST:PORT of the URL."""


class FaultSettings(StrictStruct, frozen=True, kw_only=True):
    """What may be broken, how much of it, and for how long.

    The probes, /metrics and /control never are: whoever acts on them would act on a lie, and the switch has to work.
    """

    enabled: bool = False
    """Nothing is broken without it. `PUT /control/faults {"enabled": false}` wins over it until somebody takes that back."""
    ttl: Annotated[float, Meta(ge=1, le=86_400, extra=DURATION)] = 600.0
    """From the moment that the section comes into force, or is switched on: after it, all is off until that happens again."""
    max_active: Annotated[int, Meta(ge=1, le=10_000)] = 10
    """Faults at the same time; further requests are left alone (Envoy's max_active_faults)."""
    max_percent: Percent = 100.0
    max_delay: PositiveDuration = 5.0
    max_cpu: Annotated[float, Meta(ge=0, le=60, extra=DURATION)] = 1.0
    headers: bool = True
    """Whether a request may ask for its own fault: X-Chaos-Enabled: true, with X-Chaos-Delay, X-Chaos-Abort and others."""
    role: Access = Access.READ
    """The least role of who may."""
    paths: tuple[Text, ...] = ()
    """The only paths that may be broken, * standing for anything. Empty: every one that may be at all."""
    methods: tuple[Text, ...] = ()
    """The only methods. Empty: all."""
    trace_ids: tuple[Text, ...] = ()
    """The only traces, as in `traceparent`. Empty: all."""
    rules: tuple[FaultRule, ...] = ()
    """Faults without a header; the first that means a request decides."""
