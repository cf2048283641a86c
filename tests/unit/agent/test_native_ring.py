"""The log ring: extension and twin keep and drop the same lines; no line is torn, and every one is counted."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.native_build import built, extension
from watchkeeper import native as door
from watchkeeper.native import log_ring
from watchkeeper.native import ring as twin

pytestmark = pytest.mark.skipif(
    os.name == "nt", reason="native/tests/check_extension.py is what runs on Windows"
)

AGENT = Path(door.__file__).parents[2]


@pytest.fixture(scope="module")
def native() -> ModuleType:
    return extension()


@pytest.fixture(params=["extension", "twin"])
def kind(request: pytest.FixtureRequest) -> Any:
    """The class Ring, in both forms."""
    return extension().Ring if request.param == "extension" else twin.Ring


@contextlib.contextmanager
def pipe(size: int = 4096, *, blocking: bool = False) -> Iterator[tuple[int, int]]:
    """Both ends of a small pipe."""
    import fcntl

    reader, writer = os.pipe()
    fcntl.fcntl(writer, fcntl.F_SETPIPE_SZ, size)
    os.set_blocking(reader, False)
    os.set_blocking(writer, blocking)
    try:
        yield reader, writer
    finally:
        for end in (reader, writer):
            with contextlib.suppress(OSError):
                os.close(end)


def read_all(reader: int) -> bytes:
    data = b""
    with contextlib.suppress(BlockingIOError):
        while got := os.read(reader, 65536):
            data += got
    return data


@contextlib.contextmanager
def drained(ring: Any) -> Iterator[threading.Thread]:
    """With a thread in `run`; the ring is closed at the end."""
    thread = threading.Thread(target=ring.run, daemon=True)
    thread.start()
    wait_until(lambda: ring.running)
    try:
        yield thread
    finally:
        ring.close(5)
        thread.join(5)


def wait_until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.002)


def balanced(counts: dict[str, int]) -> bool:
    return counts["appended"] == sum(counts[name] for name in ("written", "lost", "dropped_oldest", "queued"))


# -- equal under generated operations ------------------------------------------------------------------------------------

lines = (
    st.binary(max_size=40)
    | st.text(max_size=20)
    | st.sampled_from([b"\n", b"a\nb", b"x" * 63, b"x" * 64, b"y" * 127, "\ud800", ""])
)
operations = st.lists(
    st.tuples(st.just("write"), lines)
    | st.tuples(st.just("read"), st.integers(1, 6000))
    | st.tuples(st.just("flush"), st.none())
    | st.tuples(st.just("burst"), st.integers(1, 80)),
    max_size=40,
)


def play(ring: Any, reader: int, steps: list[tuple[str, Any]]) -> list[object]:
    """Everything that can be seen of the ring while ``steps`` are done."""
    seen: list[object] = []
    for what, argument in steps:
        if what == "write":
            seen.append(ring.write(argument))
        elif what == "burst":
            seen.extend(ring.write(b"%d" % number * 40) for number in range(argument))
        elif what == "flush":
            seen.append(ring.flush(0))
        else:
            with contextlib.suppress(BlockingIOError):
                seen.append(os.read(reader, argument))
        counts = ring.stats()
        assert balanced(counts)
        seen.append(counts)
    return seen


@settings(max_examples=150)
@given(
    steps=operations,
    capacity=st.sampled_from([64, 100, 1000, 5000]),
    policy=st.sampled_from(twin.POLICIES),
    hold=st.booleans(),
)
@example(
    steps=[("burst", 80), ("flush", None), ("burst", 80), ("read", 6000), ("flush", None)],
    capacity=5000,
    policy="drop-oldest",
    hold=True,
)
def test_extension_and_twin_agree(
    native: ModuleType, steps: list[tuple[str, Any]], capacity: int, policy: str, hold: bool
) -> None:
    """The same operations before a slow reader: the same answers, the same bytes, the same counts, step by step."""
    seen = []
    for form in (native.Ring, twin.Ring):
        with pipe() as (reader, writer):
            ring = form(writer, capacity, policy, block_seconds=0.0, hold=hold)
            story = play(ring, reader, steps)
            story.append(read_all(reader))
            story.append(ring.flush(0))
            os.close(reader)
            seen.append([*story, ring.close(0), ring.stats()])
    assert seen[0] == seen[1]


# -- what is promised, in both forms -------------------------------------------------------------------------------------


def test_what_a_line_is(kind: Any, tmp_path: Path) -> None:
    """Bytes as they are, text as UTF-8, half a surrogate as an escape; one line break at the end and no second one."""
    with (tmp_path / "log").open("wb") as file:
        ring = kind(file.fileno())
        for line in (b"bytes", "text ü", b"ended\n", "ended\n", b"", b"two\nlines", "half \udcff", b"\xff\0"):
            assert ring.write(line) is True
    expected = b"bytes\ntext \xc3\xbc\nended\nended\n\ntwo\nlines\nhalf \\udcff\n\xff\0\n"
    assert (tmp_path / "log").read_bytes() == expected
    for wrong in (5, None, bytearray(b"x")):
        with pytest.raises(TypeError, match="bytes or str"):
            ring.write(wrong)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": "drop"}, "policy is block, drop-newest or drop-oldest"),
        ({"capacity": 63}, "capacity is 64 to"),
        ({"capacity": 2**30 + 1}, "capacity is 64 to"),
        ({"linger": -1}, "linger is a number of seconds"),
        ({"block_seconds": float("nan")}, "block_seconds is a number of seconds"),
        ({"fd": -1}, "not negative"),
        ({"notice": b"x" * 512}, "notice is at most 512 bytes"),
        ({"notice": b"x\0"}, "notice is at most 512 bytes"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_bad_arguments(kind: Any, arguments: dict[str, object], message: str) -> None:
    """Each is refused with its range."""
    with pytest.raises(ValueError, match=message):
        kind(**{"fd": 1, **arguments})
    with pytest.raises(ValueError, match="timeout is a number of seconds"):
        kind(1).flush(-1)


@pytest.mark.parametrize(
    ("policy", "kept", "count"),
    [("drop-oldest", [6, 7, 8, 9], "dropped_oldest"), ("drop-newest", [0, 1, 2, 3], "dropped_newest")],
)
def test_full(kind: Any, tmp_path: Path, policy: str, kept: list[int], count: str) -> None:
    """A full ring drops what its policy says; 64 bytes are four lines, however short."""
    with (tmp_path / "log").open("wb") as file:
        ring = kind(file.fileno(), 64, policy, hold=True)
        taken = [ring.write(b"%d" % number) for number in range(10)]
        assert ring.flush(1)
    assert [int(line) for line in (tmp_path / "log").read_bytes().split()] == kept
    assert taken == [policy == "drop-oldest" or number in kept for number in range(10)]
    assert ring.stats()[count] == 6


def test_too_long(kind: Any, tmp_path: Path) -> None:
    """A line that no empty ring could hold is refused at once, and the ring keeps what it has."""
    with (tmp_path / "log").open("wb") as file:
        ring = kind(file.fileno(), 64, "drop-oldest", hold=True)
        assert [ring.write(b"x" * size) for size in (10, 64, 63, 0)] == [True, False, True, True]
        ring.flush(1)
    counts = ring.stats()
    assert (counts["too_long"], counts["dropped_oldest"], counts["written"]) == (1, 2, 1)


def test_block_waits_for_room(kind: Any) -> None:
    """A producer waits while the reader is slow, and goes on when it has read; nothing is dropped."""
    with pipe(blocking=True) as (reader, writer):
        ring = kind(writer, 256, "block", block_seconds=60)
        with drained(ring):
            producer = threading.Thread(target=lambda: [ring.write(b"%04d" % n * 20) for n in range(200)])
            producer.start()
            wait_until(lambda: ring.stats()["waits"])
            data = b""
            while producer.is_alive() or data.count(b"\n") < 200:
                data += read_all(reader)
            producer.join()
    assert data == b"".join(b"%04d" % n * 20 + b"\n" for n in range(200))
    assert ring.stats()["dropped_newest"] == 0


def test_block_ends_in_a_drop(kind: Any) -> None:
    """A reader that never reads costs a producer `block_seconds` and a line, and no more."""
    with pipe() as (_reader, writer):
        ring = kind(writer, 64, "block", block_seconds=0.05, hold=True)
        assert [ring.write(b"x") for _ in range(4)] == [True] * 4
        begun = time.monotonic()
        assert ring.write(b"y") is False
        assert 0.04 < time.monotonic() - begun < 5
        counts = ring.stats()
        assert (counts["waits"], counts["dropped_newest"], counts["queued"]) == (1, 1, 4)


def test_in_flight_stays(kind: Any) -> None:
    """What is on its way is not pushed out: the newest lines replace the oldest of those that wait."""
    with pipe() as (reader, writer):
        ring = kind(writer, 4096 * 2, "drop-oldest", hold=True)
        for number in range(80):
            ring.write(b"%04d" % number * 25)  # 8080 bytes, of which the pipe takes a page
        assert ring.flush(0) is False
        for number in range(80, 240):
            ring.write(b"%04d" % number * 25)
        data = b""
        while not ring.flush(0):
            data += read_all(reader)
        data += read_all(reader)
    numbers = [int(line[:4]) for line in data.split()]
    assert numbers == [*range(80), *range(159, 240)]
    assert all(len(line) == 100 for line in data.split())
    counts = ring.stats()
    assert (counts["dropped_oldest"], counts["lost"]) == (79, 0)
    assert counts["partial"] >= 1


@pytest.mark.parametrize("producers", [1, 8])
def test_no_line_is_torn_or_lost(kind: Any, tmp_path: Path, producers: int) -> None:
    """Many threads through a small ring: every line arrives whole, and in the order of its thread."""
    each = 3000 // producers
    path = tmp_path / "log"
    with path.open("wb") as file:
        ring = kind(file.fileno(), 700, "block", linger=0.001, block_seconds=60)

        def produce(name: int) -> None:
            for number in range(each):
                assert ring.write(f"{name} {number} {'.' * (number % 60)}")

        with drained(ring):
            threads = [threading.Thread(target=produce, args=(name,)) for name in range(producers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert ring.flush(20)
            assert ring.stats()["written"] == each * producers
    found = [line.split(" ") for line in path.read_text(encoding="utf-8").splitlines()]
    for name in range(producers):
        own = [(number, fill) for who, number, fill in found if who == str(name)]
        assert own == [(str(number), "." * (number % 60)) for number in range(each)]


def test_lines_share_a_call(kind: Any, tmp_path: Path) -> None:
    """A drainer lets lines gather: a thousand of them take a few system calls."""
    with (tmp_path / "log").open("wb") as file:
        ring = kind(file.fileno(), linger=0.2)
        with drained(ring):
            for number in range(1000):
                ring.write(b"%d" % number)
            assert ring.flush(5)
    assert ring.stats()["writes"] < 50


def test_flush_does_not_linger(kind: Any, tmp_path: Path) -> None:
    """Whoever flushes gets his line out at once, however long the drainer would have waited for more."""
    with (tmp_path / "log").open("wb") as file:
        ring = kind(file.fileno(), linger=60.0)
        with drained(ring):
            ring.write(b"now")
            assert ring.flush(20)
            assert (tmp_path / "log").read_bytes() == b"now\n"


def test_close(kind: Any, tmp_path: Path) -> None:
    """What is there is written, what comes later is refused and counted; a second close has nothing to do."""
    with (tmp_path / "log").open("wb") as file:
        ring = kind(file.fileno(), hold=True)
        ring.write(b"before")
        assert ring.close(5) is True
        assert ring.write(b"after") is False
        assert ring.close(5) is True
        assert ring.run() is False
        assert ring.flush(5) is True
    assert (tmp_path / "log").read_bytes() == b"before\n"
    assert ring.stats()["dropped_newest"] == 1


def test_close_gives_up(kind: Any) -> None:
    """A reader that does not read does not keep a program from ending; what is lost is counted."""
    with pipe() as (reader, writer):
        ring = kind(writer, 64 * 1024)
        with drained(ring):
            for _ in range(100):
                ring.write(b"z" * 99)
            wait_until(lambda: ring.stats()["busy"])
            assert ring.close(0.1) is False
            counts = ring.stats()
            assert balanced(counts)
            assert (counts["written"], counts["lost"], counts["queued"]) == (40, 60, 0)
            assert len(read_all(reader)) == 4096


def test_one_drainer(kind: Any, tmp_path: Path) -> None:
    """A second thread that would drain is sent away."""
    with (tmp_path / "log").open("wb") as file:
        ring = kind(file.fileno())
        with drained(ring):
            assert ring.run() is False
        assert ring.running is False


# -- what goes wrong below -------------------------------------------------------------------------------------------------


def test_broken_pipe(kind: Any) -> None:
    """A reader that is gone costs the lines that were on their way; the ring goes on, and says how many."""
    with pipe() as (reader, writer):
        os.close(reader)
        ring = kind(writer, hold=True)
        for _ in range(3):
            ring.write(b"gone")
        assert ring.flush(1)
        counts = ring.stats()
        assert (counts["lost"], counts["errors"], counts["last_error"]) == (3, 1, errno.EPIPE)


def test_full_device(kind: Any, tmp_path: Path) -> None:
    """Lines are kept while there is no space and written when there is; nobody waits for a full device."""
    full = os.open("/dev/full", os.O_WRONLY)
    ring = kind(full, 64, "block", block_seconds=60)
    with drained(ring):
        ring.write(b"first")
        wait_until(lambda: ring.stats()["errors"])
        begun = time.monotonic()
        while ring.write(b"x"):
            pass
        assert time.monotonic() - begun < 30
        assert ring.flush(0.05) is False
        assert ring.stats()["last_error"] == errno.ENOSPC
        with (tmp_path / "log").open("wb") as file:
            os.dup2(file.fileno(), full)
        assert ring.flush(20) is True
    os.close(full)
    assert (tmp_path / "log").read_bytes() == b"first\n" + b"x\n" * 4
    counts = ring.stats()
    assert (counts["lost"], counts["written"], counts["dropped_newest"]) == (0, 5, 1)


def test_a_full_device_does_not_keep_a_program(kind: Any) -> None:
    """At a close the lines are given up in time."""
    full = os.open("/dev/full", os.O_WRONLY)
    ring = kind(full)
    with drained(ring):
        ring.write(b"never")
        begun = time.monotonic()
        assert ring.close(0.1) is False
        assert time.monotonic() - begun < 10
    os.close(full)
    assert ring.stats()["lost"] == 1


def test_signals_interrupt_nothing(kind: Any) -> None:
    """A write that a signal ends is taken up again: the lines arrive whole."""
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    try:
        with pipe(blocking=True) as (reader, writer):
            ring = kind(writer, 64 * 1024)
            with drained(ring) as thread:
                for number in range(100):
                    ring.write(b"%02d" % number * 50)
                time.sleep(0.1)
                for _ in range(20):
                    signal.pthread_kill(thread.ident or 0, signal.SIGUSR1)
                    time.sleep(0.002)
                data = b""
                while data.count(b"\n") < 100:
                    data += read_all(reader)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert data == b"".join(b"%02d" % number * 50 + b"\n" for number in range(100))
    if kind is not twin.Ring:  # Python itself takes the write up again, so the twin never hears of it
        assert ring.stats()["interrupted"] + ring.stats()["partial"] >= 1


TORN = """
import os, resource, signal, sys
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
ring = Ring(fd, hold=True)
soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
for word in (b"first", b"second", b"third"):
    ring.write(word)
resource.setrlimit(resource.RLIMIT_FSIZE, (9, hard))
assert ring.flush(5)
resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
ring.write(b"fourth")
assert ring.close(5)
counts = ring.stats()
print(counts["written"], counts["lost"], counts["partial"], counts["errors"])
"""


def scripted(kind: Any, script: str, *arguments: object) -> str:
    """What ``script`` prints in a process of its own, where Ring and LogRing are those of ``kind``."""
    load = f"import sys; sys.path[:0] = [{str(AGENT)!r}]\n"
    if kind is not twin.Ring:
        load += textwrap.dedent(f"""
            import importlib.machinery, importlib.util, watchkeeper
            loader = importlib.machinery.ExtensionFileLoader("watchkeeper._native", {str(built())!r})
            spec = importlib.util.spec_from_file_location("watchkeeper._native", {str(built())!r}, loader=loader)
            watchkeeper._native = sys.modules["watchkeeper._native"] = importlib.util.module_from_spec(spec)
            loader.exec_module(watchkeeper._native)
        """)
    load += (
        "from watchkeeper.native import Ring, EXTENSION\nfrom watchkeeper.native.log_ring import LogRing\n"
    )
    load += f"assert EXTENSION is {kind is not twin.Ring}\n"
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", load + script, *map(str, arguments)],
        env={**os.environ, "WATCHKEEPER_NATIVE": "0" if kind is twin.Ring else "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_line_that_stays_torn_is_ended(kind: Any, tmp_path: Path) -> None:
    """When the system takes half a line and never the rest, the next one still begins on a line of its own."""
    assert scripted(kind, TORN, tmp_path / "log") == "2 2 1 1"
    assert (tmp_path / "log").read_bytes() == b"first\nsec\nfourth\n"


@pytest.mark.parametrize("policy", ["drop-oldest", "drop-newest"])
def test_what_is_missing_is_said(kind: Any, tmp_path: Path, policy: str) -> None:
    """Before the next batch stands how many lines are missing, once, and in no count but its own."""
    with (tmp_path / "log").open("wb") as file:
        ring = kind(file.fileno(), 64, policy, hold=True, notice=b"{count} missing, {count}")
        for number in range(10):
            ring.write(b"%d" % number)
        assert ring.flush(1)
        ring.write(b"x" * 64)  # longer than the ring
        assert ring.flush(1)
        ring.write(b"after")
        assert ring.close(1)
    first = "6 7 8 9" if policy == "drop-oldest" else "0 1 2 3"
    expected = ["6 missing, 6", *first.split(), "1 missing, 1", "after"]
    assert (tmp_path / "log").read_text(encoding="utf-8").splitlines() == expected
    counts = ring.stats()
    assert balanced(counts)
    assert (counts["notices"], counts["written"], counts["too_long"]) == (2, 5, 1)


def test_a_notice_has_the_time(kind: Any, tmp_path: Path) -> None:
    """RFC 3339 in UTC with milliseconds, and it is now."""
    with (tmp_path / "log").open("wb") as file:
        ring = kind(file.fileno(), 64, "drop-oldest", hold=True, notice=b"{time} {count}\n")
        for _ in range(5):
            ring.write(b"x")
        before = datetime.now(UTC)
        assert ring.close(1)
    said, count = (tmp_path / "log").read_text(encoding="utf-8").splitlines()[0].split()
    assert (len(said), said[-5], count) == (24, ".", "1")
    assert abs((datetime.fromisoformat(said) - before).total_seconds()) < 20


def gaps(data: bytes) -> tuple[int, list[int]]:
    """How many lines were written or announced as missing, in one row; and what each notice said."""
    expected, said = 0, []
    for line in data.split(b"\n")[:-1]:
        if line.startswith(b"missing"):
            said.append(int(line.split()[1]))
            expected += said[-1]
        else:
            assert line == b"%04d" % expected * 5
            expected += 1
    return expected, said


def test_a_notice_waits_like_any_line(kind: Any) -> None:
    """Lines that were dropped behind a stalled reader are announced where they are missing, and their number is right."""
    with pipe() as (reader, writer):
        ring = kind(writer, 2048, "drop-oldest", notice=b"missing {count}")
        with drained(ring):
            for number in range(1000):
                ring.write(b"%04d" % number * 5)
                if number % 80 == 0 and number < 400:  # 1600 bytes: the pipe is full after the third time
                    ring.flush(0.05)
            assert ring.stats()["busy"]
            data = b""
            while not ring.flush(0.01):
                data += read_all(reader)
            data += read_all(reader)
    expected, said = gaps(data)
    assert (expected, sum(said)) == (1000, ring.stats()["dropped_oldest"])


def test_what_is_dropped_while_a_notice_is_written_is_said_before_the_next_line(kind: Any) -> None:
    """However long the notice waits: it is about the lines before its own batch, and the next one about those behind."""
    full = b"z" * 4095 + b"\n"
    with pipe() as (reader, writer):
        os.write(writer, full)
        ring = kind(writer, 8192, "drop-oldest", notice=b"missing {count}")
        with drained(ring):
            ring.write(full)
            wait_until(lambda: ring.stats()["busy"] > 0)
            for number in range(500):
                ring.write(b"%04d" % number * 5)
            assert os.read(reader, len(full)) == full
            wait_until(lambda: ring.stats()["written"] == 1)  # the pipe is full again: the notice waits
            for number in range(500, 1000):
                ring.write(b"%04d" % number * 5)
            data = b""
            while not ring.flush(0.01):
                data += read_all(reader)
            data += read_all(reader)
    held = 8192 // 21
    assert gaps(data.removeprefix(full)) == (1000, [500 - held, 500 - held])
    assert ring.stats()["notices"] == 2


def test_a_notice_that_is_lost_comes_again(kind: Any, tmp_path: Path) -> None:
    """As long as nobody was told: the lines of a broken descriptor are announced once it is mended."""
    with pipe() as (reader, writer):
        os.close(reader)
        ring = kind(writer, hold=True, notice=b"missing {count}")
        for _ in range(3):
            ring.write(b"gone")
            assert ring.flush(1)
        with (tmp_path / "log").open("wb") as file:
            os.dup2(file.fileno(), writer)
        ring.write(b"heard")
        assert ring.close(1)
    assert (tmp_path / "log").read_bytes() == b"missing 3\nheard\n"
    counts = ring.stats()
    assert (counts["lost"], counts["notices"], counts["written"]) == (3, 1, 1)


FORK = """
import os, sys, threading, time
ring = LogRing.at(sys.argv[1], linger=0.5)
stop = threading.Event()
def chatter():
    while not stop.is_set():
        ring.write("p" * 60)
thread = threading.Thread(target=chatter); thread.start()
children = []
def fork_some(first):
    for number in range(first, first + 10):
        ring.write(f"before {number}")
        child = os.fork()
        if child == 0:
            for line in range(5):
                ring.write(f"child {number} {line}")
            good = ring.stats()["written"] == 5 and not ring.ring.running
            os._exit(0 if ring.close() and good else 1)
        children.append(child)
forkers = [threading.Thread(target=fork_some, args=(first,)) for first in (0, 10)]
for one in forkers: one.start()
for one in forkers: one.join()
stop.set(); thread.join()
codes = [os.waitpid(child, 0)[1] for child in children]
print(set(codes), ring.close(20), ring.stats()["lost"])
"""


def test_fork(kind: Any, tmp_path: Path) -> None:
    """While one thread logs, two fork: each child writes its own lines, none of the parent's, and nobody hangs."""
    assert scripted(kind, FORK, tmp_path / "log") == "{0} True 0"
    found = (tmp_path / "log").read_text(encoding="utf-8").splitlines()
    assert {line for line in found if line.startswith("before")} == {f"before {n}" for n in range(20)}
    assert sum(line.startswith("before") for line in found) == 20
    for number in range(20):
        own = [line for line in found if line.startswith(f"child {number} ")]
        assert own == [f"child {number} {line}" for line in range(5)]
    assert {line for line in found if line[0] == "p"} == {"p" * 60}


FORK_WITHOUT_MEMORY = """
import os, sys, threading
from watchkeeper.native import log_ring
sys.unraisablehook = lambda unraisable: print(unraisable.exc_type.__name__, flush=True)
class Broken:
    def __init__(self):
        self.ring = self
    def _before_fork(self):
        raise MemoryError
    def _after_fork_in_child(self):
        pass
rings = [LogRing.at(sys.argv[1]) for _ in range(3)]
broken = Broken()
log_ring._rings = [*rings[:2], broken, rings[2]]
child = os.fork()
if child == 0:
    good = all(ring.write("child") for ring in rings) and rings[2].stats()["written"] == 1
    os._exit(0 if good else 1)
code = os.waitpid(child, 0)[1]
log_ring._rings = rings
again = os.fork()
if again == 0:
    os._exit(0)
os.waitpid(again, 0)
other = threading.Thread(target=lambda: [ring.write("parent") for ring in rings])
other.start()
other.join()
print(code, all(ring.close() for ring in rings))
"""


def test_a_fork_that_fails_halfway(kind: Any, tmp_path: Path) -> None:
    """Where one ring cannot be held for want of memory, none stays held: parent and child log on, and fork again."""
    assert scripted(kind, FORK_WITHOUT_MEMORY, tmp_path / "log").split() == ["MemoryError", "0", "True"]
    found = (tmp_path / "log").read_text(encoding="utf-8").split()
    assert sorted(found) == ["child"] * 3 + ["parent"] * 3


SUBINTERPRETERS = """
import sys
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = '''
import sys
sys.path[:0] = %r
import importlib.machinery, importlib.util
loader = importlib.machinery.ExtensionFileLoader("watchkeeper._native", %r)
spec = importlib.util.spec_from_file_location("watchkeeper._native", %r, loader=loader)
module = importlib.util.module_from_spec(spec)
loader.exec_module(module)
import os
assert any(one.pid == os.getpid() for one in module.processes())
ring = module.Ring(%d)
assert ring.write("from an interpreter")
assert ring.close(5)
del ring, module, spec, loader
'''
import importlib.util, os
import watchkeeper._native as here
fd = os.open(sys.argv[1], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
for _ in range(10):
    one = interpreters.create()
    failure = interpreters.run_string(one, code % (sys.path[:1], here.__file__, here.__file__, fd))
    assert failure is None, failure
    interpreters.destroy(one)
assert here.processes()
print("ten")
"""


def test_subinterpreters(native: ModuleType, tmp_path: Path) -> None:
    """The module lives in many interpreters, one after the other, with a state for each (own GIL since 3.12)."""
    assert scripted(native.Ring, SUBINTERPRETERS, tmp_path / "log") == "ten"
    assert (tmp_path / "log").read_bytes() == b"from an interpreter\n" * 10


def test_nothing_is_leaked(kind: Any, tmp_path: Path) -> None:
    """Rings come and go, with their threads or without, flushed or forgotten."""
    own = psutil.Process()
    with (tmp_path / "log").open("wb") as file:

        def rounds(count: int) -> None:
            for _ in range(count):
                ring = kind(file.fileno(), 1 << 20, hold=True)
                for number in range(100):
                    ring.write(f"some text of a line {number}")
                    ring.write("half \udcff")
                ring.stats()
                ring.flush(1)
                ring.write(b"forgotten")
                with pytest.raises(TypeError):
                    ring.write(None)
                with pytest.raises(ValueError, match="capacity"):
                    kind(1, 5)

        rounds(20)
        gc.collect()
        references, memory = sys.getrefcount(kind), own.memory_info().rss
        rounds(100)
        gc.collect()
        assert sys.getrefcount(kind) < references + 10
        assert own.memory_info().rss - memory < 4_000_000  # each ring has touched a part of its 2.5 MB


# -- the ring with a thread and a descriptor of its own --------------------------------------------------------------------


def test_log_ring_has_its_own_descriptor(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The caller may close his, and even open something else under its number."""
    monkeypatch.setattr(log_ring, "Ring", kind)
    path, other = tmp_path / "log", tmp_path / "other"
    fd = os.open(path, log_ring.OPEN_FLAGS)
    ring = log_ring.LogRing(fd)
    os.close(fd)
    with other.open("wb"):
        assert ring.write("mine")
        assert ring.close()
        assert ring.close()
    assert (path.read_bytes(), other.read_bytes()) == (b"mine\n", b"")


def test_log_ring_drains_from_the_start(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its thread is in `run` before anyone can write: a producer that found it missing would wait for the reader."""
    monkeypatch.setattr(log_ring, "Ring", kind)
    for _ in range(50):
        ring = log_ring.LogRing.at(tmp_path / "log")
        assert ring.ring.running
        assert ring.close()


def test_log_ring_without_a_thread(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where none can be started every line is written before `write` returns."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(log_ring, "Ring", kind)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    ring = log_ring.LogRing.at(tmp_path / "log")
    ring.write("at once")
    assert (tmp_path / "log").read_bytes() == b"at once\n"
    assert ring.close()


def test_log_ring_refuses_bad_arguments(tmp_path: Path) -> None:
    """And keeps no descriptor."""
    before = psutil.Process().num_fds()
    with pytest.raises(ValueError, match="policy"):
        log_ring.LogRing.at(tmp_path / "log", policy="none")
    with pytest.raises(IsADirectoryError):
        log_ring.LogRing.at(tmp_path)
    assert psutil.Process().num_fds() == before


def test_log_ring_after_its_end(kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What comes after `finish` is written past the ring and behind all that was in it; `close` ends that as well."""
    monkeypatch.setattr(log_ring, "Ring", kind)
    before = psutil.Process().num_fds()
    ring = log_ring.LogRing.at(tmp_path / "log", linger=60.0)
    ring.write("first")
    assert ring.finish(5)
    assert ring.write("refused") is False
    assert ring.write_straight("long " + "x" * 10000)
    assert ring.write_straight(b"bytes\n")
    assert ring.close()
    assert ring.write_straight("too late") is False
    assert (tmp_path / "log").read_text().splitlines() == ["first", "long " + "x" * 10000, "bytes"]
    assert psutil.Process().num_fds() == before


def test_straight_lines_before_a_stalled_reader(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They wait for him once and then never; a line that was cut is ended before the next one."""
    monkeypatch.setattr(log_ring, "Ring", kind)
    with pipe(4096 * 2, blocking=True) as (reader, writer):
        ring = log_ring.LogRing(writer)
        assert ring.finish(5)
        begun = time.monotonic()
        assert not any(ring.write_straight("x" * 9000) for _ in range(200))
        assert time.monotonic() - begun < 10
        assert read_all(reader) == b"x" * 8192
        assert ring.write_straight("heard")
        assert ring.write_straight("again")
        assert read_all(reader) == b"\nheard\nagain\n"
        ring.close()


def test_the_door(native: ModuleType) -> None:
    """Both forms offer the same, and the environment chooses."""
    assert door.EXTENSION is (door.WHY_NOT == "")
    for name in ("processes", "Ring", "Process"):
        assert hasattr(native, name)
        assert hasattr(door, name)
    public = {name for name in dir(native.Ring) if not name.startswith("__")}
    assert public == {"write", "run", "flush", "close", "stats", "running"} | {
        name for name in public if "fork" in name
    }
    assert public <= set(dir(twin.Ring))
    assert set(native.Ring(1).stats()) == set(twin.Ring(1).stats())
    assert native.ABI == door.ABI
