"""When checks look, and what is made of what they saw: the reconciler and the queue are real, the clock is not."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any

import pytest

from support.agent_world import World
from watchkeeper.checks import Outcome, Word
from watchkeeper.checks.gate import Verdict
from watchkeeper.config.model import AnyCheck, Role
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.errors import ErrorClass
from watchkeeper.reconcilers import checks

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

GOOD = Outcome(True, "fine", word=Word.OK)
BAD = Outcome(False, "broken", ErrorClass.CHECK_FAILED, word=Word.BAD_STATUS)


def sequence(*outcomes: Outcome, then: Outcome = GOOD) -> Any:
    """These, one after the other, and then always the last."""
    left = list(outcomes)

    async def look(_spec: AnyCheck) -> Outcome:
        return left.pop(0) if left else then

    return look


async def test_a_young_agent_spreads_its_first_looks() -> None:
    """C2: while the agent is younger than the period, a random part of it is waited; a given splay counts instead."""
    world = World(sequence(), fresh=True)
    world.load(
        "checks: {a: {type: tcp, address: 'x:1', period: 10}, b: {type: tcp, address: 'x:1', period: 10, splay: 0}, "
        "c: {type: tcp, address: 'x:1', period: 10, splay: 4, initial_delay: 1}}"
    )
    await asyncio.sleep(26)
    assert (world.times("a"), world.times("b"), world.times("c")) == ([5, 15, 25], [0, 10, 20], [3, 13, 23])


async def test_later_checks_begin_at_once() -> None:
    """C2: a check that is added once the agent is older than the period waits for nothing."""
    world = World(sequence(), fresh=True)
    await asyncio.sleep(30)
    world.load(
        "checks: {a: {type: tcp, address: 'x:1', period: 10}, b: {type: tcp, address: 'x:1', period: 100}}"
    )
    await asyncio.sleep(60)
    assert world.times("a")[:2] == [30, 40]
    assert world.times("b") == [80]


async def test_the_first_checks_of_an_old_agent_begin_at_once() -> None:
    """C2: it is the agent that has to be young. The reconciler is made with the first check, which a reload may bring."""
    world = World(sequence())
    await asyncio.sleep(100)
    reconciler = checks.CheckReconciler(world.context, world._look)
    world.load("checks: {a: {type: tcp, address: 'x:1', period: 60}}")
    await reconciler.reconcile(Key(Kind.CHECK, "a"))
    await asyncio.sleep(1)
    assert world.times("a")[0] == 100


async def test_threads_follow_their_setting() -> None:
    """A reload that changes nothing else is enough."""
    world = World(sequence())
    world.load("{agent: {check_threads: 7}, checks: {a: {type: tcp, address: 'x:1', period: 1}}}")
    await asyncio.sleep(1.5)
    before = checks.THREADS.limit
    world.load("{agent: {check_threads: 64}, checks: {a: {type: tcp, address: 'x:1', period: 1}}}")
    await asyncio.sleep(1.5)
    assert (before, checks.THREADS.limit) == (7, 64)


async def test_a_thousand_checks_do_not_begin_together() -> None:
    """Their looks are spread over the period, and stay so."""
    world = World(sequence(), fresh=True)
    world.checks._chance = random.Random(7).random
    world.load(
        "checks: {" + ", ".join(f"c{n}: {{type: tcp, address: 'x:1', period: 5}}" for n in range(1000)) + "}"
    )
    await asyncio.sleep(14.9)
    assert len(world.looks) > 2900
    per_slot = [0] * 150
    for when, _ in world.looks:
        per_slot[int(when * 10)] += 1
    assert max(per_slot) < 50  # a tenth of a second has 20 on average


async def test_a_check_that_is_gone_comes_back_no_more() -> None:
    """The time of its next look, an hour away, goes with it: names may come and go by the thousand."""
    world = World(sequence())
    world.load(
        "checks: {" + ", ".join(f"c{n}: {{type: tcp, address: 'x:1', period: 3600}}" for n in range(50)) + "}"
    )
    await asyncio.sleep(1)
    assert world.context.queue.later == 50
    world.load("checks: {c7: {type: tcp, address: 'x:1', period: 3600}}")
    await asyncio.sleep(1)
    assert world.context.queue.later == 1


async def test_jitter_moves_no_slot() -> None:
    """C3: each look is late by its share, and the next slot is counted from the slot."""
    world = World(sequence())
    world.load("checks: {a: {type: tcp, address: 'x:1', period: 10, jitter: 0.4}}")
    await asyncio.sleep(45)
    # Chance is 0.5 here; the first look has its splay instead.
    assert world.times("a") == [0, 12, 22, 32, 42]


async def test_words_and_levels_in_metrics() -> None:
    """Each look is counted under its word; the last one's level and duration are there; the histogram is by type."""
    warning = Outcome(True, "soon", word=Word.WARNING)
    gone = Outcome(False, "refused", ErrorClass.CHECK_FAILED, word=Word.UNREACHABLE)
    world = World(sequence(GOOD, warning, BAD, gone, Outcome(None, "bug"), then=warning))
    world.load("checks: {a: {type: tcp, address: 'x:1', period: 1}}")
    await asyncio.sleep(5.5)
    counted = {word: world.series("check_runs_total", check="a", outcome=word) for word in Word}
    assert counted == {
        Word.OK: 1, Word.WARNING: 2, Word.BAD_STATUS: 1, Word.UNREACHABLE: 1, Word.ERROR: 1, Word.FAILED: None,
    }  # fmt: skip
    assert world.series("check_level", check="a") == 1
    assert world.series("check_last_duration_seconds", check="a") == 0
    assert world.series("check_duration_seconds_count", type="tcp") == 6
    assert world.series("check_lateness_seconds_count") == 6
    # A warning is a success for the verdict.
    assert world.verdict("a") is Verdict.SUCCESS
    world.load("{}")
    await asyncio.sleep(1)
    for name in ("check_level", "check_success", "check_last_duration_seconds"):
        assert world.series(name, check="a") is None


async def test_more_checks_than_a_metric_may_have_series() -> None:
    """Names of the configuration are not cut off by the limit on series: it bounds them itself."""
    world = World(sequence())
    world.metrics.limits.series = 3
    names = [f"c{n}" for n in range(20)]
    world.load("checks: {" + ", ".join(f"{name}: {{type: tcp, address: 'x:1'}}" for name in names) + "}")
    await asyncio.sleep(1)
    assert [world.series("check_runs_total", check=name, outcome="ok") for name in names] == [1] * 20
    assert world.series("metrics_overflow_total", metric="watchkeeper_check_runs_total") is None


@pytest.fixture
def lines() -> Iterator[list[tuple[str, str, dict[str, Any]]]]:
    """Level, message and fields of what the checks log."""
    kept: list[tuple[str, str, dict[str, Any]]] = []

    class Keeper:
        def __getattr__(self, level: str) -> Any:
            return lambda message, **fields: kept.append((level, message, fields))

    original, checks.journal = checks.journal, Keeper()  # type: ignore[assignment]
    yield kept
    checks.journal = original


async def test_action_log(lines: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Seed row 6: every look is a line, with ok, bad_status or unreachable; nothing else follows from it."""
    gone = Outcome(False, "refused", ErrorClass.CHECK_FAILED, word=Word.UNREACHABLE)
    world = World(sequence(GOOD, BAD, gone))
    world.load("checks: {a: {type: tcp, address: 'x:1', period: 10, action: log}}")
    await asyncio.sleep(35)
    looks = [
        (level, fields["outcome"])
        for level, message, fields in lines
        if not message.startswith("check a is now")
    ]
    assert looks == [("info", "ok"), ("warning", "bad_status"), ("warning", "unreachable"), ("info", "ok")]
    assert all("latency_ms" in fields for _, message, fields in lines if message.startswith("check a: "))


async def test_action_none(lines: list[tuple[str, str, dict[str, Any]]]) -> None:
    """Only a change of the verdict is a line; single failures are for those who debug."""
    world = World(sequence(GOOD, BAD, GOOD, BAD, BAD, BAD))
    world.load("checks: {a: {type: tcp, address: 'x:1', period: 1, failure_threshold: 3}}")
    await asyncio.sleep(7.5)
    said = [(level, message) for level, message, _ in lines if level != "debug"]
    assert said == [
        ("info", "check a is now success"),
        ("warning", "check a is now failure"),
        ("info", "check a is now success"),
    ]
    assert [level for level, _, _ in lines].count("debug") == 3
    events = [(event.what, event.why) for event in world.context.events.of(Key(Kind.CHECK, "a"))]
    assert events == [("success", "fine"), ("failure", "broken"), ("success", "fine")]


async def test_the_probe_s_memory_lasts_as_long_as_the_definition() -> None:
    """It is kept from look to look, over a reload that does not touch the check, and not over one that does."""
    world = World(sequence())
    seen: list[int] = []

    async def look(_spec: AnyCheck, memory: dict[str, Any]) -> Outcome:
        memory["n"] = memory.get("n", 0) + 1
        seen.append(memory["n"])
        return GOOD

    world.checks._look = look
    world.load("checks: {a: {type: tcp, address: 'x:1', period: 10}}")
    await asyncio.sleep(15)
    world.load(
        "checks: {a: {type: tcp, address: 'x:1', period: 10}, b: {type: tcp, address: 'x:2', initial_delay: 99}}"
    )
    await asyncio.sleep(10)
    world.load("checks: {a: {type: tcp, address: 'x:3', period: 10}}")
    await asyncio.sleep(1)
    assert seen == [1, 2, 3, 1]


async def test_a_removed_check_ends_its_look() -> None:
    """Nothing of it runs on, and what it would have said is not counted."""
    ended = asyncio.Event()

    async def look(_spec: AnyCheck) -> Outcome:
        try:
            await asyncio.sleep(100)
        finally:
            ended.set()
        return GOOD

    world = World(look)
    world.load("checks: {a: {type: tcp, address: 'x:1'}}")
    await asyncio.sleep(1)
    world.load("{}")
    await asyncio.sleep(1)
    assert ended.is_set()
    assert world.observed.checks == {}
    assert world.series("check_runs_total", check="a", outcome="ok") is None


async def test_the_checks_of_a_service_are_found_once() -> None:
    """Whether a service has started is asked at every look: one pass over everybody's checks does for all of these."""
    world = World(sequence())
    world.load(
        "checks: {a: {type: tcp, address: 'x:1'}}\nservices: {"
        + ", ".join(
            f"s{n}: {{command: [app], checks: {{up: {{type: tcp, address: 'x:1', role: startup}}}}}}"
            for n in range(50)
        )
        + "}"
    )
    snapshot = world.store.snapshot
    assert [list(snapshot.checks_of(f"s{n}")) for n in range(50)] == [[f"s{n}/up"] for n in range(50)]
    assert snapshot.checks_of("s1", Role.LIVENESS) == snapshot.checks_of("none") == {}
    assert snapshot._checks_by_service is snapshot._checks_by_service
