"""Where the agent uses the extension: its log goes through the ring, and services' processes come from one pass."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest

from support.native_build import built
from watchkeeper import logs, metrics
from watchkeeper.metrics import sources
from watchkeeper.native import proc
from watchkeeper.native.log_ring import LogRing
from watchkeeper.native.proc import Process
from watchkeeper.observed import Observed
from watchkeeper.supervise.lifecycle import Record

AGENT = Path(logs.__file__).parents[1]


@pytest.fixture
def clean_logging() -> Iterator[logging.Logger]:
    """No handlers; what was there comes back, and rings are closed."""
    root, own = logging.getLogger(), logging.getLogger(logs.ROOT)
    before = root.handlers[:], root.level, own.level, logging.raiseExceptions
    hook = sys.excepthook
    root.handlers[:] = []
    yield root
    sys.excepthook = hook
    for handler in root.handlers:
        handler.close()
    root.handlers[:], _, _, logging.raiseExceptions = before
    root.setLevel(before[1])
    own.setLevel(before[2])


@pytest.fixture
def ringed(clean_logging: logging.Logger, tmp_path: Path) -> tuple[logs.RingHandler, Path]:
    """The agent's logging, into a file."""
    handler = logs.RingHandler(LogRing.at(tmp_path / "log"))
    handler.setFormatter(logs.JsonFormatter())
    clean_logging.addHandler(handler)
    logs.configure("info")
    assert clean_logging.handlers == [handler]
    return handler, tmp_path / "log"


def written(ringed: tuple[logs.RingHandler, Path]) -> list[Any]:
    handler, path = ringed
    handler.flush()
    return [json.loads(line) for line in path.read_bytes().splitlines()]


# -- the log ---------------------------------------------------------------------------------------------------------------

values = (
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.text(max_size=10) | st.binary(max_size=5)
)
names = st.text(max_size=8) | st.sampled_from(["level", "timestamp", "message", "logger", "field_level"])


@given(
    message=st.text(max_size=30),
    fields=st.dictionaries(names, values, max_size=5),
    created=st.floats(0, 4e9, allow_nan=False),
)
@example(message="100%s\n", fields={"level": 1, "timestamp": None}, created=1.999)
def test_the_short_way_writes_the_same(message: str, fields: dict[str, Any], created: float) -> None:
    """A line that was never a record is the line that the record would have become."""
    record = logging.LogRecord("watchkeeper.x", logging.INFO, __file__, 1, "%s", (message,), None)
    record.created = created
    record.fields = fields
    line = logs._line(created, "INFO", "watchkeeper.x", message, fields)
    assert logs._encode(line).decode() == logs.JsonFormatter().format(record)


def test_lines_arrive_in_order(ringed: tuple[logs.RingHandler, Path]) -> None:
    """The agent's own, those of other libraries, and one with a traceback."""
    journal = logs.get_logger("x")
    journal.info("one", service="a")
    logging.getLogger("library").warning("two %d", 2)
    try:
        raise KeyError("k")
    except KeyError:
        journal.crash("three")
    journal.debug("unseen")
    found = written(ringed)
    assert [line["message"] for line in found] == ["one", "two 2", "three"]
    assert (found[0]["service"], found[1]["logger"]) == ("a", "library")
    assert "KeyError: 'k'" in found[2]["traceback"]


def test_an_error_is_not_kept_back(clean_logging: logging.Logger, tmp_path: Path) -> None:
    """It goes out at once, with all before it, however long lines may gather."""
    handler = logs.RingHandler(LogRing.at(tmp_path / "log", linger=60.0))
    handler.setFormatter(logs.JsonFormatter())
    clean_logging.addHandler(handler)
    logs.configure("info")
    logs.get_logger("x").info("first")
    logs.get_logger("x").error("now")
    limit = time.monotonic() + 20
    while (tmp_path / "log").read_bytes().count(b"\n") < 2:
        assert time.monotonic() < limit
        time.sleep(0.005)


def test_nobody_is_passed_over(ringed: tuple[logs.RingHandler, Path]) -> None:
    """Other handlers, filters and levels are heeded as in any logging: then a record is made."""
    handler, _ = ringed
    journal, heard = logs.get_logger("x"), io.StringIO()
    other = logging.StreamHandler(heard)
    for logger in (logging.getLogger(), logging.getLogger(logs.ROOT), logging.getLogger("watchkeeper.x")):
        logger.addHandler(other)
        journal.info(f"to {logger.name}")
        logger.removeHandler(other)
    assert heard.getvalue().splitlines() == ["to root", "to watchkeeper", "to watchkeeper.x"]
    for filterer in (handler, logging.getLogger("watchkeeper.x")):
        filterer.addFilter(lambda record: "secret" not in record.getMessage())
        journal.info("a secret")
        filterer.filters.clear()
    handler.setLevel(logging.WARNING)
    journal.info("too quiet")
    handler.setLevel(logging.NOTSET)
    assert [line["message"] for line in written(ringed)] == ["to root", "to watchkeeper", "to watchkeeper.x"]


def test_a_value_that_cannot_be_written(ringed: tuple[logs.RingHandler, Path]) -> None:
    """It costs its line, and does not end the program."""

    class Odd:
        def __str__(self) -> str:
            raise ValueError("no text")

    logs.get_logger("x").info("odd", value=Odd())
    logs.get_logger("x").info("after")
    assert [line["message"] for line in written(ringed)] == ["after"]


CONFIGURED = """
import importlib.machinery, importlib.util, os, signal, sys, time, watchkeeper
if path := {path!r}:
    loader = importlib.machinery.ExtensionFileLoader("watchkeeper._native", path)
    made = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    watchkeeper._native = sys.modules[loader.name] = made
    loader.exec_module(made)
import watchkeeper.logs as logs, watchkeeper.native
assert watchkeeper.native.EXTENSION is bool(path)
logs.configure('info')
journal = logs.get_logger('x')
"""
MANY = "for number in range(30000): journal.info('line', number=number, fill='.' * 200)\n"
FORMS = pytest.mark.parametrize("form", ["twin", "extension"])


def started(script: str, stderr: int = subprocess.PIPE, form: str = "twin") -> subprocess.Popen[bytes]:
    """A program that logs as the agent does."""
    path = str(built()) if form == "extension" else ""
    environment = {**os.environ, "PYTHONPATH": str(AGENT), "WATCHKEEPER_NATIVE": "1" if path else "0"}
    command = [sys.executable, "-c", CONFIGURED.format(path=path) + script]
    return subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
    )


def logged(stderr: bytes) -> list[Any]:
    return [json.loads(line) for line in stderr.splitlines() if line.startswith(b"{")]


@FORMS
@pytest.mark.skipif(os.name == "nt", reason="select on a pipe")
def test_a_reader_that_sleeps(form: str) -> None:
    """Standard error is a full pipe: the program logs on, ends within CLOSE_LIMIT, and says what it dropped."""
    reader, writer = os.pipe()
    script = (
        MANY + "logs.flush()\nprint(logs.counts()['dropped_oldest'] > 1000, time.monotonic(), flush=True)\n"
    )
    with started(script, writer, form) as child:
        told, end = child.communicate(timeout=60)[0].split(), time.monotonic()
    os.close(reader)
    os.close(writer)
    assert (child.returncode, told[0]) == (0, b"True")
    assert end - float(told[1]) < 5  # what `flush` has waited for already is not waited for again


@FORMS
@pytest.mark.skipif(os.name == "nt", reason="select on a pipe")
def test_a_reader_that_wakes_up(form: str) -> None:
    """Once he reads on, lines in the log's own format say how many are missing: all that are, and the rest is in order."""
    script = MANY + "print('full', flush=True)\nsys.stdin.read()\n"
    with started(script, form=form) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"full\n"
        found = logged(child.communicate(timeout=60)[1])
    assert child.returncode == 0
    notices = [line for line in found if line["message"].endswith(" log lines were dropped")]
    for line in notices:
        assert (line["logger"], line["level"]) == ("watchkeeper.logs", "WARNING")
        assert line["message"].split()[0] == str(line["dropped"])
    # Two notices never follow each other, so what is dropped while one is written is said behind the next batch.
    numbers = [line["number"] for line in found if line not in notices]
    assert numbers == sorted(set(numbers))
    said = sum(line["dropped"] for line in notices)
    assert (len(numbers) + said, said > 1000) == (30000, True)


@FORMS
def test_lines_after_the_end(form: str) -> None:
    """Threads and exit functions that log after `logging.shutdown` are heard, short ones and long ones."""
    script = (
        "import logging, threading\n"
        "journal.info('before')\nlogging.shutdown()\n"
        "def work():\n    journal.info('thread')\n    logging.getLogger('library').warning('w' * 9000)\n"
        "thread = threading.Thread(target=work)\nthread.start()\nthread.join()\njournal.error('last')\n"
    )
    with started(script, form=form) as child:
        found = logged(child.communicate(timeout=60)[1])
    assert [line["message"] for line in found] == ["before", "thread", "w" * 9000, "last"]


@FORMS
@pytest.mark.parametrize("end", ["os._exit(0)", "os.kill(os.getpid(), signal.SIGKILL)", "os.abort()"])
@pytest.mark.skipif(os.name == "nt", reason="signals")
def test_a_sudden_end(form: str, end: str) -> None:
    """It costs what was logged in the last LINGER, and nothing that is older."""
    script = f"for number in range(500): journal.info(str(number))\ntime.sleep(logs.LINGER + 0.5)\n{end}\n"
    with started(script, form=form) as child:
        found = logged(child.communicate(timeout=60)[1])
    assert [line["message"] for line in found] == [str(number) for number in range(500)]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc")
def test_a_service_inherits_nothing() -> None:
    """The descriptor of the log is not a child's, also where a child is given all that can be given."""
    script = (
        "import subprocess\n"
        "show = [sys.executable, '-c', 'import os; print(sorted(map(int, os.listdir(\"/proc/self/fd\"))))']\n"
        "def seen(): return subprocess.run(show, close_fds=False, stdout=subprocess.PIPE).stdout\n"
        "print(seen() == subprocess.run(show, stdout=subprocess.PIPE).stdout)\n"
    )
    with started(script) as child:
        assert child.communicate(timeout=60)[0].split() == [b"True"]


def test_the_log_comes_before_the_reason() -> None:
    """What the agent logged before it gave up stands before the line that says why."""
    script = "logs.get_logger('x').info('first')\nlogs.flush()\nprint('reason', file=sys.stderr)\n"
    with started(script) as child:
        lines = child.communicate(timeout=60)[1].splitlines()
    assert [line[:1] for line in lines] == [b"{", b"r"]


def test_everything_is_out_at_the_end() -> None:
    """A program that ends, also by an exception, has written its last line before."""
    script = "import watchkeeper.logs as logs\nlogs.configure('info')\nfor n in range(5000): logs.get_logger('x').info(str(n))\n"
    for end, code in (("", 0), ("raise SystemExit(3)", 3), ("1/0", 1)):
        done = subprocess.run(
            [sys.executable, "-c", script + end], env={**os.environ, "PYTHONPATH": str(AGENT)},
            capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == code
        found = [json.loads(line)["message"] for line in done.stderr.splitlines()[:5000]]
        assert found == [str(number) for number in range(5000)]
        assert (b"ZeroDivisionError" in done.stderr.splitlines()[-1]) is (code == 1)


def test_without_standard_error(clean_logging: logging.Logger, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there is none, or one without a descriptor, nothing is opened and nothing fails."""
    for stream in (None, io.StringIO()):
        clean_logging.handlers[:] = []
        monkeypatch.setattr(sys, "stderr", stream)
        logs.configure("info")
        logs.get_logger("x").info("heard")
        assert logs.counts() == {}
    assert isinstance(stream, io.StringIO)
    assert json.loads(stream.getvalue())["message"] == "heard"


def test_counts_are_served(ringed: tuple[logs.RingHandler, Path]) -> None:
    """/metrics has what became of the lines."""
    logs.get_logger("x").info("one")
    ringed[0].flush()
    registry = CollectorRegistry()
    registry.register(metrics.LogCollector())
    text = generate_latest(registry).decode()
    assert 'watchkeeper_log_lines_total{outcome="written"} 1.0' in text
    assert 'watchkeeper_log_lines_total{outcome="dropped"} 0.0' in text


# -- processes of services ---------------------------------------------------------------------------------------------------

SOME = Process(1, 0, "S", 1.0, 0.5, 100, 0.0, "init", None)


def some(pid: int, ppid: int) -> Process:
    return replace_fields(SOME, pid=pid, ppid=ppid)


def replace_fields(process: Process, **fields: Any) -> Process:
    return process._replace(**fields)


@pytest.mark.parametrize(
    ("tree", "roots", "expected"),
    [
        ({1: 0, 2: 1, 3: 2, 4: 3, 5: 1}, {"a": 2, "b": 5}, {"a": {2, 3, 4}, "b": {5}}),
        ({1: 0}, {"gone": 7}, {"gone": set()}),
        ({2: 3, 3: 2}, {"circle": 2}, {"circle": {2, 3}}),
        ({0: 0, 4: 0}, {"own parent": 0}, {"own parent": {0, 4}}),
        ({}, {}, {}),
    ],
    ids=["descendants", "ended meanwhile", "a circle, by reused pids", "its own parent", "nothing"],
)
def test_families(tree: dict[int, int], roots: dict[str, int], expected: dict[str, set[int]]) -> None:
    """A service's processes are its first one and everything below; each counts once, and nothing hangs."""
    found = metrics.families([some(pid, ppid) for pid, ppid in tree.items()], roots)
    assert {name: {one.pid for one in members} for name, members in found.items()} == expected


def test_services_are_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums over the family; what is not known of a process counts as nothing."""
    tree = [
        some(1, 0),
        some(2, 1),
        replace_fields(some(3, 2), rss_bytes=None, user_seconds=None, system_seconds=None),
    ]
    monkeypatch.setattr(sources, "processes", lambda command: tree)
    own = metrics.Metrics()
    own.watch(queue_depth=lambda: 0, tasks_alive=lambda: 0, service_pids=lambda: {"web": 2})
    text = generate_latest(own.registry).decode()
    for line in ("processes{service=\"web\"} 2.0", "resident_memory_bytes{service=\"web\"} 100.0",
                 "cpu_seconds{service=\"web\"} 1.5"):  # fmt: skip
        assert f"watchkeeper_service_{line}" in text


def test_no_pass_without_a_service(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent that runs nothing looks at nothing."""
    monkeypatch.setattr(sources, "processes", lambda command: pytest.fail("it looked"))
    families = list(metrics.ServiceCollector(dict).collect())
    assert [family.samples for family in families] == [[], [], []]


def test_a_scrape_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where processes cannot be listed nothing is said of the services, and everything else is served."""

    def fail(command: bool) -> list[Process]:
        raise OSError(5, "no list")

    monkeypatch.setattr(sources, "processes", fail)
    own = metrics.Metrics()
    own.watch(queue_depth=lambda: 3, tasks_alive=lambda: 0, service_pids=lambda: {"web": 2})
    text = generate_latest(own.registry).decode()
    assert "watchkeeper_queue_depth 3.0" in text
    assert "# TYPE watchkeeper_service_processes gauge" in text
    assert "watchkeeper_service_processes{" not in text


def test_pids_of_services() -> None:
    """Only a first process that still runs is named: the number of an ended one may be anyone's."""

    class Child:
        started_at, exited_at = 0.0, None

        def __init__(self, pid: int, exit_code: int | None) -> None:
            self.pid, self.exit_code = pid, exit_code

        def group_alive(self) -> bool:
            return True

    observed = Observed()
    children: tuple[tuple[str, Any], ...] = (
        ("runs", Child(5, None)),
        ("ended", Child(6, 0)),
        ("never", None),
    )
    for name, child in children:
        observed.services[name] = Record(name=name, spec=None, process=child)
    assert observed.pids() == {"runs": 5}


def test_the_twin_through_psutil() -> None:
    """Where there is no /proc psutil answers, in the same form; this process looks the same both ways."""
    own = next(one for one in proc._psutil(True) if one.pid == os.getpid())
    other = next(one for one in proc.processes() if one.pid == os.getpid())
    assert isinstance(own, Process)
    assert (own.ppid, own.name, own.command) == (other.ppid, other.name, other.command)
    assert own.started == pytest.approx(other.started, abs=0.02)
    assert all(one.command is None for one in proc._psutil(False))
