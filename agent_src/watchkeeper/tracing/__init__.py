"""Spans, as the rest of the agent makes them. While tracing is off this costs one call that makes nothing and imports nothing.

    with tracing.span("reconcile") as span:
        if span.recording:
            span.set("key", name)

Rules:
    S1  A span that is entered is the parent of those that are made within, in tasks that are started there as well.
    S2  An exception that leaves the block fails the span, and goes on; a cancellation is no failure.
    S3  Whoever continues a trace of others uses `served`; whoever asks others lets the span write itself into the headers.

What spans become is told by `use`: nothing (the default), the agent's own (spans.py), or OpenTelemetry's SDK (sdk.py).
"""

from __future__ import annotations

import contextlib
import enum
from collections.abc import Callable, Iterator, MutableMapping
from contextvars import ContextVar
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

if TYPE_CHECKING:
    from watchkeeper.tracing.context import SpanContext

Value = str | bool | int | float


class SpanKind(enum.IntEnum):
    """The numbers are OTLP's."""

    INTERNAL = 1
    SERVER = 2
    CLIENT = 3
    PRODUCER = 4
    CONSUMER = 5


class AnySpan(Protocol):
    """One thing that is being done."""

    @property
    def recording(self) -> bool:
        """Whether what is said about it reaches anybody; if not, spare yourself the work."""

    @property
    def trace_id(self) -> str:
        """32 hex digits; empty: none."""

    def set(self, key: str, value: Value) -> None:
        """Say something about it."""

    def event(self, name: str) -> None:
        """Something happened meanwhile."""

    def fail(self, kind: str, message: str = "") -> None:
        """It went wrong; kind is from a closed list."""

    def end(self) -> None:
        """It is over. The second end is none."""

    def inject(self, headers: MutableMapping[str, str]) -> None:
        """Write it into the headers of a request: traceparent and tracestate."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None: ...


class NoSpan:
    """What there is while tracing is off: one object for all."""

    __slots__ = ()
    recording = False
    trace_id = ""

    def set(self, key: str, value: Value) -> None:
        """Nobody listens."""

    def event(self, name: str) -> None:
        """Nobody listens."""

    def fail(self, kind: str, message: str = "") -> None:
        """Nobody listens."""

    def end(self) -> None:
        """There was no beginning."""

    def inject(self, headers: MutableMapping[str, str]) -> None:
        """There is nothing to write."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        return None


class Tracer(Protocol):
    """Makes spans."""

    def start(self, name: str, kind: SpanKind, parent: SpanContext | None) -> AnySpan:
        """A span that has begun; parent None: the current one, or the first of a new trace."""


NOTHING = NoSpan()
CURRENT: ContextVar[AnySpan] = ContextVar("watchkeeper_span", default=NOTHING)
_QUIET: ContextVar[bool] = ContextVar("watchkeeper_no_spans", default=False)
_tracer: Tracer | None = None


def span(name: str, kind: SpanKind = SpanKind.INTERNAL) -> AnySpan:
    """Something begins."""
    if _tracer is None or _QUIET.get():
        return NOTHING
    return _tracer.start(name, kind, None)


def served(name: str, header: Callable[[str], str | None]) -> AnySpan:
    """A request of others begins; theirs is the parent if they sent one that can be read.

    Args:
        header: from a header's name to its value.
    """
    if _tracer is None:
        return NOTHING
    from watchkeeper.tracing.context import from_headers

    return _tracer.start(name, SpanKind.SERVER, from_headers(header))


def current() -> AnySpan:
    """The span that the caller is in."""
    return CURRENT.get()


def trace_id() -> str:
    """The id of the trace that the caller is in; empty: none."""
    return CURRENT.get().trace_id


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What is done here leaves no spans: sending spans must not make spans."""
    token = _QUIET.set(True)
    try:
        yield
    finally:
        _QUIET.reset(token)


def use(tracer: Tracer | None) -> None:
    """From now on spans are made by this one; None: by nobody. Log lines carry the trace they are written in."""
    global _tracer  # noqa: PLW0603 - one per process, as the log whose lines it marks
    from watchkeeper import logs

    _tracer = tracer
    logs.take_trace_ids_from(None if tracer is None else trace_id)
