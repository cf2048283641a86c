"""Sources of configuration: what is in force when several deliver, and what a feed does when one does not."""

# ruff: noqa: ASYNC240 - nobody else waits for the loop of a test

from __future__ import annotations

import asyncio
import functools
import itertools
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from watchkeeper.config.copies import SOURCE, Copies
from watchkeeper.config.fragments import Fetched, Fragment
from watchkeeper.config.intake import in_order, origin_of
from watchkeeper.config.load import parse
from watchkeeper.config.snapshot import Key, Kind, Snapshot
from watchkeeper.config.sources import SOURCES, SourceError
from watchkeeper.config.store import Store
from watchkeeper.context import Context
from watchkeeper.errors import AgentError, ConfigInvalidError
from watchkeeper.metrics import Metrics
from watchkeeper.reconcile import work
from watchkeeper.reconcilers.sources import SourceReconciler

pytestmark = pytest.mark.asyncio


def documents(*texts: str) -> tuple[Fragment, ...]:
    return tuple(Fragment(f"doc{number}", text.encode(), ".yaml") for number, text in enumerate(texts))


def tcp(*names: str, port: int = 1) -> str:
    return "checks: {" + ", ".join(f"{name}: {{type: tcp, address: 'h:{port}'}}" for name in names) + "}"


def base(*sources: str, extra: str = "", **options: Any) -> str:
    """A file with so many file sources; nothing reads them here."""
    rows = [f"{name}: {{type: file, path: /nowhere/{name}, {options.get(name, '')}}}" for name in sources]
    return f"sources: {{{', '.join(rows)}}}\n{extra}\n"


class World:
    """An agent's intake, without feeds."""

    def __init__(self, state: Path | None = None) -> None:
        self.context = Context(Store(str(state) if state else None), Metrics(), chance=lambda: 0.5)
        self.intake, self.store = self.context.intake, self.context.store

    async def take(self, text: str) -> list[Key]:
        return await self.intake.take(parse(text.encode(), file="agent.yaml"))

    async def offer(self, name: str, *texts: str) -> bool:
        spec = self.store.snapshot.config.sources[name]
        return await self.intake.offer(name, documents(*texts), origin_of(spec))

    @property
    def checks(self) -> dict[str, int]:
        """Name and port of every check."""
        return {
            name: int(bound.spec.address.rpartition(":")[2])
            for name, bound in self.store.snapshot.checks.items()
        }


async def test_a_later_source_wins_by_name() -> None:
    """By precedence, then by the source's own name; the file is below all of them."""
    world = World()
    await world.take(base("a", "b", "c", extra=tcp("own", "x"), a="precedence: 5"))
    assert in_order(parse(base("a", "b", "c", a="precedence: 5").encode(), file="f.yaml")) == ["b", "c", "a"]
    for name, port in (("a", 10), ("c", 30), ("b", 20)):
        assert await world.offer(name, tcp("x", name, port=port))
    assert world.checks == {"own": 1, "x": 10, "a": 10, "b": 20, "c": 30}
    assert await world.offer("a", "{}")
    assert world.checks == {"own": 1, "x": 30, "b": 20, "c": 30}
    assert not await world.offer("a", "{}")
    assert world.store.snapshot.generation == 5


async def test_only_what_changed_is_queued() -> None:
    """What a source delivers touches the keys that it changes and no other."""
    world = World()
    await world.take(base("a", extra=tcp("own")))
    added: list[str] = []
    world.context.intake._add = lambda key: added.append(str(key))
    await world.offer("a", tcp("one", "two"))
    await world.offer("a", tcp("one", "three"))
    assert added == ["check/one", "check/two", "check/three", "check/two"]


async def test_a_wrong_delivery_keeps_the_last_good_one() -> None:
    """I1: of that source alone; the others go on, and the next good one counts."""
    world = World()
    await world.take(base("a", "b"))
    await world.offer("a", tcp("one"))
    with pytest.raises(ConfigInvalidError, match=r"doc0:1:36: checks\.one\.address"):
        await world.offer("a", "checks: {one: {type: tcp, address: 5}}")
    await world.offer("b", tcp("two"))
    assert world.checks == {"one": 1, "two": 1}
    await world.offer("a", tcp("three"))
    assert world.checks == {"three": 1, "two": 1}


async def test_the_file_changes_below_its_sources() -> None:
    """What sources have delivered stays over the new file; a source that is taken out takes its own with it (I4)."""
    world = World()
    await world.take(base("a", "b", extra=tcp("own")))
    await world.offer("a", tcp("one", port=2))
    await world.offer("b", tcp("two", port=3))
    changed = await world.take(base("a", extra=tcp("own", "one", port=9)))
    assert world.checks == {"own": 9, "one": 2}
    assert {str(key) for key in changed} == {"source/b", "check/own", "check/two"}


async def test_a_file_that_does_not_fit_is_refused() -> None:
    """A new file that takes from a source what it needs to hold does not come into force."""
    world = World()
    await world.take(base("a", extra=tcp("own")))
    await world.offer("a", tcp("one"))
    with pytest.raises(ConfigInvalidError, match="this one may deliver jobs"):
        await world.take(base("a", a="sections: [jobs]"))
    assert world.checks == {"own": 1, "one": 1}


async def test_the_order_of_answers_does_not_matter() -> None:
    """I2: what could not hold before something else was there is tried again, and counts."""
    for order in itertools.permutations(["file", "a", "b"]):
        world = World()
        await world.take(base("a", "b", a="sections: [jobs]", b="sections: [jobs]"))
        told: list[str] = []
        for name in ("a", "b"):
            world.intake.on_accepted[name] = functools.partial(told.append, name)
        for step in order:
            try:
                if step == "file":
                    await world.take(base("a", "b"))
                else:
                    await world.offer(step, tcp(step))
            except AgentError:
                continue
        assert world.checks == {"a": 1, "b": 1}
        assert sorted(told) == sorted(order[: order.index("file")])


async def test_of_a_source_that_has_moved_nothing_is_taken() -> None:
    """An answer from the old address that comes late is not one of the new address; nor of a source that is gone."""
    world = World()
    await world.take(base("a"))
    old = origin_of(world.store.snapshot.config.sources["a"])
    await world.take("sources: {a: {type: file, path: /elsewhere}}")
    assert not await world.intake.offer("a", documents(tcp("one")), old)
    await world.take("{}")
    assert not await world.intake.offer("a", documents(tcp("one")), old)
    assert world.checks == {}


async def test_copies_are_in_force_at_the_start(tmp_path: Path) -> None:
    """I3: an agent that starts anew goes on with what each source had, before any of them answers."""
    world = World(tmp_path)
    await world.take(base("a", "b"))
    await world.offer("a", tcp("one"))
    await world.offer("b", tcp("two"))
    again = World(tmp_path)
    changed = await again.take(base("a", "b"))
    assert again.checks == {"one": 1, "two": 1}
    assert "check/one" in map(str, changed)
    assert again.intake.restored == {"a", "b"}
    assert not await again.offer("a", tcp("one"))
    assert again.intake.restored == {"b"}


async def test_copies_that_are_not_used(tmp_path: Path) -> None:
    """Those of another address, damaged ones, and those that no longer hold; the rest is used all the same."""
    world = World(tmp_path)
    await world.take(base("a", "b", "c", "d"))
    for name in "abcd":
        await world.offer(name, tcp(name))
    (tmp_path / "source.b.json").write_text("{")
    again = World(tmp_path)
    await again.take(
        "sources: {a: {type: file, path: /elsewhere}, b: {type: file, path: /nowhere/b},"
        " c: {type: file, path: /nowhere/c, sections: [jobs]}, d: {type: file, path: /nowhere/d, precedence: 3}}"
    )
    assert again.checks == {"d": 1}


async def test_copies_of_sources_that_are_gone_are_taken_away(tmp_path: Path) -> None:
    """I4: also of those that were taken out while the agent did not run."""
    world = World(tmp_path)
    await world.take(base("a", "b"))
    await world.offer("a", tcp("one"))
    await world.offer("b", tcp("two"))
    await World(tmp_path).take(base("b"))
    assert sorted(file.name for file in tmp_path.iterdir()) == ["last-good.json", "source.b.json"]


async def test_a_full_disk_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is delivered comes into force, the failure is counted, nothing half-written is left, and the copy is made later."""
    world = World(tmp_path)
    await world.take(base("a"))
    real = os.fsync

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    await world.offer("a", tcp("one"))
    assert world.checks == {"one": 1}
    errors = world.context.metrics.registry.get_sample_value(
        "watchkeeper_errors_total", {"error_class": "STATE_UNUSABLE"}
    )
    assert errors == 1
    assert [file.name for file in tmp_path.iterdir()] == ["last-good.json"]
    monkeypatch.setattr(os, "fsync", real)
    assert not await world.offer("a", tcp("one"))
    assert Copies(tmp_path).load(SOURCE + "a", lambda _origin: True) == documents(tcp("one"))


async def test_subscribers_are_called_in_order() -> None:
    """After the swap, in the order in which they subscribed, before any key is queued; one that raises stops nothing."""
    world = World()
    heard: list[str] = []

    def hear(name: str) -> Callable[[Snapshot, Snapshot], None]:
        def subscriber(old: Snapshot, new: Snapshot) -> None:
            heard.append(f"{name} {old.generation}>{new.generation}")
            assert world.store.snapshot is new
            if name == "two":
                raise RuntimeError("no")

        return subscriber

    for name in ("one", "two", "three"):
        world.store.subscribe(hear(name))
    world.intake._add = lambda key: heard.append(str(key))
    await world.take(base("a"))
    await world.offer("a", tcp("x"))
    assert heard == ["one 0>1", "two 0>1", "three 0>1", "one 1>2", "two 1>2", "three 1>2", "check/x"]


async def test_deliveries_at_the_same_time() -> None:
    """I5: many sources at once, and the file as well; each counts, and every snapshot is whole."""
    world = World()
    names = [f"s{number}" for number in range(20)]
    await world.take(base(*names))
    await asyncio.gather(
        *(world.offer(name, tcp(name, f"{name}x")) for name in names),
        world.take(base(*names, extra=tcp("own"))),
    )
    assert len(world.checks) == 41


async def test_a_secret_that_changes_behind_its_reference(tmp_path: Path) -> None:
    """The same text, another secret: the keys that use it have changed."""
    file = tmp_path / "token"
    file.write_text("first-secret")
    text = f"checks: {{c: {{type: http, url: 'http://h/', bearer_token: '${{file:{file}}}'}}}}"
    world = World()
    await world.take(text)
    assert world.intake.files == {str(file)}
    assert await world.take(text) == []
    file.write_text("second-secret")
    assert [str(key) for key in await world.take(text)] == ["check/c"]


# --- feeds ------------------------------------------------------------------------------------------------------------


class Scripted:
    """A source that says what a script says: a text is a document, an exception is raised, a number is a wait."""

    def __init__(self, script: Callable[[int], Awaitable[Any]]) -> None:
        self.script, self.calls, self.closed = script, 0, 0
        self.times: list[float] = []

    async def fetch(self) -> Fetched:
        return await self._say()

    async def watch(self) -> Fetched:
        return await self._say()

    async def _say(self) -> Fetched:
        self.times.append(asyncio.get_running_loop().time())
        self.calls += 1
        said = await self.script(self.calls)
        if isinstance(said, Exception):
            raise said
        return Fetched(documents(said), f"v{self.calls}")

    async def close(self) -> None:
        self.closed += 1


class Fed(World):
    """A world whose one source `s` is scripted."""

    async def start(
        self, script: Callable[[int], Awaitable[Any]], monkeypatch: pytest.MonkeyPatch
    ) -> Scripted:
        source = Scripted(script)
        for spec in list(SOURCES):
            monkeypatch.setitem(SOURCES, spec, lambda _spec, _http: source)
        # A virtual clock does not wait for threads.
        monkeypatch.setattr(asyncio, "to_thread", at_once)
        await self.take(base("s"))
        self.reconciler = SourceReconciler(self.context)
        asyncio.create_task(  # noqa: RUF006 - it ends with the loop of the test
            work(self.context.queue, {Kind.SOURCE: self.reconciler}, self.context.metrics, lambda _key: None)
        )
        self.context.add(Key(Kind.SOURCE, "s"))
        return source

    @property
    def record(self) -> Any:
        return self.context.observed.objects[Key(Kind.SOURCE, "s")]

    def fetches(self, result: str) -> float:
        found = self.context.metrics.registry.get_sample_value(
            "watchkeeper_config_fetches_total", {"source": "s", "result": result}
        )
        return found or 0.0


async def at_once(function: Callable[..., Any], *arguments: Any) -> Any:
    return function(*arguments)


async def forever() -> Any:
    await asyncio.Event().wait()


@pytest.mark.looptime
async def test_a_source_that_does_not_answer_is_asked_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    """R2: 0.8 s doubled up to 30 s, half of it added by this test's chance; its state says so, and what it had stays."""
    world = Fed()

    async def script(call: int) -> Any:
        return tcp("one") if call == 1 else SourceError("it is gone")

    source = await world.start(script, monkeypatch)
    await asyncio.sleep(200)
    gaps = [round(later - earlier, 3) for earlier, later in itertools.pairwise(source.times)]
    assert gaps[:8] == [0.2, 1.2, 2.4, 4.8, 9.6, 19.2, 38.4, 45.0]
    assert (world.record.state, world.record.last_error) == ("failing", "it is gone")
    assert world.checks == {"one": 1}
    assert world.fetches("error") == source.calls - 1
    age = world.context.metrics.registry.get_sample_value(
        "watchkeeper_config_source_age_seconds", {"source": "s"}
    )
    assert age == pytest.approx(200, abs=1)


@pytest.mark.looptime
async def test_two_minutes_without_an_error_forget_the_earlier_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """R2: the first delay again."""
    world = Fed()

    async def script(call: int) -> Any:
        if call == 5:
            await asyncio.sleep(130)
        return SourceError("no") if call != 5 else tcp("one")

    source = await world.start(script, monkeypatch)
    await asyncio.sleep(160)
    gaps = [round(later - earlier, 3) for earlier, later in itertools.pairwise(source.times)]
    assert gaps[:7] == [1.2, 2.4, 4.8, 9.6, 130.2, 1.2, 2.4]


@pytest.mark.looptime
async def test_a_source_may_name_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """R2: Retry-After is kept to when it is longer, up to five minutes."""
    world = Fed()
    waits = {1: 60.0, 2: 0.1, 3: 1e9}

    async def script(call: int) -> Any:
        return SourceError("busy", waits.get(call))

    source = await world.start(script, monkeypatch)
    await asyncio.sleep(400)
    gaps = [round(later - earlier, 3) for earlier, later in itertools.pairwise(source.times)]
    assert gaps[:3] == [60.0, 2.4, 300.0]


@pytest.mark.looptime
async def test_a_source_that_says_nonsense(monkeypatch: pytest.MonkeyPatch) -> None:
    """R5: refused; what it had before stays in force, and the next good answer counts."""
    world = Fed()
    script = said(tcp("one"), "checks: [", "checks: {one: {type: tcp}}", tcp("two"))
    await world.start(script, monkeypatch)
    states = []
    for _ in range(4):
        await asyncio.sleep(1)
        states.append((world.record.state, list(world.checks)))
    assert states == [
        ("active", ["one"]),
        ("refused", ["one"]),
        ("refused", ["one"]),
        ("active", ["two"]),
    ]
    assert (world.fetches("changed"), world.fetches("refused")) == (2, 2)
    assert 'doc0:1:10: checks.one: the key "address" is missing' in world.record.last_error


def said(*texts: str) -> Callable[[int], Awaitable[Any]]:
    """A new text every second, and then no more."""

    async def script(call: int) -> Any:
        if call > len(texts):
            await forever()
        await asyncio.sleep(0.8 if call > 1 else 0.1)
        return texts[call - 1]

    return script


@pytest.mark.looptime
async def test_a_source_that_changes_all_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """R3: five answers a second at most, and the last one counts."""
    world = Fed()

    async def script(call: int) -> Any:
        return tcp("last" if asyncio.get_running_loop().time() > 100 else f"c{call}")

    source = await world.start(script, monkeypatch)
    await asyncio.sleep(110)
    assert 500 <= source.calls <= 560
    assert list(world.checks) == ["last"]


@pytest.mark.looptime
async def test_an_order_to_look_ends_every_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    """R4: the wait for a change, and the wait after an error."""
    world = Fed()

    async def script(call: int) -> Any:
        if call == 2:
            await forever()
        return SourceError("no") if call == 3 else tcp(f"c{call}")

    source = await world.start(script, monkeypatch)
    await asyncio.sleep(1000)
    assert source.calls == 2
    world.intake.ask()
    await asyncio.sleep(0.01)
    assert (source.calls, world.record.state) == (3, "failing")
    world.intake.ask()
    await asyncio.sleep(0.01)
    assert list(world.checks) == ["c4"]


@pytest.mark.looptime
async def test_a_fetch_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that never answers is given up, and asked anew."""
    world = Fed()

    async def script(call: int) -> Any:
        if call == 1:
            await forever()
        return tcp("one")

    await world.start(script, monkeypatch)
    await asyncio.sleep(299)
    assert world.record.state == "starting"
    await asyncio.sleep(1.1)
    assert (world.record.state, world.record.last_error) == ("failing", "no answer in 300 s")
    await asyncio.sleep(2)
    assert list(world.checks) == ["one"]


async def test_what_was_refused_goes_with_its_source() -> None:
    """I4: another source of the same name, or another address, does not bring back what the earlier one had said."""
    for between in ("{}", "sources: {a: {type: file, path: /elsewhere, sections: [jobs]}}"):
        world = World()
        await world.take(base("a", a="sections: [jobs]"))
        with pytest.raises(AgentError):
            await world.offer("a", tcp("one"))
        await world.take(between)
        await world.take("sources: {a: {type: file, path: /elsewhere}}")
        assert world.checks == {}


@pytest.mark.looptime
async def test_feeds_begin_and_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source that is taken out is closed and forgotten; one whose precedence alone changes keeps its feed."""
    world = Fed()

    async def script(call: int) -> Any:
        if call > 1:
            await forever()
        return tcp("one")

    source = await world.start(script, monkeypatch)
    await asyncio.sleep(1)
    for text, closed in (
        (base("s", s="precedence: 3, sections: [checks]"), 0),
        ("sources: {s: {type: file, path: /elsewhere}}", 1),
        ("{}", 2),
    ):
        for key in await world.take(text):
            world.context.add(key)
        await asyncio.sleep(1)
        assert source.closed == closed
    assert Key(Kind.SOURCE, "s") not in world.context.observed.objects
    assert world.fetches("changed") == 0
    assert world.context.tasks.alive == 0


@pytest.mark.looptime
async def test_a_defect_of_a_source_is_not_the_agents_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody planned: the task is started again, and the source closed each time."""
    world = Fed()

    async def script(call: int) -> Any:
        if call < 4:
            raise ZeroDivisionError
        if call > 4:
            await forever()
        return tcp("one")

    source = await world.start(script, monkeypatch)
    await asyncio.sleep(60)
    assert (list(world.checks), source.closed) == (["one"], 3)
    assert world.record.state == "active"


@pytest.mark.looptime
async def test_a_feed_ends_whatever_it_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    """A watch that takes its time to end, after an order to look: a source that is taken out then is not asked again."""
    world = Fed()

    async def script(call: int) -> Any:
        if call == 2:
            try:
                await forever()
            finally:
                await asyncio.sleep(1)
        return tcp(f"c{call}")

    source = await world.start(script, monkeypatch)
    await asyncio.sleep(1)
    world.intake.ask()
    await asyncio.sleep(0.5)
    for key in await world.take("{}"):
        world.context.add(key)
    await asyncio.sleep(100)
    assert (source.calls, source.closed) == (2, 1)
