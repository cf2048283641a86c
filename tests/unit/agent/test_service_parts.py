"""The parts that services are made of: files, output, environment, what is remembered, the gate, circles."""

from __future__ import annotations

import ast
import asyncio
import errno
import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from watchkeeper import redact
from watchkeeper.config.load import parse
from watchkeeper.config.model import ProcessService
from watchkeeper.config.rules.services import cycles
from watchkeeper.config.schema.services import Service, ServiceLog, same_program
from watchkeeper.errors import ConfigInvalidError
from watchkeeper.metrics import Metrics
from watchkeeper.supervise import child, environment
from watchkeeper.supervise.child import SpawnError, spawn
from watchkeeper.supervise.followed import Followed
from watchkeeper.supervise.identity import marked, start_of
from watchkeeper.supervise.limits import limit
from watchkeeper.supervise.logfile import LogFile, LogFiles
from watchkeeper.supervise.memory import Memory, Remembered, digest, remembered_keys, still_runs
from watchkeeper.supervise.output import Output
from watchkeeper.supervise.warden import Warden


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigInvalidError) as error:
        parse(text.encode(), file="f.yaml")
    return [problem.removeprefix("f.yaml:") for problem in error.value.problems]


RULES: dict[str, tuple[str, str]] = {
    "left without a heir": (
        "{command: [x], on_agent_stop: leave}",
        "a process that is left has to be taken over later: write `on_agent_death: adopt` as well",
    ),
    "file without a name": ("{command: [x], log: {to: both}}", "the file is not named: `file` is missing"),
    "file that nobody writes": (
        "{command: [x], log: {file: /x}}",
        "nothing is written to it: `to` is neither file nor both",
    ),
    "group alone": ("{command: [x], group: g}", "groups are given together with `user`"),
    "twice": (
        "{command: [x], environment: {A: b}, secrets: {A: c}}",
        "this variable is in `environment` as well",
    ),
    "umask": ("{command: [x], umask: '999'}", "does not have the form"),
    "driver": ("{driver: sysv, command: [x]}", "'sysv' is not one of container, process, systemd, windows"),
    "unit": ("{driver: systemd}", 'the key "unit" is missing'),
    "command of a unit": ("{driver: systemd, unit: x.service, command: [x]}", "unknown key"),
    "volume": ("{driver: container, image: i, volumes: [x]}", "is not HOST_PATH:CONTAINER_PATH[:ro]"),
    "policy": ("{command: [x], policy: unless-stoped}", 'did you mean "unless-stopped"?'),
    "limit": ("{command: [x], limits: {nofile: 2}}", "out of range"),
}


@pytest.mark.parametrize("case", RULES)
def test_rules(case: str) -> None:
    """One sentence at the right place."""
    text, sentence = RULES[case]
    (problem,) = problems(f"services: {{a: {text}}}")
    assert sentence in problem


def test_a_service_without_a_driver_is_a_process() -> None:
    """What was written before there were drivers means the same."""
    found = parse(b"services: {a: {command: [x]}, b: {driver: process, command: [x]}}", file="f.yaml").config
    assert found.services["a"] == found.services["b"]


GRAPHS = st.integers(1, 7).flatmap(
    lambda size: st.lists(st.tuples(st.integers(0, size - 1), st.integers(0, size - 1)), max_size=14).map(
        lambda edges: (size, edges)
    )
)


@given(GRAPHS)
def test_circles(graph: tuple[int, list[tuple[int, int]]]) -> None:
    """A circle is found if and only if there is one (Kahn's algorithm says so), and every way that is named is one."""
    size, edges = graph
    links: dict[str, list[tuple[str, Any]]] = {str(node): [] for node in range(size)}
    for one, other in edges:
        links[str(one)].append((str(other), ("services", str(one), "requires", 0)))
    found = [message for _, message in cycles(links)]
    assert bool(found) == (not _has_order(size, set(edges)))
    for message in found:
        way = [int(word) for word in message.removeprefix("circle: ").split(" -> ")]
        assert way[0] == way[-1]
        assert all(pair in edges for pair in itertools.pairwise(way))


def _has_order(size: int, edges: set[tuple[int, int]]) -> bool:
    left = set(range(size))
    while free := {node for node in left if not any((node, other) in edges for other in left)}:
        left -= free
    return not left


@given(st.lists(st.tuples(st.integers(0, 300), st.booleans()), max_size=40), st.integers(64, 400))
def test_files_lose_nothing(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[int, bool]], size: int
) -> None:
    """F2: whatever is written, in whatever pieces, is in the files in its order; no line is torn that fits into one."""
    folder = tmp_path_factory.mktemp("files")
    file = LogFile(folder / "log", size, 10_000)
    written = b"".join(
        b"%05d" % number + b"x" * length + b"\n" * ended for number, (length, ended) in enumerate(writes)
    )
    at = 0
    for length, _ in writes:
        file.write(written[at : at + length + 3])
        at += length + 3
    file.write(written[at:])
    file.close()
    paths = sorted(folder.glob("log.*"), key=lambda path: -int(path.suffix[1:]))
    texts = [path.read_bytes() for path in [*paths, folder / "log"] if path.exists()]
    assert b"".join(texts) == written


def test_old_files_go(tmp_path: Path) -> None:
    """No more than `keep` of them, the oldest first; 0 keeps none."""
    for keep, names in ((2, {"log", "log.1", "log.2"}), (0, {"log"})):
        folder = tmp_path / str(keep)
        file = LogFile(folder / "log", 10, keep)
        for number in range(9):
            file.write(b"line %03d\n" % number)
        file.close()
        assert {path.name for path in folder.iterdir()} == names
        assert (folder / "log").read_bytes() == b"line 008\n"


def test_a_full_queue_drops_and_says_so(tmp_path: Path) -> None:
    """F1: nobody waits; what is missing stands where it is missing."""
    gate, entered = threading.Event(), threading.Event()

    class Slow(LogFile):
        def write(self, data: bytes) -> None:
            entered.set()
            gate.wait(10)
            super().write(data)

    files, file = LogFiles(limit=20), Slow(tmp_path / "log", 10_000, 1)
    assert files.write(file, b"first\n")
    assert entered.wait(10)
    assert files.write(file, b"second\n")
    assert not files.write(file, b"x" * 30)
    assert file.dropped == 30
    gate.set()
    assert files.close(10)
    assert (tmp_path / "log").read_text().splitlines() == [
        "first",
        "[watchkeeper: 30 bytes are missing here]",
        "second",
    ]


def test_a_full_disk_is_counted_and_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """F3: what could not be written is missing, and the next line is there again."""
    real, full = os.write, [True]

    def write(descriptor: int, data: bytes) -> int:
        if full[0] and data.startswith(b"lost"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", write)
    files, file = LogFiles(), LogFile(tmp_path / "log", 10_000, 1)
    for line in (b"one\n", b"lost\n", b"two\n"):
        assert files.write(file, line)
    assert files.close(10)
    assert file.dropped == 5
    assert "5 bytes are missing here" in (tmp_path / "log").read_text()


@pytest.mark.asyncio
@pytest.mark.looptime
async def test_more_lines_than_allowed(tmp_path: Path) -> None:
    """O2: the first ones are kept, the others counted; a second later there is room again."""
    metrics, files = Metrics(), LogFiles()
    output = Output("app", ProcessService(command=("x",), log=ServiceLog(rate=10)), metrics, files)
    kept: list[str] = []
    output._line = lambda _stream, line, _cut: kept.append(line)  # type: ignore[method-assign]
    output(1, b"".join(b"%d\n" % number for number in range(25)) + b"half of ")
    output(1, b"a line\nnext\n")
    assert kept == [str(number) for number in range(10)]
    await asyncio.sleep(1)
    output(1, b"again\n")
    assert kept[-1] == "again"
    found = metrics.registry.get_sample_value(
        "watchkeeper_service_output_dropped_lines_total", {"service": "app"}
    )
    assert found == 17
    output.close()


@pytest.fixture
def secret() -> Iterator[str]:
    redact.add("correct horse battery")
    yield "correct horse battery"
    redact.forget()


@pytest.mark.asyncio
async def test_no_secret_gets_into_a_file(tmp_path: Path, secret: str) -> None:
    """A service that prints its own secret does not put it on the disk by way of the agent."""
    log = ServiceLog(to="file", file=str(tmp_path / "log"))  # type: ignore[arg-type]
    files = LogFiles()
    output = Output("app", ProcessService(command=("x",), log=log), Metrics(), files)
    output(1, f"my password is {secret}\n\xff".encode("latin-1"))
    output.close()
    assert files.close(10)
    assert (tmp_path / "log").read_bytes() == b"my password is [redacted]\n\xff"


VARIABLES: dict[str, tuple[str, dict[str, str] | str]] = {
    "plain": ("A=b\nC=\n", {"A": "b", "C": ""}),
    "quotes": ("A='b c'\nB=\"d\"\nC='x\n", {"A": "b c", "B": "d", "C": "'x"}),
    "comments": ("# A=b\n\n  B = c  \nexport C=d=e\n", {"B": "c", "C": "d=e"}),
    "nonsense": ("A=b\nwhat\n", ":2: this line is not NAME=VALUE"),
    "no name": ("=b\n", ":1: this line is not NAME=VALUE"),
}


@pytest.mark.parametrize("case", VARIABLES)
def test_files_of_variables(tmp_path: Path, case: str) -> None:
    """NAME=VALUE lines, or a sentence with the line's number and without its content."""
    text, expected = VARIABLES[case]
    file = tmp_path / "vars"
    file.write_text(text)
    if isinstance(expected, dict):
        assert environment._read(str(file)) == expected
        return
    with pytest.raises(SpawnError) as error:
        environment._read(str(file))
    assert str(error.value) == f"{file}{expected}"


@pytest.mark.parametrize("changed", ["command", "user", "stop_grace", "environment", "limits", "log"])
def test_what_restarts_a_process(changed: str) -> None:
    """All but what Service.WITHOUT_RESTART names."""
    one = ProcessService(command=("x",))
    values: dict[str, Any] = {
        "command": ("y",), "user": "z", "stop_grace": 1.0, "environment": {"A": "b"},
        "limits": type(one.limits)(nofile=5), "log": ServiceLog(rate=1),
    }  # fmt: skip
    other = ProcessService(**{"command": ("x",), changed: values[changed]})
    assert not same_program(one, other)
    assert same_program(one, ProcessService(command=("x",), critical=True, after=("a",)))
    assert not same_program(one, None)


def test_memory(tmp_path: Path) -> None:
    """M1, M3: what was saved is found; from another boot, only the order; None forgets."""
    memory = Memory(tmp_path)
    what = Remembered(
        boot=memory.boot, pid=os.getpid(), start=start_of(os.getpid()), order="stop", restarts=4
    )
    memory.save("app", what)
    assert Memory(tmp_path).load("app") == what
    assert [key.name for key in remembered_keys(tmp_path)] == ["app"]
    assert still_runs(what)
    later = Memory(tmp_path)
    later.boot = "another"
    assert later.load("app") == Remembered(boot="another", order="stop")
    memory.save("app", None)
    assert remembered_keys(tmp_path) == []
    assert (tmp_path / "services").stat().st_mode & 0o777 == 0o700


def test_digests_are_of_what_concerns_the_process() -> None:
    """A newer agent knows more settings, each with a default; it still knows what an older one has started."""

    def service(text: str) -> Service:
        (found,) = parse(f"services: {{a: {{{text}}}}}".encode(), file="f.yaml").config.services.values()
        return found

    base = service("command: [x]")
    assert digest(base) == digest(
        service("command: [x], critical: true, start_timeout: 3, flap: {failures: 2}")
    )
    assert digest(base) == digest(service("command: [x], stop: term, log: {rate: 2000}"))
    for other in ("command: [y]", "command: [x], log: {rate: 3}", "driver: systemd, unit: x.service"):
        assert digest(base) != digest(service(other))


def test_memory_writes_only_changes(tmp_path: Path) -> None:
    """The same again touches no file."""
    memory = Memory(tmp_path)
    what = Remembered(boot=memory.boot, restarts=1)
    memory.save("app", what)
    (tmp_path / "services" / "app.json").unlink()
    memory.save("app", what)
    assert not (tmp_path / "services" / "app.json").exists()


def test_no_secret_is_remembered(tmp_path: Path) -> None:
    """M5."""
    spec = ProcessService(command=("x",), secrets={"TOKEN": "hunter2hunter2"})
    memory = Memory(tmp_path)
    memory.save("app", Remembered(boot=memory.boot, digest=digest(spec)))
    assert "hunter2" not in (tmp_path / "services" / "app.json").read_text()


def test_start_times() -> None:
    """The same process twice is the same; what is not there has none."""
    assert start_of(os.getpid()) == start_of(os.getpid()) is not None
    assert start_of(2**22 + 1) is None


@pytest.mark.asyncio
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="marks are read from /proc")
async def test_marks() -> None:
    """A process is found by the variable that it was started with, as is its group."""
    made = await spawn(
        ["sleep", "60"], environment={"WATCHKEEPER_SERVICE": "test-marks", "WATCHKEEPER_AGENT": "me"}, working_directory=None,
        on_output=lambda _fd, _data: None, on_exit=lambda _child: None, prepare=lambda _pid: "",
    )  # fmt: skip
    try:
        async with asyncio.timeout(10):
            while not (found := marked("test-marks", "me")):  # noqa: ASYNC110 - between two programs a process has no environment
                await asyncio.sleep(0.01)
        assert found == {made.pid: made.pid}
        assert marked("test-mark", "me") == marked("test-marks", "another") == {}
    finally:
        await ended(made)


async def ended(made: child.Child) -> None:
    over = asyncio.Event()
    made.on_exit(lambda _child: over.set())
    made.kill()
    await asyncio.wait_for(over.wait(), 10)
    made.close()


@pytest.mark.asyncio
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no shell to wait in")
async def test_the_gate_keeps_the_program_from_running(tmp_path: Path) -> None:
    """What cannot be prepared never runs its first instruction, and leaves no process."""
    seen: list[int] = []

    def refuse(pid: int) -> str:
        seen.append(pid)
        raise OSError("not today")

    with pytest.raises(SpawnError, match="not today"):
        await spawn(
            ["touch", str(tmp_path / "ran")], environment={}, working_directory=None,
            on_output=lambda _fd, _data: None, on_exit=lambda _child: pytest.fail("nobody is told"), prepare=refuse,
        )  # fmt: skip
    for _ in range(1000):
        if start_of(seen[0]) is None:
            break
        await asyncio.sleep(0.01)
    assert start_of(seen[0]) is None
    assert not (tmp_path / "ran").exists()


@pytest.mark.asyncio
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no shell to wait in")
async def test_what_the_shell_at_the_gate_cannot_do_ends_it(tmp_path: Path) -> None:
    """A limit that is refused there as well is exit status 125, and not a program without it."""
    over = asyncio.Event()
    made = await spawn(
        ["touch", str(tmp_path / "ran")], environment={}, working_directory=None,
        on_output=lambda _fd, _data: None, on_exit=lambda _child: over.set(), prepare=lambda _pid: "false",
    )  # fmt: skip
    await asyncio.wait_for(over.wait(), 10)
    made.close()
    assert made.exit_code == 125
    assert not (tmp_path / "ran").exists()


@pytest.mark.asyncio
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no shell to wait in")
async def test_the_gate_hands_every_variable_and_argument_on() -> None:
    """Whatever they are called and whatever is in them; also those that mean something to the shell."""
    variables = {
        "first": "1", "PATH": "/nonexistent", "IFS": "x", "OPTIND": "3", "PS1": "p", "a-b": "dash", "x.y": "a\nb",
        "QUOTES": "'\"$(id)`id`\\", "BYTES": "\udcff", "EMPTY": "", "RANDOM": "5", "HOME": "/h",
    }  # fmt: skip
    words = ["-x", "a b", "$(id)", "'", "\n", "", "*"]
    said, over, ended = bytearray(), asyncio.Event(), asyncio.Event()
    code = "import os, sys; sys.stdout.write(ascii([dict(os.environ), sys.argv[1:]]))"

    def heard(fd: int, data: bytes) -> None:
        said.extend(data)
        if fd == 1 and not data:
            over.set()

    made = await spawn(
        [sys.executable, "-c", code, *words], environment=variables, whole_environment=True,
        working_directory=None, on_output=heard, on_exit=lambda _child: ended.set(), prepare=lambda _pid: "",
    )  # fmt: skip
    await asyncio.wait_for(over.wait(), 10)
    await asyncio.wait_for(ended.wait(), 10)
    made.close()
    found, arguments = ast.literal_eval(said.decode())
    assert arguments == words
    assert {name: found.get(name) for name in variables} == variables


@pytest.mark.asyncio
@pytest.mark.skipif(sys.platform == "win32", reason="Windows has job objects")
async def test_a_warden_that_stands_still_holds_nobody_up() -> None:
    """W2: a pipe that is full is nothing to wait for; who does not read is ended, and the next one hears everything."""
    warden = Warden()
    warden.guard(99_999_999, 0)
    first = warden.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)

    def tell() -> None:
        for group in range(100_000_000, 100_010_000):
            warden.guard(group, 0)
            warden.release(group)

    teller = threading.Thread(target=tell, daemon=True)
    teller.start()
    teller.join(20)
    waits = teller.is_alive()
    if waits:
        os.kill(first, signal.SIGKILL)
    for _ in range(1000):
        if warden.pid not in (None, first):
            break
        await asyncio.sleep(0.01)
    found = warden.pid
    await warden.close()
    assert not waits
    assert found not in (None, first)


def test_limits_by_the_shell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where they cannot be set from outside, the shell's words for them are right in dash as in bash."""
    from watchkeeper.supervise import limits

    monkeypatch.setattr(limits, "_set", lambda *_all: False)
    text = "{command: [x], user: root, limits: {nofile: 99, nproc: 77, core: 1MiB, address_space: 1GiB}}"
    (spec,) = parse(f"services: {{a: {text}}}".encode(), file="f.yaml").config.services.values()
    assert isinstance(spec, ProcessService)
    assert limit(os.getpid(), spec) == (
        "ulimit -n 99 && { ulimit -p 77 || ulimit -u 77; } 2>/dev/null && ulimit -c 2048 && ulimit -v 1048576"
    )


@pytest.mark.asyncio
async def test_followed() -> None:
    """The end of a process that somebody else has started is noticed; how it ended is not known."""
    process = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    over = asyncio.Event()
    found = Followed(process.pid, process.pid, 0.0, lambda _ended: over.set())
    assert found.group_alive()
    assert found.terminate()
    await asyncio.wait_for(over.wait(), 10)
    assert found.exit_code == -1000
    await process.wait()
    assert not found.group_alive()
    found.close()
