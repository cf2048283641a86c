"""Requests that the agent makes itself: limits, breakers, retries, balancing."""

from __future__ import annotations

import enum
from typing import Annotated

from msgspec import Meta, field

from watchkeeper.config.schema.common import (
    Duration,
    Name,
    PositiveDuration,
    StrictStruct,
    TlsClient,
    Words,
)

Status = Annotated[int, Meta(ge=100, le=599)]
HeaderName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$")]


class Reach(enum.StrEnum):
    """How far away a destination is; it decides how long one waits for it."""

    INTERNAL = "internal"
    EXTERNAL = "external"


class Policy(enum.StrEnum):
    """Which instance is next."""

    ROUND_ROBIN = "round-robin"
    WEIGHTED = "weighted"
    HASH = "hash"


class ConsecutiveFailures(StrictStruct, frozen=True, kw_only=True, tag="consecutive", tag_field="type"):
    """So many failures in a row."""

    more_than: Annotated[int, Meta(ge=0, le=1000)] = 3
    """3: the fourth one trips."""


class FailureRate(StrictStruct, frozen=True, kw_only=True, tag="rate", tag_field="type"):
    """Such a share of the requests of an interval."""

    more_than: Annotated[float, Meta(ge=0, lt=1)] = 0.5
    min_requests: Annotated[int, Meta(ge=1, le=1_000_000)] = 10
    """Fewer than so many requests say nothing."""


class BreakerSettings(StrictStruct, frozen=True, kw_only=True):
    """When a destination is left alone, and for how long; words and meaning are gobreaker's (outbound/breaker.py)."""

    max_requests: Annotated[int, Meta(ge=0, le=1000)] = 3
    """How many may try when it is half-open, and have to succeed; 0: one."""
    interval: Duration = 10.0
    """How often the counts are cleared while it is closed; 0: never."""
    timeout: PositiveDuration = 5.0
    """How long it is open."""
    trip: ConsecutiveFailures | FailureRate = field(default_factory=ConsecutiveFailures)
    statuses: tuple[Status, ...] = ()
    """Answers that are failures, beside no answer; empty: 500 and above."""


class RetrySettings(StrictStruct, frozen=True, kw_only=True):
    """Which requests are made again, and when: after a random time from 0 to first_delay * 2^n, at most max_delay."""

    attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    """All together; 1: none is made again."""
    first_delay: PositiveDuration = 0.1
    max_delay: PositiveDuration = 2.0
    statuses: tuple[Status, ...] = (429, 502, 503, 504)
    """Answers after which it is tried again, beside no answer."""
    methods: Words = ("GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE")
    """Those that may be repeated without harm (RFC 9110 section 9.2.2); a caller may vouch for another one."""
    max_retry_after: Duration = 5.0
    """The longest Retry-After that is waited for; after a longer one the answer is handed on."""
    budget_ratio: Annotated[float, Meta(ge=0, le=1)] = 0.2
    """Repetitions per request over time, so that many who try again do not bring down who is weak already."""
    budget_burst: Annotated[int, Meta(ge=0, le=10_000)] = 10
    """How many repetitions may be saved up."""


class TokenRate(StrictStruct, frozen=True, kw_only=True):
    """A token bucket: bursts pass, then so many a second; who comes too early waits if his time allows, else fails."""

    rate: Annotated[float, Meta(gt=0, le=1_000_000)] = 10.0
    burst: Annotated[int, Meta(ge=1, le=1_000_000)] = 50


class EvenFlow(StrictStruct, frozen=True, kw_only=True):
    """A leaky bucket: requests go out at even distances; who finds the queue full fails."""

    rate: Annotated[float, Meta(gt=0, le=1_000_000)]
    """Requests a second."""
    queue: Annotated[int, Meta(ge=0, le=100_000)] = 100
    """How many may wait."""


class Balancing(StrictStruct, frozen=True, kw_only=True):
    """Over which instances requests are spread, and how. The Host header and the certificate's name stay those of the URL."""

    discovery: Name
    """The name of one in `discovery`."""
    policy: Policy = Policy.ROUND_ROBIN
    """weighted: smoothly, as nginx does. hash: the same key goes to the same instance while it is there."""
    hash_header: HeaderName | None = None
    """The header of a request that is its key; None, or without it: the path."""
    virtual_nodes: Annotated[int, Meta(ge=1, le=1000)] = 100
    """Points on the ring per instance and weight."""


class Destination(StrictStruct, frozen=True, kw_only=True):
    """One place that requests go to. A duration that is None is the default of `outbound`."""

    hosts: Words
    """HOST, HOST:PORT or *.SUFFIX of the URLs that are meant; a HOST without a port means every port."""
    reach: Reach = Reach.EXTERNAL
    """Sets total_timeout: internal 1s, external 5s."""
    connect_timeout: PositiveDuration | None = None
    read_timeout: PositiveDuration | None = None
    write_timeout: PositiveDuration | None = None
    total_timeout: PositiveDuration | None = None
    """None: what `reach` says."""
    breaker: BreakerSettings | None = field(default_factory=BreakerSettings)
    """null: none. With `balance` each instance has its own, and one whose breaker is open is left out."""
    retry: RetrySettings | None = field(default_factory=RetrySettings)
    """null: each request is made once."""
    limit: TokenRate | None = None
    flow: EvenFlow | None = None
    balance: Balancing | None = None
    tls: TlsClient | None = None
    """None: what the part of the agent that asks says."""


class OutboundSettings(StrictStruct, frozen=True, kw_only=True):
    """Defaults of every request that the agent makes, and what is different for some destinations."""

    connect_timeout: PositiveDuration = 2.0
    """To a connection, its look-up and TLS handshake included."""
    read_timeout: PositiveDuration = 5.0
    """From one piece of an answer to the next."""
    write_timeout: PositiveDuration = 5.0
    """Until the body of a request is sent."""
    total_timeout: PositiveDuration = 5.0
    """For everything, repetitions included."""
    idle_connections: Annotated[int, Meta(ge=0, le=1000)] = 10
    """Connections per host that are kept for the next request."""
    idle_timeout: PositiveDuration = 300.0
    """How long each is kept."""
    deadline_header: HeaderName | None = "X-Request-Timeout"
    """Says how long the agent will still wait, where it knows; None: nothing is said. docs/agent/outbound.md has its form."""
    breaker: BreakerSettings | None = None
    """For each host and port that is no destination; None: none, as the parts of the agent back off by themselves."""
    destinations: dict[Name, Destination] = field(default_factory=dict)
