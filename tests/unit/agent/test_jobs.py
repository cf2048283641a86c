"""Jobs: when they run, on a virtual clock; and what becomes of real commands."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
import pytest_asyncio
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper.config.load import parse
from watchkeeper.config.schema.jobs import JobSpec
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.config.store import Store
from watchkeeper.context import Context
from watchkeeper.errors import ConfigInvalidError
from watchkeeper.jobs.schedule import Do, Schedule
from watchkeeper.life.hooks import Rank
from watchkeeper.metrics import Metrics
from watchkeeper.reconcile import work
from watchkeeper.reconcilers.jobs import JobReconciler

KEY = Key(Kind.JOB, "backup")


def spec(**more: Any) -> JobSpec:
    return JobSpec(**({"command": ("true",), "every": 10.0} | more))


def simulate(
    job: JobSpec, durations: list[float], until: float, late: float = 0.0
) -> tuple[list[float], int]:
    """When runs begin, if they take so long and every look comes `late` seconds late; and the slots that were left out."""
    schedule, now, starts = Schedule(), 0.0, []
    schedule.plan(job, now, 0.0)
    end: float | None = None
    while now < until:
        if end is not None and now >= end:
            schedule.ended()
            end = None
        schedule.pass_over(now, 0.0)
        do, again = schedule.decide(True, now)
        if do is Do.START:
            starts.append(now)
            schedule.began(now, 0.0)
            end = now + durations[(len(starts) - 1) % len(durations)]
            continue
        left = [each for each in (again, None if end is None else end - now) if each is not None]
        now += max(0.001, min(left)) + late
    return starts, schedule.skipped


def test_slots_do_not_move() -> None:
    """J1, J2: what a run takes moves no slot; a run that is too long costs the slots that come meanwhile."""
    assert simulate(spec(at_start=True), [3.0], 45) == ([0, 10, 20, 30, 40], 0)
    assert simulate(spec(), [3.0], 45) == ([10, 20, 30, 40], 0)
    starts, skipped = simulate(spec(at_start=True), [25.0], 95)
    assert [round(start) for start in starts] == [0, 30, 60, 90]
    assert skipped == 6


@given(
    every=st.floats(0.1, 100),
    durations=st.lists(st.floats(0.0, 250), min_size=1, max_size=5),
    late=st.floats(0, 30),
)
def test_runs_never_meet_and_stay_on_their_slots(every: float, durations: list[float], late: float) -> None:
    """J1, J2, however long runs take and however late the looks come: no two at once, no burst to catch up."""
    job = spec(every=every, at_start=True, timeout=1e6)
    starts, _ = simulate(job, durations, every * 12 + late * 3, late)
    for number, (one, other) in enumerate(itertools.pairwise(starts)):
        assert other >= one + durations[number % len(durations)] - 0.01
        assert (
            int((other + 0.01) // every) > int((one - late - 0.01) // every)
            or other - one >= every - late - 0.01
        )


def test_a_definition_that_changes() -> None:
    """J5: the new one has its own slots; the run under way keeps its own timeout."""
    schedule = Schedule()
    schedule.plan(spec(at_start=True, timeout=5), 0, 0)
    schedule.began(0, 0)
    schedule.plan(spec(every=100, timeout=50, at_start=True), 1, 0)
    schedule.pass_over(1, 0)
    assert schedule.decide(True, 2)[0] is Do.NOTHING
    assert schedule.decide(True, 5) == (Do.STOP, 10.0)
    schedule.stop_at = 5
    assert schedule.decide(True, 14.9)[0] is Do.NOTHING
    assert schedule.decide(True, 15) == (Do.KILL, None)
    schedule.ended()
    assert schedule.decide(True, 16) == (Do.NOTHING, 85)
    assert schedule.decide(False, 16) == (Do.FORGET, None)


def test_the_jitter_is_a_delay() -> None:
    """J3."""
    schedule = Schedule()
    schedule.plan(spec(at_start=True, jitter=4), 100, 0.5)
    assert schedule.decide(True, 101) == (Do.NOTHING, 1)
    assert schedule.decide(True, 102)[0] is Do.START
    schedule.began(102, 0.25)
    assert (schedule.slot, schedule.due) == (110, 111)


@pytest.mark.parametrize(
    ("job", "path"),
    [
        ("{command: [a], every: 10s, jitter: 10s}", "jitter"),
        ("{command: [a], every: 10s, success: []}", "success"),
        ("{command: [], every: 10s}", "command"),
        ("{command: [a]}", "every"),
        ("{command: [a], every: 1ms}", "every"),
        ("{command: [a], every: 10s, environment: {'a=b': c}}", "environment"),
    ],
)
def test_jobs_that_make_no_sense(job: str, path: str) -> None:
    """Each mistake is named with its place."""
    with pytest.raises(ConfigInvalidError) as caught:
        parse(f"jobs: {{x: {job}}}".encode(), file="a.yaml")
    [problem] = caught.value.problems
    assert path in problem


# -- real commands ---------------------------------------------------------------------------------------------------------------


class Core:
    """A queue, a worker and the reconciler; commands are real, and so is the clock."""

    def __init__(self) -> None:
        self.context = Context(Store(), Metrics(), chance=lambda: 0.0)
        jobs = JobReconciler(self.context)
        context = self.context
        self.worker = asyncio.create_task(
            work(context.queue, {Kind.JOB: jobs}, context.metrics, lambda _key: None)  # type: ignore[dict-item]
        )

    def load(self, **jobs: dict[str, Any]) -> None:
        for key in self.context.store.apply(parse(json.dumps({"jobs": jobs}).encode(), file="a.json")):
            self.context.add(key)

    async def until(self, condition: Callable[[], Any]) -> None:
        async with asyncio.timeout(30):
            while not condition():  # noqa: ASYNC110 - several things tell, and no single one
                await asyncio.sleep(0.01)

    def count(self, result: str) -> float:
        labels = {"name": "backup", "result": result}
        return self.context.metrics.registry.get_sample_value("watchkeeper_job_runs_total", labels) or 0.0

    @property
    def record(self) -> Any:
        return self.context.observed.objects.get(KEY)


@pytest_asyncio.fixture
async def core() -> AsyncIterator[Core]:
    made = Core()
    yield made
    made.context.observed.draining = True
    assert await made.context.hooks.run(asyncio.get_running_loop().time() + 30, frozenset({Rank.WORK})) == []
    made.context.queue.shut_down()
    await made.worker
    await made.context.hooks.run(asyncio.get_running_loop().time() + 30)  # the warden's


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.asyncio
async def test_runs_are_told_apart(core: Core) -> None:
    """A run that goes well, one that does not, and one that cannot be started: state, metric, event."""
    core.load(backup={"command": python("pass"), "every": "100ms", "at_start": True})
    await core.until(lambda: core.count("success") >= 2)
    assert core.record.state in ("waiting", "running")
    core.load(backup={"command": python("raise SystemExit(3)"), "every": "100ms", "at_start": True})
    await core.until(lambda: core.count("failure") >= 2)
    await core.until(lambda: core.record.state == "failing")
    assert core.record.last_error == "exit status 3"
    core.load(backup={"command": ["/nonexistent"], "every": "100ms", "at_start": True})
    await core.until(lambda: core.count("unstartable") >= 2)
    assert "/nonexistent is not there" in core.record.why
    core.load(
        backup={"command": python("raise SystemExit(3)"), "every": "100ms", "at_start": True, "success": [3]}
    )
    good = core.count("success")
    await core.until(lambda: core.count("success") > good)
    assert {event.what for event in core.context.events.of(KEY)} >= {"success", "failure", "unstartable"}


@pytest.mark.asyncio
async def test_a_run_that_takes_too_long(core: Core) -> None:
    """J4: asked, then killed with its whole group; the slots that came meanwhile were left out."""
    deaf = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork(); time.sleep(600)"
    )
    core.load(
        backup={
            "command": python(deaf), "every": "200ms", "at_start": True, "timeout": "1s", "grace": "100ms",
        }
    )  # fmt: skip
    await core.until(lambda: core.count("failure") >= 1)
    assert core.context.observed.objects[KEY].details["skipped"] >= 3
    assert next(event.why for event in core.context.events.of(KEY) if event.what == "failure") == (
        "it took longer than its timeout"
    )


@pytest.mark.asyncio
async def test_a_job_that_is_taken_out_leaves_nothing(core: Core) -> None:
    """J5: its run is ended, its series and its state go."""
    core.load(backup={"command": python("import time; time.sleep(600)"), "every": "1h", "at_start": True})
    await core.until(lambda: core.record is not None and core.record.state == "running")
    core.load()
    await core.until(lambda: core.record is None)
    assert core.count("failure") == 0.0
    assert (
        core.context.metrics.registry.get_sample_value(
            "watchkeeper_job_last_duration_seconds", {"name": "backup"}
        )
        is None
    )
