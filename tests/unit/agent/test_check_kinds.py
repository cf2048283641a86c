"""The checks of this machine: tcp, exec, process, file, disk, memory."""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from watchkeeper.checks import Level, Memory, Outcome, Word, disk, file, look, memory, process
from watchkeeper.checks.disk import Room
from watchkeeper.checks.threads import Threads
from watchkeeper.config.schema.checks import (
    DiskCheck,
    ExecCheck,
    ExitCodes,
    FileCheck,
    MemoryCheck,
    ProcessCheck,
    TcpCheck,
)
from watchkeeper.errors import ErrorClass
from watchkeeper.native.proc import Process

GB = 1024**3

# -- tcp --------------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def speaking(first: bytes, then: bytes = b"", path: Path | None = None) -> AsyncIterator[str]:
    """A server that says something, waits for a line, answers and hangs up; its address."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        if then:
            await reader.readline()
            writer.write(then)
        writer.close()

    server = await (
        asyncio.start_unix_server(handle, path) if path else asyncio.start_server(handle, "127.0.0.1", 0)
    )
    async with server:
        yield f"unix:{path}" if path else f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fields", "word", "said"),
    [
        ({}, Word.OK, "accepts connections"),
        ({"expect": "^220 "}, Word.OK, "answers as expected"),
        ({"send": "NOOP\r\n", "expect": "250 fine"}, Word.OK, "answers as expected"),
        (
            {"send": "NOOP\r\n", "expect": "500"},
            Word.FAILED,
            "'500' did not come; it hung up after b'220 here",
        ),
        ({"expect": "ready$", "read_limit": 5}, Word.FAILED, "it went on for too long"),
    ],
)
async def test_tcp_conversations(fields: dict[str, Any], word: Word, said: str) -> None:
    """What is sent and what is expected; a pattern may come in pieces."""
    async with speaking(b"220 here\r\n", b"250 fine\r\n") as address:
        outcome = await look(TcpCheck(address=address, timeout=10.0, **fields))
    assert (outcome.word, said in outcome.detail) == (word, True), outcome


@pytest.mark.asyncio
async def test_tcp_over_a_unix_socket(tmp_path: Path) -> None:
    """unix:PATH."""
    async with speaking(b"+PONG", path=tmp_path / "s") as address:
        assert (await look(TcpCheck(address=address, expect="PONG", timeout=10.0))).success
    outcome = await look(TcpCheck(address=f"unix:{tmp_path}/none", timeout=10.0))
    assert outcome.word is Word.UNREACHABLE


@pytest.mark.asyncio
async def test_a_name_with_several_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    """One after the other; the last reason is given when none of them accepts."""
    async with speaking(b"") as address:
        host, port = address.split(":")
        found = [(2, 1, 6, "", ("127.0.0.2", 1)), (2, 1, 6, "", (host, int(port)))]
        monkeypatch.setattr("watchkeeper.checks.connect.socket.getaddrinfo", lambda *_rest: found)
        assert (await look(TcpCheck(address="name.test:1", timeout=10.0))).success
        del found[1]
        outcome = await look(TcpCheck(address="name.test:1", timeout=10.0))
    assert outcome.detail == "name.test:1: Connection refused"


@pytest.mark.asyncio
async def test_a_name_server_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """All who ask for one name wait in one thread; who asks for an address, or another name, waits for nobody."""
    release, asked = threading.Event(), []

    def hang(host: str, *_rest: object) -> list[Any]:
        asked.append(host)
        if host == "dead.test":
            release.wait()
        return [(2, 1, 6, "", ("127.0.0.1", 1))]

    monkeypatch.setattr("watchkeeper.checks.connect.socket.getaddrinfo", hang)
    hanging = [asyncio.create_task(look(TcpCheck(address="dead.test:1", timeout=0.1))) for _ in range(100)]
    await asyncio.sleep(0)
    for address in ("127.0.0.1:1", "other.test:1"):
        assert "Connection refused" in (await look(TcpCheck(address=address, timeout=10.0))).detail
    assert {outcome.error_class for outcome in await asyncio.gather(*hanging)} == {ErrorClass.CHECK_TIMEOUT}
    assert sorted(asked) == ["dead.test", "other.test"]
    release.set()


@pytest.mark.asyncio
async def test_a_name_without_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The resolver's own words."""
    import socket

    def refuse(*_rest: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr("watchkeeper.checks.connect.socket.getaddrinfo", refuse)
    outcome = await look(TcpCheck(address="none.test:1", timeout=10.0))
    assert (outcome.word, outcome.detail) == (
        Word.UNREACHABLE,
        "none.test:1: the name none.test has no address: Name or service not known",
    )


# -- exec -------------------------------------------------------------------------------------------------------------------

PYTHON = [sys.executable, "-c"]


class Keeper:
    """Notes of which groups it was told."""

    def __init__(self) -> None:
        self.groups: list[int] = []
        self.released: list[int] = []

    def guard(self, group: int, grace: float) -> None:
        self.groups.append(group)

    def release(self, group: int) -> None:
        self.released.append(group)


@pytest.fixture(params=["in an agent", "alone"])
def kept(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """With somebody who ends commands of a killed agent, so that each waits at the gate, and without."""
    keeper = Keeper() if request.param == "in an agent" and os.name == "posix" else None
    monkeypatch.setattr("watchkeeper.checks.command.keeper", lambda: keeper)
    yield
    if keeper is not None:
        assert keeper.released == keeper.groups


async def command(code: str, **fields: Any) -> Outcome:
    return await look(ExecCheck(command=(*PYTHON, code), timeout=60.0, **fields))


@pytest.mark.asyncio
@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("codes", "words"),
    [
        (ExitCodes.ZERO, [Word.OK, Word.BAD_STATUS, Word.BAD_STATUS, Word.BAD_STATUS]),
        (ExitCodes.CONSUL, [Word.OK, Word.WARNING, Word.BAD_STATUS, Word.BAD_STATUS]),
        (ExitCodes.NAGIOS, [Word.OK, Word.WARNING, Word.BAD_STATUS, Word.ERROR]),
    ],
)
async def test_exit_codes(codes: ExitCodes, words: list[Word]) -> None:
    """0, 1, 2 and 3 in the three conventions; a warning is a success, and not known is neither."""
    outcomes = [await command(f"import os; os._exit({code})", exit_codes=codes) for code in range(4)]
    assert [outcome.word for outcome in outcomes] == words
    success = {Word.OK: True, Word.WARNING: True, Word.BAD_STATUS: False, Word.ERROR: None}
    assert [outcome.success for outcome in outcomes] == [success[word] for word in words]


@pytest.mark.asyncio
@pytest.mark.usefixtures("kept")
async def test_not_known_is_an_answer(tmp_path: Path) -> None:
    """A plugin that says so is not run three times for it."""
    runs = tmp_path / "runs"
    code = f"import os; os.write(os.open({str(runs)!r}, os.O_CREAT | os.O_APPEND | os.O_WRONLY), b'x'); os._exit(3)"
    assert (await command(code, exit_codes=ExitCodes.NAGIOS)).word is Word.ERROR
    assert runs.read_text() == "x"


@pytest.mark.asyncio
@pytest.mark.usefixtures("kept")
async def test_exec_environment_and_output(tmp_path: Path) -> None:
    """Own variables, own directory, no input; output is cut, and what was written last is still there."""
    code = "import os, sys; print(os.environ['A'], os.environ['B'], os.getcwd(), len(sys.stdin.read()))"
    fields: dict[str, Any] = {
        "environment": {"A": "a"},
        "secrets": {"B": "b"},
        "working_directory": str(tmp_path),
    }
    assert (await command(code, **fields)).detail == f"a b {tmp_path} 0"
    cut = await command("print('x' * 100_000)", output_limit=10)
    assert cut.detail == "x" * 10
    both = await command("import os; os.write(1, b'out '); os.write(2, b'err'); os._exit(4)")
    assert both.detail.startswith("exit status 4: ")
    assert sorted(both.detail.removeprefix("exit status 4: ").split()) in (["err", "out"], ["errout"])
    assert (await command("import os; os.kill(os.getpid(), 9)")).detail == "signal SIGKILL"


@pytest.mark.asyncio
@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"command": ("/no/such/program",)}, "the program /no/such/program is not there"),
        (
            {"command": ("true",), "working_directory": "/no/such"},
            "the working directory /no/such is not there",
        ),
        ({"command": ("/",)}, "the program / may not be run: Permission denied"),
    ],
)
async def test_commands_that_cannot_be_run(fields: dict[str, Any], said: str) -> None:
    """A failure, with what is missing."""
    outcome = await look(ExecCheck(timeout=60.0, **fields))
    assert (outcome.word, outcome.detail) == (Word.FAILED, said)


@pytest.mark.asyncio
@pytest.mark.usefixtures("kept")
async def test_a_command_for_which_nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """No descriptors, no processes: that says nothing of the target."""
    for number in (errno.EMFILE, errno.EAGAIN, errno.ENOMEM):

        async def refuse(*_rest: Any, number: int = number, **_more: Any) -> None:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(asyncio.get_running_loop(), "subprocess_exec", refuse)
        outcome = await command("")
        assert (outcome.success, outcome.error_class) == (None, ErrorClass.CHECK_INTERNAL)


@pytest.mark.asyncio
@pytest.mark.usefixtures("kept")
async def test_a_hanging_command_is_killed_with_its_group(tmp_path: Path) -> None:
    """At the deadline all of the group is gone, children that ignore TERM among them."""
    pids = tmp_path / "pids"
    code = (
        "import os, signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); os.fork(); "
        f"fd = os.open({str(pids)!r}, os.O_CREAT | os.O_APPEND | os.O_WRONLY); "
        "os.write(fd, b'%d\\n' % os.getpid()); time.sleep(600)"
    )
    task = asyncio.create_task(look(ExecCheck(command=(*PYTHON, code), timeout=60.0)))
    while not pids.exists() or len(pids.read_text().split()) < 2:  # noqa: ASYNC110 - another process writes
        await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for pid in map(int, pids.read_text().split()):
        while alive(pid):  # noqa: ASYNC110 - another process ends
            await asyncio.sleep(0.005)


@pytest.mark.asyncio
@pytest.mark.usefixtures("kept")
async def test_a_command_that_cannot_be_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """It stands in a call to a dead mount: the looks after it start no others beside it. Once it has ended they do again."""
    go, pids = tmp_path / "go", tmp_path / "pids"
    code = (
        f"import os, time\nopen({str(pids)!r}, 'a').write('x')\n"
        f"while not os.path.exists({str(go)!r}):\n    time.sleep(0.01)"
    )
    spec = ExecCheck(command=(*PYTHON, code), timeout=60.0)
    kept: Memory = {}
    with monkeypatch.context() as patch:
        patch.setattr("watchkeeper.system.kill_group", lambda _group: None)
        patch.setattr("subprocess.Popen.kill", lambda _self: None)
        task = asyncio.create_task(look(spec, kept))
        while not pids.exists():  # noqa: ASYNC110 - another process writes
            await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        outcome = await look(spec, kept)
        assert (outcome.error_class, outcome.word) == (ErrorClass.CHECK_TIMEOUT, Word.UNREACHABLE)
        assert "has not ended yet" in outcome.detail
    go.touch()
    while not (outcome := await look(spec, kept)).success:  # noqa: ASYNC110 - another process ends
        await asyncio.sleep(0.005)
    assert pids.read_text() == "xx"


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@pytest.mark.asyncio
@pytest.mark.usefixtures("kept")
async def test_a_grandchild_that_keeps_the_pipes(tmp_path: Path) -> None:
    """The command has ended, and that is its answer; what it left behind in its group is killed."""
    code = "import os, time\nif os.fork() == 0:\n    time.sleep(600)\nprint(os.getpid())"
    outcome = await command(code)
    assert outcome.success
    group = int(outcome.detail)
    while True:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            break
        await asyncio.sleep(0.005)


@pytest.mark.asyncio
@pytest.mark.usefixtures("kept")
async def test_exec_as_somebody_else() -> None:
    """With that user's identity, if the agent is root; else a clear sentence."""
    if os.geteuid() == 0:
        outcome = await look(ExecCheck(command=("id", "-un"), user="nobody", timeout=60.0))
        assert outcome.detail == "nobody"
        assert (await look(ExecCheck(command=("id", "-u"), user="65534", timeout=60.0))).detail == "65534"
    else:
        outcome = await look(ExecCheck(command=("id",), user="root", timeout=60.0))
        assert outcome.detail == "to run the command as root the agent has to run as root"
    outcome = await look(ExecCheck(command=("id",), user="no such user", timeout=60.0))
    assert (outcome.success, outcome.detail) == (None, "there is no user no such user")


@pytest.mark.parametrize("what", ["check", "condition", "job"])
@pytest.mark.skipif(os.name != "posix", reason="a job object does it")
def test_what_a_dying_agent_has_just_started_never_begins(tmp_path: Path, what: str) -> None:
    """Killed before it could tell its warden: the command is still at the gate, and goes."""
    begun, shell = tmp_path / "begun", tmp_path / "shell"
    done = subprocess.run(
        [*PYTHON, DYING, what, str(shell), str(begun)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    pid = int(shell.read_text())
    while alive(pid):
        time.sleep(0.005)
    assert not begun.exists()


DYING = """
import asyncio, os, signal, sys, time
from watchkeeper.checks import command
from watchkeeper.config.schema.checks import ExecCheck
from watchkeeper.config.schema.services import ProcessService
from watchkeeper.supervise import condition
from watchkeeper.supervise.child import spawn
from watchkeeper.supervise.warden import Warden

what, shell, begun = sys.argv[1:]

class Dying(Warden):
    def guard(self, group, grace):
        time.sleep(0.3)  # what was started has had its chance
        with open(shell, "w") as file:
            file.write(str(group))
        os.kill(os.getpid(), signal.SIGKILL)

async def main():
    if what == "check":
        command.keeper = Dying
        await command.probe(ExecCheck(command=("touch", begun), timeout=60.0), {})
    elif what == "condition":
        spec = ProcessService(command=("true",), condition=("touch", begun))
        await condition.ask(spec, Dying())
    else:
        await spawn(
            ["touch", begun], environment={}, working_directory=None, on_output=print, on_exit=print,
            prepare=Dying().at_the_gate(1.0),
        )

asyncio.run(main())
"""


# -- process ----------------------------------------------------------------------------------------------------------------


def running(pid: int, name: str = "app", cpu: float = 0.0, **fields: Any) -> Process:
    command = (f"/bin/{name}", f"--n={pid}")
    return Process(pid, 1, "S", cpu, 0.0, GB, 1.0, name, command)._replace(**fields)


async def examined(
    monkeypatch: pytest.MonkeyPatch, found: list[Process], memory: Memory | None = None, **fields: Any
) -> Outcome:
    monkeypatch.setattr(process, "PASSES", process.Passes(lambda command: found))
    return await look(ProcessCheck(timeout=60.0, **fields), {} if memory is None else memory)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fields", "success", "said"),
    [
        ({"name": "app"}, True, "2 processes, 2.0 GiB"),
        ({"name": "ap"}, False, "0 processes, and 1 are needed"),
        ({"name": "dead"}, False, "0 processes, and 1 are needed"),
        ({"cmdline": "--n=2$"}, True, "1 process, 1.0 GiB"),
        ({"name": "app", "cmdline": "--n=3"}, False, "0 processes, and 1 are needed"),
        ({"name": "app", "minimum": 3}, False, "2 processes, and 3 are needed"),
        ({"name": "app", "maximum": 1}, False, "2 processes, and 1 are allowed"),
        ({"name": "none", "minimum": 0, "maximum": 0}, True, "0 processes, 0 bytes"),
        (
            {"name": "app", "max_rss": GB},
            False,
            "2 processes with 2.0 GiB in memory, and 1.0 GiB are allowed",
        ),
    ],
)
async def test_processes(
    monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], success: bool, said: str
) -> None:
    """By name, by arguments; zombies do not count."""
    found = [
        running(1),
        running(2),
        running(3, "other"),
        running(4, "dead", state="Z"),
        running(5, "k", command=()),
    ]
    outcome = await examined(monkeypatch, found, **fields)
    assert (outcome.success, outcome.detail) == (success, said)


@pytest.mark.asyncio
async def test_pid_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that is missing, is nonsense, or names nobody is a failure that says so."""
    pidfile = tmp_path / "pid"
    fields = {"pidfile": str(pidfile)}
    found = [running(7)]
    assert "No such file" in (await examined(monkeypatch, found, **fields)).detail
    for content, detail in (
        ("7\n", "1 process, 1.0 GiB"),
        ("8\n", "0 processes, and 1 are needed"),
        ("", f"the pid file {pidfile} cannot be used: its first word is no number"),
        ("x7", f"the pid file {pidfile} cannot be used: its first word is no number"),
    ):
        pidfile.write_text(content)
        assert (await examined(monkeypatch, found, **fields)).detail == detail


@pytest.mark.asyncio
async def test_processor_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two looks; a process that is new or has ended meanwhile adds nothing; a pid that is somebody else's neither."""
    now = [100.0]
    monkeypatch.setattr(process, "time", SimpleNamespace(monotonic=lambda: now[0]))
    kept: Memory = {}
    fields = {"name": "app", "max_cpu": 50.0}
    assert (await examined(monkeypatch, [running(1, cpu=900.0)], kept, **fields)).success
    now[0] = 110.0
    assert (
        await examined(monkeypatch, [running(1, cpu=904.0), running(2, cpu=99.0)], kept, **fields)
    ).success
    now[0] = 120.0
    outcome = await examined(monkeypatch, [running(1, cpu=908.0), running(2, cpu=101.0)], kept, **fields)
    assert outcome.detail == "2 processes with 60.0 % of a processor, and 50 % are allowed"
    now[0] = 130.0
    assert (await examined(monkeypatch, [running(2, cpu=500.0, started=2.0)], kept, **fields)).success


@pytest.mark.asyncio
async def test_this_very_process() -> None:
    """Against the real list."""
    outcome = await look(ProcessCheck(cmdline="pytest", max_rss=1 << 50, timeout=60.0))
    assert outcome.success


@pytest.mark.asyncio
async def test_one_pass_answers_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred process checks at one moment read the list of processes once."""
    passes = []

    def read(command: bool) -> list[Process]:
        passes.append(command)
        return [running(1)]

    monkeypatch.setattr(process, "PASSES", process.Passes(read))
    monkeypatch.setattr(process, "THREADS", Threads(limit=1))
    for _ in range(100):
        assert (await look(ProcessCheck(name="app", timeout=60.0))).success
    assert passes == [False]


# -- file -------------------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_files(tmp_path: Path) -> None:
    """Everything that can be asked of a file, one at a time."""
    path = tmp_path / "f"
    path.write_bytes(b"content")
    path.chmod(0o640)
    os.utime(path, (time.time() - 100, time.time() - 100))
    digests = {name: hashlib.new(name, b"content").hexdigest() for name in ("sha256", "md5")}

    async def outcome(**fields: Any) -> Outcome:
        return await look(FileCheck(path=str(path), timeout=60.0, **fields))

    good: list[dict[str, Any]] = [
        {}, {"max_age": 200.0}, {"min_age": 50.0}, {"min_size": 7}, {"max_size": 7}, {"mode": "0640"}, {"mode": "640"},
        {"sha256": digests["sha256"].upper()}, digests, {"owner": str(os.getuid())}, {"group": str(os.getgid())},
    ]  # fmt: skip
    for fields in good:
        assert (await outcome(**fields)).success, fields
    bad: list[tuple[dict[str, Any], str]] = [
        ({"exists": False}, "is there"),
        ({"max_age": 50.0}, "and 50s are allowed"),
        ({"min_age": 200.0}, "it must be left alone for 3m20s"),
        ({"min_size": 8}, "has 7 bytes, and 8 bytes are needed"),
        ({"max_size": 6}, "has 7 bytes, and 6 bytes are allowed"),
        ({"mode": "0600"}, "has the mode 0640 instead of 0600"),
        ({"sha256": "0" * 64}, f"has the sha256 {digests['sha256']}"),
        ({"md5": "0" * 32}, f"has the md5 {digests['md5']}"),
        ({"owner": "somebody"}, "instead of somebody"),
        ({"group": "somebody"}, "instead of somebody"),
    ]
    for fields, said in bad:
        found = await outcome(**fields)
        assert (found.word, said in found.detail) == (Word.FAILED, True), (fields, found)
    path.unlink()
    assert (await outcome()).detail == f"{path} is not there"
    assert (await outcome(exists=False)).success


@pytest.mark.asyncio
async def test_growth(tmp_path: Path) -> None:
    """From look to look; a file that was rotated has not grown."""
    path, kept = tmp_path / "log", Memory()
    spec = FileCheck(path=str(path), max_growth=100, timeout=60.0)
    sizes = [(1000, True), (1100, True), (1201, False), (1201, True), (5, True), (105, True)]
    for size, success in sizes:
        path.write_bytes(b"x" * size)
        assert (await look(spec, kept)).success is success, size


@pytest.mark.asyncio
async def test_a_checksum_is_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And again when the file has changed."""
    path, kept, reads = tmp_path / "f", Memory(), []
    original = file._digests

    def digests(name: str, names: list[str]) -> dict[str, str]:
        reads.append(name)
        return original(name, names)

    monkeypatch.setattr(file, "_digests", digests)
    path.write_bytes(b"a")
    spec = FileCheck(path=str(path), sha256=hashlib.sha256(b"a").hexdigest(), timeout=60.0)
    assert [(await look(spec, kept)).success for _ in range(3)] == [True, True, True]
    path.write_bytes(b"bb")
    assert [(await look(spec, kept)).success for _ in range(3)] == [False, False, False]
    assert len(reads) == 2
    directory = await look(FileCheck(path=str(tmp_path), md5="0" * 32, timeout=60.0))
    assert "is no regular file" in directory.detail


# -- disk -------------------------------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"max_used_percent": 80.0}, Word.OK),
        ({"max_used_percent": 74.0}, Word.FAILED),
        ({"warn_used_percent": 74.0, "max_used_percent": 80.0}, Word.WARNING),
        ({"min_free": 10 * GB}, Word.OK),
        ({"min_free": 30 * GB}, Word.FAILED),
        ({"warn_free": 30 * GB}, Word.WARNING),
        ({"max_used": 70 * GB}, Word.FAILED),
        ({"max_inodes_percent": 89.0}, Word.FAILED),
        ({"warn_inodes_percent": 89.0, "max_inodes_percent": 95.0}, Word.WARNING),
    ],
)
async def test_disks(monkeypatch: pytest.MonkeyPatch, fields: dict[str, Any], word: Word) -> None:
    """75 % of what users may have is used, 90 % of the inodes are."""
    monkeypatch.setattr(disk, "measure", lambda _path: Room(75 * GB, 25 * GB, 1000, 100))
    outcome = await look(DiskCheck(path="/", timeout=60.0, **fields))
    assert outcome.word is word
    assert outcome.detail.startswith("/ is 75.0 % full, 25.0 GiB are free")
    assert (
        outcome.level is {Word.OK: Level.OK, Word.WARNING: Level.WARNING, Word.FAILED: Level.CRITICAL}[word]
    )


@pytest.mark.asyncio
async def test_a_real_disk(tmp_path: Path) -> None:
    """Agrees with what the system says; a path that is not there is a failure."""
    room = disk.measure(str(tmp_path))
    found = os.statvfs(tmp_path)
    assert (room.available, room.inodes) == (found.f_bavail * found.f_frsize, found.f_files)
    assert 0 <= room.used_percent <= 100
    assert Room(0, 0, 0, 0).inodes_percent == 0
    outcome = await look(DiskCheck(path=f"{tmp_path}/none", min_free=1, timeout=60.0))
    assert (outcome.word, "No such file" in outcome.detail) == (Word.FAILED, True)


@pytest.mark.asyncio
async def test_a_hanging_mount(monkeypatch: pytest.MonkeyPatch) -> None:
    """It costs its own check the deadline once, then nothing; another disk is looked at; and when it is back, so is the check."""
    release, threads = threading.Event(), Threads()
    monkeypatch.setattr(disk, "THREADS", threads)

    def measure(path: str) -> Room:
        if path == "/dead":
            release.wait()
        return Room(1, 1, 0, 0)

    monkeypatch.setattr(disk, "measure", measure)
    dead, kept = DiskCheck(path="/dead", min_free=1, timeout=0.05), Memory()
    outcomes = [await look(dead, kept) for _ in range(5)]
    assert {outcome.error_class for outcome in outcomes} == {ErrorClass.CHECK_TIMEOUT}
    assert all("has not answered an earlier look" in outcome.detail for outcome in outcomes[1:])
    assert (threads.abandoned, threads.alive) == (1, 1)
    assert (await look(DiskCheck(path="/", min_free=1, timeout=60.0))).success
    release.set()
    while threads.abandoned:  # noqa: ASYNC110 - a thread sets no asyncio.Event
        await asyncio.sleep(0.002)
    assert (await look(dead, kept)).success


# -- memory -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"max_used_percent": 80.0}, Word.OK),
        ({"max_used_percent": 70.0}, Word.FAILED),
        ({"warn_used_percent": 70.0}, Word.WARNING),
        ({"min_available": 3 * GB}, Word.FAILED),
        ({"warn_available": 3 * GB}, Word.WARNING),
        ({"max_swap_percent": 10.0}, Word.FAILED),
        ({"max_swap_percent": 60.0}, Word.OK),
    ],
)
def test_memory(fields: dict[str, Any], word: Word) -> None:
    """6 of 8 GiB are used, and half of the swap."""
    found, swap = SimpleNamespace(total=8 * GB, available=2 * GB), SimpleNamespace(percent=50.0)
    assert memory.judge(MemoryCheck(**fields), found, swap).word is word


@pytest.mark.asyncio
async def test_the_real_memory() -> None:
    outcome = await look(MemoryCheck(max_used_percent=100.0, max_swap_percent=100.0, timeout=60.0))
    assert (outcome.success, "% are used" in outcome.detail) == (True, True)


def test_signals_have_names() -> None:
    """A command that a signal has ended is not called a status."""
    from watchkeeper.checks.command import _judge

    assert _judge(ExitCodes.ZERO, -signal.SIGTERM, b"").detail == "signal SIGTERM"
