"""Checks and services on a virtual clock: the reconcilers and the queue are real, probes and processes are not."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any

import pytest

from support.agent_world import FakeChild, Script, World
from watchkeeper.checks import Outcome
from watchkeeper.checks.gate import Verdict
from watchkeeper.config.model import AnyCheck
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.metrics import Metrics
from watchkeeper.queue import WorkQueue
from watchkeeper.reconcile import Result, work
from watchkeeper.reconcilers import services
from watchkeeper.supervise.child import SpawnError
from watchkeeper.supervise.lifecycle import State

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]

GOOD = Outcome(True, "fine")
BAD = Outcome(False, "broken")


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[FakeChild]:
    """The fake processes, in the order in which they were started."""
    FakeChild.made = []

    async def spawn(command: tuple[str, ...], *, on_exit: Callable[[Any], None], **_rest: Any) -> FakeChild:
        if command[0] == "missing":
            raise SpawnError("the program missing is not there")
        return FakeChild(on_exit, deaf=command[0] == "deaf")

    monkeypatch.setattr(services, "spawn", spawn)
    return FakeChild.made


def always(outcome: Outcome, seconds: float = 0.0) -> Script:
    async def look(_spec: AnyCheck) -> Outcome:
        await asyncio.sleep(seconds)
        return outcome

    return look


async def test_periods() -> None:
    """The first look after the initial delay and its share of the splay, then one per period, however long each takes."""
    world = World(always(GOOD, 0.4))
    world.load("checks: {c: {type: tcp, address: 'x:1', initial_delay: 3, splay: 4, period: 10}}")
    await asyncio.sleep(36)
    assert world.times("c") == [5, 15, 25, 35]


async def test_missed_slots_are_left_out() -> None:
    """A look that lasts longer than the period is followed by one look, not by all that were missed."""
    world = World(always(GOOD, 3.5))
    world.load("checks: {c: {type: tcp, address: 'x:1', period: 1, timeout: 10}}")
    await asyncio.sleep(11)
    assert world.times("c") == [0, 3.5, 7, 10.5]


async def test_a_hanging_check_touches_nothing_else() -> None:
    """One that never comes back occupies neither the worker nor another check."""

    async def look(spec: AnyCheck) -> Outcome:
        if spec.period == 7:
            await asyncio.Event().wait()
        return GOOD

    world = World(look)
    hanging = ", ".join(f"h{n}: {{type: tcp, address: 'x:1', period: 7}}" for n in range(50))
    world.load(f"checks: {{{hanging}, c: {{type: tcp, address: 'x:1', period: 1}}}}")
    await asyncio.sleep(5.5)
    assert world.times("c") == [0, 1, 2, 3, 4, 5]
    assert world.times("h0") == [0]


async def test_an_internal_error_changes_nothing() -> None:
    """G3, all the way: counted, and the verdict stays."""
    outcomes = [GOOD, Outcome(None, "bug"), Outcome(None, "bug")]

    async def look(_spec: AnyCheck) -> Outcome:
        return outcomes.pop(0) if outcomes else Outcome(None, "bug")

    world = World(look)
    world.load("checks: {c: {type: tcp, address: 'x:1', period: 1, failure_threshold: 1}}")
    await asyncio.sleep(4.5)
    assert world.verdict("c") is Verdict.SUCCESS
    assert world.series("check_runs_total", check="c", outcome="error") == 4
    assert world.series("check_success", check="c", role="readiness") == 1


SERVICE = """
services:
  app:
    command: [app]
    backoff: {initial: 1, maximum: 60, jitter: 0}
    checks:
      up: {type: tcp, role: startup, address: 'x:1', period: 1, failure_threshold: 4}
      alive: {type: tcp, role: liveness, address: 'x:2', period: 2, failure_threshold: 2}
      ready: {type: tcp, role: readiness, address: 'x:3', period: 2}
"""


async def test_startup_gates_the_others(spawned: list[FakeChild]) -> None:
    """Nothing else is checked until the startup check has passed; then it is not made again, and the service runs."""
    passing = False

    async def look(_spec: AnyCheck) -> Outcome:
        return GOOD if passing else BAD

    world = World(look)
    world.load(SERVICE)
    await asyncio.sleep(2.5)
    record = world.observed.services["app"]
    assert world.times("app/up") == [0, 1, 2]
    assert world.times("app/alive") == world.times("app/ready") == []
    assert record.state is State.STARTING
    passing = True
    await asyncio.sleep(4)
    assert world.times("app/up") == [0, 1, 2, 3]
    assert world.times("app/alive") == world.times("app/ready") == [3, 5]
    assert State(record.state.value) is State.RUNNING
    assert len(spawned) == 1


async def test_a_startup_failure_replaces_the_process(spawned: list[FakeChild]) -> None:
    """G4 and S5: on hold until the next instance, which begins anew after the backoff."""
    world = World(always(BAD))
    world.load(SERVICE)
    await asyncio.sleep(9.5)
    # Four looks, 0 to 3; stopped at 3; 1 s of backoff; a new instance at 4 with looks 4 to 7; 2 s of backoff; 9.
    assert world.times("app/up") == [0, 1, 2, 3, 4, 5, 6, 7, 9]
    assert [child.started_at for child in spawned] == [0, 4, 9]
    assert world.observed.services["app"].restarts == 2
    assert world.series("service_restarts_total", service="app") == 2


async def test_a_liveness_failure_replaces_the_process(spawned: list[FakeChild]) -> None:
    """Readiness restarts nothing, liveness does; the verdicts of the old instance do not count for the new."""
    broken: set[str] = set()

    async def look(spec: AnyCheck) -> Outcome:
        return BAD if spec.role in broken else GOOD

    world = World(look)
    world.load(SERVICE)
    await asyncio.sleep(1)
    broken.add("readiness")
    await asyncio.sleep(10)
    assert world.verdict("app/ready") is Verdict.FAILURE
    assert len(spawned) == 1
    broken.add("liveness")
    await asyncio.sleep(3.5)
    assert spawned[0].exit_code == -15
    assert world.observed.services["app"].why.startswith("check app/alive (liveness) failed: broken")
    broken.clear()
    await asyncio.sleep(5)
    assert len(spawned) == 2
    assert world.verdict("app/alive") is Verdict.SUCCESS
    assert world.observed.services["app"].state is State.RUNNING


async def test_what_was_seen_of_an_old_instance_is_dropped(spawned: list[FakeChild]) -> None:
    """A look that began before a restart and ends after it says nothing about the new process."""

    async def look(_spec: AnyCheck) -> Outcome:
        await asyncio.sleep(5)
        return BAD

    world = World(look)
    world.load(
        "services: {app: {command: [app], backoff: {initial: 1, jitter: 0}, checks: {alive: {type: tcp, "
        "role: liveness, address: 'x:1', timeout: 60, period: 1000, failure_threshold: 1}}}}"
    )
    await asyncio.sleep(3)
    spawned[0].end(-9)
    await asyncio.sleep(1.5)
    assert len(spawned) == 2
    await asyncio.sleep(1)
    assert world.verdict("app/alive") is Verdict.SUCCESS
    assert not world.observed.checks["app/alive"].gate.on_hold


async def test_reload_touches_only_what_changed(spawned: list[FakeChild]) -> None:
    """A check that is added, changed or removed does not restart its service; a service that is removed stops."""
    world = World(always(GOOD))
    world.load("services: {a: {command: [app]}, b: {command: [app]}}")
    await asyncio.sleep(1)
    world.load(
        "services: {a: {command: [app], checks: {c: {type: tcp, address: 'x:1'}}}, b: {command: [app]}}"
    )
    await asyncio.sleep(1)
    world.load("services: {a: {command: [app], checks: {c: {type: tcp, address: 'x:2'}}}}")
    await asyncio.sleep(1)
    assert [child.exit_code for child in spawned] == [None, -15]
    assert set(world.observed.services) == {"a"}
    assert world.series("service_state", service="b", state="running") is None
    world.load("services: {a: {command: [app]}}")
    await asyncio.sleep(1)
    assert world.observed.checks == {}
    assert world.series("check_runs_total", check="a/c", outcome="success") is None
    assert len(spawned) == 2


async def test_a_changed_service_starts_at_once(spawned: list[FakeChild]) -> None:
    """S4, through the queue: no backoff of the old definition holds up the new one."""
    world = World(always(GOOD))
    world.load("services: {a: {command: [missing], backoff: {initial: 600, maximum: 600}}}")
    await asyncio.sleep(700)
    assert spawned == []
    assert world.observed.services["a"].failures == 2
    world.load("services: {a: {command: [app], backoff: {initial: 1, jitter: 0}}}")
    await asyncio.sleep(0.1)
    assert [child.started_at for child in spawned] == [700]
    spawned[0].end(1)
    await asyncio.sleep(1.5)
    assert len(spawned) == 2


async def test_a_deaf_service_is_killed_after_its_grace(spawned: list[FakeChild]) -> None:
    """S6, through the queue."""
    world = World(always(GOOD))
    world.load("services: {a: {command: [deaf], stop_grace: 10}}")
    await asyncio.sleep(1)
    world.load("{}")
    await asyncio.sleep(30)
    assert (spawned[0].exit_code, spawned[0].exited_at) == (-9, 11)
    assert world.observed.services == {}


async def test_the_end_of_a_child_is_acted_upon_at_once(spawned: list[FakeChild]) -> None:
    """No poll: the backoff starts with the end of the process, to the millisecond."""
    world = World(always(GOOD))
    world.load("services: {a: {command: [app], backoff: {initial: 2, jitter: 0}}}")
    await asyncio.sleep(3.217)
    spawned[0].end(1)
    await asyncio.sleep(5)
    assert spawned[1].started_at == pytest.approx(5.217, abs=0.001)


async def test_a_drain_restarts_nothing(spawned: list[FakeChild]) -> None:
    """While the agent drains, liveness is not asked any more and nothing is started."""
    world = World(always(BAD))
    world.load(SERVICE.replace("up: {type: tcp, role: startup", "up: {type: tcp, role: readiness"))
    await asyncio.sleep(0.5)
    world.observed.draining = True
    for key in sorted(world.store.snapshot.keys()):
        world.queue.add(key)
    await asyncio.sleep(100)
    assert len(spawned) == 1
    assert world.times("app/alive") == [0]
    assert world.observed.services["app"].why == "the agent is stopping"


async def test_a_success_forgets_the_failures_before_it() -> None:
    """The next failure is a first one again (client-go's Forget)."""
    calls: list[float] = []

    class Moody:
        async def reconcile(self, key: Key) -> Result:
            calls.append(asyncio.get_running_loop().time())
            if len(calls) == 4:
                return Result(1.0)
            raise RuntimeError("a defect")

    queue: WorkQueue[Key] = WorkQueue()
    task = asyncio.create_task(work(queue, {Kind.CHECK: Moody()}, Metrics(), lambda _key: None))
    queue.add(Key(Kind.CHECK, "c"))
    await asyncio.sleep(1.05)
    gaps = [round(later - earlier, 4) for earlier, later in itertools.pairwise(calls)]
    assert gaps[:5] == [0.005, 0.01, 0.02, 1.0, 0.005]
    queue.shut_down()
    await task


async def test_a_broken_reconciler_is_tried_again_ever_later() -> None:
    """A defect for one key is logged, counted and retried with 5 ms x 2^n; other keys are served meanwhile."""
    calls: list[float] = []

    class Broken:
        async def reconcile(self, key: Key) -> Result:
            if key.name == "good":
                return Result(1.0)
            calls.append(asyncio.get_running_loop().time())
            raise RuntimeError("a defect")

    queue: WorkQueue[Key] = WorkQueue()
    metrics = Metrics()
    task = asyncio.create_task(work(queue, {Kind.CHECK: Broken()}, metrics, lambda _key: None))
    queue.add(Key(Kind.CHECK, "bad"))
    queue.add(Key(Kind.CHECK, "good"))
    await asyncio.sleep(0.2)
    gaps = [round(later - earlier, 4) for earlier, later in itertools.pairwise(calls)]
    assert gaps == [0.005, 0.01, 0.02, 0.04, 0.08]
    await asyncio.sleep(3)
    value = metrics.registry.get_sample_value
    assert value("watchkeeper_reconciles_total", {"kind": "check", "outcome": "ok"}) == 4
    assert value("watchkeeper_errors_total", {"error_class": "RECONCILE_FAILED"}) == len(calls)
    queue.shut_down()
    await task
