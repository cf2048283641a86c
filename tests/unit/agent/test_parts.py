"""The small parts: tasks, log lines, output lines, the status table, what a child inherits."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import logging
import sys
from collections.abc import Iterator

import msgspec
import pytest

from watchkeeper import logs, system
from watchkeeper.errors import AgentUnreachableError
from watchkeeper.metrics import Metrics
from watchkeeper.status import AgentStatus, CheckStatus, ConfigStatus, ServiceStatus, rfc3339
from watchkeeper.status_client import decode, table
from watchkeeper.supervise.child import LineReader
from watchkeeper.tasks import Tasks


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_a_crashed_task_starts_again() -> None:
    """T1: after 1, 2, 4 ... 30 s; counted; a run of a minute starts over."""
    starts: list[float] = []
    metrics = Metrics()
    tasks = Tasks(metrics)
    loop = asyncio.get_running_loop()

    async def run() -> None:
        starts.append(loop.time())
        if len(starts) == 8:
            await asyncio.sleep(61)
        raise RuntimeError("crash")

    tasks.start("t", run)
    await asyncio.sleep(300)
    gaps = [later - earlier for earlier, later in itertools.pairwise(starts)]
    assert gaps[:9] == [1, 2, 4, 8, 16, 30, 30, 62, 2]
    assert metrics.registry.get_sample_value("watchkeeper_task_crashes_total", {"task": "t"}) == len(starts)
    assert tasks.alive == 1
    assert await tasks.stop(1.0) == []
    assert tasks.alive == 0


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_stop_names_who_is_late() -> None:
    """T2, T3: newest first, each is asked, and the one that does not end costs no more than the limit."""
    order: list[str] = []
    tasks = Tasks(Metrics())
    release = asyncio.Event()

    def make(name: str) -> None:
        async def run() -> None:
            try:
                await asyncio.Event().wait()
            finally:
                order.append(name)
                if name == "deaf":
                    await release.wait()

        tasks.start(name, run)

    async def nothing() -> None:
        pass

    for name in ("first", "deaf", "last"):
        make(name)
    tasks.start("returns", nothing)
    await asyncio.sleep(1)
    assert tasks.alive == 3
    begun = asyncio.get_running_loop().time()
    assert await tasks.stop(5.0) == ["deaf"]
    assert asyncio.get_running_loop().time() - begun == 5.0
    assert order == ["last", "deaf", "first"]
    release.set()
    await asyncio.sleep(0.1)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """Where log lines go; the logging of the test run is put back afterwards."""
    root, own = logging.getLogger(), logging.getLogger(logs.ROOT)
    before = root.handlers[:], root.level, own.level, logging.raiseExceptions
    root.handlers[:] = []
    target = io.StringIO()
    logs.configure("info", target)
    yield target
    root.handlers[:], _, _, logging.raiseExceptions = before
    root.setLevel(before[1])
    own.setLevel(before[2])


def test_log_lines(stream: io.StringIO) -> None:
    """One object per line, its five keys first; a field cannot take their place; nothing is formatted twice."""
    journal = logs.get_logger("x")
    journal.info("100%s done\nreally", service="a", level="mine", odd=object, name="n")
    [line] = stream.getvalue().splitlines()
    fields = json.loads(line)
    assert list(fields)[:5] == ["timestamp", "level", "service", "logger", "message"]
    assert (fields["level"], fields["logger"], fields["message"]) == (
        "INFO",
        "watchkeeper.x",
        "100%s done\nreally",
    )
    assert (fields["service"], fields["field_level"], fields["name"]) == ("a", "mine", "n")


def test_log_levels(stream: io.StringIO) -> None:
    """The level changes while the agent runs; other libraries only warn."""
    journal = logs.get_logger("x")
    journal.debug("unseen")
    logs.configure("debug")
    journal.debug("seen")
    logging.getLogger("some.library").info("unseen")
    logging.getLogger("some.library").warning("warned")
    logs.configure("error")
    journal.warning("unseen")
    assert [json.loads(line)["message"] for line in stream.getvalue().splitlines()] == ["seen", "warned"]


def test_a_crash_has_its_traceback(stream: io.StringIO) -> None:
    """In one line all the same."""
    try:
        raise KeyError("x")
    except KeyError:
        logs.get_logger("x").crash("it crashed")
    [line] = stream.getvalue().splitlines()
    assert "KeyError: 'x'" in json.loads(line)["traceback"]


@pytest.mark.parametrize(
    ("chunks", "lines"),
    [
        ([b"one\ntwo\n"], ["one", "two"]),
        ([b"o", b"n", b"e\r\nt", b"wo", b""], ["one", "two"]),
        ([b"\n\n"], ["", ""]),
        ([b"x" * 10 + b"\n"], ["x" * 10]),
        ([b"x" * 11 + b"\ny\n"], ["x" * 10 + "!", "y"]),
        ([b"x" * 6, b"x" * 6, b"x" * 1000, b"z\ny", b""], ["x" * 10 + "!", "y"]),
        ([b"x" * 11, b""], ["x" * 10 + "!"]),
        ([b"\xff\n"], ["\ufffd"]),
        ([b""], []),
    ],
)
def test_lines_of_output(chunks: list[bytes], lines: list[str]) -> None:
    """However they come in, whole lines go out; a long one is cut (!) once, and its rest is dropped."""
    found: list[str] = []
    reader = LineReader(10, lambda line, cut: found.append(line + "!" * cut))
    for chunk in chunks:
        reader.feed(chunk)
    assert found == lines


def test_what_a_child_of_a_frozen_agent_inherits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's library path and not the bundle's; nothing of the bundle's own variables."""
    monkeypatch.setattr(sys, "_MEIPASS", "/bundle", raising=False)
    monkeypatch.setenv("LD_LIBRARY_PATH", "/bundle:/host")
    monkeypatch.setenv("LD_LIBRARY_PATH_ORIG", "/host")
    monkeypatch.setenv("_PYI_ARCHIVE_FILE", "/bundle/agent")
    found = system.child_environment()
    assert found["LD_LIBRARY_PATH"] == "/host"
    assert not {"LD_LIBRARY_PATH_ORIG", "_PYI_ARCHIVE_FILE"} & set(found)
    monkeypatch.delenv("LD_LIBRARY_PATH_ORIG")
    assert "LD_LIBRARY_PATH" not in system.child_environment()
    monkeypatch.setenv("LD_LIBRARY_PATH", "/mine")
    assert system.child_environment()["LD_LIBRARY_PATH"] == "/mine"


def test_what_a_child_inherits_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    """All of it."""
    monkeypatch.setenv("LD_LIBRARY_PATH_ORIG", "/host")
    assert system.child_environment()["LD_LIBRARY_PATH_ORIG"] == "/host"


@pytest.mark.parametrize(
    ("code", "text"), [(0, "exit status 0"), (3, "exit status 3"), (-9, "signal SIGKILL"), (-99, "signal 99")]
)
def test_exits_in_words(code: int, text: str) -> None:
    assert system.describe_exit(code) == text


def example() -> AgentStatus:
    """An agent with a refused reload, a service in backoff and a failing check."""
    return AgentStatus(
        version="1",
        pid=7,
        state="running",
        ready=False,
        not_ready_because=["readiness check a/c does not pass"],
        started_at=rfc3339(0),
        listen="127.0.0.1:1",
        config=ConfigStatus(
            file="f",
            generation=3,
            digest="d",
            loaded_at=None,
            from_last_good=False,
            last_reload_error="f has 1 problem:",
            problems=["f:1:1: x"],
            needs_restart=[],
        ),
        services=[
            ServiceStatus(
                name="a",
                state="backoff",
                why="signal SIGKILL",
                since=rfc3339(0),
                ready=False,
                pid=None,
                instance=1,
                restarts=2,
                failures_in_a_row=1,
                last_exit=None,
                last_error=None,
                next_try_in=1.5,
            )
        ],
        checks=[
            CheckStatus(
                name="a/c",
                service="a",
                role="readiness",
                state="failure",
                why="no\nreason",
                since=rfc3339(0),
                on_hold=False,
                run=-1,
                last_run=None,
                last_error=None,
                next_try_in=None,
            )
        ],
    )


def test_the_status_table() -> None:
    """All that a person needs: state, why, next try, and what was wrong with the newest configuration."""
    assert table(msgspec.json.encode(example())).splitlines() == [
        "watchkeeper 1  pid 7  running  not ready: readiness check a/c does not pass",
        "configuration: the newest was refused, generation 3 is in force",
        "  f:1:1: x",
        "",
        "SERVICE  STATE    READY  PID  RESTARTS  NEXT TRY  WHY",
        "a        backoff  no     -    2         in 1.5s   signal SIGKILL",
        "",
        "CHECK  ROLE       STATE    NEXT LOOK  WHY",
        "a/c    readiness  failure  -          no",
    ]


@pytest.mark.parametrize("answer", [b"", b"<html>", b"{}", b"[]", b'{"version": 1}'])
def test_somebody_else_answers(answer: bytes) -> None:
    """Another program on the port is not taken for an agent."""
    with pytest.raises(AgentUnreachableError, match="not an agent of this version"):
        decode(answer, "u")


def test_metrics_of_what_is_gone_are_gone() -> None:
    """Series follow the configuration; those of others stay."""
    metrics = Metrics()
    for name in ("a", "b"):
        metrics.check_runs.labels(name, "success").inc()
        metrics.check_last_duration.labels(name).set(1)
        metrics.service_state.labels(name, "running").set(1)
    metrics.remove("check", "a")
    metrics.remove("service", "b")
    value = metrics.registry.get_sample_value
    assert value("watchkeeper_check_runs_total", {"check": "a", "outcome": "success"}) is None
    assert value("watchkeeper_check_last_duration_seconds", {"check": "a"}) is None
    assert value("watchkeeper_check_runs_total", {"check": "b", "outcome": "success"}) == 1
    assert value("watchkeeper_service_state", {"service": "a", "state": "running"}) == 1
    assert value("watchkeeper_service_state", {"service": "b", "state": "running"}) is None
