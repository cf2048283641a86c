"""The agent as a Windows service and on a console, against a service manager of the tests' own.

The real manager is Wine's, in tests/e2e/agent; what that one never does is done here: PRESHUTDOWN, a second stop, a console
window that is closed.
"""

from __future__ import annotations

import asyncio
import ctypes
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from watchkeeper.errors import ExitCode, ManagerError
from watchkeeper.life import windows_api as api
from watchkeeper.life import windows_console, windows_manager, windows_service
from watchkeeper.life.windows_link import ManagerNotifier
from watchkeeper.life.windows_manager import Manager, command_line, manage
from watchkeeper.life.windows_service import Service

ROOT = Path(__file__).resolve().parents[3]


class Advapi:
    """Implements what windows_service.py calls: it serves at once, and notes every status."""

    def __init__(self) -> None:
        self.states: list[tuple[int, int, int, int]] = []
        self.checkpoints: list[int] = []
        self.handler: Callable[..., int] | None = None
        self.answer = 1

    def StartServiceCtrlDispatcherW(self, table: Any) -> int:  # noqa: N802 - Windows' name
        if self.answer:
            table[0].main(0, None)
        return self.answer

    def RegisterServiceCtrlHandlerExW(self, _name: str, handler: Any, _context: Any) -> int:  # noqa: N802
        self.handler = handler
        return 1

    def SetServiceStatus(self, _handle: int, pointer: Any) -> int:  # noqa: N802
        status = pointer._obj
        self.checkpoints.append(status.check_point)
        said = (
            status.current_state,
            status.controls_accepted,
            status.win32_exit_code,
            status.service_specific_exit_code,
        )
        self.states.append(said)
        return 1


class Kernel:
    """Implements what windows_console.py calls."""

    handler: Callable[[int], int]

    def SetConsoleCtrlHandler(self, handler: Callable[[int], int], _add: int) -> int:  # noqa: N802
        self.handler = handler
        return 1


class Entry(ctypes.Structure):
    _fields_ = [("name", ctypes.c_wchar_p), ("main", ctypes.py_object)]


class Libraries:
    """Stands in for windows_api.Libraries."""

    entry = Entry
    error = 0

    def __init__(self) -> None:
        self.advapi, self.kernel = Advapi(), Kernel()

    @staticmethod
    def main_type(function: Any = None) -> Any:
        return function

    handler_type = console_type = main_type

    def last_error(self) -> int:
        return self.error


def serve(
    monkeypatch: pytest.MonkeyPatch, agent: Callable[..., int], *arguments: str
) -> tuple[int, Advapi, Service]:
    """A run of the service with this in the agent's place."""
    import watchkeeper.runtime

    monkeypatch.setattr(watchkeeper.runtime, "run_agent", agent)
    libraries = Libraries()
    service = Service(libraries, "watchkeeper", ["--config", "c.yaml", *arguments])  # type: ignore[arg-type]
    return service.dispatch(), libraries.advapi, service


def test_from_start_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """V2, V4, V5: pending with a checkpoint that moves, running with what it accepts, pending, stopped with 0."""

    def agent(config: str, *_rest: Any, notifier: ManagerNotifier, controls: Any) -> int:
        assert config == "c.yaml"
        notifier.ready("up")
        notifier.alive()
        notifier.stopping("SERVICE_CONTROL_STOP")
        notifier.extend(15)
        notifier.extend(15)
        notifier.ready("too late")
        return 0

    code, advapi, _service = serve(monkeypatch, agent)
    assert code == 0
    assert [state for state, *_ in advapi.states] == [
        api.START_PENDING,
        api.RUNNING,
        api.STOP_PENDING,
        api.STOP_PENDING,
        api.STOP_PENDING,
        api.STOPPED,
    ]
    assert advapi.checkpoints == [1, 0, 1, 2, 3, 0]
    assert advapi.states[1][1] == 0x1 | 0x4 | 0x8 | 0x100
    assert advapi.states[-1][2:] == (0, 0)


def test_controls(monkeypatch: pytest.MonkeyPatch) -> None:
    """V3: each is passed on with its name, from whatever thread, also before the loop is there."""
    heard: list[str] = []

    def agent(*_arguments: Any, notifier: ManagerNotifier, controls: Any) -> int:
        async def run() -> int:
            loop = asyncio.get_running_loop()
            done = asyncio.Event()

            def stop(cause: str) -> None:
                heard.append(cause)
                if cause == "SERVICE_CONTROL_SHUTDOWN":
                    done.set()

            controls.attach(loop, stop=stop, reload=lambda: heard.append("reload"))
            for control in (api.CONTROL_PARAMCHANGE, api.CONTROL_PRESHUTDOWN, api.CONTROL_SHUTDOWN):
                handler = libraries.advapi.handler
                assert handler is not None
                thread = threading.Thread(target=handler, args=(control, 0, None, None))
                thread.start()
                thread.join()
            await done.wait()
            return ExitCode.ABORTED

        return asyncio.run(run())

    import watchkeeper.runtime

    monkeypatch.setattr(watchkeeper.runtime, "run_agent", agent)
    libraries = Libraries()
    service = Service(libraries, "watchkeeper", ["--config", "c.yaml"])  # type: ignore[arg-type]
    assert service.dispatch() == ExitCode.ABORTED
    assert heard == ["reload", "SERVICE_CONTROL_PRESHUTDOWN", "SERVICE_CONTROL_SHUTDOWN"]
    handler = libraries.advapi.handler
    assert handler is not None
    assert handler(api.CONTROL_INTERROGATE, 0, None, None) == 0
    assert handler(77, 0, None, None) == api.CALL_NOT_IMPLEMENTED
    assert libraries.advapi.states[-1] == (api.STOPPED, 0, api.SERVICE_SPECIFIC_ERROR, 130)


def test_an_agent_that_breaks_still_says_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """V5: the manager must not wait for a service that is gone."""

    def agent(*_arguments: Any, **_options: Any) -> int:
        raise MemoryError

    code, advapi, _service = serve(monkeypatch, agent)
    assert code == 1
    assert advapi.states[-1] == (api.STOPPED, 0, api.SERVICE_SPECIFIC_ERROR, 1)


def test_what_it_writes_is_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """V6: in service.log, which is put aside when it is large."""
    monkeypatch.setattr(sys, "stderr", None)
    monkeypatch.setattr(sys, "stdout", None)
    state = tmp_path / "state"
    state.mkdir()
    (state / "service.log").write_bytes(b"x" * (windows_service.LOG_LIMIT + 1))

    def agent(*_arguments: Any, **_options: Any) -> int:
        raise ManagerError("a sentence", "a cure")

    code, _advapi, _service = serve(monkeypatch, agent, "--state-dir", str(state))
    stream: Any = sys.stderr
    stream.close()
    assert code == ExitCode.MANAGER_REFUSES
    assert (state / "service.log").read_text() == "watchkeeper: a sentence\n  a cure\n"
    assert (state / "service.log.1").stat().st_size > windows_service.LOG_LIMIT


def test_only_the_manager_calls_it(capsys: pytest.CaptureFixture[str]) -> None:
    """Error 1063 is a sentence."""
    libraries = Libraries()
    libraries.advapi.answer, libraries.error = 0, api.NOT_STARTED_BY_MANAGER
    service = Service(libraries, "watchkeeper", [])  # type: ignore[arg-type]
    assert service.dispatch() == ExitCode.MANAGER_REFUSES
    assert "only the service manager calls this" in capsys.readouterr().err


def test_nothing_heavy_comes_before_the_dispatcher() -> None:
    """V1: error 1053 is what a service gets that imports first. The dispatcher is reached with ctypes and little else."""
    program = (
        "import sys\n"
        f"sys.path[:0] = {[str(ROOT / 'agent_src'), *sys.path]!r}\n"
        "from watchkeeper.life import windows_api, windows_service\n"
        "windows_api.Libraries = lambda: None\n"
        "windows_service.Service.dispatch = lambda self: print(' '.join(sorted(sys.modules))) or 0\n"
        "from watchkeeper.cli import main\n"
        "main(['service-run', '--name', 'x', '--config', 'y'])\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program], capture_output=True, text=True, check=True
    )
    imported = set(done.stdout.split())
    assert "ctypes" in imported
    assert not imported & {
        "asyncio",
        "aiohttp",
        "msgspec",
        "argparse",
        "logging",
        "ssl",
        "psutil",
        "watchkeeper.commands",
    }


def test_a_console_that_goes_is_a_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    """CLOSE, LOGOFF and SHUTDOWN are passed on, and the handler does not return before the process ends."""
    libraries = Libraries()
    monkeypatch.setattr(windows_console, "Libraries", lambda: libraries)
    heard: list[str] = []

    async def run() -> None:
        complete = asyncio.Event()

        def stop(cause: str) -> None:
            heard.append(cause)
            if len(heard) == 3:
                complete.set()

        windows_console.watch_console(asyncio.get_running_loop(), stop)
        handler = libraries.kernel.handler
        assert handler(0) == 0  # Ctrl-C is Python's
        for event in (2, 5, 6):
            threading.Thread(target=handler, args=(event,), daemon=True).start()
        await complete.wait()

    asyncio.run(run())
    assert set(heard) == {"CTRL_CLOSE_EVENT", "CTRL_LOGOFF_EVENT", "CTRL_SHUTDOWN_EVENT"}
    assert libraries.kernel.handler(2) == 0  # the loop is closed


# --- the administrator's side


class ManagerApi:
    """The functions that windows_manager.py calls; a service is a list of its states, the last of which stays."""

    def __init__(self, *states: int, error: int = 0) -> None:
        self.states, self.error = list(states), error
        self.done: list[Any] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any) -> int:
            self.done.append((name, *arguments[1:2]))
            if name == "QueryServiceStatus":
                arguments[1]._obj.current_state = (
                    self.states.pop(0) if len(self.states) > 1 else self.states[0]
                )
                arguments[1]._obj.service_specific_exit_code = 3
            if name == "CreateServiceW":
                self.done.append(arguments[7])
            refused = self.error and name in ("OpenServiceW", "CreateServiceW")
            return 0 if refused else 1

        return call


class ManagerLibraries:
    def __init__(self, advapi: ManagerApi) -> None:
        self.advapi = advapi

    def last_error(self) -> int:
        return self.advapi.error


def manager(*states: int, error: int = 0) -> tuple[Manager, ManagerApi]:
    advapi = ManagerApi(*states, error=error)
    return Manager(ManagerLibraries(advapi)), advapi  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows_manager.time, "sleep", lambda _seconds: None)  # type: ignore[attr-defined]


def test_install_start_stop_uninstall() -> None:
    """Each waits for what it has asked for; a service that is still starting is stopped once it runs."""
    made, advapi = manager(api.STOPPED)
    text = made.install("watchkeeper", r"C:\etc\wk.yaml", None)
    assert text == "the service watchkeeper is installed; `watchkeeper service start` starts it"
    assert ("ChangeServiceConfig2W", api.CONFIG_FAILURE_ACTIONS) in advapi.done
    assert any(r"--state-dir C:\etc\state" in str(each) for each in advapi.done)
    assert manager(api.START_PENDING, api.RUNNING)[0].start("x") == "the service x runs"
    stopping, asked = manager(
        api.START_PENDING, api.START_PENDING, api.RUNNING, api.STOP_PENDING, api.STOPPED
    )
    assert stopping.stop("x") == "the service x has stopped"
    assert [name for name, *_ in asked.done].index("ControlService") > 2
    removing, removed = manager(api.STOPPED)
    assert removing.uninstall("x") == "the service x is removed"
    assert "DeleteService" in [name for name, *_ in removed.done]


@pytest.mark.parametrize(
    ("number", "message"),
    [
        (api.ACCESS_DENIED, "this user may not do that"),
        (api.DOES_NOT_EXIST, "there is no such service"),
        (1234, "Windows says error 1234"),
    ],
)
def test_what_windows_refuses_is_a_sentence(number: int, message: str) -> None:
    with pytest.raises(ManagerError, match=message):
        manager(api.STOPPED, error=number)[0].start("x")


def test_a_service_that_ends_while_it_is_waited_for() -> None:
    """With the agent's exit code."""
    with pytest.raises(ManagerError, match="it has ended with 3"):
        manager(api.START_PENDING, api.STOPPED)[0].start("x")


@pytest.mark.parametrize("config", [None, "wk.yaml", r"etc\wk.yaml"])
def test_a_service_needs_a_full_path(config: str | None) -> None:
    """It starts in System32."""
    with pytest.raises(ManagerError, match="needs a configuration"):
        manager(api.STOPPED)[0].install("x", config, None)


def test_the_line_that_the_manager_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks are quoted; a frozen agent is its own interpreter."""
    monkeypatch.setattr(sys, "executable", r"C:\Program Files\wk\watchkeeper.exe")
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    assert command_line("w", r"C:\my etc\a.yaml", r"C:\s") == (
        r'"C:\Program Files\wk\watchkeeper.exe" service-run --name w --config "C:\my etc\a.yaml" --state-dir C:\s'
    )
    monkeypatch.setattr(sys, "frozen", False)
    assert "-m watchkeeper service-run" in command_line("w", "c", "s")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has services")
def test_other_systems_have_other_managers() -> None:
    """Exit code 12, and where to look."""
    with pytest.raises(ManagerError, match="no Windows services"):
        manage("start", "x", None, None)
