"""cmd: one door for child processes, which tells no secret, waits for nobody for ever and leaves nobody behind."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ferryman_build import cmd
from ferryman_build.cmd import Redactor, Runner, environment, which
from ferryman_build.errors import (
    BuildStepError,
    InterruptedBuildError,
    ResolutionError,
    SpaceError,
    ToolMissingError,
)

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the children are shell scripts")


@pytest.fixture
def runner(tmp_path: Path) -> Runner:
    return Runner(tmp_path / "logs")


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two tenths of a second between TERM and KILL."""
    monkeypatch.setattr(cmd.end_group, "__defaults__", (0.2,))


def python(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def wait_for(holds: Callable[[], bool], seconds: float = 10) -> None:
    """Ask again and again; the limit only ends a test that has failed."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it never came true"
        time.sleep(0.005)


def alive(pid: int) -> bool:
    """Whether the process runs; a zombie that its new parent has not read yet does not."""
    try:
        os.kill(pid, 0)
        status = Path(f"/proc/{pid}/stat")
        return not status.exists() or status.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


@contextlib.contextmanager
def ended(path: Path) -> Iterator[None]:
    """Whatever happens, the process whose number is in ``path`` ends with the test."""
    try:
        yield
    finally:
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(path.read_text()), signal.SIGKILL)


# --- results and logs -------------------------------------------------------------------------------------------------


def test_success(runner: Runner) -> None:
    """Both streams in their order, and a log that starts with the command and ends with the exit code."""
    done = runner.run(["sh", "-c", "echo one; echo two >&2; echo three"], name="a step / with spaces")

    assert (done.returncode, done.output) == (0, "one\ntwo\nthree\n")
    assert done.log is not None
    assert done.log.name == "01-a-step-with-spaces.log"
    assert done.log.read_text().splitlines() == [
        f"+ {which('sh')} -c 'echo one; echo two >&2; echo three'",
        "one", "two", "three", "", "[exit code 0]",
    ]  # fmt: skip


def test_logs_are_numbered(runner: Runner) -> None:
    """Each child has a log of its own, in the order of the starts, also under one name."""
    names = [runner.run(["true"], name=name).log for name in ("b", "a", "a")]

    assert [path and path.name for path in names] == ["01-b.log", "02-a.log", "03-a.log"]


def test_without_log_folder() -> None:
    """A runner without a folder keeps output in memory."""
    done = Runner().run(["echo", "seen"], name="x")

    assert (done.output, done.log) == ("seen\n", None)


def test_failure_shows_the_last_lines(runner: Runner) -> None:
    """Twenty lines without blanks, the path of the rest, the caller's class and advice."""
    with pytest.raises(ResolutionError, match=r"^count failed with exit code 3\.$") as caught:
        runner.run(
            python("import sys\nfor n in range(50): print(n, end='\\n\\n')\nsys.exit(3)"),
            name="count", failure=ResolutionError, advice="Count yourself.",
        )  # fmt: skip

    assert caught.value.details == tuple(str(number) for number in range(30, 50))
    assert caught.value.advice == "Count yourself."
    assert caught.value.log is not None
    assert "\n0\n" in caught.value.log.read_text()
    assert caught.value.log.read_text().endswith("[exit code 3]\n")


@pytest.mark.parametrize(("code", "ok", "fails"), [(0, (0,), False), (3, (0, 3), False), (0, (3,), True)])
def test_exit_codes_that_are_fine(runner: Runner, code: int, ok: tuple[int, ...], fails: bool) -> None:
    """``ok`` says which codes are no failure, 0 included."""
    with pytest.raises(BuildStepError) if fails else contextlib.nullcontext():
        assert runner.run(["sh", "-c", f"exit {code}"], name="x", ok=ok).returncode == code


def test_killed_by_a_signal(runner: Runner) -> None:
    """A child that a signal ended has failed."""
    with pytest.raises(BuildStepError, match="exit code -9"):
        runner.run(["sh", "-c", "kill -9 $$"], name="x")


def test_undecodable_output(runner: Runner) -> None:
    """Bytes that are no UTF-8 are shown as far as they can be."""
    done = runner.run(python("import os; os.write(1, b'a\\xff\\xfeb\\n')"), name="x")

    assert done.output == "a\ufffd\ufffdb\n"


def test_argument_that_is_no_text(runner: Runner, tmp_path: Path) -> None:
    """A path with bytes that are no UTF-8 reaches the child and can be logged."""
    odd = os.fsdecode(b"odd-\xff")

    done = runner.run([*python("import os, sys; print(os.fsencode(sys.argv[1]))"), odd], name="x")

    assert done.output == "b'odd-\\xff'\n"
    assert done.log is not None
    assert done.log.read_text(encoding="utf-8").endswith("[exit code 0]\n")


def test_much_output(runner: Runner) -> None:
    """More than a pipe holds, and all of it is there."""
    done = runner.run(python("print('x' * 3_000_000)"), name="x")

    assert len(done.output) == 3_000_001


@pytest.mark.parametrize(
    "line", ["cp: write: No space left on device", "OSError: ENOSPC", "mkdir: Disk quota exceeded"]
)
def test_full_disk(runner: Runner, line: str) -> None:
    """A child that fails since the disk is full is a SpaceError, whatever class the caller asked for."""
    with pytest.raises(SpaceError, match="copy could not write") as caught:
        runner.run(["sh", "-c", f"echo '{line}' >&2; exit 1"], name="copy", failure=ResolutionError)

    assert caught.value.details == (line,)


def test_verbose(tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The command is echoed on demand, without secrets."""
    monkeypatch.setenv("MY_TOKEN", "hunter22")
    Runner(verbose=True).run(["echo", "hunter22"], name="x")
    Runner().run(["echo", "quiet"], name="x")

    assert capfd.readouterr() == ("", f"+ {which('echo')} $MY_TOKEN\n")


# --- secrets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hidden"),
    [
        ("INDEX_PASSWORD", True),
        ("GITHUB_TOKEN", True),
        ("AWS_SECRET_ACCESS_KEY", True),
        ("signing_private_pem", True),
        ("APIKEY", True),
        ("API_KEY", True),
        ("CREDENTIALS", True),
        ("HOME", False),
        ("KEYBOARD", False),
    ],
)
def test_secret_names(name: str, hidden: bool) -> None:
    """The value of a variable that sounds like a secret is replaced by the variable's name."""
    assert Redactor({name: "open sesame"})("say open sesame!") == (
        f"say ${name}!" if hidden else "say open sesame!"
    )


def test_short_and_nested_secrets() -> None:
    """A short value would hide harmless words; of two values the longer one goes first."""
    redact = Redactor({"A_TOKEN": "yes", "B_TOKEN": "abcdef", "C_TOKEN": "abcdefgh"})

    assert redact("yes abcdefgh abcdef") == "yes $C_TOKEN $B_TOKEN"


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("https://me:pa55@host/simple", "https://me:***@host/simple"),
        ("https://me:p:a:5@host:8080/x", "https://me:***@host:8080/x"),
        ("https://:pa55@host/", "https://:***@host/"),
        ("https://t0ken@host/simple", "https://***@host/simple"),
        ("https://t0ken:@host/simple", "https://***@host/simple"),
        ("two https://a:b@c and http://d:e@f", "two https://a:***@c and http://d:***@f"),
        ("https://host:443/a@b", "https://host:443/a@b"),
        ("https://host/pkg@1.2:3", "https://host/pkg@1.2:3"),
        ("mail me@host", "mail me@host"),
    ],
)
def test_credentials_in_urls(text: str, wanted: str) -> None:
    """What stands before the @ of a URL's host is hidden, and only there."""
    assert Redactor({})(text) == wanted


def test_secrets_reach_neither_log_nor_message(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Command line, output, log and the lines of a failure: all of them are redacted."""
    monkeypatch.setenv("UPLOAD_TOKEN", "s3cr3t-value")
    runner = Runner(tmp_path)

    with pytest.raises(BuildStepError) as caught:
        runner.run(["sh", "-c", "echo s3cr3t-value https://u:pw1@h/; exit 1"], name="x")

    assert caught.value.log is not None
    shown = "\n".join((caught.value.log.read_text(), *caught.value.details, str(caught.value)))
    assert "s3cr3t-value" not in shown
    assert "pw1" not in shown
    assert "$UPLOAD_TOKEN https://u:***@h/" in caught.value.details


# --- what a child gets ------------------------------------------------------------------------------------------------


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only what is allowed passes; locale and hash seed are fixed; the caller's additions win."""
    for name in (
        "PYTHONPATH",
        "LD_LIBRARY_PATH",
        "LD_PRELOAD",
        "PYTHONHOME",
        "VIRTUAL_ENV",
        "A_TOKEN",
        "LANG",
    ):
        monkeypatch.setenv(name, "x")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy:1")
    monkeypatch.setenv("PYTHONHASHSEED", "7")

    found = environment({"SOURCE_DATE_EPOCH": "1", "LC_ALL": "C"})

    assert found.keys() <= {
        *cmd.PASSED_THROUGH, "LC_ALL", "PYTHONHASHSEED", "PYTHONUTF8", "PYTHONNOUSERSITE", "SOURCE_DATE_EPOCH",
    }  # fmt: skip
    assert (found["PATH"], found["HTTPS_PROXY"]) == (os.environ["PATH"], "http://proxy:1")
    assert (found["PYTHONHASHSEED"], found["LC_ALL"], found["SOURCE_DATE_EPOCH"]) == ("0", "C", "1")


def test_child_sees_that_environment(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without ``env`` a child gets the allow-listed one, with it exactly what is given."""
    monkeypatch.setenv("LD_LIBRARY_PATH", "/nowhere")
    monkeypatch.setenv("PYTHONPATH", "/nowhere")
    path = os.environ["PATH"]

    usual = runner.run(["env"], name="x").output.splitlines()
    given = runner.run(["env"], name="x", env={"PATH": path, "A": "1"}).output.splitlines()

    assert not [line for line in usual if "/nowhere" in line]
    assert "LC_ALL=C.UTF-8" in usual
    assert sorted(given) == sorted([f"PATH={path}", "A=1"])


def test_program_is_searched_on_the_childs_path(runner: Runner, tmp_path: Path) -> None:
    """PATH of ``env`` decides which program is meant."""
    program = tmp_path / "greet"
    program.write_text("#!/bin/sh\necho hello\n")
    program.chmod(0o755)

    assert runner.run(["greet"], name="x", env={"PATH": str(tmp_path)}).output == "hello\n"


def test_standard_input_is_empty_and_folder_is_given(runner: Runner, tmp_path: Path) -> None:
    """A child that asks a question gets no answer and does not wait; ``cwd`` is where it runs."""
    done = runner.run(["sh", "-c", "cat; pwd -P"], name="x", cwd=tmp_path)

    assert done.output == f"{tmp_path.resolve()}\n"


def test_missing_program(runner: Runner) -> None:
    """The message names the program, the advice how to get it; nothing is logged."""
    with pytest.raises(ToolMissingError, match="'no-such-program'") as caught:
        runner.run(["no-such-program"], name="x")

    assert caught.value.advice
    assert caught.value.exit_code == 4
    with pytest.raises(ToolMissingError) as caught:
        which("no-such-program", advice="apt-get install it")
    assert caught.value.advice == "apt-get install it"


def test_program_without_its_interpreter(runner: Runner, tmp_path: Path) -> None:
    """A script whose interpreter is gone is a sentence, not a traceback."""
    script = tmp_path / "script"
    script.write_text("#!/nowhere/python\n")
    script.chmod(0o755)

    with pytest.raises(ToolMissingError, match=f"{script}.*cannot be started"):
        runner.run([script], name="x")


# --- ends -------------------------------------------------------------------------------------------------------------


def test_timeout(runner: Runner) -> None:
    """A child that takes too long is ended, and the log keeps what it said until then."""
    with pytest.raises(BuildStepError, match=r"^slow did not finish within 0\.2 s") as caught:
        runner.run(["sh", "-c", "echo begun; exec sleep 60"], name="slow", timeout=0.2)

    assert caught.value.log is not None
    assert "begun\n" in caught.value.log.read_text()
    assert "took longer than its time limit" in caught.value.details[-1]


def test_timeout_answered_with_success(runner: Runner, tmp_path: Path) -> None:
    """A child that answers TERM with exit code 0 did not finish its work."""
    text = "trap 'exit 0' TERM; touch ready; while :; do sleep 0.01; done"
    with pytest.raises(BuildStepError, match="did not finish within"):
        runner.run(["sh", "-c", text], name="polite", timeout=0.3, cwd=tmp_path)


def test_words_of_a_timeout_are_no_timeout(runner: Runner) -> None:
    """A child that prints the runner's own words failed by its exit code all the same."""
    with pytest.raises(BuildStepError, match="exit code 1"):
        runner.run(["sh", "-c", "echo '[ended: it took longer than its time limit]'; exit 1"], name="x")


@pytest.mark.usefixtures("hurried")
def test_timeout_ends_the_whole_group(runner: Runner, tmp_path: Path) -> None:
    """A grandchild that ignores TERM, below a child that obeys it, is gone as well."""
    pid = tmp_path / "pid"
    stubborn = f"trap '' TERM; echo $$ > {pid}.draft; mv {pid}.draft {pid}; while :; do sleep 0.05; done"
    with ended(pid):
        with pytest.raises(BuildStepError, match="did not finish"):
            runner.run(
                ["sh", "-c", f'sh -c "{stubborn.replace("$$", chr(92) + "$$")}" & wait'], name="x", timeout=1
            )
        wait_for(lambda: not alive(int(pid.read_text())))


@pytest.mark.usefixtures("hurried")
def test_child_that_ignores_term(runner: Runner) -> None:
    """TERM first, KILL after the grace."""
    with pytest.raises(BuildStepError, match="did not finish"):
        runner.run(["sh", "-c", "trap '' TERM; while :; do sleep 0.05; done"], name="x", timeout=0.3)


def test_grandchild_that_keeps_the_pipe_open(runner: Runner, tmp_path: Path) -> None:
    """The child's end is the end; what it said is there, though another process could still write."""
    pid = tmp_path / "pid"
    with ended(pid):
        started = time.monotonic()
        done = runner.run(["sh", "-c", f"echo said; sleep 60 & echo $! > {pid}"], name="x")

        assert done.output == "said\n"
        assert time.monotonic() - started < 30
        assert alive(int(pid.read_text()))


def run_in_background(runner: Runner, ready: Path) -> tuple[threading.Thread, list[BaseException]]:
    """A child that runs until it is ended, in a thread as the pipeline does; returns when the child is up."""
    caught: list[BaseException] = []

    def work() -> None:
        try:
            runner.run(
                ["sh", "-c", f"echo $$ > {ready}.draft; mv {ready}.draft {ready}; exec sleep 60"], name="x"
            )
        except BaseException as error:  # noqa: BLE001  # handed to the test
            caught.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    wait_for(ready.exists)
    return thread, caught


def test_end_all(runner: Runner, tmp_path: Path) -> None:
    """Every running child is ended, its thread goes on with a failure, and no further child is started."""
    pairs = [run_in_background(runner, tmp_path / name) for name in ("one", "two")]

    assert runner.end_all() == 2

    for thread, caught in pairs:
        thread.join(10)
        assert not thread.is_alive()
        assert [type(error) for error in caught] == [BuildStepError]
    assert not any(alive(int((tmp_path / name).read_text())) for name in ("one", "two"))
    assert runner.end_all() == 0
    with pytest.raises(InterruptedBuildError, match="not started"):
        runner.run(["touch", tmp_path / "late"], name="x")
    assert not (tmp_path / "late").exists()


def test_interrupt_ends_the_child(runner: Runner, tmp_path: Path) -> None:
    """Ctrl-C while a child runs: the child is gone before the exception leaves."""
    pid = tmp_path / "pid"
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job ignores it

    def interrupt() -> None:
        wait_for(pid.exists)
        signal.raise_signal(signal.SIGINT)  # to the process: Python raises it in the main thread

    thread = threading.Thread(target=interrupt)
    with ended(pid):
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            runner.run(["sh", "-c", f"echo $$ > {pid}.draft; mv {pid}.draft {pid}; exec sleep 60"], name="x")
        thread.join()
        signal.signal(signal.SIGINT, before)
        assert not alive(int(pid.read_text()))
    assert runner.end_all() == 0
