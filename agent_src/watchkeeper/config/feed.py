"""What runs for one source: fetch all of it, wait for changes, and hand over what it has.

Rules:
    R1  The first answer is the whole; after it changes are waited for. When a watch ends with an error, all of it is
        fetched anew.
    R2  After an error it waits 0.8 s * 2^n, at most 30 s, and up to as much again by chance; two minutes without an error
        forget the earlier ones (client-go's reflector). A source that names a time (Retry-After) is not asked before it.
    R3  Whatever it delivers, it is not asked again within GAP, so that a source that changes all the time costs a bounded
        part of the agent; what it has in the end is never missed, since each answer is the whole.
    R4  An order to look now (SIGHUP, `reload`) ends waiting of any kind, and all of it is fetched.
    R5  Its states: `starting` (no answer yet), `active` (what it has is in force), `refused` (it answers, and what it says
        does not hold), `failing` (it does not answer, or not properly). In the last two what it delivered before stays.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

from watchkeeper.config.intake import origin_of
from watchkeeper.config.schema.sources import Source
from watchkeeper.config.snapshot import Key
from watchkeeper.config.sources import Fetched, FragmentSource, Reporting, SourceError
from watchkeeper.context import Context
from watchkeeper.errors import AgentError, ConfigInvalidError, ErrorClass
from watchkeeper.logs import get_logger
from watchkeeper.observed import wall_clock
from watchkeeper.status import rfc3339

journal = get_logger("config")

FIRST_DELAY = 0.8
MAX_DELAY = 30.0
FORGET_AFTER = 120.0
LONGEST_RETRY_AFTER = 300.0
FETCH_LIMIT = 300.0
"""Seconds for a whole fetch, whatever limits the source has of its own."""
GAP = 0.2
PROBLEMS_SHOWN = 20


class Feed:
    """One source at work."""

    def __init__(self, context: Context, key: Key, spec: Source, make: Callable[[], FragmentSource]) -> None:
        self.spec = spec
        self._context, self._key, self._make = context, key, make
        self._clock = asyncio.get_running_loop().time
        self._asked = asyncio.Event()
        self._failures = 0
        self._failed_at = 0.0
        self._accepted_at: float | None = None
        self._version = ""
        self._documents = 0
        self._last_success: str | None = None
        self._measure()
        restored = key.name in context.intake.restored
        self._show("starting", "its copy is in force" if restored else "it has not answered yet")

    def ask(self) -> None:
        """Look now (R4)."""
        self._asked.set()

    async def run(self) -> None:
        """Until it is cancelled."""
        source = self._make()
        if isinstance(source, Reporting):
            source.attach(self._context, self._key.name)
        try:
            while True:
                try:
                    await self._round(source)
                except SourceError as error:
                    await self._pause(self._failed(error))
        finally:
            await source.close()

    async def _round(self, source: FragmentSource) -> None:
        """R1; ends with an exception."""
        fetched = await self._fetch(source)
        while True:
            await self._hand_over(fetched)
            await asyncio.sleep(GAP)  # R3
            fetched = await self._next(source)

    async def _fetch(self, source: FragmentSource) -> Fetched:
        self._asked.clear()
        try:
            async with asyncio.timeout(FETCH_LIMIT):
                return await source.fetch()
        except TimeoutError:
            raise SourceError(f"no answer in {FETCH_LIMIT:g} s") from None

    async def _next(self, source: FragmentSource) -> Fetched:
        """The next answer; R4."""
        watch = asyncio.create_task(source.watch(), name=f"watch of {self._key}")
        asked = asyncio.create_task(self._asked.wait())
        try:
            await asyncio.wait((watch, asked), return_when=asyncio.FIRST_COMPLETED)
            if watch.done():
                return watch.result()
        finally:
            asked.cancel()
            watch.cancel()
            await asyncio.wait(
                (watch,)
            )  # unlike `await watch` it cannot be mistaken for an end of this task itself
            if not watch.cancelled():
                watch.exception()  # asked for, so that nobody complains that it was not
        return await self._fetch(source)

    async def _hand_over(self, fetched: Fetched) -> None:
        self._version, self._documents = fetched.version, len(fetched.fragments)
        try:
            new = await self._context.intake.offer(self._key.name, fetched.fragments, origin_of(self.spec))
        except AgentError as error:
            self._refused(error)
            return
        self._count("changed" if new else "unchanged")
        self.accepted()

    def accepted(self) -> None:
        """What it has is in force, at once or after something else had changed."""
        self._accepted_at = self._clock()
        self._last_success = rfc3339(wall_clock())
        self._context.metrics.gauge(
            "config_source_last_success_timestamp_seconds",
            "When what a source has was last found to be in force.",
            "source",
        ).labels(self._key.name).set(wall_clock())
        self._show("active", "what it has is in force")

    def _refused(self, error: AgentError) -> None:
        reason = str(error).splitlines()[0]
        problems = list(error.problems) if isinstance(error, ConfigInvalidError) else []
        self._count("refused")
        self._context.metrics.error(error.error_class)
        journal.error(
            f"source {self._key.name}: what it delivered is refused, what it had before stays: {reason}",
            error_class=error.error_class,
            problems=problems[:PROBLEMS_SHOWN],
        )
        why = "what it delivered does not hold; what it had before stays"
        self._show("refused", why, "\n".join(problems[:PROBLEMS_SHOWN]) or reason)

    def _failed(self, error: SourceError) -> float:
        """R2; the seconds to wait."""
        now = self._clock()
        self._failures = 1 if now - self._failed_at >= FORGET_AFTER else self._failures + 1
        delay = min(FIRST_DELAY * 2.0 ** min(self._failures - 1, 20), MAX_DELAY) * (
            1 + self._context.chance()
        )
        delay = max(delay, min(error.retry_after or 0.0, LONGEST_RETRY_AFTER))
        self._failed_at = now + delay
        self._count("error")
        self._context.metrics.error(ErrorClass.NETWORK_FAILURE)
        write = journal.warning if self._failures == 1 else journal.debug
        write(
            f"source {self._key.name}: {error}",
            error_class=ErrorClass.NETWORK_FAILURE,
            retry_count=self._failures,
            retry_in=round(delay, 3),
        )
        self._show("failing", f"asked again in {delay:.3g} s; what it delivered stays", str(error))
        return delay

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._asked.wait()

    def _show(self, state: str, why: str, last_error: str | None = None) -> None:
        self._context.show(
            self._key,
            state,
            why,
            last_error=last_error,
            type=str(self.spec.__struct_config__.tag),
            version=self._version,
            documents=self._documents,
            from_copy=self._key.name in self._context.intake.restored,
            last_success=self._last_success,
            failures_in_a_row=self._failures if state == "failing" else 0,
        )

    def _count(self, result: str) -> None:
        self._context.metrics.counter(
            "config_fetches_total", "Answers of a source of configuration, and failures.", "source", "result"
        ).labels(self._key.name, result).inc()

    def _measure(self) -> None:
        """The age is counted on a clock that is not set: it is right also when somebody sets the other one."""
        self._context.metrics.gauge(
            "config_source_age_seconds", "Since what a source has was last found to be in force.", "source"
        ).labels(self._key.name).set_function(self._age)

    def _age(self) -> float:
        return float("nan") if self._accepted_at is None else self._clock() - self._accepted_at


def drop_metrics(context: Context, name: str) -> None:
    """Take out what was measured of a source that is gone."""
    for family in (
        "config_fetches_total",
        "config_source_last_success_timestamp_seconds",
        "config_source_age_seconds",
    ):
        context.metrics.drop(family, "source", name)
