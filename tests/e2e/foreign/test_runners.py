"""The runners wine and container with the real Wine and a real engine: what a program is given, and how it ends.

An engine that needs words of its own is named by FERRYMAN_ENGINE and FERRYMAN_ENGINE_ARGS, as for builds.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from e2e.clean_rootfs.rootfs import UnavailableError
from e2e.foreign.journey import HOME, processes_below
from ferryman_build.cmd import Runner
from ferryman_build.errors import BuildStepError, ToolMissingError
from ferryman_build.runners.base import Place, Purpose, RunnerKind
from ferryman_build.runners.container import ContainerPlace, ContainerRunner
from ferryman_build.runners.wine import WinePlace, WineRunner
from ferryman_build.targets import Target, host_target, parse_target
from support.wine.cpython import cpython

WINDOWS = parse_target("windows-amd64")


@pytest.fixture(autouse=True)
def home(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was set up stays for the next session."""
    monkeypatch.setenv("FERRYMAN_HOME", str(HOME))


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    made = Runner(tmp_path / "logs")
    yield made
    assert made.end_all() == 0


def set_up(kind: RunnerKind, target: Target, purpose: Purpose, runner: Runner, work: Path) -> None:
    """Ready for use; skips with the advice that a person would get."""
    try:
        if not kind.ready(target, purpose, target.floor).ready:
            kind.setup(target, runner, print)
        with kind.open(target, purpose, target.floor, work, runner):
            pass
    except ToolMissingError as error:
        pytest.skip(f"{error} {error.advice}")


@pytest.fixture
def python() -> Path:
    try:
        return cpython()
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture
def windows(python: Path, tmp_path: Path, runner: Runner) -> Iterator[WinePlace]:
    """A place to build in: it has a Python, which can tell what it sees."""
    kind = WineRunner(python)
    set_up(kind, WINDOWS, Purpose.BUILD, runner, tmp_path / "first")
    with kind.open(WINDOWS, Purpose.BUILD, WINDOWS.floor, tmp_path / "a b é 灯", runner) as place:
        yield place


@pytest.fixture
def debian(tmp_path: Path, runner: Runner) -> Iterator[ContainerPlace]:
    """A place to try this machine's own target in."""
    kind, target = ContainerRunner(), host_target()
    set_up(kind, target, Purpose.TRY, runner, tmp_path / "first")
    with kind.open(target, Purpose.TRY, target.floor, tmp_path / "work", runner) as place:
        yield place


def run(
    place: Place, runner: Runner, cwd: Path, *words: str | Path, seconds: float = 60, **env: str
) -> tuple[int, str]:
    command = place.command(words, cwd=cwd, env=env, folders=(cwd,))
    done = runner.run(
        command.words, name="run", cwd=command.cwd, env=command.env, ok=range(256), timeout=seconds
    )
    return done.returncode, done.output


def wait_for(holds: Callable[[], bool], seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.05)


# --- Wine -------------------------------------------------------------------------------------------------------------


def test_a_windows_program_sees_its_own_folders_and_variables(
    windows: WinePlace, runner: Runner, tmp_path: Path
) -> None:
    """Windows 10, its exit code, and every variable that it was given, in any script; nothing of this user's."""
    assert windows.python is not None
    text = "import os,sys; print(ascii([os.environ.get(n) for n in sys.argv[1:]]), sys.getwindowsversion()[0]); sys.exit(7)"
    names = ("APPDATA", "USERPROFILE", "TEMP", "FOO", "USERPROFILEX", "PIP_CERT")
    code, said = run(
        windows,
        runner,
        tmp_path,
        windows.python,
        "-c",
        text,
        *names,
        APPDATA="Z:\\a",
        TEMP="Z:\\t",
        FOO="ü 灯",
        TMPDIR="Z:\\t",
    )

    assert said.strip() == ascii(["Z:\\a", windows.spell(windows.user), "Z:\\t", "ü 灯", None, None]) + " 10"
    assert code == 7


def test_each_prefix_is_fresh(windows: WinePlace, python: Path, runner: Runner, tmp_path: Path) -> None:
    """Registry and user folders of one place are not those of the next; a place is there in seconds."""
    written = ("reg", "add", r"HKCU\Software\Here", "/v", "x", "/d", "y", "/f")
    assert run(windows, runner, tmp_path, *written)[0] == 0
    assert run(windows, runner, tmp_path, "reg", "query", r"HKCU\Software\Here")[0] == 0
    (windows.user / "AppData" / "mine").touch()

    with WineRunner(python).open(WINDOWS, Purpose.TRY, {}, tmp_path / "other", runner) as other:
        assert run(other, runner, tmp_path, "reg", "query", r"HKCU\Software\Here")[0] == 1
        assert not (other.user / "AppData" / "mine").exists()


def test_control_c_reaches_a_windows_program(windows: WinePlace, runner: Runner, tmp_path: Path) -> None:
    """It decides how it ends."""
    assert windows.python is not None
    text = """
import time
print("up", flush=True)
try:
    time.sleep(60)
except KeyboardInterrupt:
    raise SystemExit(5)
"""
    command = windows.command([windows.python, "-c", text], cwd=tmp_path, env={})
    child = runner.start(command.words, cwd=tmp_path, env=command.env, output=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline().strip() == b"up"
    windows.stop(child)

    assert child.wait(20) == 5
    child.stdout.close()
    runner.forget(child)


def test_a_windows_program_that_hangs_is_ended_with_its_children(
    windows: WinePlace, runner: Runner, tmp_path: Path
) -> None:
    """Those that it has put into groups of their own end with the place at the latest; Wine's services go with them."""
    assert windows.python is not None
    text = "import subprocess,sys,time; subprocess.Popen([sys.executable,'-c','import time;time.sleep(90)'],creationflags=0x208); time.sleep(90)"
    with pytest.raises(BuildStepError, match="run did not finish within 3 s"):
        run(windows, runner, tmp_path, windows.python, "-c", text, seconds=3)
    assert len(windows.leftovers()) == 1

    with WineRunner(windows.python.parent).open(
        WINDOWS, Purpose.TRY, {}, tmp_path / "other", runner
    ) as other:
        run(other, runner, tmp_path, "cmd", "/c", "exit")
        path = other.prefix.path
        assert other.leftovers() == []
    wait_for(lambda: processes_below(path) == [])
    assert not path.exists()


# --- containers -------------------------------------------------------------------------------------------------------


def test_a_container_has_a_root_that_cannot_be_written(
    debian: ContainerPlace, runner: Runner, tmp_path: Path
) -> None:
    """Its own userland, the folder that it was given, its variables and its exit code."""
    code, said = run(
        debian,
        runner,
        tmp_path,
        "/bin/sh",
        "-c",
        'touch here; touch /x; echo "$A"; exit 7',
        A="ü\nb",
        PATH="/usr/bin:/bin",
    )

    assert code == 7
    assert (tmp_path / "here").exists()
    assert "Read-only file system" in said
    assert "ü\nb\n" in said
    assert ContainerPlace.problem(code, said) == ""


def test_the_engines_own_failures_are_told_apart(
    debian: ContainerPlace, runner: Runner, tmp_path: Path
) -> None:
    """127 of the engine is no program; 127 of the program is its own."""
    code, said = run(debian, runner, tmp_path, "/nope")
    assert code == 127
    assert "no such program" in ContainerPlace.problem(code, said)

    code, said = run(debian, runner, tmp_path, "/bin/sh", "-c", "exit 127")
    assert code == 127
    assert ContainerPlace.problem(code, said) == ""


def test_a_service_in_a_container_is_stopped_by_sigterm(
    debian: ContainerPlace, runner: Runner, tmp_path: Path
) -> None:
    """Its handler runs, and its exit code comes through."""
    text = "trap 'exit 3' TERM; touch up; while :; do sleep 0.1; done"
    command = debian.command(["/bin/sh", "-c", text], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"})
    child = runner.start(command.words, cwd=tmp_path, env=command.env, output=subprocess.DEVNULL)
    wait_for((tmp_path / "up").exists)
    debian.stop(child)

    assert child.wait(20) == 3
    runner.forget(child)


def test_a_container_that_hangs_is_killed_with_the_place(tmp_path: Path, runner: Runner) -> None:
    """The client is ended first; no container and no process of it outlives the place."""
    kind, target = ContainerRunner(), host_target()
    set_up(kind, target, Purpose.TRY, runner, tmp_path / "first")
    mark = f"601{time.monotonic_ns() % 1000:03}"  # of sleep; nobody else waits exactly so long
    with (
        kind.open(target, Purpose.TRY, target.floor, tmp_path / "work", runner) as place,
        pytest.raises(BuildStepError, match="run did not finish within 2 s"),
    ):
        run(place, runner, tmp_path, "/bin/sleep", mark, seconds=2)

    def running() -> bool:
        return any(
            line.split()[-2:] == ["/bin/sleep", mark]
            for line in subprocess.check_output(["ps", "-eo", "args"], text=True).splitlines()
        )

    wait_for(lambda: not running())
