"""Spans that have ended wait here until there are enough of them, or until the first has waited long enough.

Rules:
    B1  What ends costs its maker an append; nothing is encoded and nobody is waited for.
    B2  With max_queue spans or max_memory bytes waiting, what ends now is dropped and counted; what waits is kept.
    B3  A batch goes out when max_batch spans wait, or every `interval`. One at a time.
    B4  A batch that is lost is counted and not sent again; the exporter has tried all it could. So is one that a defect of
        ours keeps from being sent: it would keep all others back for ever.
    B5  A batch whose sending is cancelled goes back, so that the flush at the end sends it. A collector may then see it twice,
        which the ids make harmless.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from watchkeeper.tracing.environment import Effective
from watchkeeper.tracing.exporters import Exporter, ExportError
from watchkeeper.tracing.spans import Span


@dataclass
class Tally:
    """What became of spans."""

    exported: int = 0
    dropped: int = 0
    """There was no room."""
    lost: int = 0
    """Nobody took them in time."""
    rejected: int = 0
    """The collector did not want them."""


class Batch:
    """One queue and its way out.

    Args:
        lost: hears why a batch was lost; None: one has gone out again.
        tally: what became of earlier ones; it goes on counting.
    """

    def __init__(
        self,
        exporter: Exporter,
        settings: Effective,
        lost: Callable[[str | None], None] = lambda _why: None,
        tally: Tally | None = None,
    ) -> None:
        self._exporter, self._settings, self._lost = exporter, settings, lost
        self._waiting: deque[Span] = deque()
        self._enough = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()
        self.bytes = 0
        self.tally = tally or Tally()

    def __len__(self) -> int:
        return len(self._waiting)

    def ended(self, span: Span) -> None:
        """One more (B1, B2)."""
        settings = self._settings
        if len(self._waiting) >= settings.max_queue or self.bytes + span.size > settings.max_memory:
            self.tally.dropped += 1
            return
        self._waiting.append(span)
        self.bytes += span.size
        if len(self._waiting) >= settings.max_batch:
            self._enough.set()

    async def run(self) -> None:
        """Send what comes; never returns."""
        while True:
            try:
                async with asyncio.timeout(self._settings.interval):
                    await self._enough.wait()
            except TimeoutError:
                pass
            self._enough.clear()
            await self._send()
            if len(self._waiting) >= self._settings.max_batch:
                self._enough.set()

    async def flush(self) -> None:
        """Send everything that waits."""
        async with self._one_at_a_time:
            pass  # B5: a batch whose sending has just been cancelled has come back by then
        while self._waiting:
            await self._send()

    async def _send(self) -> None:
        async with self._one_at_a_time:  # B3
            spans = self._take()
            if not spans:
                return
            try:
                rejected = min(len(spans), await self._exporter.export(spans))
            except ExportError as error:
                self.tally.lost += len(spans)  # B4
                self._lost(str(error))
            except Exception:
                self.tally.lost += len(spans)  # B4
                raise
            except BaseException:
                self._put_back(spans)  # B5
                raise
            else:
                self.tally.rejected += rejected
                self.tally.exported += len(spans) - rejected
                self._lost(None)

    def _take(self) -> list[Span]:
        count = min(len(self._waiting), self._settings.max_batch)
        spans = [self._waiting.popleft() for _ in range(count)]
        self.bytes -= sum(span.size for span in spans)
        return spans

    def _put_back(self, spans: list[Span]) -> None:
        self._waiting.extendleft(reversed(spans))
        self.bytes += sum(span.size for span in spans)
