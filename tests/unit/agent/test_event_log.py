"""Events on disk: written behind, read at the next start."""

from __future__ import annotations

from pathlib import Path

import pytest

from watchkeeper import event_log, redact
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.config.store import Store
from watchkeeper.context import Context
from watchkeeper.life.hooks import Rank
from watchkeeper.metrics import Metrics

pytestmark = pytest.mark.asyncio
WEB, DB = Key(Kind.SERVICE, "web"), Key(Kind.SERVICE, "db")


def agent(folder: Path) -> Context:
    """What an agent has of events, with that state directory."""
    context = Context(Store(str(folder)), Metrics())
    event_log.begin(context)
    return context


async def end(context: Context) -> None:
    assert await context.hooks.run(float("inf"), frozenset({Rank.EXPORT})) == []


async def test_the_next_agent_knows_what_happened(tmp_path: Path) -> None:
    """E1, E4: everything that was noted is there after a restart, in order, and numbers go on."""
    first = agent(tmp_path)
    first.events.note(WEB, "running", "started")
    first.events.note(DB, "backoff", "exit status 3")
    first.events.note(WEB, "stopping", "größer")
    await end(first)
    second = agent(tmp_path)
    assert [(event.number, event.what, event.why) for event in second.events.of(WEB)] == [
        (1, "running", "started"),
        (3, "stopping", "größer"),
    ]
    second.events.note(WEB, "running")
    assert second.events.of(WEB)[-1].number == 4
    await end(second)
    third = agent(tmp_path)
    assert [event.number for event in third.events] == [1, 2, 3, 4]
    await end(third)


async def test_half_a_line_of_a_crash_is_passed_over(tmp_path: Path) -> None:
    """E3: and so is a kind that this version does not know."""
    before = agent(tmp_path)
    before.events.note(WEB, "running")
    await end(before)
    with (tmp_path / event_log.NAME).open("ab") as file:
        file.write(b'{"number":2,"at":1,"kind":"spaceship","name":"x","what":"up"}\n{"number":3,"at":1,"ki')
    after = agent(tmp_path)
    assert [event.number for event in after.events] == [1]
    after.events.note(WEB, "stopping")
    await end(after)
    assert [event.what for event in agent(tmp_path).events] == ["running", "stopping"]


async def test_the_file_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """E2: two files at most, each within the limit, and a start reads both."""
    monkeypatch.setattr(event_log, "SIZE_LIMIT", 1000)
    context = agent(tmp_path)
    for number in range(200):
        context.events.note(WEB, "running", f"number {number}")
        if number % 5 == 0:
            await end(context)
            context = agent(tmp_path)
    await end(context)
    files = list(tmp_path.glob(f"{event_log.NAME}*"))  # noqa: ASYNC240 - nothing else runs
    assert sorted(place.name for place in files) == ["events.ndjson", "events.ndjson.1"]
    assert all(place.stat().st_size <= 1000 for place in files)
    last = agent(tmp_path)
    kept = [event.number for event in last.events]
    assert kept == list(range(kept[0], 201))
    assert len(kept) > len((tmp_path / event_log.NAME).read_bytes().splitlines())
    await end(last)


async def test_without_a_state_directory_nothing_is_written() -> None:
    """Events are in memory then, and nowhere else."""
    context = Context(Store(None), Metrics())
    assert event_log.begin(context) is None
    context.events.note(WEB, "running")
    assert len(list(context.events)) == 1


async def test_no_secret_is_written(tmp_path: Path) -> None:
    """E5."""
    redact.add("hunter2")
    try:
        context = agent(tmp_path)
        context.events.note(WEB, "failed", "the password hunter2 is wrong")
        await end(context)
    finally:
        redact.forget()
    assert "hunter2" not in (tmp_path / event_log.NAME).read_text()
    assert (tmp_path / event_log.NAME).stat().st_mode & 0o077 == 0
