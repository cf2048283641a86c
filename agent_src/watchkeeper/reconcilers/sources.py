"""Sources of configuration: each that is wanted has a feed, and no other has one."""

from __future__ import annotations

import msgspec

from watchkeeper.config.feed import Feed, drop_metrics
from watchkeeper.config.schema.sources import Source
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.config.sources import SOURCES
from watchkeeper.context import Context
from watchkeeper.reconcile import Result


class SourceReconciler:
    """Starts and ends feeds."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._feeds: dict[str, Feed] = {}

    async def reconcile(self, key: Key) -> Result:
        """A feed runs for what is wanted; one whose address has changed ends, and another one begins."""
        spec: Source | None = self._context.snapshot.of(Kind.SOURCE).get(key.name)
        feed = self._feeds.get(key.name)
        if feed is not None and (spec is None or _address(feed.spec) != _address(spec)):
            self._end(key)
            feed = None
        if spec is None:
            self._context.forget(key)
            drop_metrics(self._context, key.name)
        elif feed is None:
            self._begin(key, spec)
        return Result()

    def _begin(self, key: Key, spec: Source) -> None:
        context, make = self._context, SOURCES[type(spec)]
        feed = self._feeds[key.name] = Feed(context, key, spec, lambda: make(spec, context.http))
        context.intake.on_ask[key.name] = feed.ask
        context.intake.on_accepted[key.name] = feed.accepted
        context.tasks.start(f"source {key.name}", feed.run)

    def _end(self, key: Key) -> None:
        del self._feeds[key.name]
        self._context.intake.on_ask.pop(key.name, None)
        self._context.intake.on_accepted.pop(key.name, None)
        self._context.tasks.cancel(f"source {key.name}")


def _address(spec: Source) -> Source:
    """What a feed depends on; the rest is the intake's business."""
    return msgspec.structs.replace(spec, precedence=0, sections=(), allow_references=True)
