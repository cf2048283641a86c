"""Where spans go: to a collector over OTLP/HTTP, or to standard output.

Rules of OTLP/HTTP (opentelemetry-proto, "OTLP/HTTP Response"):
    X1  429, 502, 503 and 504 mean "again", and no answer does too; any other status that is no success means "never".
    X2  Retry-After says how long to wait; without it the wait doubles from 1 s, at most 10 s, with full jitter of a half. A
        tenth of that is waited in any case: a collector that always says 0 is not asked as fast as it answers.
    X3  All attempts of a batch have export_timeout, the last one included; then it is lost, and counted.
    X4  partialSuccess says how many spans a collector did not want. They are counted, its sentence is logged, and they are
        not sent again.
    X5  What is sent makes no spans and carries no traceparent.
"""

from __future__ import annotations

import asyncio
import gzip
import random
import sys
import time
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from watchkeeper import tracing
from watchkeeper.outbound.calls import shown
from watchkeeper.outbound.client import Answer, Client, Limits, RequestError
from watchkeeper.outbound.retry import retry_after
from watchkeeper.tracing import otlp
from watchkeeper.tracing.environment import Effective
from watchkeeper.tracing.spans import Span

AGAIN = frozenset({429, 502, 503, 504})
FIRST_WAIT, LONGEST_WAIT = 1.0, 10.0


class ExportError(Exception):
    """The batch is lost; the text says why, in one line."""


class Exporter(Protocol):
    """One way out."""

    async def export(self, spans: Sequence[Span]) -> int:
        """Bring them out; how many of them were not wanted.

        Raises:
            ExportError: they are lost.
        """


class Nowhere:
    """Spans are made, so that others see a trace, and thrown away."""

    async def export(self, spans: Sequence[Span]) -> int:
        return 0


class Console:
    """For looking: one line of JSON per span."""

    async def export(self, spans: Sequence[Span]) -> int:
        lines = b"".join(msgspec.json.encode(otlp.as_json(span)) + b"\n" for span in spans)
        try:
            await asyncio.to_thread(_write, lines)
        except (OSError, ValueError) as error:
            raise ExportError(f"standard output: {error}") from None
        return 0


def _write(lines: bytes) -> None:
    sys.stdout.buffer.write(lines)
    sys.stdout.flush()


class Otlp:
    """OTLP/HTTP with JSON."""

    def __init__(
        self,
        http: Client,
        settings: Effective,
        refused: Callable[[str], None] = lambda _text: None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._http, self._settings, self._refused, self._chance = http, settings, refused, chance
        self._headers = {**settings.headers, "Content-Type": "application/json"}
        if settings.compress:
            self._headers["Content-Encoding"] = "gzip"

    async def export(self, spans: Sequence[Span]) -> int:
        body = otlp.encode(spans, self._settings.resource)
        if self._settings.compress:
            body = await asyncio.to_thread(gzip.compress, body, 6)
        until = asyncio.get_running_loop().time() + self._settings.export_timeout
        attempt = 0
        with tracing.quiet():  # X5
            while True:
                why, asked = "", None
                try:
                    answer = await self._post(body, until)
                    if 200 <= answer.status < 300:
                        return self._taken(answer)
                    why = f"{shown(self._settings.endpoint)} answers {answer.status}"
                    if answer.status not in AGAIN:
                        raise ExportError(f"{why}: {_sentence(answer.body)}")  # X1
                    asked = retry_after(answer.headers, time.time())
                except RequestError as error:
                    why = str(error)
                wait = self._wait(attempt)
                wait = wait if asked is None else max(asked, wait / 10)
                if asyncio.get_running_loop().time() + wait >= until:
                    raise ExportError(why)  # X3
                await asyncio.sleep(wait)
                attempt += 1

    async def _post(self, body: bytes, until: float) -> Answer:
        seconds = max(0.001, min(self._settings.timeout, until - asyncio.get_running_loop().time()))
        limits = Limits(connect=seconds, read=seconds, total=seconds, write=seconds)
        return await self._http.request(
            "POST",
            self._settings.endpoint,
            headers=self._headers,
            body=body,
            limits=limits,
            tls=self._settings.tls,
            body_limit=1024 * 1024,
        )

    def _wait(self, attempt: int) -> float:
        """X2."""
        longest = min(LONGEST_WAIT, FIRST_WAIT * 2.0 ** min(attempt, 10))
        return longest * (0.5 + 0.5 * self._chance())

    def _taken(self, answer: Answer) -> int:
        """X4."""
        partial = otlp.decode(answer.body)
        if partial.rejected_spans or partial.error_message:
            self._refused(f"{partial.rejected_spans} spans were not taken: {partial.error_message[:300]}")
        return max(0, partial.rejected_spans)


def _sentence(body: bytes) -> str:
    """The beginning of an answer, on one line."""
    return " ".join(body[:300].decode("utf-8", "replace").split()) or "no reason"
