"""How one request ended: told once to its breaker, to the metrics and to its span."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from watchkeeper.outbound.breaker import Breaker, Result
from watchkeeper.outbound.calls import Call, as_request_error, expected
from watchkeeper.outbound.errors import OUR_OWN, RequestError
from watchkeeper.outbound.routes import Route
from watchkeeper.tracing import AnySpan


class Outcome:
    """Of one request that was let through."""

    def __init__(
        self, route: Route, breaker: Breaker | None, generation: int, begun: float, span: AnySpan
    ) -> None:
        self._route, self._breaker = route, breaker
        self._generation, self._begun = generation, begun
        self.span = span
        self._told = False

    def answered(self, status: int) -> None:
        """There is an answer."""
        spec = self._route.breaker_spec
        failed = status in spec.statuses if spec is not None and spec.statuses else status >= 500
        if self.span.recording:
            self.span.set("http.response.status_code", status)
            if status >= 400:  # OpenTelemetry's semantic conventions for HTTP client spans
                self.span.fail(str(status))
        self._tell(Result.FAILURE if failed else Result.SUCCESS, f"{status // 100}xx")

    def failed(self, error: RequestError) -> None:
        """There is none."""
        self.span.fail(error.kind, str(error))
        self._tell(Result.EXCLUDED if error.kind in OUR_OWN else Result.FAILURE, error.kind)

    def given_up(self) -> None:
        """Nobody waits any more."""
        self.span.fail("cancelled")
        self._tell(Result.EXCLUDED, "cancelled")

    def _tell(self, result: Result, word: str) -> None:
        if self._told:
            return
        self._told = True
        if self._breaker is not None:
            self._breaker.done(self._generation, result)
        route = self._route
        route.measures.request(route.name, word, route.clock() - self._begun)
        self.span.end()


@contextlib.contextmanager
def telling(outcome: Outcome, call: Call) -> Iterator[None]:
    """Every end of the block becomes an answer, a RequestError, or stays the end that it is; its outcome is told."""
    try:
        yield
    except RequestError as error:
        outcome.failed(error)
        raise
    except Exception as error:
        wrapped = as_request_error(error, call)
        outcome.failed(wrapped)
        if expected(error):
            raise wrapped from error
        raise
    except BaseException:
        outcome.given_up()
        raise
