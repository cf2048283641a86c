"""Why there is no answer: a closed list, for metrics and for whoever decides by it."""

from __future__ import annotations

import enum


class Failure(enum.StrEnum):
    """The kinds of a request that has no answer."""

    CONNECT = "connect"
    """No connection: nobody listens, no route, no such name."""
    TLS = "tls"
    """No handshake, or a certificate that is not believed."""
    TIMEOUT = "timeout"
    """One of the limits passed."""
    DEADLINE = "deadline"
    """Whoever asked does not wait any more."""
    BROKEN = "broken"
    """The connection ended in the middle, or what came is not HTTP."""
    TOO_LARGE = "too_large"
    """A longer answer than is taken."""
    REFUSED = "refused"
    """The breaker is open."""
    LIMITED = "limited"
    """The limit of the destination, a bucket, did not let it through in time."""
    NO_INSTANCE = "no_instance"
    """Discovery knows nobody."""
    INVALID = "invalid"
    """The request itself: its URL, a header, a file of certificates."""
    FAULT = "fault"
    """A fault that was put in on purpose."""


OUR_OWN = frozenset(
    {Failure.REFUSED, Failure.LIMITED, Failure.NO_INSTANCE, Failure.INVALID, Failure.DEADLINE}
)
"""Kinds that say nothing about the other side: a breaker does not count them, and trying again does not help."""


class RequestError(Exception):
    """No answer, or not all of one: the text says why, in one line."""

    def __init__(self, text: str, kind: Failure = Failure.BROKEN) -> None:
        super().__init__(text)
        self.kind = kind
