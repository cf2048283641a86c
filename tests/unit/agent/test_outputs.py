"""Outputs of the log: the queue in front of a sink, the spool, the tail. Threads and files are real."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper import logs, redact
from watchkeeper.config.load import parse
from watchkeeper.config.schema.outputs import LokiOutput
from watchkeeper.config.snapshot import Key, Kind
from watchkeeper.config.store import Store
from watchkeeper.context import Context
from watchkeeper.metrics import Metrics
from watchkeeper.outputs import writer as writers
from watchkeeper.outputs.handler import OutputHandler
from watchkeeper.outputs.spool import FileSpool
from watchkeeper.outputs.tail import CAPACITY, LONGEST, Tail
from watchkeeper.outputs.writer import Counts, RefusedError, SinkError, Writer
from watchkeeper.reconcilers import outputs


class Recorder:
    """A sink that keeps what it is given, and does first what it is told to."""

    def __init__(self, before: Callable[[int], None] = lambda _call: None) -> None:
        self.batches: list[list[bytes]] = []
        self.calls = 0
        self.closed = threading.Event()
        self._before = before

    def write(self, lines: list[bytes]) -> None:
        self.calls += 1
        self._before(self.calls)
        self.batches.append(list(lines))

    def close(self) -> None:
        self.closed.set()

    @property
    def lines(self) -> list[bytes]:
        return [line for batch in self.batches for line in batch]


class Gate:
    """Lets a sink go on when it is opened; says when the sink has come to it."""

    def __init__(self) -> None:
        self.reached, self.opened = threading.Event(), threading.Event()

    def __call__(self, _call: int) -> None:
        self.reached.set()
        assert self.opened.wait(30)


def balanced(counts: Counts) -> bool:
    """Rule W5."""
    ends = counts.written + counts.spooled + counts.dropped + counts.lost + counts.queued
    return counts.accepted == ends


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writers, "FIRST_PAUSE", 0.001)
    monkeypatch.setattr(writers, "LAST_PAUSE", 0.01)


def numbered(count: int) -> list[bytes]:
    return [b"line %d" % number for number in range(count)]


def test_lines_come_in_order_and_in_batches() -> None:
    """W2: no batch is larger than asked for, nothing is missing, nothing changes places."""
    sink = Recorder()
    writer = Writer("x", sink, batch=7)
    for line in numbered(1000):
        assert writer.write(line)
    assert writer.close(30)
    assert sink.lines == numbered(1000)
    assert max(map(len, sink.batches)) <= 7
    assert writer.counts() == Counts(accepted=1000, written=1000)
    assert sink.closed.is_set()


def test_a_full_batch_and_an_error_do_not_wait() -> None:
    """W2: with an interval of an hour a single line waits, a hurried one and a full batch go."""
    for hurry, count in ((True, 1), (False, 4)):
        arrived = threading.Event()
        writer = Writer("x", Recorder(lambda _call, arrived=arrived: arrived.set()), batch=4, interval=3600)
        for line in numbered(count):
            writer.write(line, hurry=hurry)
        assert arrived.wait(30)
        assert writer.close(30)


def test_the_agent_does_not_wait_for_a_sink_that_hangs() -> None:
    """W1: the oldest lines go, the newest stay, and the numbers add up."""
    gate = Gate()
    sink = Recorder(gate)
    writer = Writer("x", sink, capacity=10, batch=5)
    writer.write(b"first", hurry=True)
    assert gate.reached.wait(30)
    for line in numbered(25):
        writer.write(line)
    counts = writer.counts()
    assert (counts.accepted, counts.dropped, counts.queued) == (26, 15, 11)
    gate.opened.set()
    assert writer.close(30)
    assert sink.lines == [b"first", *numbered(25)[15:]]
    assert balanced(writer.counts())


def test_a_batch_that_failed_comes_again_before_anything_newer() -> None:
    """W3."""

    def fails_twice(call: int) -> None:
        if call <= 2:
            raise SinkError("away")

    sink = Recorder(fails_twice)
    writer = Writer("x", sink)
    writer.write(b"a", hurry=True)
    assert writer.flush(30)
    writer.write(b"b", hurry=True)
    assert writer.close(30)
    assert sink.lines == [b"a", b"b"]
    assert writer.counts() == Counts(accepted=2, written=2, failures=2)
    assert writer.last_error == ""


def test_what_is_refused_for_good_is_lost_and_said() -> None:
    """W4: the whole batch, or as many lines of it as the output says; what comes later goes on."""

    def refuses(call: int) -> None:
        if call == 1:
            raise RefusedError("never", 2)
        if call == 2:
            raise RefusedError("never at all")

    writer = Writer("x", Recorder(refuses), batch=5)
    for line in numbered(5):
        writer.write(line)
    assert writer.flush(30)
    assert writer.counts() == Counts(accepted=5, written=3, lost=2)
    writer.write(b"more")
    assert writer.flush(30)
    writer.write(b"last")
    assert not writer.close(30)
    assert writer.counts() == Counts(accepted=7, written=4, lost=3)
    assert writer.last_refusal == "never at all"


def test_a_defect_in_a_sink_costs_a_batch() -> None:
    """The thread lives on."""

    def breaks(call: int) -> None:
        if call == 1:
            raise ZeroDivisionError

    sink = Recorder(breaks)
    writer = Writer("x", sink)
    writer.write(b"a", hurry=True)
    assert writer.flush(30)
    writer.write(b"b")
    assert not writer.close(30)
    assert (sink.lines, writer.counts().lost) == ([b"b"], 1)
    assert "ZeroDivisionError" in writer.last_refusal


def test_after_its_end_a_writer_takes_nothing() -> None:
    writer = Writer("x", Recorder())
    assert writer.close(30)
    assert not writer.write(b"late")
    assert writer.counts() == Counts()


def test_what_cannot_be_sent_waits_on_disk(tmp_path: Path) -> None:
    """W3, W6: an output that is away for a whole run gets everything in the next one, once, and in order."""

    def away(_call: int) -> None:
        raise SinkError("away")

    spool = FileSpool(tmp_path / "spool", 1 << 20)
    writer = Writer("x", Recorder(away), batch=10, spool=spool)
    for line in numbered(95):
        writer.write(line)
    assert writer.close(30)
    counts = writer.counts()
    assert (counts.spooled, counts.lost, counts.queued) == (95, 0, 0)
    sink = Recorder()
    again = Writer("x", sink, spool=FileSpool(tmp_path / "spool", 1 << 20))
    again.write(b"newer")
    assert again.close(30)
    assert sink.lines == [*numbered(95), b"newer"]
    assert again.counts() == Counts(accepted=96, written=96)
    assert not list((tmp_path / "spool").iterdir())


def test_an_output_that_is_away_does_not_fill_the_memory(tmp_path: Path) -> None:
    """W3: with a spool the queue is emptied to the disk while the output fails, so nothing is dropped."""
    up = threading.Event()

    def until_up(_call: int) -> None:
        if not up.is_set():
            raise SinkError("away")

    sink = Recorder(until_up)
    writer = Writer("x", sink, capacity=20, batch=10, spool=FileSpool(tmp_path / "spool", 1 << 20))
    for line in numbered(200):
        while writer.counts().queued >= 15:  # as slowly as the disk takes it
            pass
        writer.write(line)
    assert writer.counts().dropped == 0
    up.set()
    assert writer.close(30)
    assert sink.lines == numbered(200)


def test_a_spool_that_cannot_be_written(tmp_path: Path) -> None:
    """It is as if there were none, and that is said."""
    (tmp_path / "spool").write_text("a file where the folder should be")

    def away(_call: int) -> None:
        raise SinkError("away")

    writer = Writer("x", Recorder(away), spool=FileSpool(tmp_path / "spool", 1 << 20))
    writer.write(b"a")
    assert not writer.close(30)
    assert writer.counts().lost == 1
    assert "spool" in writer.last_error


@given(
    sizes=st.lists(st.integers(1, 40), max_size=12),
    limit=st.integers(50, 400),
    sent=st.integers(0, 3),
)
def test_the_spool_keeps_the_newest(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], limit: int, sent: int
) -> None:
    """P3: never more bytes than the limit, the oldest go first, and whoever was pushed out is counted; over a restart too."""
    folder = tmp_path_factory.mktemp("spool") / "x"
    spool = FileSpool(folder, limit)
    model: list[list[bytes]] = []
    for number, size in enumerate(sizes):
        batch = [b"%02d" % number + b"." * size, b"%02d second" % number]
        pushed_out = spool.append(batch)
        if sum(len(line) + 1 for line in batch) > limit:
            assert pushed_out == 2
            continue
        model.append(batch)
        gone = 0
        while sum(len(line) + 1 for kept in model for line in kept) > limit:
            gone += len(model.pop(0))
        assert pushed_out == gone
    again = FileSpool(folder, limit)
    for _ in range(min(sent, len(model))):
        assert again.first() == model.pop(0)
        again.remove_first()
    assert again.lines == sum(map(len, model))
    assert [FileSpool(folder, limit).first()] == (model[:1] or [[]])


def test_what_is_no_segment_is_left_alone(tmp_path: Path) -> None:
    """P1, P4: half a segment of a killed agent, an empty one, and somebody's notes."""
    for name in (".000000000001-2.ndjson", "000000000002-1.ndjson", "README"):
        (tmp_path / name).write_bytes(b"")
    spool = FileSpool(tmp_path, 1000)
    assert spool.first() == []
    spool.append([b"a"])
    assert spool.first() == [b"a"]
    assert {place.name for place in tmp_path.iterdir()} >= {".000000000001-2.ndjson", "README"}


# -- as a handler of the log -------------------------------------------------------------------------------------------------


@pytest.fixture
def clean() -> Iterator[logging.Logger]:
    """The root logger without handlers, and as it was afterwards."""
    root, own = logging.getLogger(), logging.getLogger(logs.ROOT)
    before = (list(root.handlers), root.level, own.level)
    root.handlers[:] = []
    own.setLevel(logs.TRACE)
    yield root
    root.handlers[:], root.level = before[0], before[1]
    own.setLevel(before[2])
    redact.forget()


def test_levels_of_outputs(clean: logging.Logger) -> None:
    """Each output has its own least level; the log's own comes first; all six levels have their names."""
    sinks = {"all": Recorder(), "bad": Recorder()}
    handlers = {
        "all": OutputHandler(Writer("all", sinks["all"]), logs.TRACE),
        "bad": OutputHandler(Writer("bad", sinks["bad"]), logging.ERROR),
    }
    for handler in handlers.values():
        logs.attach(handler)
    journal = logs.get_logger("x")
    for name in ("trace", "debug", "info", "warning", "error", "fatal"):
        getattr(journal, name)(name)
    logging.getLogger("other.library").error("through a record")
    for handler in handlers.values():
        assert handler.close_within(30)
        logs.detach(handler)
    said = {name: [json.loads(line)["level"] for line in sink.lines] for name, sink in sinks.items()}
    assert said["all"] == ["TRACE", "DEBUG", "INFO", "WARNING", "ERROR", "FATAL", "ERROR"]
    assert said["bad"] == ["ERROR", "FATAL", "ERROR"]


def test_an_output_shows_no_secret(clean: logging.Logger) -> None:
    """In a field, a message, a key, or an object that is only text once it is written."""

    class Odd:
        def __str__(self) -> str:
            return "it is hunter2\\"

    redact.add("hunter2\\")
    sink = Recorder()
    handler = OutputHandler(Writer("x", sink), 0)
    logs.attach(handler)
    logs.get_logger("x").info("use hunter2\\", a="hunter2\\", b=Odd(), **{"hunter2\\": 1})
    assert handler.close_within(30)
    logs.detach(handler)
    [line] = sink.lines
    assert b"hunter2" not in line
    assert json.loads(line)["message"] == f"use {redact.MARK}"


# -- the tail ------------------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_the_tail_keeps_the_newest_and_finds_a_service() -> None:
    """Numbers never repeat, an overlong line leaves a gap in them, and only the asked-for service is shown."""
    tail = Tail(capacity=4)
    for number in range(6):
        tail.take(b'{"service":"%s","n":%d}' % (b"web" if number % 2 else b"db", number), 20)
    tail.take(b"x" * (LONGEST + 1), 20)
    tail.take(b'{"service":"web","n":7}', 20)
    assert [each.number for each in tail.last()] == [4, 5, 6, 8]
    assert [each.number for each in tail.last(service="web")] == [4, 6, 8]
    assert [each.number for each in tail.last(1)] == [8]
    assert [each.number for each in tail.last(after=5)] == [6, 8]
    assert tail.last(0) == []
    assert CAPACITY >= 100


@pytest.mark.asyncio
async def test_following_the_tail() -> None:
    """Lines of other threads wake whoever waits; he sees each once, and none from before he came."""
    tail = Tail()
    tail.take(b"old", 20)
    lines = tail.follow()
    first = asyncio.ensure_future(anext(lines))
    await asyncio.sleep(0)
    thread = threading.Thread(target=lambda: [tail.take(b"%d" % number, 20) for number in range(3)])
    thread.start()
    found = [(await first).line, (await anext(lines)).line, (await anext(lines)).line]
    thread.join()
    assert found == [b"0", b"1", b"2"]
    await lines.aclose()


@pytest.mark.asyncio
async def test_lines_that_come_while_a_follower_is_busy() -> None:
    """What is logged while he writes an earlier line out is not left until the next one."""
    tail = Tail()
    for number in range(2):
        tail.take(b"%d" % number, 20)
    lines = tail.follow(after=0)
    assert (await anext(lines)).line == b"0"
    tail.take(b"2", 20)
    assert (await anext(lines)).line == b"1"
    assert (await asyncio.wait_for(anext(lines), 5)).line == b"2"
    await lines.aclose()


@pytest.mark.skipif(os.name != "posix", reason="modes")
def test_nobody_else_gets_at_the_spool(tmp_path: Path) -> None:
    """Whatever the umask: neither at a segment, nor at its folder or the one of all spools."""
    before = os.umask(0)
    try:
        FileSpool(tmp_path / "spool" / "x", 1000).append([b"line"])
    finally:
        os.umask(before)
    made = list(tmp_path.rglob("*"))
    assert len(made) == 3
    assert not any(each.stat().st_mode & 0o077 for each in made)


def test_a_segment_that_somebody_else_has_put_there_is_not_written_over(tmp_path: Path) -> None:
    """Two objects on one folder, as while an output is replaced: each batch is still there."""
    spools = [FileSpool(tmp_path, 1000) for _ in range(2)]
    for number, spool in enumerate(spools):
        spool.append([b"of %d" % number])
    assert sorted(place.read_bytes() for place in tmp_path.iterdir()) == [b"of 0\n", b"of 1\n"]


@pytest.mark.asyncio
async def test_what_an_old_definition_has_left_on_disk_is_sent_by_the_new_one(
    clean: logging.Logger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An output is away, and a reload says where it is now: all that waits goes there, in memory or on disk."""

    def away(_call: int) -> None:
        raise SinkError("away")

    sinks = {"http://old": Recorder(away), "http://new": Recorder()}
    monkeypatch.setitem(outputs.SINKS, LokiOutput, lambda spec: sinks[spec.url])
    context = Context(Store(str(tmp_path)), Metrics())
    reconciler, key = outputs.OutputReconciler(context), Key(Kind.OUTPUT, "x")
    for url in sinks:
        spec = {"type": "loki", "url": url, "spool": "1MiB", "flush_interval": "1h"}
        context.store.apply(parse(json.dumps({"outputs": {"x": spec}}).encode(), file="f.yaml"))
        await reconciler.reconcile(key)
        clean.warning(url)
    context.store.apply(parse(b"{}", file="f.yaml"))
    await reconciler.reconcile(key)
    assert [json.loads(line)["message"] for line in sinks["http://new"].lines] == list(sinks)
