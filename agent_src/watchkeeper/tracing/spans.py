"""The agent's own spans: made here, kept by a recorder until they are sent.

A span that is not sampled has an id and a place in the trace, so that others decide alike; it records nothing.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable

from watchkeeper.tracing import CURRENT, SpanKind, Value
from watchkeeper.tracing.context import SpanContext
from watchkeeper.tracing.sampling import Sampler
from watchkeeper.tracing.scope import Scope

MOST_ATTRIBUTES = 128
"""OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT's default; events likewise."""
LONGEST_VALUE = 4096
"""Characters of one attribute; the rest is cut off."""
BASE_SIZE = 1000
"""Bytes of memory that a span takes with nothing in it, measured on CPython 3.11; what is in it is added."""


class Span(Scope):
    """One that is recorded, or one that only has a place."""

    __slots__ = (
        "_ended",
        "_recorder",
        "anchor",
        "attributes",
        "dropped",
        "end_ns",
        "events",
        "kind",
        "message",
        "name",
        "parent_id",
        "recording",
        "size",
        "start_ns",
        "status",
    )

    def __init__(
        self,
        name: str,
        kind: SpanKind,
        context: SpanContext,
        parent_id: int,
        recorder: Callable[[Span], None] | None,
        anchor: int | None = None,
    ) -> None:
        """`anchor`: what the epoch's nanoseconds are ahead of the monotonic ones; None: what they are now."""
        super().__init__(context)
        self.name, self.kind, self.parent_id = name, kind, parent_id
        self.recording = recorder is not None
        self._recorder, self._ended = recorder, False
        self.attributes: dict[str, Value] = {}
        self.events: list[tuple[int, str]] = []
        self.dropped = 0
        self.status: str | None = None
        """What it failed of; None: it did not."""
        self.message = ""
        self.size = BASE_SIZE
        self.anchor = time.time_ns() - time.perf_counter_ns() if anchor is None else anchor
        self.start_ns = self._now()
        self.end_ns = 0

    def set(self, key: str, value: Value) -> None:
        if not self.recording:
            return
        if key not in self.attributes and len(self.attributes) >= MOST_ATTRIBUTES:
            self.dropped += 1
            return
        kept = value[:LONGEST_VALUE] if isinstance(value, str) else value
        self.attributes[key] = kept
        self.size += 100 + len(key) + (len(kept) if isinstance(kept, str) else 0)

    def event(self, name: str) -> None:
        if self.recording and len(self.events) < MOST_ATTRIBUTES:
            self.events.append((self._now(), name[:LONGEST_VALUE]))
            self.size += 150 + len(name)

    def fail(self, kind: str, message: str = "") -> None:
        if self.recording:
            self.set("error.type", kind)
            self.status, self.message = kind, message[:LONGEST_VALUE]
            self.size += len(self.message)

    @property
    def failed(self) -> bool:
        return self.status is not None

    def end(self) -> None:
        if self._ended:
            return
        self._ended = True
        self.end_ns = self._now()
        if self._recorder is not None:
            self._recorder(self)

    def _now(self) -> int:
        """Since the epoch.

        The spans of one trace share an anchor: none ends before it began, or outside of its parent, whatever becomes of the
        clock meanwhile.
        """
        return self.anchor + time.perf_counter_ns()


class OwnTracer:
    """Args: sampler, who takes spans that have ended, and where ids begin (None: anywhere)."""

    def __init__(
        self,
        sampler: Sampler,
        recorder: Callable[[Span], None],
        seed: int | None = None,
    ) -> None:
        self._sampler, self._recorder = sampler, recorder
        self._bits = random.Random(seed).getrandbits  # noqa: S311 - ids need to be unlike each other, not secret

    def start(self, name: str, kind: SpanKind, parent: SpanContext | None) -> Span:
        """A span that has begun."""
        around = CURRENT.get()
        above = parent or getattr(around, "context", None)
        trace_id = above.trace_id if above is not None else self._id(128)
        sampled = self._sampler(above, trace_id)
        context = SpanContext(trace_id, self._id(64), sampled, above.state if above is not None else "")
        recorder = self._recorder if sampled else None
        parent_id, anchor = (above.span_id if above is not None else 0), getattr(around, "anchor", None)
        return Span(name, kind, context, parent_id, recorder, anchor)

    def _id(self, bits: int) -> int:
        return self._bits(bits) or 1
