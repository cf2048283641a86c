"""Services among each other and under orders, on a virtual clock: queue and reconciler are real, processes are not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from support.agent_world import FakeChild, World
from watchkeeper.checks import Outcome
from watchkeeper.config.model import AnyCheck
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.orders import Order
from watchkeeper.reconcilers import services
from watchkeeper.report import not_ready_because
from watchkeeper.supervise.lifecycle import State

pytestmark = [pytest.mark.asyncio, pytest.mark.looptime]


class Named(FakeChild):
    """A fake process that knows whose it is."""

    name = ""
    ended: list[str]

    def end(self, code: int) -> None:
        if self.exit_code is None:
            self.ended.append(self.name)
        super().end(code)


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The fake processes, in the order in which they were started."""
    FakeChild.made, Named.ended = [], []

    async def spawn(command: tuple[str, ...], *, on_exit: Callable[[Any], None], **_rest: Any) -> FakeChild:
        child = Named(on_exit, deaf=command[0] == "deaf")
        child.name = command[-1]
        return child

    monkeypatch.setattr(services, "spawn", spawn)
    return FakeChild.made


class Scene(World):
    """Whose checks pass when their service is in `ready`."""

    def __init__(self) -> None:
        self.ready: set[str] = set()
        super().__init__(self._answer)

    async def _answer(self, spec: AnyCheck) -> Outcome:
        name = next(name for name, bound in self.store.snapshot.checks.items() if bound.spec is spec)
        return Outcome(name.split("/")[0] in self.ready, "looked")

    def state(self, name: str) -> State:
        return self.observed.services[name].state

    def why(self, name: str) -> str:
        return self.observed.services[name].why

    def order(self, name: str, order: Order) -> None:
        """As the control endpoint does."""
        key = Key(Kind.SERVICE, name)
        self.context.orders.give(key, order)
        self.context.add(key)

    def drain(self) -> None:
        self.observed.draining = True
        for name in self.observed.services:
            self.context.add(Key(Kind.SERVICE, name))


def running(spawned: list[Any]) -> list[str]:
    """Whose processes run, in the order of their starts."""
    return [child.name for child in spawned if child.exit_code is None]


CHAIN = """
services:
  web: {command: [x, web], requires: [app], stop_grace: 5}
  app: {command: [x, app], requires: [db], stop_grace: 5}
  db:
    command: [x, db]
    checks: {ready: {type: tcp, address: 'x:1', period: 1, failure_threshold: 1}}
  log: {command: [x, log], after: [db]}
"""


async def test_started_when_the_other_is_ready(spawned: list[Any]) -> None:
    """S14: not before, and as soon as the readiness check passes."""
    world = Scene()
    world.load(CHAIN)
    await asyncio.sleep(5.5)
    assert running(spawned) == ["db"]
    assert (world.state("web"), world.why("web")) == (State.WAITING, "it requires app, which is not ready")
    assert world.why("log") == "it comes after db, which is not ready"
    world.ready.add("db")
    await asyncio.sleep(0.6)
    assert set(running(spawned)) == {"db", "app", "web", "log"}
    assert running(spawned).index("app") < running(spawned).index("web")
    assert {child.started_at for child in spawned if child.name != "db"} == {6}


async def test_ended_in_the_reverse_order(spawned: list[Any]) -> None:
    """S15: at the agent's end, what comes after something is stopped before it."""
    world = Scene()
    world.ready.add("db")
    world.load(CHAIN)
    await asyncio.sleep(3)
    world.drain()
    await asyncio.sleep(60)
    assert running(spawned) == []
    names = Named.ended
    assert names.index("web") < names.index("app") < names.index("db")
    assert names.index("log") < names.index("db")


async def test_a_stop_on_purpose_takes_along_who_requires_it(spawned: list[Any]) -> None:
    """S16: dependants first, and they come back with it; what is only after it stays."""
    world = Scene()
    world.ready.add("db")
    world.load(CHAIN)
    await asyncio.sleep(3)
    log = next(child for child in spawned if child.name == "log")
    world.order("db", Order.STOP)
    await asyncio.sleep(3)
    assert running(spawned) == ["log"]
    assert (world.state("db"), world.why("db")) == (State.STOPPED, "an operator has stopped it")
    assert world.state("web") is State.WAITING
    world.order("db", Order.START)
    await asyncio.sleep(5)
    assert set(running(spawned)) == {"db", "app", "web", "log"}
    assert log.exit_code is None
    assert world.observed.services["web"].failures == 0


async def test_a_changed_definition_restarts_who_requires_it(spawned: list[Any]) -> None:
    """S15 and S16, from a reload: web and app make way, db changes, and all come back in order."""
    world = Scene()
    world.ready.add("db")
    world.load(CHAIN)
    await asyncio.sleep(3)
    world.load(CHAIN.replace("command: [x, db]", "command: [x, -v, db]"))
    await asyncio.sleep(10)
    assert set(running(spawned)) == {"db", "app", "web", "log"}
    assert [child.name for child in spawned].count("log") == 1
    for name in ("db", "app", "web"):
        assert [child.name for child in spawned].count(name) == 2
    assert Named.ended == ["web", "app", "db"]


async def test_a_crash_takes_nobody_along(spawned: list[Any]) -> None:
    """S15: who requires a service that ends by itself goes on."""
    world = Scene()
    world.ready.add("db")
    world.load(CHAIN)
    await asyncio.sleep(3)
    next(child for child in spawned if child.name == "db").end(1)
    await asyncio.sleep(10)
    assert [child.name for child in spawned].count("web") == 1
    assert [child.name for child in spawned].count("db") == 2


async def test_what_cannot_become_ready_does_not_hold_up_what_is_only_after_it(spawned: list[Any]) -> None:
    """S14: `after` waits as long as there is hope, `requires` for ever."""
    world = Scene()
    world.load(
        "services: {job: {command: [x, job], policy: no}, after: {command: [x, after], after: [job]}, "
        "needs: {command: [x, needs], requires: [job]}}"
    )
    await asyncio.sleep(1)
    assert set(running(spawned)) == {"job", "after", "needs"}
    world.load("{}")
    await asyncio.sleep(5)
    world.load(
        "services: {job: {command: [x, job], policy: no, checks: {c: {type: tcp, address: 'x:1'}}}, "
        "after: {command: [x, after], after: [job]}, needs: {command: [x, needs], requires: [job]}}"
    )
    await asyncio.sleep(20)
    assert running(spawned) == ["job"]
    next(child for child in spawned if child.exit_code is None).end(1)
    await asyncio.sleep(1)
    assert running(spawned) == ["after"]
    assert world.why("needs") == "it requires job, which is not ready"


async def test_work_that_is_done_counts_as_ready(spawned: list[Any]) -> None:
    """S14: a job that has ended with 0 is what others were waiting for."""
    world = Scene()
    world.load(
        "services: {job: {command: [x, job], policy: on-failure, checks: {c: {type: tcp, address: 'x:1'}}}, "
        "web: {command: [x, web], requires: [job]}}"
    )
    await asyncio.sleep(5)
    assert running(spawned) == ["job"]
    spawned[0].end(0)
    await asyncio.sleep(0.1)
    assert running(spawned) == ["web"]


async def test_orders(spawned: list[Any]) -> None:
    """S12: a stop holds over reloads and crashes of time; a restart is one new process, at once."""
    world = Scene()
    world.load("services: {a: {command: [x, a]}}")
    await asyncio.sleep(1)
    world.order("a", Order.STOP)
    await asyncio.sleep(10_000)
    assert running(spawned) == []
    world.load("services: {a: {command: [x, a], environment: {A: b}}}")
    await asyncio.sleep(10)
    assert running(spawned) == []
    world.order("a", Order.RESTART)
    await asyncio.sleep(0.1)
    assert running(spawned) == ["a"]
    world.order("a", Order.RESTART)
    await asyncio.sleep(0.5)
    assert len(spawned) == 3
    assert running(spawned) == ["a"]
    assert world.observed.services["a"].failures == 0
    assert world.context.orders.of(Key(Kind.SERVICE, "a")) is None
    world.order("a", Order.START)
    await asyncio.sleep(10)
    assert len(spawned) == 3


async def test_an_order_to_start_ends_the_wait(spawned: list[Any]) -> None:
    """S12: neither backoff nor degradation nor a last word holds against it."""
    world = Scene()
    world.load(
        "services: {a: {command: [x, a], backoff: {initial: 600, maximum: 600}}, b: {command: [x, b], policy: no}}"
    )
    await asyncio.sleep(1)
    for child in list(spawned):
        child.end(1)
    await asyncio.sleep(1)
    assert running(spawned) == []
    for name in ("a", "b"):
        world.order(name, Order.START)
    await asyncio.sleep(0.1)
    assert sorted(running(spawned)) == ["a", "b"]


async def test_flapping(spawned: list[Any]) -> None:
    """S13, through the queue: degraded after the third failure, tried every 5 minutes, and sound again after a minute."""
    world = Scene()
    world.load(
        "services: {a: {command: [x, a], backoff: {jitter: 0}, flap: {failures: 3, window: 10m, retry: 5m, stable: 1m}}}"
    )
    for wait in (1, 2):
        await asyncio.sleep(0.5)
        spawned[-1].end(1)
        await asyncio.sleep(wait + 0.1)
    spawned[-1].end(1)
    await asyncio.sleep(0.1)
    assert world.state("a") is State.DEGRADED
    assert world.series("service_state", service="a", state="degraded") == 1
    await asyncio.sleep(299)
    assert running(spawned) == []
    await asyncio.sleep(1)
    assert running(spawned) == ["a"]
    record = world.observed.services["a"]
    assert record.degraded
    await asyncio.sleep(61)
    assert not record.degraded
    events = [event.what for event in world.context.events.of(Key(Kind.SERVICE, "a"))]
    assert events[-3:] == ["degraded", "starting", "running"] or events[-2:] == ["degraded", "running"]


async def test_start_timeout(spawned: list[Any]) -> None:
    """S5: who does not pass its startup check in time is replaced, with no other check involved."""
    world = Scene()
    world.load(
        "services: {a: {command: [x, a], start_timeout: 20, backoff: {jitter: 0}, checks: "
        "{up: {type: tcp, role: startup, address: 'x:1', failure_threshold: 1000}}}}"
    )
    await asyncio.sleep(19.9)
    assert len(spawned) == 1
    await asyncio.sleep(1.2)
    assert [child.started_at for child in spawned] == [0, 21]
    assert world.observed.services["a"].last_exit == "signal SIGTERM"


async def test_an_exit_of_the_agent_is_asked_for_once(spawned: list[Any]) -> None:
    """S8, `exit-agent`: with the status, and not again while it drains."""
    world = Scene()
    asked: list[str] = []
    world.context.ask_stop = asked.append
    world.load("services: {a: {command: [x, a], policy: exit-agent}, b: {command: [x, b]}}")
    await asyncio.sleep(1)
    next(child for child in spawned if child.name == "a").end(3)
    await asyncio.sleep(1)
    assert asked == ["the end of service a"]
    assert world.context.exit_status == 3
    world.drain()
    await asyncio.sleep(5)
    assert asked == ["the end of service a"]
    assert running(spawned) == []


async def test_of_two_that_end_the_agent_the_first_counts(spawned: list[Any]) -> None:
    """S8: a second word to the agent would be one of impatience, and kill everything."""
    world = Scene()
    asked: list[str] = []
    world.context.ask_stop = asked.append
    world.load(
        "services: {a: {command: [x, a], policy: exit-agent}, b: {command: [x, b], policy: exit-agent}}"
    )
    await asyncio.sleep(1)
    for name, status in (("b", 4), ("a", 3)):
        next(child for child in spawned if child.name == name).end(status)
    await asyncio.sleep(1)
    assert asked == ["the end of service b"]
    assert world.context.exit_status == 4


async def test_an_order_to_start_what_runs_is_done_at_once(spawned: list[Any]) -> None:
    """S12: kept, it would take the last word from a service that ends a week later."""
    world = Scene()
    world.load("services: {a: {command: [x, a], policy: no}}")
    await asyncio.sleep(1)
    world.order("a", Order.START)
    await asyncio.sleep(1)
    assert world.context.orders.of(Key(Kind.SERVICE, "a")) is None
    spawned[0].end(1)
    await asyncio.sleep(1)
    world.context.add(Key(Kind.SERVICE, "a"))
    await asyncio.sleep(1)
    assert (world.state("a"), len(spawned)) == (State.FAILED, 1)


async def test_what_runs_has_started(spawned: list[Any]) -> None:
    """S5: a limit for the start, or a startup check, that a later configuration brings restarts nothing."""
    world = Scene()
    world.load("services: {a: {command: [x, a]}}")
    await asyncio.sleep(100)
    world.ready.add("a")
    world.load(
        "services: {a: {command: [x, a], start_timeout: 30, checks: {up: {type: tcp, role: startup, address: 'x:1'}}}}"
    )
    await asyncio.sleep(60)
    assert len(spawned) == 1


async def test_removed_together_is_stopped_in_order(spawned: list[Any]) -> None:
    """S15: who required it is stopped before it also when neither is configured any more."""
    world = Scene()
    world.load(CHAIN)
    world.ready.add("db")
    await asyncio.sleep(3)
    world.load("services: {}")
    await asyncio.sleep(5)
    assert running(spawned) == []
    names = Named.ended
    assert names.index("web") < names.index("app") < names.index("db")


async def test_critical_services_count_in_readiness(spawned: list[Any]) -> None:
    """With `ready_when: checks`; not the others, and not a critical job that has done its work."""
    world = Scene()
    world.observed.started = True
    world.load(
        "agent: {ready_when: checks}\nservices: {a: {command: [x, a], critical: true}, b: {command: [x, b]}, "
        "c: {command: [x, c], critical: true, policy: on-failure}}"
    )
    await asyncio.sleep(0.1)
    assert not_ready_because(world.store, world.observed) == []
    for child in list(spawned):
        child.end(0)
    await asyncio.sleep(0.1)
    assert not_ready_because(world.store, world.observed) == ["critical service a is backoff"]
