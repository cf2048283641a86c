"""When collectors are called and what becomes of their readings: on a virtual clock, and with threads that really hang."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric

from watchkeeper import collectors
from watchkeeper.collectors import Entry, Reading, counter, gauge
from watchkeeper.collectors.threads import MOST, StuckError, Threads, thread_limit
from watchkeeper.config.load import parse
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.config.store import Store
from watchkeeper.context import Context
from watchkeeper.metrics import Metrics
from watchkeeper.reconcile import work
from watchkeeper.reconcilers.collectors import CollectorReconciler

pytestmark = pytest.mark.asyncio

Script = Callable[[], Iterable[Reading | Metric]]
ONLY_LOAD = "collectors: {cpu: {enabled: false}, memory: {enabled: false}, filesystem: {enabled: false}, \
disk: {enabled: false}, network: {enabled: false}, temperature: {enabled: false}, processes: {enabled: false}, \
self: {enabled: false}, load: {%s}}"


class Scripted:
    """A collector that does what a test says."""

    def __init__(self, scripts: list[Script]) -> None:
        self._scripts = scripts

    def collect(self) -> Iterable[Reading | Metric]:
        return self._scripts[-1]()


class Calls:
    """In place of threads: each call takes as long as a test says, on the loop's clock."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.times: list[float] = []
        self.stuck = False
        self.abandoned = 0

    def is_stuck(self, _name: str) -> bool:
        return self.stuck

    async def call(self, _name: str, function: Callable[[], Any], limit: float) -> Any:
        self.times.append(asyncio.get_running_loop().time())
        if self.seconds > limit:
            await asyncio.sleep(limit)
            self.stuck = True
            raise TimeoutError
        await asyncio.sleep(self.seconds)
        return function()


class World:
    """A reconciler of collectors with a queue and a configuration."""

    def __init__(self, calls: Any) -> None:
        self.calls = calls
        self.context = Context(Store(), Metrics())
        self.reconciler = CollectorReconciler(self.context, calls)
        reconcilers = {Kind.COLLECTOR: self.reconciler}
        self.worker = asyncio.create_task(
            work(self.context.queue, reconcilers, self.context.metrics, lambda _key: None)
        )

    def load(self, text: str) -> None:
        for key in self.context.store.apply(parse(text.encode(), file="f.yaml")):
            self.context.add(key)

    def series(self, name: str, **labels: str) -> float | None:
        return self.context.metrics.registry.get_sample_value(name, labels)

    @property
    def state(self) -> str:
        return self.context.observed.objects[Key(Kind.COLLECTOR, "load")].state


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> list[Script]:
    """What the collector `load` does; the last one counts."""
    scripts: list[Script] = [list]
    made = Entry(lambda _spec: Scripted(scripts))
    monkeypatch.setitem(collectors.REGISTRY, "load", made)
    return scripts


@pytest.mark.looptime
async def test_on_the_interval(script: list[Script]) -> None:
    """At once, then every interval however long a call takes; the readings and their success are in the registry."""
    world = World(Calls())
    world.calls.seconds = 3
    script.append(lambda: [gauge("a_b", "t", {("x",): 5.0}, "l"), counter("c_d_total", "t", {(): 7.0})])
    world.load(ONLY_LOAD % "interval: 10")
    await asyncio.sleep(25)
    assert [round(when, 3) for when in world.calls.times] == [0, 10, 20]
    assert world.series("watchkeeper_a_b", l="x") == 5
    assert world.series("watchkeeper_c_d_total") == 7
    assert world.series("watchkeeper_collector_success", collector="load") == 1
    assert world.series("watchkeeper_collector_duration_seconds", collector="load") == pytest.approx(3)
    assert world.state == "collecting"


@pytest.mark.looptime
async def test_a_slow_collector_is_not_called_twice_at_once(script: list[Script]) -> None:
    """Slots that passed meanwhile are left out."""
    world = World(Calls())
    world.calls.seconds = 25
    world.load(ONLY_LOAD % "interval: 10, timeout: 30")
    await asyncio.sleep(75)
    assert [round(when, 3) for when in world.calls.times] == [0, 25, 50, 75][: len(world.calls.times)]
    assert len(world.calls.times) >= 3


@pytest.mark.looptime
async def test_failures_and_stale_values(script: list[Script]) -> None:
    """A failure keeps the last values for three intervals, then they go; what works again brings them back."""
    world = World(Calls())

    def fail() -> list[Reading]:
        raise OSError(5, "no such luck")

    def good() -> list[Reading]:
        return [gauge("a_b", "t", {(): 1.0})]

    script.append(good)
    world.load(ONLY_LOAD % "interval: 10")
    await asyncio.sleep(5)
    script.append(fail)
    await asyncio.sleep(20)
    assert world.series("watchkeeper_collector_success", collector="load") == 0
    assert world.state == "failing"
    assert world.series("watchkeeper_a_b") == 1
    await asyncio.sleep(20)
    assert world.series("watchkeeper_a_b") is None
    script.append(good)
    await asyncio.sleep(10)
    assert world.series("watchkeeper_a_b") == 1
    assert world.state == "collecting"
    failures = world.series("watchkeeper_errors_total", error_class="COLLECTOR_FAILED")
    assert failures == 4
    events = [event.what for event in world.context.events.of(Key(Kind.COLLECTOR, "load"))]
    assert events == ["collecting", "failing", "collecting"]


@pytest.mark.looptime
async def test_a_hanging_call_is_not_repeated(script: list[Script]) -> None:
    """It fails at its timeout and at every slot after that, without another thread; when it has ended, it is called again."""
    world = World(Calls())
    world.calls.seconds = 100
    script.append(lambda: [gauge("a_b", "t", {(): 1.0})])
    world.load(ONLY_LOAD % "interval: 10, timeout: 2")
    await asyncio.sleep(45)
    assert len(world.calls.times) == 1
    assert world.series("watchkeeper_collector_success", collector="load") == 0
    assert "longer than 2s" in world.context.observed.objects[Key(Kind.COLLECTOR, "load")].why
    world.calls.seconds, world.calls.stuck = 0, False
    await asyncio.sleep(10)
    assert world.series("watchkeeper_a_b") == 1


@pytest.mark.looptime
async def test_what_is_gone_leaves_nothing(script: list[Script]) -> None:
    """A device that disappears, a metric that is no longer measured, a collector that is ended, one that is changed."""
    world = World(Calls())
    foreign = GaugeMetricFamily("backup_age", "t", value=3)
    script.append(lambda: [gauge("a_b", "t", {("x",): 1.0, ("y",): 2.0}, "l"), foreign])
    world.load(ONLY_LOAD % "interval: 10")
    await asyncio.sleep(1)
    assert world.series("backup_age") == 3
    script.append(lambda: [gauge("a_b", "t", {("y",): 3.0}, "l"), gauge("c_d", "t", {(): 1.0})])
    await asyncio.sleep(10)
    assert world.series("watchkeeper_a_b", l="x") is None
    assert world.series("watchkeeper_a_b", l="y") == 3
    assert world.series("backup_age") is None
    script.append(lambda: [gauge("c_d", "t", {(): 1.0})])
    world.load(ONLY_LOAD % "interval: 20")
    await asyncio.sleep(1)
    assert world.series("watchkeeper_a_b", l="y") is None
    assert world.series("watchkeeper_c_d") == 1
    world.load(ONLY_LOAD % "enabled: false")
    await asyncio.sleep(1)
    assert world.series("watchkeeper_c_d") is None
    assert world.series("watchkeeper_collector_success", collector="load") is None
    assert Key(Kind.COLLECTOR, "load") not in world.context.observed.objects


@pytest.mark.looptime
async def test_readings_that_the_registry_refuses(script: list[Script]) -> None:
    """A bad name is this collector's failure, and nobody else's."""
    world = World(Calls())
    script.append(lambda: [gauge("a_b_percent", "t", {(): 1.0})])
    world.load(ONLY_LOAD % "")
    await asyncio.sleep(1)
    assert world.state == "failing"
    assert "no base unit" in world.context.observed.objects[Key(Kind.COLLECTOR, "load")].why


@pytest.mark.looptime
async def test_an_unsupported_platform(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so once, and measures nothing."""
    world = World(Calls())
    monkeypatch.setitem(collectors.REGISTRY, "load", Entry(lambda _spec: pytest.fail("made"), ("plan9",)))
    world.load(ONLY_LOAD % "")
    await asyncio.sleep(1)
    world.context.add(Key(Kind.COLLECTOR, "load"))
    await asyncio.sleep(1)
    assert world.state == "unsupported"
    assert [event.what for event in world.context.events.of(Key(Kind.COLLECTOR, "load"))] == ["unsupported"]
    assert not world.calls.times


@pytest.mark.looptime
async def test_nothing_begins_while_draining(script: list[Script]) -> None:
    """And what is under way is not waited for."""
    world = World(Calls())
    world.calls.seconds = 4
    world.load(ONLY_LOAD % "interval: 5")
    await asyncio.sleep(1)
    world.context.observed.draining = True
    began = asyncio.get_running_loop().time()
    await world.context.hooks.run(began + 10)
    assert asyncio.get_running_loop().time() == began
    await asyncio.sleep(20)
    assert len(world.calls.times) == 1


async def test_a_thread_that_hangs(script: list[Script]) -> None:
    """Others go on meanwhile; the thread is counted until it ends, and there is never a second one for its collector."""
    release, ended = threading.Event(), asyncio.Event()
    threads = Threads(1, lambda _name: ended.set())
    started: list[int] = []

    def hang() -> None:
        started.append(1)
        release.wait(30)

    with pytest.raises(TimeoutError):
        await threads.call("a", hang, 0.01)
    assert threads.abandoned == 1
    with pytest.raises(StuckError):
        await threads.call("a", hang, 0.01)
    assert await threads.call("b", lambda: 5, 10) == 5
    with pytest.raises(ZeroDivisionError):
        await threads.call("b", lambda: 1 // 0, 10)
    release.set()
    await asyncio.wait_for(ended.wait(), 10)
    assert threads.abandoned == 0
    assert started == [1]
    assert await threads.call("a", lambda: 6, 10) == 6


async def test_few_at_a_time() -> None:
    """No more calls run at once than the limit says, and all of them are made."""
    threads = Threads(2)
    running, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(2)

    def run() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(10)  # two at once there must be
        with lock:
            running -= 1

    await asyncio.gather(*(threads.call(str(number), run, 10) for number in range(6)))
    assert most == 2


async def test_who_stops_waiting_leaves_the_thread_behind() -> None:
    """A call that is cancelled is counted until it has ended, too."""
    release, ended = threading.Event(), asyncio.Event()
    threads = Threads(1, lambda _name: ended.set())
    call = asyncio.create_task(threads.call("a", lambda: release.wait(30), 30))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert threads.abandoned == 1
    release.set()
    await asyncio.wait_for(ended.wait(), 10)
    assert threads.abandoned == 0


@pytest.mark.parametrize(("cpus", "limit"), [(0.1, 1), (0.5, 1), (1, 2), (1.5, 3), (2, 4), (64, MOST)])
async def test_as_many_threads_as_are_worth_it(cpus: float, limit: int) -> None:
    """Two for each processor that the agent may use."""
    assert thread_limit(cpus) == limit
