"""A one-file executable behaves as plain Python running the same script: both are run, and what came of it is compared.

docs/behaviour.md is the table of these tests.
"""

from __future__ import annotations

import itertools
import json
import os
import pty
import re
import resource
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pytest

from support.ferryman import ROOT
from support.launcher import PLAIN, Ran, Starting, eventually, finish, plain_python, run_here

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

ACCENTED = "é 灯 "
METHODS = ("spawn", "forkserver", "fork")
SIGNALS = ("TERM", "INT", "HUP")


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The executable and the same program under plain Python, with the same environment."""

    executable: Path
    cache: Path
    folder: Path

    @property
    def words(self) -> dict[str, list[str]]:
        """How each is started."""
        return {"ours": [str(self.executable)], "plain": [plain_python(), str(PLAIN)]}

    def environment(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        return {
            "FERRYMAN_CACHE": str(self.cache),
            "PATH": os.defpath,
            "HOME": str(self.folder),
            **(more or {}),
        }

    def start(self, which: str, *words: str | bytes, env: Mapping[str, str] | None = None, **how: Any) -> Any:
        """A running program with pipes."""
        how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how}
        return subprocess.Popen([*self.words[which], *words], env=self.environment(env), **how)

    def ours(
        self,
        *words: str | bytes,
        env: Mapping[str, str] | None = None,
        typed: bytes | None = None,
        **how: Any,
    ) -> Ran:
        """Run the executable."""
        return run_here([*self.words["ours"], *words], typed, env=self.environment(env), **how)

    def plain(
        self,
        *words: str | bytes,
        env: Mapping[str, str] | None = None,
        typed: bytes | None = None,
        **how: Any,
    ) -> Ran:
        """Run the same program under plain Python."""
        return run_here([*self.words["plain"], *words], typed, env=self.environment(env), **how)

    def both(self, *words: str | bytes, **how: Any) -> tuple[Ran, Ran]:
        """Run both."""
        return self.ours(*words, **how), self.plain(*words, **how)

    def same(self, *words: str | bytes, **how: Any) -> Ran:
        """Run both; code and both streams must be equal to the byte."""
        ours, plain = self.both(*words, **how)
        assert ours == plain
        return ours


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for all behaviour tests: what is tested here is not the first start."""
    return tmp_path_factory.mktemp("behaviour")


@pytest.fixture
def pair(executable: Path, shared_cache: Path, tmp_path: Path) -> Pair:
    """The executable and plain Python."""
    return Pair(executable=executable, cache=shared_cache, folder=tmp_path)


# --- process ----------------------------------------------------------------------------------------------------------


def test_one_process(pair: Pair) -> None:
    """The PID that was started is the program, its parent is who started it, and it has one thread and no children."""
    process = pair.start("ours", "settle")
    try:
        assert json.loads(process.stdout.readline()) == process.pid
        program = psutil.Process(process.pid)
        assert program.ppid() == os.getpid()
        assert program.children(recursive=True) == []
        assert program.num_threads() == 1
        assert Path(program.exe()) == pair.executable
    finally:
        finish(process, b"\n\n")


@pytest.mark.parametrize("handled", ["", "handled"], ids=["default", "handler"])
@pytest.mark.parametrize("name", SIGNALS)
def test_signals(pair: Pair, name: str, handled: str) -> None:
    """TERM, INT and HUP end the program, or reach its handler, as with plain Python; the status says the same."""
    seen = []
    for which in ("ours", "plain"):
        process = pair.start(which, "wait", *([handled] if handled else []))
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(getattr(signal, f"SIG{name}"))
        ran = finish(process)
        seen.append((ran.code, ran.out, ran.err.splitlines()[-1:]))

    assert seen[0] == seen[1]
    assert seen[0][0] == (5 if handled else -getattr(signal, f"SIG{name}"))


ENDINGS: dict[str, tuple[tuple[str, ...], int]] = {
    "0": (("leave", "0"), 0),
    "1": (("leave", "1"), 1),
    "7": (("leave", "7"), 7),
    "255": (("leave", "255"), 255),
    "256 is 0": (("leave", "256"), 0),
    "-1 is 255": (("leave", "-1"), 255),
    "what main returns": (("return-words", "9"), 9),
    "sys.exit with words": (("leave-with-words",), 1),
    "atexit and buffers": (("at-exit",), 3),
    "abort": (("abort",), -signal.SIGABRT),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_exit_codes(pair: Pair, name: str) -> None:
    """Exit code and both streams are those of plain Python."""
    words, code = ENDINGS[name]

    # An abort would leave a core file.
    ran = pair.same(*words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))

    assert ran.code == code


def frames(text: str) -> list[str]:
    """File name, line and function of the program's own frames, and every line that is no frame and no source."""
    found = []
    for line in text.splitlines():
        frame = re.match(r'\s*File "(?:.*[/\\])?(\w+\.py)", (line \d+.*)', line)
        if frame and "oneself/" in line and "plain.py" not in line:
            found.append(f"{frame[1]} {frame[2]}")
        elif not frame and not line.startswith((" ", "Extension modules")):
            found.append(re.sub("0x[0-9a-f]+", "0x…", line))
    return found


@pytest.mark.parametrize("act", ["fail", "chained", "interrupted"])
def test_tracebacks(pair: Pair, act: str) -> None:
    """An exception that nobody catches is told with file names, line numbers and functions, as with plain Python."""
    ours, plain = pair.both(act)

    assert (ours.code, ours.out) == (plain.code, plain.out)
    assert frames(ours.said) == frames(plain.said)
    assert any("line" in frame for frame in frames(ours.said))


@pytest.mark.parametrize("words", [("crash", "segv"), ("crash", "abort"), ("dump",)], ids=" ".join)
def test_faulthandler(pair: Pair, words: tuple[str, ...]) -> None:
    """faulthandler says where a native fault happened, with the same frames, and the process dies of the same signal."""
    ours, plain = pair.both(*words, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0)))

    assert ours.code == plain.code
    assert frames(ours.said) == frames(plain.said)
    assert any("endings.py line" in frame for frame in frames(ours.said))


def test_signal_dispositions_and_flags(pair: Pair) -> None:
    """Handlers, ignored signals, the mask and the interpreter's flags are those of plain Python.

    Other are the flags that keep a user's Python settings out of a finished program.
    """
    ours, plain = (ran.json for ran in pair.both("flags"))
    differing = {name for name in ours["flags"] if ours["flags"][name] != plain["flags"][name]}

    assert (ours["signals"], ours["blocked"]) == (plain["signals"], plain["blocked"])
    assert differing <= {
        "isolated",
        "ignore_environment",
        "no_user_site",
        "no_site",
        "safe_path",
        "optimize",
        "dont_write_bytecode",
        "utf8_mode",
    }


def test_python_variables_are_not_obeyed(pair: Pair, tmp_path: Path) -> None:
    """PYTHONPATH, PYTHONHOME and the like are for the machine's Python: they change nothing, and no sitecustomize runs."""
    (tmp_path / "sitecustomize.py").write_text("print('planted')\n")
    (tmp_path / "json.py").write_text("print('planted')\n")
    env = {
        "PYTHONPATH": str(tmp_path),
        "PYTHONHOME": str(tmp_path),
        "PYTHONSTARTUP": str(tmp_path / "json.py"),
        "PYTHONINSPECT": "1",
        "PYTHONPLATLIBDIR": "nowhere",
        "PYTHONEXECUTABLE": "/bin/false",
        "PYTHONVERBOSE": "2",
        "PYTHONWARNINGS": "error",
    }

    ran = pair.ours("report", env=env, cwd=tmp_path)

    assert ran.err == b""
    assert not [entry for entry in ran.json["path"] if str(tmp_path / "x")[:-2] == entry.strip("'")]


# --- streams ----------------------------------------------------------------------------------------------------------


def test_pipes(pair: Pair) -> None:
    """A megabyte of any bytes goes through."""
    data = os.urandom(1 << 20)

    assert pair.same("echo", typed=data).out == data


def test_broken_pipe(pair: Pair) -> None:
    """A reader that goes away is a BrokenPipeError and not a silent death, as with plain Python."""
    seen = []
    for which in ("ours", "plain"):
        process = pair.start(which, "broken-pipe")
        process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        ran = finish(process)
        seen.append((ran.code, ran.err.splitlines()[-1]))

    assert seen[0] == seen[1]
    assert seen[0][1].startswith(b"BrokenPipeError")


@pytest.mark.parametrize("shut", [(0,), (1,), (2,), (0, 1), (1, 2), (0, 1, 2)], ids=str)
def test_closed_streams(pair: Pair, shut: tuple[int, ...], tmp_path: Path) -> None:
    """A stream that was closed before the start is None, as with plain Python."""
    report = tmp_path / "streams.json"
    seen = []
    for which in ("ours", "plain"):
        process = pair.start(which, "streams-to", str(report), preexec_fn=Starting(shut=shut))
        assert finish(process).code == 0
        seen.append(json.loads(report.read_text()))

    assert seen[0] == seen[1]
    assert [number for number in (0, 1, 2) if seen[0][number] is None] == list(shut)


def test_open_files(pair: Pair) -> None:
    """At most one descriptor more than plain Python has, and that one is the program's hold on its own tree."""
    ours, plain = (ran.json for ran in pair.both("descriptors"))
    more = [path for number, path in ours.items() if number not in plain]

    assert set(ours) >= set(plain)
    assert len(more) <= 1
    assert all(str(pair.cache) in path for path in more)
    assert pair.same("child", "ls", "/proc/self/fd").code == 0


def on_terminal(words: Sequence[str], env: Mapping[str, str], *answers: tuple[bytes, bytes]) -> Ran:
    """Run on a terminal of its own: wait for each text, then type the answer; everything that was shown."""
    number, terminal = pty.fork()
    if not number:
        os.execve(words[0], list(words), dict(env))
    shown = b""
    for prompt, answer in answers:
        shown += read_until(terminal, prompt)
        os.write(terminal, answer)
    shown += read_until(terminal, None)
    os.close(terminal)
    return Ran(code=os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), out=shown, err=b"")


def read_until(terminal: int, text: bytes | None) -> bytes:
    """Up to the text, or all when there is none."""
    shown, end = b"", time.monotonic() + 60
    with suppress(OSError):  # EIO: nobody has the terminal open any more
        while text is None or text not in shown:
            assert time.monotonic() < end, shown
            shown += os.read(terminal, 4096)
    return shown


def test_terminal(pair: Pair) -> None:
    """On a terminal input() asks and reads, and isatty() says so, as with plain Python."""
    ours, plain = (
        on_terminal([*words, "interact"], pair.environment({"TERM": "dumb"}), (b"name? ", b"Ada\n"))
        for words in pair.words.values()
    )

    assert ours == plain
    assert b'["Ada", true, true, true,' in ours.out


def test_interrupt_from_the_terminal(pair: Pair) -> None:
    """Ctrl-C is a KeyboardInterrupt, and the process dies of SIGINT."""
    for words in pair.words.values():
        ran = on_terminal([*words, "wait"], pair.environment(), (b"ready", b"\x03"))

        assert ran.code == -signal.SIGINT
        assert b"KeyboardInterrupt" in ran.out


# --- arguments, folder, text ------------------------------------------------------------------------------------------

LOCALES: dict[str, dict[str, str]] = {
    "none": {},
    "C.UTF-8": {"LC_ALL": "C.UTF-8"},
    "C": {"LC_ALL": "C"},
    "POSIX": {"LANG": "POSIX"},
    "unknown": {"LC_ALL": "xx_YY.UTF-8"},
    "LC_CTYPE": {"LC_CTYPE": "C.UTF-8", "LANG": "C"},
}


@pytest.mark.parametrize("name", LOCALES)
def test_arguments(pair: Pair, name: str) -> None:
    """Arguments arrive as with plain Python: letters of any language, bytes that are no text, empty ones, options."""
    words: list[str | bytes] = ["", "grün 灯", b"\xff\xfe/\x80", "-c", "--version", "--ferryman", "a\nb", "-"]

    ours, plain = (ran.json["argv"][1:] for ran in pair.both("report", *words, env=LOCALES[name]))

    assert ours == plain
    assert ours == [ascii("report"), *(ascii(os.fsdecode(word)) for word in words)]


def test_many_arguments(pair: Pair) -> None:
    """Ten thousand arguments, and one of a hundred thousand bytes."""
    words = ["report", *map(str, range(10000)), "x" * 100_000]

    assert pair.ours(*words).json["argv"][1:] == [ascii(word) for word in words]


@pytest.mark.parametrize("name", LOCALES)
def test_text(pair: Pair, name: str) -> None:
    """Encodings of files, streams and the locale are those of plain Python; under C both speak UTF-8."""
    ours, plain = (ran.json for ran in pair.both("text", env=LOCALES[name]))
    for seen in (ours, plain):
        seen["preferred"] = seen["preferred"].lower()
        # Plain Python reaches UTF-8 by changing LC_CTYPE in its environment, which children then see; we do not.
        del seen["utf8"], seen["ctype"]

    assert ours == plain


@pytest.mark.parametrize("name", LOCALES)
def test_printing(pair: Pair, name: str) -> None:
    """What is printed beyond ASCII comes out as with plain Python."""
    assert pair.same("unicode", env=LOCALES[name]).code == 0


def test_working_directory(pair: Pair, tmp_path: Path) -> None:
    """The folder that it was started in stays, whatever its name, and a relative path to the executable does not matter."""
    folder = tmp_path / f"{ACCENTED}x"
    folder.mkdir()
    relative = os.path.relpath(pair.executable, folder)

    ran = run_here([relative, "folder"], env=pair.environment(), cwd=folder)

    assert ran.json == ascii(str(folder)) == pair.plain("folder", cwd=folder).json


def test_what_sys_says(pair: Pair) -> None:
    """sys.executable is the executable, sys.frozen is True, sys._MEIPASS the tree's folder, argv[0] what was typed.

    Modules know their files in the tree, and the script is __main__.
    """
    typed = f"{pair.executable.parent}/../{pair.executable.parent.name}/{pair.executable.name}"
    seen = run_here([typed, "report"], env=pair.environment()).json

    assert seen["executable"] == ascii(str(pair.executable))
    assert seen["argv"][0] == ascii(typed)
    assert seen["frozen"] is True
    assert seen["main"] == "__main__"
    tree = seen["tree"].strip("'")
    assert tree.startswith(str(pair.cache))
    assert seen["file"].strip("'").startswith(tree)
    assert all(entry.strip("'").startswith(tree) for entry in seen["path"])


def test_package_data_and_metadata(pair: Pair) -> None:
    """importlib.resources, importlib.metadata, pkgutil and entry points find what they find under plain Python."""
    seen = pair.ours("imports").json

    assert seen == {
        **pair.plain("imports").json,
        # A plain script has no distribution.
        "version": "1.4.2",
        "entry": ["report"],
    }


# --- other processes --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("act", ["pool", "queue", "shared", "manager", "executor"])
def test_multiprocessing(pair: Pair, act: str, method: str) -> None:
    """Pool, Queue, shared memory with its resource tracker, Manager and ProcessPoolExecutor work with every start method."""
    ran = pair.same(act, method)

    assert ran.code == 0
    assert ran.err == b""


@pytest.mark.parametrize("method", METHODS)
def test_a_worker_that_fails(pair: Pair, method: str) -> None:
    """A worker's exception is told with its traceback, and its exit code is 1."""
    ours, plain = pair.both("dies", method)

    assert ours.json == plain.json == 1
    assert frames(ours.said)[-1] == frames(plain.said)[-1]


def test_resource_tracker_cleans_up(pair: Pair) -> None:
    """The shared memory of a program that is killed is taken away by its tracker, which then ends as well."""
    for which in ("ours", "plain"):
        ran = finish(pair.start(which, "leak"))
        name = json.loads(ran.out)
        assert ran.code == -signal.SIGKILL
        memory = Path("/dev/shm", name)
        eventually(lambda memory=memory: not memory.exists())
        assert "leaked shared_memory" in ran.said

    assert eventually(lambda: not [one for one in psutil.process_iter() if runs(one, pair.executable)])


def runs(process: psutil.Process, executable: Path) -> bool:
    with suppress(psutil.Error):
        return process.exe() == str(executable) and process.status() != psutil.STATUS_ZOMBIE
    return False


def test_subprocess_of_itself(pair: Pair) -> None:
    """subprocess of sys.executable is the program again, with the same tree."""
    assert pair.ours("itself").json == [True, ["'report'"], True]


def test_exec_of_itself(pair: Pair) -> None:
    """os.execv of sys.executable keeps the process and starts the program afresh."""
    first, second = map(json.loads, pair.ours("again").out.splitlines())

    assert second["pid"] == first
    assert second["argv"][1:] == ["'report'"]


def test_asyncio_subprocess(pair: Pair) -> None:
    """asyncio starts, feeds and awaits children."""
    assert pair.same("asynchronous").json == ["over and back", 0, 7]


def test_fork(pair: Pair) -> None:
    """A child of os.fork() imports what was not imported before."""
    assert pair.same("fork").json == 0


def test_threads(pair: Pair) -> None:
    """Threads and their pools."""
    assert pair.same("threads").code == 0


def test_wakeup_descriptor(pair: Pair) -> None:
    """signal.set_wakeup_fd."""
    assert pair.same("wakeup").json == [signal.SIGUSR1]


def test_daemon(pair: Pair, tmp_path: Path) -> None:
    """A program that forks twice, closes every descriptor and leaves its session goes on: it imports and starts itself."""
    result = tmp_path / "result"
    assert pair.ours("daemon", str(result)).code == 0
    Path(f"{result}.go").touch()

    eventually(result.exists, 30)
    assert result.read_bytes() == b"3/2 0\n"


ENVIRONMENTS: dict[str, dict[str, str]] = {
    "nothing": {},
    "LD_LIBRARY_PATH": {"LD_LIBRARY_PATH": "/opt/lib:/elsewhere"},
    "LD_LIBRARY_PATH, empty": {"LD_LIBRARY_PATH": ""},
    "PYTHONPATH": {"PYTHONPATH": "/nowhere"},
    "PYTHONHOME": {"PYTHONHOME": "/nowhere"},
    "LC_ALL=C": {"LC_ALL": "C"},
    "LC_CTYPE=POSIX": {"LC_CTYPE": "POSIX"},
    "no text": {"BYTES": os.fsdecode(b"\xff\x80=\n")},
    "PyInstaller's": {"_MEIPASS2": "/x", "_PYI_ARCHIVE_FILE": "/x", "LD_LIBRARY_PATH_ORIG": "/x"},
}


@pytest.mark.parametrize("name", ENVIRONMENTS)
def test_environment_of_children(pair: Pair, name: str) -> None:
    """Children get the environment that the program got: the same variables in the same order, byte for byte."""
    given = {
        os.fsencode(key): os.fsencode(value) for key, value in pair.environment(ENVIRONMENTS[name]).items()
    }

    ran = pair.ours("child", "env", "-0", env=ENVIRONMENTS[name])

    assert ran.code == 0
    assert ran.out.rstrip(b"\0").split(b"\0") == [b"%s=%s" % item for item in given.items()]


def test_environment_may_be_empty(pair: Pair) -> None:
    """With nothing but the cache's place the program sees just that."""
    only = {"FERRYMAN_CACHE": str(pair.cache)}

    assert run_here([pair.executable, "report"], env=only).json["environment"] == only


# --- libraries --------------------------------------------------------------------------------------------------------


def test_native_modules(pair: Pair) -> None:
    """ssl, sqlite3, ctypes, zlib, bz2, lzma, hashlib, decimal and uuid work and answer as under plain Python."""
    assert pair.same("works").code == 0


def shared_libraries(paths: Sequence[str]) -> dict[str, str]:
    return {Path(path).name: path for path in paths if ".so" in Path(path).name}


def test_libraries_come_from_the_tree(pair: Pair) -> None:
    """Whatever library the tree has is loaded from the tree, and not the host's of that name."""
    tree = Path(pair.ours("report").json["tree"].strip("'"))
    there = {path.name for path in tree.rglob("*.so*")}
    seen = shared_libraries(pair.ours("libraries").json)

    assert {"_ssl", "_ctypes", "libpython3"} <= {name.partition(".")[0] for name in seen}
    assert [path for name, path in seen.items() if name in there and not path.startswith(str(tree))] == []


def test_library_path_goes_first(pair: Pair, tmp_path: Path) -> None:
    """An operator's LD_LIBRARY_PATH goes before the tree, as for every program; libpython stays the tree's."""
    tree = pair.ours("report").json["tree"].strip("'")
    usual = shared_libraries(pair.ours("libraries").json)
    given = [name for name, path in usual.items() if path.startswith(tree) and name.startswith("lib")]
    for name in given:
        (tmp_path / name).write_bytes(Path(usual[name]).read_bytes())

    seen = shared_libraries(pair.ours("libraries", env={"LD_LIBRARY_PATH": str(tmp_path)}).json)

    (libpython,) = (name for name in given if name.startswith("libpython"))
    assert seen[libpython] == usual[libpython]
    others = {Path(seen[name]).parent for name in given if name != libpython}
    assert others == {tmp_path}


# --- the plain interpreter --------------------------------------------------------------------------------------------

INTERPRETER = {"FERRYMAN_INTERPRETER": "1"}
ASKED = "import sys, json; print(json.dumps([sys.argv, __name__, sys.flags.optimize, sys.stdin is not None]))"
INTERPRETED: dict[str, tuple[list[str], bytes | None]] = {
    "-c": (["-c", ASKED, "a", "-b"], None),
    "-V": (["-V"], None),
    "--version": (["--version"], None),
    "-m": (["-m", "base64", "-t"], None),
    "stdin": ([], ASKED.encode()),
    "stdin by name": (["-", "a"], ASKED.encode()),
    "exit code": (["-c", "raise SystemExit(9)"], None),
    "no such file": (["/no/such/file.py"], None),
    "no such option": (["--no-such-option"], None),
    "isolated": (["-I", "-S", "-c", "import sys; print(sys.flags.isolated)"], None),
    "warnings": (["-W", "error", "-X", "dev", "-c", "import sys; print(sys.warnoptions)"], None),
    "UTF-8 mode": (["-X", "utf8", "-c", "import sys; print(sys.flags.utf8_mode)"], None),
    "no environment": (["-E", "-c", "import sys; print(sys.flags.ignore_environment)"], None),
}


def without_program(text: str) -> str:
    """Messages name the program that is speaking."""
    return re.sub(r"^(?:usage: )?/\S+?(?=[: ])", "PROGRAM", text, flags=re.MULTILINE)


@pytest.mark.parametrize("name", INTERPRETED)
def test_interpreter(pair: Pair, name: str) -> None:
    """With FERRYMAN_INTERPRETER=1 the executable takes the arguments of `python3` and does the same with them."""
    words, typed = INTERPRETED[name]
    env = pair.environment(INTERPRETER)

    ours = run_here([pair.executable, *words], typed, env=env)
    plain = run_here([plain_python(), *words], typed, env=env)

    assert (ours.code, ours.out) == (plain.code, plain.out)
    assert without_program(ours.said).splitlines()[:1] == without_program(plain.said).splitlines()[:1]


VARIABLES = [
    "PYTHONHASHSEED=0", "PYTHONOPTIMIZE=1", "PYTHONUTF8=1", "PYTHONIOENCODING=latin-1", "PYTHONWARNINGS=error",
    "PYTHONDEVMODE=1", "PYTHONMALLOC=debug", "PYTHONSAFEPATH=1", "PYTHONTRACEMALLOC=3", "PYTHONFAULTHANDLER=1",
    "PYTHONUNBUFFERED=1", "PYTHONVERBOSE=", "PYTHONNODEBUGRANGES=1", "PYTHONINTMAXSTRDIGITS=1000",
]  # fmt: skip
STATE = """
import faulthandler, sys, tracemalloc
state = {name: getattr(sys.flags, name) for name in dir(sys.flags) if isinstance(getattr(sys.flags, name), int)}
for ours in ("no_user_site", "dont_write_bytecode", "hash_randomization"):
    state.pop(ours)
print(state, sys.stdout.encoding, sys.stdout.write_through, sys.warnoptions, tracemalloc.is_tracing())
print(faulthandler.is_enabled(), hash("light") if not sys.flags.hash_randomization else "", "" in sys.path)
"""


@pytest.mark.parametrize("variable", VARIABLES)
def test_interpreter_takes_pythons_variables(pair: Pair, variable: str) -> None:
    """The plain interpreter obeys PYTHON variables as `python3` does."""
    name, _, value = variable.partition("=")
    env = pair.environment({**INTERPRETER, name: value})

    ours = run_here([pair.executable, "-c", STATE], env=env)
    assert ours == run_here([plain_python(), "-c", STATE], env=env)
    assert ours.code == 0


def test_interpreter_stays_within_its_tree(pair: Pair, tmp_path: Path) -> None:
    """PYTHONPATH and PYTHONHOME do not take it out of its tree, nor does a user's site-packages."""
    env = pair.environment({**INTERPRETER, "PYTHONPATH": str(tmp_path), "PYTHONHOME": "/nowhere"})
    code = "import json, site, sys; print(json.dumps([sys.path[1:], sys.prefix, site.ENABLE_USER_SITE]))"
    tree = pair.ours("report").json["tree"].strip("'")

    path, prefix, user_site = run_here([pair.executable, "-c", code], env=env).json

    assert all(entry.startswith(tree) for entry in path)
    assert (prefix, user_site) == (tree, False)


def test_interpreter_runs_scripts(pair: Pair, tmp_path: Path) -> None:
    """A script runs beside its neighbours, with the modules of the program to import."""
    (tmp_path / "neighbour.py").write_text("WORD = 'beside'\n")
    script = tmp_path / f"{ACCENTED}.py"
    script.write_text(
        "import neighbour, oneself.later, sys; print(neighbour.WORD, __file__ == sys.argv[0])\n"
    )

    ran = run_here([pair.executable, str(script)], env=pair.environment(INTERPRETER))

    assert (ran.code, ran.out) == (0, b"beside True\n")


def test_interpreter_takes_the_programs_modules(pair: Pair) -> None:
    """`-c` can import the program and run any of its acts."""
    code = "from oneself.acts import lazily; lazily()"

    assert pair.ours("-c", code, env=INTERPRETER).json == "3/2"


def test_interpreter_at_a_terminal(pair: Pair) -> None:
    """Without arguments, on a terminal, it is the interactive prompt."""
    env = pair.environment({**INTERPRETER, "TERM": "dumb"})
    ran = on_terminal([str(pair.executable)], env, (b">>> ", b"6 * 7\n"), (b">>> ", b"exit(4)\n"))

    assert ran.code == 4
    assert b"\r\n42\r\n" in ran.out


@pytest.mark.parametrize("value", ["0", "", "yes", "11"])
def test_interpreter_is_asked_for_by_1(pair: Pair, value: str) -> None:
    """Any other value is none."""
    assert pair.ours("return-words", "3", env={"FERRYMAN_INTERPRETER": value}).code == 3


# --- the table --------------------------------------------------------------------------------------------------------

TABLE = ROOT / "docs" / "behaviour.md"
SHOWING = re.compile(r"`(test_\w+)`")


def functions_of(pattern: str) -> set[str]:
    """The test functions of the files that match."""
    here = Path(__file__).parent
    return {
        name
        for path in here.glob(pattern)
        for name in re.findall(r"^def (test_\w+)\(", path.read_text(encoding="utf-8"), re.MULTILINE)
    }


def rows(text: str) -> list[str]:
    """The lines of tables that are neither a head nor its rule."""
    lines = text.splitlines()
    return [
        line
        for before, line in itertools.pairwise(lines)
        if line.startswith("|") and before.startswith("|") and not line.startswith("|---")
    ]


def test_the_table_is_of_these_tests() -> None:
    """Every line of docs/behaviour.md names a test that exists, and every test is in a line."""
    text = TABLE.read_text(encoding="utf-8")
    lines = rows(text)
    there = set().union(
        *(functions_of(f"test_{name}*.py") for name in ("behaviour", "survival", "cache", "trust"))
    )

    assert lines
    assert [line for line in lines if not SHOWING.search(line)] == []
    assert {name for line in lines for name in SHOWING.findall(line)} == there - {
        "test_the_table_is_of_these_tests"
    }
