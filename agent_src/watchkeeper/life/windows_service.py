"""The agent as a Windows service: `watchkeeper service-run --name NAME --config FILE`, which only the manager calls.

Rules:
    V1  The dispatcher is called before anything of the agent is imported: the manager gives a process 30 s for that call,
        and says error 1053 otherwise. The agent itself starts in the service's own thread.
    V2  START_PENDING from the first moment, RUNNING once the agent has looked at every key of its first configuration.
    V3  STOP, PRESHUTDOWN and SHUTDOWN drain; a second one aborts. PARAMCHANGE reloads.
    V4  While it starts, drains or reloads nothing is said twice with one checkpoint: each message moves it, so that the
        manager sees that it goes on.
    V5  STOPPED with 0, or with ERROR_SERVICE_SPECIFIC_ERROR and the agent's exit code (errors.py), which lets the recovery
        actions begin.
    V6  A service has no console: what is written to standard error goes to service.log in the state directory.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import TYPE_CHECKING, Any

from watchkeeper.life import windows_api as api

if TYPE_CHECKING:
    from watchkeeper.life.controls import FromThread
    from watchkeeper.life.windows_api import Libraries

CAUSES = {
    api.CONTROL_STOP: "SERVICE_CONTROL_STOP",
    api.CONTROL_SHUTDOWN: "SERVICE_CONTROL_SHUTDOWN",
    api.CONTROL_PRESHUTDOWN: "SERVICE_CONTROL_PRESHUTDOWN",
}
ACCEPTED = api.ACCEPT_STOP | api.ACCEPT_SHUTDOWN | api.ACCEPT_PRESHUTDOWN | api.ACCEPT_PARAMCHANGE
START_HINT = 60_000
LOG = "service.log"
LOG_LIMIT = 10 * 1024 * 1024


def main(arguments: list[str]) -> int:
    """Serve until the manager says stop; the exit code of this process.

    Args:
        arguments: --name NAME, then what `watchkeeper run` takes.
    """
    name, rest = _name(arguments)
    service = Service(api.Libraries(), name, rest)
    return service.dispatch()


def _name(arguments: list[str]) -> tuple[str, list[str]]:
    if arguments[:1] == ["--name"] and len(arguments) > 1:
        return arguments[1], arguments[2:]
    return "watchkeeper", arguments


class Service:
    """One run of the service."""

    def __init__(self, libraries: Libraries, name: str, arguments: list[str]) -> None:
        self._libraries, self._name, self._arguments = libraries, name, arguments
        self._handle: Any = None
        self._checkpoint = 0
        self._controls: FromThread | None = None
        self._asked: list[str] = []
        self.exit_code = 0

    def dispatch(self) -> int:
        """V1. Returns when the service has stopped."""
        entry = self._libraries.entry
        self._main = self._libraries.main_type(self._serve)  # kept: the manager calls it later
        table = (entry * 2)(entry(self._name, self._main), entry(None, self._libraries.main_type()))
        if not self._libraries.advapi.StartServiceCtrlDispatcherW(table):
            return self._not_dispatched(self._libraries.last_error())
        return self.exit_code

    def _not_dispatched(self, number: int) -> int:
        from watchkeeper.errors import ExitCode

        said = (
            "only the service manager calls this"
            if number == api.NOT_STARTED_BY_MANAGER
            else f"error {number}"
        )
        if sys.stderr is not None:
            print(f"watchkeeper: {said}\n  Use `watchkeeper service start`.", file=sys.stderr)
        return ExitCode.MANAGER_REFUSES

    def _serve(self, _count: int, _words: Any) -> None:
        """ServiceMain: runs in a thread of the manager's making."""
        self._handler = self._libraries.handler_type(self._control)
        register = self._libraries.advapi.RegisterServiceCtrlHandlerExW
        self._handle = register(self._name, self._handler, None)
        if not self._handle:
            return
        self.report(api.START_PENDING, hint=START_HINT)
        try:
            self.exit_code = self._run()
        except BaseException as error:  # noqa: BLE001 - whatever it is, the manager has to hear that the service has ended
            self.exit_code = 1
            _say(repr(error))
        specific = api.SERVICE_SPECIFIC_ERROR if self.exit_code else 0
        self.report(api.STOPPED, code=specific, specific=self.exit_code)

    def _run(self) -> int:
        """The agent; everything heavy is imported here."""
        import watchkeeper.commands
        from watchkeeper.errors import AgentError
        from watchkeeper.life.controls import FromThread
        from watchkeeper.life.windows_link import ManagerNotifier

        options = watchkeeper.commands.parser().parse_args(["run", *self._arguments])
        _take_stderr(options.state_dir)
        from watchkeeper.runtime import run_agent

        self._controls = FromThread()
        for cause in self._asked:
            self._controls.say(cause)
        try:
            return run_agent(
                options.config,
                options.listen,
                options.log_level,
                options.state_dir,
                notifier=ManagerNotifier(self),
                controls=self._controls,
            )
        except AgentError as error:
            _say(f"{error}\n  {error.advice}")
            return error.exit_code

    def _control(self, control: int, _kind: int, _data: Any, _context: Any) -> int:
        """V3. Called in the dispatcher's thread; must return at once."""
        if control == api.CONTROL_INTERROGATE:
            return 0
        if control in CAUSES:
            self.report(api.STOP_PENDING, hint=START_HINT)
            self._pass_on(CAUSES[control])
            return 0
        if control == api.CONTROL_PARAMCHANGE:
            self._pass_on("reload")
            return 0
        return api.CALL_NOT_IMPLEMENTED

    def _pass_on(self, cause: str) -> None:
        if self._controls is None:
            self._asked.append(cause)
        else:
            self._controls.say(cause)

    def report(self, state: int, *, hint: int = 0, code: int = 0, specific: int = 0) -> None:
        """SetServiceStatus; `hint` is in milliseconds."""
        pending = state in (api.START_PENDING, api.STOP_PENDING)
        self._checkpoint = self._checkpoint + 1 if pending else 0  # V4
        status = api.ServiceStatus(
            api.SERVICE_WIN32_OWN_PROCESS,
            state,
            ACCEPTED if state == api.RUNNING else 0,
            code,
            specific,
            self._checkpoint,
            hint,
        )
        self._libraries.advapi.SetServiceStatus(self._handle, ctypes.byref(status))


def _take_stderr(state_dir: str | None) -> None:
    """V6."""
    if not state_dir:
        return
    path = os.path.join(state_dir, LOG)  # noqa: PTH118 - pathlib would be an import of its own, before the agent has said that it starts
    try:
        os.makedirs(state_dir, exist_ok=True)  # noqa: PTH103
        if os.path.exists(path) and os.path.getsize(path) > LOG_LIMIT:  # noqa: PTH110, PTH202
            os.replace(path, path + ".1")  # noqa: PTH105
        stream = open(path, "a", encoding="utf-8", buffering=1)  # noqa: SIM115 - open as long as the process lives
    except OSError:
        return  # the agent says itself what is wrong with its state directory
    sys.stderr = sys.stdout = stream


def _say(text: str) -> None:
    if sys.stderr is not None:
        print(f"watchkeeper: {text}", file=sys.stderr, flush=True)
