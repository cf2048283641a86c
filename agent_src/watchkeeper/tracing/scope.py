"""What is the same for every span, whoever records it: its place in the trace, and the block of code that it covers."""

from __future__ import annotations

from collections.abc import MutableMapping
from contextvars import Token
from types import TracebackType
from typing import Self, cast

from watchkeeper.tracing import CURRENT, AnySpan
from watchkeeper.tracing.context import SpanContext, to_headers


class Scope:
    """Half of an AnySpan: the one that is in force within its `with`. An exception that leaves the block is why the span failed."""

    __slots__ = ("_token", "context")

    def __init__(self, context: SpanContext) -> None:
        self.context = context
        self._token: Token[AnySpan] | None = None

    @property
    def trace_id(self) -> str:
        return f"{self.context.trace_id:032x}"

    @property
    def failed(self) -> bool:
        """Whether it was said what it failed of."""
        raise NotImplementedError

    def inject(self, headers: MutableMapping[str, str]) -> None:
        to_headers(self.context, headers)

    def __enter__(self) -> Self:
        self._token = CURRENT.set(cast("AnySpan", self))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        if self._token is not None:
            CURRENT.reset(self._token)
            self._token = None
        if isinstance(error, Exception) and kind is not None and not self.failed:
            cast("AnySpan", self).fail(kind.__qualname__, str(error))
        cast("AnySpan", self).end()
