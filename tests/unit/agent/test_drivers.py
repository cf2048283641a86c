"""What drivers make of what others say, and the driver of containers against an engine over a socket."""

from __future__ import annotations

import asyncio
import ctypes
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from support.container_engine import EngineServer, Made
from watchkeeper.config.load import parse
from watchkeeper.config.schema.services import ContainerService
from watchkeeper.config.snapshot import Kind
from watchkeeper.config.store import Store
from watchkeeper.context import Context
from watchkeeper.metrics import Metrics
from watchkeeper.reconcile import work
from watchkeeper.reconcilers.services import ServiceReconciler
from watchkeeper.supervise.drivers import DRIVERS, container, unit, windows_service
from watchkeeper.supervise.drivers.polled import Polled, RemoteError, Seen
from watchkeeper.supervise.lifecycle import State
from watchkeeper.system import NOT_SEEN

UNITS: dict[str, tuple[dict[str, str], Seen]] = {
    "active": ({"ActiveState": "active", "MainPID": "42"}, Seen(True, pid=42)),
    "no main process": ({"ActiveState": "active", "MainPID": "0"}, Seen(True)),
    "on its way": ({"ActiveState": "activating", "SubState": "auto-restart"}, Seen(True)),
    "ending": ({"ActiveState": "deactivating", "MainPID": "7"}, Seen(True, pid=7)),
    "ended well": (
        {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "0"},
        Seen(False, exit_code=0, why="systemd calls it inactive"),
    ),
    "clean by SuccessExitStatus": (
        {"ActiveState": "inactive", "Result": "success", "ExecMainStatus": "42", "ExecMainCode": "1"},
        Seen(False, exit_code=0, why="systemd calls it inactive"),
    ),
    "status": (
        {"ActiveState": "failed", "Result": "exit-code", "ExecMainStatus": "3", "ExecMainCode": "1"},
        Seen(False, exit_code=3, why="systemd calls it failed: exit-code"),
    ),
    "signal": (
        {"ActiveState": "failed", "Result": "signal", "ExecMainStatus": "9", "ExecMainCode": "2"},
        Seen(False, exit_code=-9, why="systemd calls it failed: signal"),
    ),
    "never began": (
        {"ActiveState": "failed", "Result": "resources", "ExecMainStatus": "0"},
        Seen(False, exit_code=1, why="systemd calls it failed: resources"),
    ),
}


@pytest.mark.parametrize("case", UNITS)
def test_units(case: str) -> None:
    """`systemctl show` in the agent's words."""
    properties, expected = UNITS[case]
    assert unit.seen("x.service", {"LoadState": "loaded", **properties}) == expected


@pytest.mark.parametrize(
    ("properties", "sentence"),
    [
        ({"LoadState": "not-found", "ActiveState": "inactive"}, "no unit x.service: it is not-found"),
        ({"LoadState": "masked", "ActiveState": "inactive"}, "it is masked"),
        ({}, "says nothing"),
    ],
)
def test_units_that_are_none(properties: dict[str, str], sentence: str) -> None:
    """One sentence each."""
    with pytest.raises(RemoteError, match=sentence):
        unit.seen("x.service", properties)


@pytest.mark.parametrize(
    ("state", "code", "specific", "expected"),
    [
        (windows_service.RUNNING, 0, 0, Seen(True, pid=8)),
        (windows_service.START_PENDING, 0, 0, Seen(True, pid=8)),
        (windows_service.STOP_PENDING, 0, 0, Seen(True, pid=8)),
        (windows_service.STOPPED, 0, 0, Seen(False, exit_code=0, why="it has stopped")),
        (windows_service.STOPPED, 5, 0, Seen(False, exit_code=5, why="it has stopped with 5 (0x5)")),
        (windows_service.STOPPED, 1066, 9, Seen(False, exit_code=9, why="it has stopped with 9 (0x9)")),
        (windows_service.STOPPED, 1067, 0, Seen(False, exit_code=1, why="it has stopped with 1067 (0x42b)")),
    ],
)
def test_services_of_windows(state: int, code: int, specific: int, expected: Seen) -> None:
    """SERVICE_STATUS_PROCESS in the agent's words; the structure is as large as Windows has it."""
    status = windows_service.Status(state=state, exit_code=code, specific_exit_code=specific, pid=8)
    assert windows_service.seen_in(status) == expected
    assert ctypes.sizeof(status) == 36


@pytest.mark.asyncio
async def test_services_of_windows_are_only_there() -> None:
    """Elsewhere a configuration with one says so when it is tried."""
    (spec,) = parse(
        b"services: {a: {driver: windows, service: Spooler}}", file="f.yaml"
    ).config.services.values()
    with pytest.raises(RemoteError, match="only there on Windows"):
        await windows_service.ServiceOfWindows("a", spec).look()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({"Running": True, "Pid": 3}, Seen(True, pid=3)),
        ({"Running": False, "Paused": True, "Pid": 3}, Seen(True, pid=3)),
        (
            {"Running": False, "ExitCode": 2},
            Seen(False, exit_code=2, why="the container has ended: exit status 2"),
        ),
        (
            {"Running": False, "ExitCode": 137, "OOMKilled": True},
            Seen(
                False, exit_code=-9, why="the container has ended: signal SIGKILL, it had used up its memory"
            ),
        ),
        (
            {"ExitCode": 127, "Error": "no such file"},
            Seen(False, exit_code=127, why="the container has ended: exit status 127, no such file"),
        ),
        (
            {"ExitCode": -1},
            Seen(
                False,
                exit_code=NOT_SEEN,
                why="the container has ended: an end that nobody saw: it was no child of this agent",
            ),
        ),
    ],
)
def test_states_of_containers(state: dict[str, Any], expected: Seen) -> None:
    """An inspection in the agent's words."""
    assert container.seen(state) == expected


def test_definition_of_a_container() -> None:
    """All of it is what the engine is told; the order of variables is no change, a secret is one."""
    text = (
        "services: {a: {driver: container, image: 'i:1', command: [run], environment: {B: '2', A: '1'}, "
        "volumes: ['/x:/y:ro'], network: host, user: '5', working_directory: /w, labels: {L: l}, "
        "host_options: {Memory: 67108864}}}"
    )
    (spec,) = parse(text.encode(), file="f.yaml").config.services.values()
    assert isinstance(spec, ContainerService)
    body = container.definition("a", spec)
    digest = body["Labels"].pop(container.DIGEST)
    assert body == {
        "Image": "i:1", "Cmd": ["run"], "Env": ["A=1", "B=2"], "User": "5", "WorkingDir": "/w",
        "HostConfig": {
            "Binds": ["/x:/y:ro"], "RestartPolicy": {"Name": "no"}, "Memory": 67108864, "NetworkMode": "host",
        },
        "Labels": {"L": "l", "io.watchkeeper.service": "a"},
    }  # fmt: skip
    (other,) = parse(text.replace("'2'", "'3'").encode(), file="f.yaml").config.services.values()
    assert isinstance(other, ContainerService)
    assert container.definition("a", other)["Labels"][container.DIGEST] != digest


class Core:
    """The reconciler of services, with an engine beside it."""

    def __init__(self) -> None:
        self.context = Context(Store(), Metrics(), chance=lambda: 0.5)
        reconciler = ServiceReconciler(self.context)
        self.worker = asyncio.create_task(
            work(self.context.queue, {Kind.SERVICE: reconciler}, self.context.metrics, lambda _key: None)
        )

    def load(self, text: str) -> None:
        for key in self.context.store.apply(parse(text.encode(), file="f.yaml")):
            self.context.add(key)

    async def until(self, condition: Callable[[], Any], what: str) -> Any:
        try:
            async with asyncio.timeout(10):
                while not (found := condition()):  # noqa: ASYNC110 - what is looked at has no event
                    await asyncio.sleep(0.01)
                return found
        except TimeoutError:
            pytest.fail(f"{what} did not come: {self.context.observed.services}")

    async def state(self, *states: State) -> Any:
        """The record of service `a`, once it is in one of the states."""

        def reached() -> Any:
            record = self.context.observed.services.get("a")
            return record if record is not None and record.state in states else None

        return await self.until(reached, f"one of {states}")

    async def close(self) -> None:
        self.worker.cancel()
        for record in self.context.observed.processes():
            record.process.close()  # type: ignore[union-attr]
        await self.context.hooks.run(asyncio.get_running_loop().time() + 5)


@pytest_asyncio.fixture
async def engine(tmp_path: Path) -> AsyncIterator[EngineServer]:
    server = EngineServer(tmp_path / "engine.sock")
    await server.start()
    yield server
    await server.stop()


@pytest_asyncio.fixture
async def core() -> AsyncIterator[Core]:
    made = Core()
    yield made
    await made.close()


def config(engine: EngineServer, **more: str) -> str:
    fields = {
        "socket": str(engine.socket),
        "image": "'image:1'",
        "period": "200ms",
        "backoff": "{initial: 50ms, jitter: 0}",
        **more,
    }
    words = ", ".join(f"{name}: {value}" for name, value in fields.items())
    return f"services: {{a: {{driver: container, {words}}}}}"


@pytest.mark.asyncio
async def test_a_container_is_made_kept_and_stopped(engine: EngineServer, core: Core) -> None:
    """Made once, started again when it ends, stopped by TERM when it is not wanted any more."""
    core.load(config(engine))
    record = await core.state(State.RUNNING)
    made = engine.containers["watchkeeper-a"]
    assert made.body["Labels"]["io.watchkeeper.service"] == "a"
    await core.until(lambda: record.process.pid == 4321, "its number")
    made.end(3)
    await core.until(lambda: made.starts == 2, "the second start")
    await core.state(State.RUNNING)
    assert (record.restarts, record.last_exit) == (1, "the container has ended: exit status 3")
    core.load("{}")
    await core.until(lambda: not core.context.observed.services, "the end")
    assert made.signals == ["SIGTERM"]
    assert list(engine.containers) == ["watchkeeper-a"]


@pytest.mark.asyncio
async def test_the_end_of_a_container_is_seen_at_once(engine: EngineServer, core: Core) -> None:
    """The engine's answer to `wait`, and no look after a period."""
    core.load(config(engine, period="1h"))
    await core.state(State.RUNNING)
    await core.until(lambda: "POST /containers/watchkeeper-a/wait" in engine.calls, "the wait")
    engine.containers["watchkeeper-a"].end(0)
    await core.until(lambda: engine.containers["watchkeeper-a"].starts == 2, "the second start")


@pytest.mark.asyncio
async def test_a_deaf_container_is_killed(engine: EngineServer, core: Core) -> None:
    """S6."""
    engine.deaf = True
    core.load(config(engine, stop_grace="100ms"))
    await core.state(State.RUNNING)
    core.load("{}")
    await core.until(lambda: not core.context.observed.services, "the end")
    assert engine.containers["watchkeeper-a"].signals == ["SIGTERM", "SIGKILL"]


@pytest.mark.asyncio
async def test_one_that_runs_is_taken_over(engine: EngineServer, core: Core) -> None:
    """It has outlived an agent; it is not started again."""
    core.load(config(engine))
    await core.state(State.RUNNING)
    other = Core()
    try:
        other.load(config(engine))
        record = await other.state(State.RUNNING)
        assert record.process.adopted
        assert engine.containers["watchkeeper-a"].starts == 1
    finally:
        await other.close()


@pytest.mark.asyncio
async def test_another_definition_is_another_container(engine: EngineServer, core: Core) -> None:
    """C2: of the same agent, and of one that was away when the definition changed."""
    core.load(config(engine))
    await core.state(State.RUNNING)
    first = engine.containers["watchkeeper-a"]
    core.load(config(engine, environment="{A: b}"))
    await core.until(lambda: engine.containers.get("watchkeeper-a") not in (None, first), "another one")
    assert first.signals == ["SIGTERM"]
    await core.state(State.RUNNING)
    second = engine.containers["watchkeeper-a"]
    other = Core()
    try:
        other.load(config(engine, environment="{A: c}"))
        await other.until(lambda: engine.containers.get("watchkeeper-a") not in (None, second), "a third one")
    finally:
        await other.close()


TROUBLES: dict[str, tuple[dict[str, str], str]] = {
    "image": (
        {"image": "'other:1'"},
        "the image other:1 is not there, and is not pulled: No such image: other:1",
    ),
    "stranger": ({"container": "taken"}, "there is a container taken that is not this agent's"),
    "nobody": (
        {"socket": "/no/such.sock"},
        "the engine at /no/such.sock does not answer: No such file or directory",
    ),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("case", TROUBLES)
async def test_troubles_with_containers(engine: EngineServer, core: Core, case: str) -> None:
    """One sentence, a failure, a later try; a container of somebody else's is not touched (C1)."""
    fields, sentence = TROUBLES[case]
    engine.containers["taken"] = Made({"Image": "x", "Labels": {}}, running=True)
    core.load(config(engine, **fields))
    record = await core.until(
        lambda: (found := core.context.observed.services.get("a")) and found.failures > 1 and found,
        "two tries",
    )
    assert record.last_exit == f"it cannot be started: {sentence}"
    assert not engine.containers["taken"].signals
    assert engine.containers["taken"].running


@pytest.mark.asyncio
async def test_an_engine_in_trouble_is_believed_after_a_while(engine: EngineServer, core: Core) -> None:
    """R3: one bad answer says nothing; five in a row are an end, and the service comes back with the engine."""
    core.load(config(engine, period="100ms"))
    record = await core.state(State.RUNNING)
    engine.trouble = 500
    await core.until(lambda: record.failures, "the failure")
    assert "the engine says 500" in record.last_exit
    engine.trouble = None
    await core.state(State.RUNNING)
    assert engine.containers["watchkeeper-a"].starts == 1


class Scripted:
    """A service elsewhere, whose looks are a list."""

    def __init__(self, *looks: Seen | RemoteError) -> None:
        self.looks = list(looks)
        self.said: list[str] = []
        self.hang = asyncio.Event()

    async def start(self) -> None:
        self.said.append("start")

    async def stop(self) -> None:
        self.said.append("stop")

    async def kill(self) -> None:
        self.said.append("kill")

    async def look(self) -> Seen:
        found = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(found, RemoteError):
            raise found
        return found

    async def change(self, period: float) -> None:
        await asyncio.sleep(period)


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_stop_is_followed_closely() -> None:
    """Whoever is looked at every hour is looked at every tenth of a second from the moment it is told to end; and is told once."""
    remote = Scripted(Seen(True), Seen(True), Seen(True), Seen(False, exit_code=0, why="done"))
    ended: list[Polled] = []
    polled = Polled("a", remote, 3600.0, ended.append)
    await asyncio.sleep(10)
    for _ in range(3):
        polled.terminate()
    await asyncio.sleep(1)
    assert (polled.exit_code, polled.ended_because, ended) == (0, "done", [polled])
    assert polled.exited_at == pytest.approx(10.2, abs=0.05)
    assert remote.said == ["start", "stop"]
    polled.close()


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_single_bad_looks_say_nothing() -> None:
    """R3."""
    trouble = RemoteError("no answer")
    remote = Scripted(*[trouble] * 4, Seen(True), *[trouble] * 4, Seen(True))
    polled = Polled("a", remote, 1.0, lambda _ended: None, seen=Seen(True))
    await asyncio.sleep(60)
    assert polled.exit_code is None
    remote.looks = [trouble]
    await asyncio.sleep(60)
    assert (polled.exit_code, polled.ended_because) == (NOT_SEEN, "it cannot be looked at: no answer")
    polled.close()


def test_names() -> None:
    """Every driver of the configuration has an implementation that can be loaded."""
    text = (
        "services: {p: {command: [x]}, u: {driver: systemd, unit: x.service}, w: {driver: windows, service: x}, "
        "c: {driver: container, image: i}}"
    )
    assert {type(spec) for spec in parse(text.encode(), file="f.yaml").config.services.values()} == set(
        DRIVERS
    )
