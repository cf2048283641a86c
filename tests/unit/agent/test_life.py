"""The agent's life: tasks and hooks at its end, what becomes of a key, what the service manager hears."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.config.store import Store
from watchkeeper.context import Context
from watchkeeper.errors import ExitCode
from watchkeeper.life.controls import RELOAD, FromThread
from watchkeeper.life.drain import Drain
from watchkeeper.life.exit import leave_within
from watchkeeper.life.hooks import Hooks, Rank
from watchkeeper.life.manager_link import ManagerLink
from watchkeeper.life.notify import Notifier
from watchkeeper.life.resources import exhausted, raise_file_limit
from watchkeeper.life.signals import StopRequests
from watchkeeper.life.stacks import where
from watchkeeper.metrics import Metrics
from watchkeeper.queue import WorkQueue
from watchkeeper.reconcile import Result, TerminalError, work
from watchkeeper.tasks import Tasks

WEB = Key(Kind.SERVICE, "web")


def clock() -> float:
    return asyncio.get_running_loop().time()


@pytest.mark.asyncio
async def test_only_a_second_word_from_outside_aborts() -> None:
    """A service whose end ends the agent may end in the moment of a signal, and two may end at once."""
    requests = StopRequests()
    requests.ask("SIGTERM")
    requests.begin("the end of service web")
    requests.begin("the end of service db")
    assert requests.stop.result() == "SIGTERM"
    assert not requests.abort.done()
    requests.ask("SIGINT")
    assert requests.abort.result() == "SIGINT"


# --- tasks


@pytest.mark.asyncio
@pytest.mark.looptime
@pytest.mark.parametrize("error", [SystemExit(3), asyncio.CancelledError(), KeyError("x"), MemoryError()])
async def test_nothing_that_a_task_raises_ends_it_for_good(error: BaseException) -> None:
    """T1: also an exit and a cancellation that nobody asked for; a task that is gone without a word is the worst of all."""
    metrics = Metrics()
    tasks = Tasks(metrics)
    runs = []

    async def run() -> None:
        runs.append(clock())
        if len(runs) == 1:
            raise error
        await asyncio.Event().wait()

    tasks.start("t", run)
    await asyncio.sleep(10)
    assert len(runs) == 2
    assert tasks.alive == 1
    assert metrics.registry.get_sample_value("watchkeeper_task_crashes_total", {"task": "t"}) == 1
    assert await tasks.stop(1) == []


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_name_is_one_task() -> None:
    """T4: the earlier one is cancelled; a task that has returned is not kept."""
    tasks = Tasks(Metrics())
    ended = []

    def make(word: str) -> Callable[[], Any]:
        async def run() -> None:
            try:
                await asyncio.sleep(5)
            finally:
                ended.append(word)

        return run

    tasks.start("t", make("first"))
    await asyncio.sleep(1)
    tasks.start("t", make("second"))
    await asyncio.sleep(1)
    assert (ended, tasks.alive) == (["first"], 1)
    await asyncio.sleep(10)
    assert (ended, tasks.alive, len(tasks._tasks)) == (["first", "second"], 0, 0)
    tasks.cancel("t")
    tasks.cancel("nobody")


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_where_a_task_stands() -> None:
    """The innermost frame is told; asyncio's own get_stack() ends at the outermost."""

    async def inner() -> None:
        await asyncio.sleep(5)

    async def outer() -> None:
        await inner()

    task = asyncio.create_task(outer())
    await asyncio.sleep(1)
    functions = [step.rpartition(" ")[2].rpartition(".")[2] for step in where(task)]
    assert functions == ["outer", "inner", "sleep"]
    await task
    assert where(task) == []


# --- hooks


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_hooks_in_their_order() -> None:
    """H1, H2, H5: ranks go up, within one the newest goes first; each runs once, and what a hook adds has its turn."""
    hooks = Hooks()
    order: list[str] = []

    def hook(name: str, *, adds: tuple[Rank, str] | None = None) -> Callable[[], Any]:
        async def run() -> None:
            order.append(name)
            if adds:
                hooks.add(*adds, hook(adds[1]), 1)

        return run

    hooks.add(Rank.EXPORT, "export", hook("export"), 1)
    hooks.add(Rank.WORK, "work 1", hook("work 1"), 1)
    hooks.add(Rank.WORK, "work 2", hook("work 2", adds=(Rank.TASKS, "late comer")), 1)
    hooks.add(Rank.ANNOUNCE, "announce", hook("announce"), 1)
    removed = hooks.add(Rank.ANNOUNCE, "removed", hook("removed"), 1)
    hooks.remove(removed)
    hooks.remove(removed)
    assert await hooks.run(clock() + 10, frozenset({Rank.ANNOUNCE})) == []
    assert order == ["announce"]
    assert await hooks.run(clock() + 10) == []
    assert order == ["announce", "work 2", "work 1", "late comer", "export"]


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_late_hook_costs_its_limit_and_no_more(caplog: pytest.LogCaptureFixture) -> None:
    """H3, H4: one that is late is named with its place, also when it does not heed its cancellation; others still run."""
    hooks = Hooks()
    release = asyncio.Event()
    ran: list[str] = []

    async def deaf() -> None:
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                ran.append("asked to end")

    async def broken() -> None:
        raise SystemExit(1)

    async def good() -> None:
        ran.append("good")

    hooks.add(Rank.EXPORT, "good", good, 1)
    hooks.add(Rank.WORK, "deaf", deaf, 2)
    hooks.add(Rank.ANNOUNCE, "broken", broken, 1)
    begun = clock()
    assert await hooks.run(clock() + 100) == ["deaf"]
    assert clock() - begun == pytest.approx(2.05)
    assert ran == ["asked to end", "good"]
    [line] = [record for record in caplog.records if "did not end in time" in record.message]
    assert any("in test_a_late_hook" in step and "deaf" in step for step in line.fields["stands_at"])  # type: ignore[attr-defined]
    release.set()
    await asyncio.sleep(1)


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_all_hooks_have_one_deadline() -> None:
    """H3: after it each gets a moment, and no more."""
    hooks = Hooks()

    async def slow() -> None:
        await asyncio.sleep(10)

    for number in range(3):
        hooks.add(Rank.WORK, str(number), slow, 10)
    begun = clock()
    assert await hooks.run(begun + 4) == ["2", "1", "0"]
    assert clock() - begun < 4.5


# --- the drain


class Endpoints:
    """Implements life.drain.Endpoints."""

    def __init__(self, order: list[str], *, in_time: bool = True) -> None:
        self._order, self._in_time = order, in_time

    async def stop(self, limit: float) -> bool:
        self._order.append("endpoints")
        return self._in_time


@pytest.mark.asyncio
@pytest.mark.looptime
@pytest.mark.parametrize(("in_time", "code"), [(True, ExitCode.OK), (False, ExitCode.DRAIN_INCOMPLETE)])
async def test_the_order_of_a_stop(in_time: bool, code: ExitCode) -> None:
    """D1 to D4: readiness, who has to be told, the wait for load balancers, work, requests, tasks, export."""
    from watchkeeper.config.load import parse

    context = Context(Store(), Metrics())
    context.store.apply(parse(b"agent: {shutdown_delay: 5s}", file="f.yaml"))
    order: list[str] = []
    begun = clock()
    for rank in Rank:

        async def run(rank: Rank = rank) -> None:
            assert context.observed.draining
            order.append(f"{rank.name} {clock() - begun:g}")

        context.hooks.add(rank, rank.name, run, 1)

    async def task() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            order.append("task")

    context.tasks.start("t", task)
    await asyncio.sleep(0)
    assert await Drain(context, Endpoints(order, in_time=in_time)).run("SIGTERM") == code
    assert order == ["ANNOUNCE 0", "WORK 5", "endpoints", "task", "ENDPOINTS 5", "TASKS 5", "EXPORT 5"]


# --- reconciling


class Script:
    """A reconciler that does what it is told, call by call; then nothing."""

    def __init__(self, *outcomes: Result | BaseException | float) -> None:
        self._outcomes = list(outcomes)
        self.calls: list[float] = []

    async def reconcile(self, key: Key) -> Result:
        self.calls.append(round(clock(), 3))
        outcome = self._outcomes.pop(0) if self._outcomes else Result()
        if isinstance(outcome, BaseException):
            raise outcome
        if isinstance(outcome, float):
            await asyncio.sleep(outcome)
            return Result()
        return outcome


async def play(script: Script, seconds: float, limit: float = 60) -> tuple[WorkQueue[Key], Metrics]:
    queue: WorkQueue[Key] = WorkQueue()
    metrics = Metrics()
    worker = asyncio.create_task(
        work(queue, {Kind.SERVICE: script}, metrics, lambda _key: None, lambda: limit)
    )
    queue.add(WEB)
    begun = clock()
    await asyncio.sleep(seconds)
    script.calls = [round(when - begun, 3) for when in script.calls]
    assert not worker.done()
    worker.cancel()
    return queue, metrics


@pytest.mark.asyncio
@pytest.mark.looptime
@pytest.mark.parametrize(
    ("outcomes", "calls", "failures"),
    [
        ((ValueError("x"), ValueError("x"), Result()), [0, 0.005, 0.015], 0),
        ((SystemExit(1), asyncio.CancelledError(), Result()), [0, 0.005, 0.015], 0),
        ((ValueError("x"), TerminalError("no such thing")), [0, 0.005], 1),
        ((ValueError("x"), Result(requeue_after=3)), [0, 0.005, 3.005], 0),
        (
            (ValueError("x"), Result(requeue=True), Result(requeue=True), Result()),
            [0, 0.005, 0.015, 0.035],
            0,
        ),
        ((Result(requeue_after=0), Result()), [0, 0], 0),
    ],
)
async def test_what_becomes_of_a_key(outcomes: tuple[Any, ...], calls: list[float], failures: int) -> None:
    """R1 to R5."""
    script = Script(*outcomes)
    queue, _metrics = await play(script, 100)
    assert script.calls == calls
    assert queue.delays.failures(WEB) == failures


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_call_that_hangs_is_ended() -> None:
    """R6: and tried again as after a failure; a terminal error counts as such."""
    script = Script(1000.0, TerminalError("no"))
    _queue, metrics = await play(script, 100, limit=7)
    assert script.calls == [0, 7.005]
    value = metrics.registry.get_sample_value
    assert value("watchkeeper_reconciles_total", {"kind": "service", "outcome": "error"}) == 1
    assert value("watchkeeper_reconciles_total", {"kind": "service", "outcome": "terminal"}) == 1


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_calls_that_wait_for_nothing_do_not_keep_the_loop() -> None:
    """Between two of them everything else has its turn."""
    queue: WorkQueue[Key] = WorkQueue()
    for number in range(100):
        queue.add(Key(Kind.SERVICE, str(number)))
    worker = asyncio.create_task(work(queue, {Kind.SERVICE: Script()}, Metrics(), lambda _key: None))
    turns = 0
    while len(queue):
        turns += 1
        await asyncio.sleep(0)
    assert turns >= 99
    worker.cancel()


# --- the service manager


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """A service manager's end of NOTIFY_SOCKET, and its name."""
    name = f"@watchkeeper-test-{os.getpid()}" if request.param == "abstract" else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{name[1:]}" if name.startswith("@") else name)
        listening.settimeout(5)
        yield listening, name


def test_what_is_said_to_the_manager(manager: tuple[socket.socket, str]) -> None:
    """N1 to N5, over a real socket: one datagram each; a text with line breaks cannot say more than its own line."""
    listening, name = manager
    notifier = Notifier(name)
    assert notifier.wanted
    before = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notifier.ready("up\nMAINPID=1")
    notifier.reloading()
    notifier.stopping("on SIGTERM")
    notifier.extend(2.5)
    notifier.alive()
    said = [listening.recv(4096).decode().splitlines() for _ in range(5)]
    assert said[0] == ["READY=1", "STATUS=up MAINPID=1"]
    assert said[1][0] == "RELOADING=1"
    assert (
        before
        <= int(said[1][1].removeprefix("MONOTONIC_USEC="))
        <= time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    )
    assert said[2:] == [["STOPPING=1", "STATUS=on SIGTERM"], ["EXTEND_TIMEOUT_USEC=2500000"], ["WATCHDOG=1"]]
    notifier.close()
    assert notifier.send("READY=1") is False


def test_a_status_is_said_when_it_changes(manager: tuple[socket.socket, str]) -> None:
    """N4."""
    listening, name = manager
    notifier = Notifier(name)
    for text in ("a", "a", "b"):
        notifier.status(text)
    assert [listening.recv(100) for _ in range(2)] == [b"STATUS=a", b"STATUS=b"]
    listening.setblocking(False)
    with pytest.raises(BlockingIOError):
        listening.recv(100)
    notifier.close()


@pytest.mark.parametrize("address", ["", "/no/such/socket", "relative", "vsock:2:1234"])
def test_no_manager_is_no_failure(address: str) -> None:
    """N6."""
    notifier = Notifier(address)
    assert not notifier.wanted
    notifier.ready("up")
    notifier.close()


def test_a_manager_that_does_not_read_is_not_waited_for(manager: tuple[socket.socket, str]) -> None:
    """N6: the datagrams that it has no room for are lost."""
    _listening, name = manager
    notifier = Notifier(name)
    assert not all(notifier.send("WATCHDOG=1") for _ in range(100_000))
    notifier.close()


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({"WATCHDOG_USEC": "3000000"}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": str(os.getpid())}, 3.0),
        ({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_for_this_process(variables: dict[str, str], seconds: float | None) -> None:
    """N5; and a child inherits none of it."""
    environment = {"PATH": "/bin", "NOTIFY_SOCKET": "", **variables}
    assert Notifier.taken_from(environment).watchdog == seconds
    assert environment == {"PATH": "/bin"}


class Said(Notifier):
    """Notes what is said, and when."""

    def __init__(self, watchdog: float | None = None) -> None:
        super().__init__(watchdog=watchdog)
        self.said: list[tuple[float, str]] = []

    @property
    def wanted(self) -> bool:
        return True

    def send(self, *assignments: str) -> bool:
        self.said.append((clock(), assignments[0]))
        return True

    def count(self, word: str) -> int:
        return sum(each == word for _, each in self.said)


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_the_watchdog_is_fed_only_while_keys_get_on() -> None:
    """N5: every half of the interval; not while keys wait and no worker takes one; again when one does."""
    context = Context(Store(), Metrics())
    said = Said(watchdog=10)
    link = ManagerLink(context, said)
    link.start()
    await asyncio.sleep(51)
    assert said.count("WATCHDOG=1") == 11
    context.add(WEB)
    await asyncio.sleep(100)
    assert said.count("WATCHDOG=1") == 13
    assert (
        context.metrics.registry.get_sample_value("watchkeeper_errors_total", {"error_class": "INTERNAL"})
        == 1
    )
    context.queue.done(await context.queue.get())
    await asyncio.sleep(21)
    assert said.count("WATCHDOG=1") == 17
    await context.tasks.stop(1)


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_long_stop_asks_for_more_time() -> None:
    """N3: again and again, until it is over; nothing about readiness is said meanwhile."""
    context = Context(Store(), Metrics())
    context.observed.started = True
    said = Said()
    link = ManagerLink(context, said)
    link.started()
    link.reloading()
    link.started()
    context.observed.draining = True
    link.stopping("SIGTERM")
    link.started()
    link.reloading()
    await asyncio.sleep(12)
    link.close()
    await asyncio.sleep(100)
    extended = [text for _, text in said.said if text.startswith("EXTEND")]
    assert extended == ["EXTEND_TIMEOUT_USEC=15000000"] * 3
    assert [text for _, text in said.said if not text.startswith("EXTEND")] == [
        "READY=1",
        "RELOADING=1",
        "READY=1",
        "STOPPING=1",
    ]


# --- the rest


@pytest.mark.asyncio
async def test_orders_from_a_thread_are_kept_until_the_loop_is_there() -> None:
    """Windows' service manager may say stop before the agent has started; after its end it is talking to nobody."""
    controls = FromThread()
    controls.say(RELOAD)
    heard: list[str] = []
    controls.attach(asyncio.get_running_loop(), stop=heard.append, reload=lambda: heard.append("reload"))
    thread = threading.Thread(target=controls.say, args=("SERVICE_CONTROL_STOP",))
    thread.start()
    thread.join()
    await asyncio.sleep(0.01)
    assert heard == ["reload", "SERVICE_CONTROL_STOP"]
    closed = asyncio.new_event_loop()
    closed.close()
    gone = FromThread()
    gone.attach(closed, stop=heard.append, reload=lambda: None)
    gone.say("SERVICE_CONTROL_STOP")
    assert len(heard) == 2


def test_the_last_resort_ends_the_process_and_says_why(caplog: pytest.LogCaptureFixture) -> None:
    """A thread that never returns is named, with its place."""
    ended, release = threading.Event(), threading.Event()
    codes: list[int] = []

    def hang() -> None:
        release.wait()

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    thread = threading.Thread(target=hang, name="stat of /mnt")
    thread.start()
    leave_within(0.0, 8, end=end)
    assert ended.wait(10)
    release.set()
    thread.join()
    assert codes == [8]
    [line] = [record for record in caplog.records if "left behind" in record.message]
    assert "stat of /mnt" in line.fields["threads"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.ENOSPC])
def test_a_system_that_has_nothing_left_is_a_sentence(number: int) -> None:
    """Exit code 11, and what to do."""
    error = exhausted(OSError(number, os.strerror(number)))
    assert error.exit_code == ExitCode.NO_RESOURCES
    assert str(error)
    assert error.advice


def test_other_errors_of_the_system_stay_defects() -> None:
    with pytest.raises(PermissionError):
        exhausted(PermissionError(errno.EACCES, "no"))


def test_the_limit_of_open_files_is_raised_as_far_as_it_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Up to the hard limit, and no further than is wanted; a limit that is high enough stays."""
    import resource

    limits = {"now": (1024, 4096)}
    monkeypatch.setattr(resource, "getrlimit", lambda _which: limits["now"])
    monkeypatch.setattr(resource, "setrlimit", lambda _which, new: limits.update(now=new))
    assert raise_file_limit(65536) == 4096
    assert limits["now"] == (4096, 4096)
    limits["now"] = (1024, resource.RLIM_INFINITY)
    assert raise_file_limit(65536) == 65536
    limits["now"] = (100_000, 200_000)
    assert raise_file_limit(65536) == 100_000

    def refuse(_which: int, _new: tuple[int, int]) -> None:
        raise ValueError

    limits["now"] = (256, 4096)
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_file_limit(65536) == 256
