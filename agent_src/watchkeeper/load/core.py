"""A load of constant rate: requests are due at fixed moments, whatever becomes of those before (an open model).

Rules:
    L1  Request number n is due n/qps seconds after the beginning, and there are qps * duration of them. Nothing that a server
        does moves these moments.
    L2  Latency counts from the moment that a request was due, not from when it could be sent: a server that stands still for
        a second is a second slow for everybody who came meanwhile. (A tool that sends the next request when the one before
        is back would ask less often just then, and hide it: coordinated omission.) Time from sending is reported beside it.
    L3  What is due waits in a channel of qps places for one of `concurrency` senders. A full channel holds up the clockwork
        and not the moments.
    L4  A request that was not sent `timeout` seconds after the end is not sent any more. It counts as unsent, with the time
        that it has waited: leaving it out would make the worst invisible.
    L5  There are at most qps * duration results. What is under way when somebody stops it early counts as interrupted.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from watchkeeper.load.histogram import Histogram

UNSENT, INTERRUPTED = "unsent", "interrupted"


@dataclass(frozen=True)
class Plan:
    """What is asked for. Seconds, and requests a second."""

    qps: float
    duration: float
    concurrency: int
    timeout: float

    @property
    def total(self) -> int:
        """Requests."""
        return max(1, math.floor(self.qps * self.duration + 1e-9))

    @property
    def channel(self) -> int:
        """Places (L3)."""
        return max(1, math.ceil(self.qps))


@dataclass(frozen=True)
class Sent:
    """What became of one request: a status, or the class of an error."""

    status: int | None = None
    error: str | None = None


@dataclass
class Result:
    """What was measured."""

    plan: Plan
    latency: Histogram = field(default_factory=Histogram)
    """From due to the end of the answer (L2), failures among them."""
    service: Histogram = field(default_factory=Histogram)
    """From sent to the end of the answer."""
    statuses: Counter[int] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    lag: float = 0.0
    """How late the clockwork itself was at most: above some milliseconds it is this machine that is slow."""
    elapsed: float = 0.0
    interrupted: bool = False

    @property
    def count(self) -> int:
        """Results of all kinds."""
        return self.latency.count

    @property
    def answered(self) -> int:
        """Requests with an answer of whatever status."""
        return self.statuses.total()


Send = Callable[[], Awaitable[Sent]]


class Load:
    """One run. `stop` may be called at any time."""

    def __init__(self, plan: Plan, send: Send) -> None:
        self._send = send
        self.result = Result(plan)
        self._channel: asyncio.Queue[float] = asyncio.Queue(plan.channel)
        self._next = 0
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """End it now."""
        self._stopped.set()

    async def run(self) -> Result:
        """Until all have been sent and are back, or until it is stopped."""
        result, plan = self.result, self.result.plan
        begun = _clock()
        senders = [asyncio.create_task(self._sender()) for _ in range(min(plan.concurrency, plan.total))]
        work = asyncio.create_task(self._work(begun))
        stopped = asyncio.create_task(self._stopped.wait())
        limit = begun + plan.duration + plan.timeout - _clock()
        await asyncio.wait({work, stopped}, timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        result.interrupted = self._stopped.is_set()
        work.cancel()
        stopped.cancel()
        if not result.interrupted:
            # L4: what has been sent has its own timeout, and comes back by itself.
            self._give_up_what_waits(begun)
            await asyncio.wait({asyncio.create_task(self._channel.join()), stopped}, timeout=plan.timeout + 1)
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, work, stopped, return_exceptions=True)
        result.elapsed = _clock() - begun
        return result

    async def _work(self, begun: float) -> None:
        """The clockwork, and then the last answers."""
        plan, result = self.result.plan, self.result
        for self._next in range(plan.total):
            due = begun + self._next / plan.qps  # L1
            if (wait := due - _clock()) > 0:
                await asyncio.sleep(wait)
                result.lag = max(result.lag, _clock() - due)
            await self._channel.put(due)  # L3
        self._next = plan.total
        await self._channel.join()

    async def _sender(self) -> None:
        while True:
            due = await self._channel.get()
            sent_at = _clock()
            try:
                sent = await self._send()
            except asyncio.CancelledError:
                self._note(Sent(error=INTERRUPTED), due, sent_at)  # L5
                raise
            except Exception as error:  # noqa: BLE001 - a run of an hour is not lost because of one request
                sent = Sent(error=type(error).__name__)
            finally:
                self._channel.task_done()
            self._note(sent, due, sent_at)

    def _note(self, sent: Sent, due: float, sent_at: float | None) -> None:
        result, now = self.result, _clock()
        result.latency.record(now - due)  # L2
        if sent_at is not None:
            result.service.record(now - sent_at)
        if sent.status is not None:
            result.statuses[sent.status] += 1
        if sent.error is not None:
            result.errors[sent.error] += 1

    def _give_up_what_waits(self, begun: float) -> None:
        """L4."""
        plan = self.result.plan
        while not self._channel.empty():
            self._note(Sent(error=UNSENT), self._channel.get_nowait(), None)
            self._channel.task_done()
        for number in range(self._next, plan.total):
            self._note(Sent(error=UNSENT), begun + number / plan.qps, None)


def _clock() -> float:
    return asyncio.get_running_loop().time()
