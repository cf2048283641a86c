"""Events on disk: what happened before this start is still known after a crash, a kill or an update.

Rules:
    E1  Events are appended to STATE_DIR/events.ndjson, one JSON object a line, by a thread of their own: whoever notes one waits
        for no disk. Each is on its way within FLUSH_INTERVAL; at the end of the agent all are written.
    E2  The file is rotated at SIZE_LIMIT; one older file stays. What both hold is what a start reads.
    E3  A line that cannot be read (the last one, after a crash) is passed over.
    E4  Numbers go on where the earlier agent ended, so that nobody who follows them sees one twice.
    E5  Secrets are not written.
"""

from __future__ import annotations

import asyncio
import pathlib
from collections.abc import Iterator

import msgspec

from watchkeeper import redact
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.context import Context
from watchkeeper.events import Event
from watchkeeper.life.hooks import Rank
from watchkeeper.outputs.sinks.file import FileSink
from watchkeeper.outputs.writer import Writer

NAME = "events.ndjson"
SIZE_LIMIT = 2 * 1024 * 1024
FLUSH_INTERVAL = 0.1
CAPACITY = 10_000
CLOSE_LIMIT = 1.0


class Line(msgspec.Struct, frozen=True):
    """One event as it is written; `at` is seconds since the epoch."""

    number: int
    at: float
    kind: str
    name: str
    what: str
    why: str = ""


def begin(context: Context) -> Writer | None:
    """Restore what there is, and write what comes; None: there is no state directory."""
    folder = context.store.state_dir
    if folder is None:
        return None
    path = folder / NAME
    context.events.restore(read(path))
    sink = FileSink(path, max_bytes=SIZE_LIMIT, keep=1, mode=0o600)
    writer = Writer("events", sink, capacity=CAPACITY, interval=FLUSH_INTERVAL)
    context.events.subscribe(lambda event: _write(writer, event))

    async def end() -> None:
        await asyncio.to_thread(writer.close, CLOSE_LIMIT)

    context.hooks.add(Rank.EXPORT, "the log of events", end, CLOSE_LIMIT + 0.5)
    return writer


def read(path: pathlib.Path) -> Iterator[Event]:
    """The events of a file and of the one before it, oldest first (E2, E3)."""
    decode = msgspec.json.Decoder(Line).decode
    for place in (path.with_name(f"{path.name}.1"), path):
        try:
            lines = place.read_bytes().splitlines()
        except OSError:
            continue
        for line in lines:
            try:
                found = decode(line)
                key = Key(Kind(found.kind), found.name)
            except (msgspec.MsgspecError, ValueError):
                continue
            yield Event(found.number, found.at, key, found.what, found.why)


def _write(writer: Writer, event: Event) -> None:
    line = Line(
        event.number, event.at, event.key.kind.value, event.key.name, event.what, redact.text(event.why)
    )  # E5
    writer.write(msgspec.json.encode(line))
