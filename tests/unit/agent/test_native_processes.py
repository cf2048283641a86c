"""The pass over all processes: extension and twin answer alike, whatever /proc holds, and both as psutil does."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import psutil
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from support.native_build import built, extension
from watchkeeper.native import proc

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")

NUMBERS = 52


@pytest.fixture(scope="module")
def native() -> ModuleType:
    return extension()


@pytest.fixture(params=["extension", "twin"])
def passes(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    """The function, in both forms."""
    return extension().processes if request.param == "extension" else proc.processes


FAILING_READDIR = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
int entries_left = INT_MAX;
struct dirent *readdir(DIR *folder)
{
    if (entries_left-- <= 0) {
        errno = EIO;
        return 0;
    }
    return ((struct dirent *(*)(DIR *))dlsym(RTLD_NEXT, "readdir"))(folder);
}
struct dirent64 *readdir64(DIR *folder) { return (struct dirent64 *)readdir(folder); }
"""
HALF_A_LIST = """
import ctypes, importlib.machinery, importlib.util, sys
root, path = sys.argv[1:]
loader = importlib.machinery.ExtensionFileLoader("watchkeeper._native", path)
native = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
loader.exec_module(native)
from watchkeeper.native import proc
for form in (native, proc):
    ctypes.c_int.in_dll(ctypes.CDLL(None), "entries_left").value = 4
    try:
        print(len(form.processes(root)), "processes")
    except OSError as error:
        print(error.errno)
"""


def stat(pid: int, name: bytes, state: bytes = b"S", **at: int) -> bytes:
    """A stat as the kernel writes it; ``at`` names numbers by their field, as in proc(5): f4=1 is the parent."""
    numbers = [b"%d" % at.get(f"f{field}", 0) for field in range(4, NUMBERS + 1)]
    return b"%d (%b) %b %b\n" % (pid, name, state, b" ".join(numbers))


def write_tree(root: Path, entries: dict[str, tuple[bytes | None, bytes | None]], boot: bytes) -> None:
    """For each name a folder with stat and cmdline; None: there is none."""
    (root / "stat").write_bytes(boot)
    for name, (status, command) in entries.items():
        folder = root / name
        folder.mkdir()
        for file, data in (("stat", status), ("cmdline", command)):
            if data is not None:
                (folder / file).write_bytes(data)


# -- equal, whatever there is -----------------------------------------------------------------------------------------

hostile_name = st.binary(max_size=24) | st.sampled_from(
    [
        b"a) S 1 (b",
        b"((((",
        b"))))",
        b"new\nline",
        b") R 1",
        b"\xff\xfe",
        b"",
        b" ",
        "ümlaut".encode(),
        b"nul\0",
    ]
)
number = st.integers(0, 2**64 + 5) | st.sampled_from(
    [0, 1, 2**31 - 1, 2**31, 2**63 - 1, 2**63, 10**19 - 1, 10**19]
)


@st.composite
def proper_stat(draw: st.DrawFn) -> bytes:
    """Proper in form; its numbers and its name are anything."""
    at = {f"f{field}": draw(number) for field in (4, 14, 15, 22, 24)}
    state = draw(st.sampled_from([b"R", b"S", b"Z", b"", b"SS", b"\xc3", b"\x01", b"~"]))
    return stat(1, draw(hostile_name), state, **at)


@st.composite
def damaged_stat(draw: st.DrawFn) -> bytes:
    """Cut off, overwritten somewhere, or with other blanks."""
    whole = draw(proper_stat())
    at = draw(st.integers(0, len(whole)))
    return draw(
        st.sampled_from(
            [
                whole[:at],
                whole[:at] + b"-" + whole[at:],
                whole[:at] + b"\t\v" + whole[at:],
                whole.replace(b" ", b"\n"),
            ]
        )
    )


any_stat = st.none() | st.binary(max_size=200) | proper_stat() | damaged_stat()
any_command = (
    st.none()
    | st.binary(max_size=60)
    | st.lists(st.binary(max_size=10), max_size=5).map(b"\0".join)
    | st.sampled_from([b"", b"\0", b"\0\0", b"sh\0-c\0\0", b"x" * 4096, b"x\0" * 4096, b"nginx: worker"])
)
any_folder = st.integers(1, 2**31 + 5).map(str) | st.sampled_from(
    ["0", "007", "self", "12a", "-1", "+1", "2147483647", "2147483648", "99999999999999", "\uff11\uff12"]
)
any_boot = st.sampled_from(
    [b"", b"btime", b"btime x\nbtime 9\n", b"cpu 1 2\nbtime 1700000000\nintr 5\n", b"btime 12"]
)


@settings(max_examples=200)
@given(entries=st.dictionaries(any_folder, st.tuples(any_stat, any_command), max_size=5), boot=any_boot)
@example(entries={"7": (stat(7, b"a) b (c", f4=1, f14=250), b"a\0b\0")}, boot=b"btime 100\n")
def test_extension_and_twin_agree(
    native: ModuleType, entries: dict[str, tuple[bytes | None, bytes | None]], boot: bytes
) -> None:
    """Both leave out, cut and read the same, down to the last bit of a float."""
    with tempfile.TemporaryDirectory() as folder:
        write_tree(Path(folder), entries, boot)
        for command in (True, False):
            ours = native.processes(folder, command)
            assert [tuple(one) for one in ours] == [tuple(one) for one in proc.processes(folder, command)]


def test_many_are_shared_among_threads(native: ModuleType, tmp_path: Path) -> None:
    """What several threads have read is one list, in order, with every text in its place."""
    pids = range(1, 1500)
    write_tree(
        tmp_path,
        {str(pid): (stat(pid, b"n%d" % pid, f4=pid - 1), b"%d\0" % pid * (pid % 7)) for pid in pids},
        b"btime 1\n",
    )
    found = native.processes(tmp_path)
    assert [(one.pid, one.ppid, one.name) for one in found] == [(pid, pid - 1, f"n{pid}") for pid in pids]
    assert [one.command for one in found] == [(str(pid),) * (pid % 7) for pid in pids]
    assert [tuple(one) for one in found] == [tuple(one) for one in proc.processes(tmp_path)]


# -- the rules, one by one ---------------------------------------------------------------------------------------------


def test_fields(passes: Callable[..., list[Any]], tmp_path: Path) -> None:
    """Each field comes from its place in stat, in seconds and bytes."""
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGESIZE")
    status = stat(42, b"name", b"D", f4=7, f14=3 * ticks, f15=ticks // 2, f22=10 * ticks, f24=5)
    write_tree(tmp_path, {"42": (status, b"one\0two words\0")}, b"cpu 0\nbtime 1000\n")
    [one] = passes(tmp_path)
    assert tuple(one) == (42, 7, "D", 3.0, 0.5, 5 * page, 1010.0, "name", ("one", "two words"))
    assert (one.pid, one.ppid, one.state, one.user_seconds, one.system_seconds) == (42, 7, "D", 3.0, 0.5)
    assert (one.rss_bytes, one.started, one.name, one.command) == (
        5 * page,
        1010.0,
        "name",
        ("one", "two words"),
    )


@pytest.mark.parametrize(
    "name", [b"a) S 1 (b", b"line\nbreak", b"\xff\xfe", b"", b") (", "ümlaut".encode()], ids=repr
)
def test_hostile_names(passes: Callable[..., list[Any]], tmp_path: Path, name: bytes) -> None:
    """A name ends at the last parenthesis and comes back byte for byte."""
    write_tree(tmp_path, {"1": (stat(1, name, f4=3), b"")}, b"")
    [one] = passes(tmp_path)
    assert (os.fsencode(one.name), one.ppid, one.started, one.command) == (name, 3, None, ())


def test_a_process_that_vanishes(passes: Callable[..., list[Any]], tmp_path: Path) -> None:
    """Without stat it is left out; without cmdline only its command is unknown."""
    write_tree(
        tmp_path,
        {"1": (None, b"x"), "2": (stat(2, b"b"), None), "3": (b"", b"x"), "4": (stat(4, b"d"), b"d\0")},
        b"",
    )
    (tmp_path / "5").mkdir()
    (tmp_path / "5" / "stat").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "6").mkdir()
    (tmp_path / "6" / "stat").symlink_to("../fifo")
    assert [(one.pid, one.command) for one in passes(tmp_path)] == [(2, None), (4, ("d",))]


def test_a_long_command_is_cut(passes: Callable[..., list[Any]], tmp_path: Path) -> None:
    """A mebibyte of arguments is read, and no more."""
    write_tree(tmp_path, {"1": (stat(1, b"a"), b"x" * (proc.COMMAND_LIMIT + 5000))}, b"")
    [one] = passes(tmp_path)
    assert one.command == ("x" * proc.COMMAND_LIMIT,)


@pytest.mark.parametrize("root", ["missing", b"missing", Path("missing")], ids=repr)
def test_no_proc(passes: Callable[..., list[Any]], root: object) -> None:
    """A /proc that is not there is the one thing that raises."""
    with pytest.raises(FileNotFoundError) as caught:
        passes(root)
    assert os.fsdecode(caught.value.filename) == "missing"


@pytest.mark.skipif(sys.byteorder != "little" or sys.maxsize < 2**32, reason="dirent and dirent64 are one")
def test_half_a_list_is_an_error(tmp_path: Path) -> None:
    """A /proc that fails in the middle of its list raises: half of the processes would look like all of them."""
    source, shim, root = tmp_path / "shim.c", tmp_path / "shim.so", tmp_path / "proc"
    source.write_text(FAILING_READDIR, encoding="utf-8")
    library = built()  # skips where nothing can be compiled
    subprocess.run(["cc", "-shared", "-fPIC", "-o", shim, source, "-ldl"], check=True)
    root.mkdir()
    write_tree(root, {str(pid): (stat(pid, b"n"), b"") for pid in range(1, 9)}, b"")
    done = subprocess.run(
        [sys.executable, "-c", HALF_A_LIST, root, library],
        env={**os.environ, "LD_PRELOAD": str(shim), "PYTHONPATH": str(Path(proc.__file__).parents[2])},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split() == [str(errno.EIO)] * 2


def test_bad_arguments(passes: Callable[..., list[Any]], tmp_path: Path) -> None:
    """A file, a path that no system has, and something that is no path."""
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError):
        passes(tmp_path / "file")
    with pytest.raises(ValueError, match="null"):
        passes("a\0b")
    with pytest.raises(TypeError):
        passes(5)


# -- the real one --------------------------------------------------------------------------------------------------------


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process whose name and arguments are as odd as the kernel lets them be."""
    program = tmp_path / "a) S 1 (\n\xff"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen(
        [os.fsencode(program), b"1000", b"0.5", b"0.\xff5"[:2]], stdin=subprocess.DEVNULL
    )
    yield child
    child.kill()
    child.wait()


def test_as_psutil_sees_it(passes: Callable[..., list[Any]], sleeper: subprocess.Popen[bytes]) -> None:
    """What has settled is the same as psutil reads: of the odd sleeper, of this process, and of init."""
    for pid in (sleeper.pid, os.getpid(), 1):
        other = psutil.Process(pid)
        one = next(one for one in passes() if one.pid == pid)
        assert (one.ppid, one.name[:15]) == (other.ppid(), other.name()[:15])
        assert " ".join(one.command) == " ".join(other.cmdline())
        assert one.started == pytest.approx(other.create_time(), abs=0.02)
        assert one.user_seconds == pytest.approx(other.cpu_times().user, abs=2.0)
        if pid == sleeper.pid:
            assert one.rss_bytes == pytest.approx(other.memory_info().rss, rel=0.5)
            assert one.state == "S"


def test_everyone_is_there(passes: Callable[..., list[Any]]) -> None:
    """Whoever psutil saw before and after is in the pass between."""
    before = set(psutil.pids())
    seen = {one.pid for one in passes(command=False)}
    assert before & set(psutil.pids()) <= seen


def test_races_never_raise(native: ModuleType) -> None:
    """Processes that come and go while several threads look are there or not there, and nothing else."""
    over = threading.Event()
    failures: list[BaseException] = []

    def look() -> None:
        try:
            while not over.is_set():
                assert os.getpid() in {one.pid for one in native.processes()}
        except BaseException as error:  # noqa: BLE001 - shown by the thread that counts
            failures.append(error)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(60):
        subprocess.run(["/bin/true"], check=True)
    over.set()
    for thread in threads:
        thread.join()
    assert not failures


def test_nothing_is_leaked(native: ModuleType, tmp_path: Path) -> None:
    """Passes that succeed and passes that fail leave neither memory nor references nor descriptors behind."""
    write_tree(tmp_path, {str(pid): (stat(pid, b"n"), b"word\0" * 50) for pid in range(1, 400)}, b"btime 5\n")
    own = psutil.Process()

    def rounds(count: int) -> None:
        for _ in range(count):
            native.processes(tmp_path)
            with pytest.raises(FileNotFoundError):
                native.processes("missing")

    rounds(20)
    gc.collect()
    references, files, memory = sys.getrefcount(native.Process), own.num_fds(), own.memory_info().rss
    rounds(150)
    gc.collect()
    assert sys.getrefcount(native.Process) < references + 10  # every object of a pass has one
    assert own.num_fds() == files
    assert own.memory_info().rss - memory < 4_000_000  # one pass of these alone makes 5 MB of objects
