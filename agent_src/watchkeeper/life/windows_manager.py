"""`watchkeeper service install|uninstall|start|stop`: what an administrator asks of Windows' service manager."""

from __future__ import annotations

import ctypes
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PureWindowsPath
from typing import Any

from watchkeeper.errors import ManagerError
from watchkeeper.life import windows_api as api

DISPLAY = "Watchkeeper"
DESCRIPTION = "Keeps the services of this machine alive and checks them."
RESTARTS = (1_000, 5_000, 60_000)
"""Milliseconds before the first, the second and every further restart after an end that was not asked for."""
RESET = 600
"""Seconds after which failures are forgotten."""
PRESHUTDOWN = 45_000
"""Milliseconds that the agent gets before the system goes down: its drain limit, and some more."""
WAIT = 60.0

_SENTENCES = {
    api.ACCESS_DENIED: ("this user may not do that", "Run it as administrator."),
    api.DOES_NOT_EXIST: ("there is no such service", "`watchkeeper service install --config PATH` makes it."),
    api.EXISTS: ("there is a service of that name already", "`watchkeeper service uninstall` removes it."),
    api.ALREADY_RUNNING: ("it runs already", ""),
    api.NOT_RUNNING: ("it does not run", ""),
    api.MARKED_FOR_DELETE: ("it is being removed", "Close every window that shows services, and try again."),
}


def manage(what: str, name: str, config: str | None, state_dir: str | None) -> str:
    """Carry it out; what to tell people.

    Raises:
        ManagerError: this is no Windows, or the manager refuses.
    """
    libraries = api.Libraries()
    if what == "install":
        return Manager(libraries).install(name, config, state_dir)
    manager = Manager(libraries)
    return {"uninstall": manager.uninstall, "start": manager.start, "stop": manager.stop}[what](name)


def command_line(name: str, config: str, state_dir: str) -> str:
    """What the manager is to start, as one line with Windows' quotes."""
    program = [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "watchkeeper"]
    words = [*program, "service-run", "--name", name, "--config", config, "--state-dir", state_dir]
    return subprocess.list2cmdline(words)


class Manager:
    """The service manager of this machine."""

    def __init__(self, libraries: api.Libraries) -> None:
        self._libraries, self._advapi = libraries, libraries.advapi

    def install(self, name: str, config: str | None, state_dir: str | None) -> str:
        """Make the service: started with the system, restarted when it ends by itself."""
        if not config or not PureWindowsPath(config).is_absolute():
            raise ManagerError("the service needs a configuration", "Write --config with a full path.")
        state = state_dir or str(PureWindowsPath(config).parent / "state")
        line = command_line(name, config, state)
        with self._opened(self._advapi.OpenSCManagerW(None, None, api.SC_MANAGER_ALL_ACCESS)) as manager:
            made = self._advapi.CreateServiceW(
                manager,
                name,
                DISPLAY if name == "watchkeeper" else f"{DISPLAY} ({name})",
                api.SERVICE_ALL_ACCESS,
                api.SERVICE_WIN32_OWN_PROCESS,
                api.SERVICE_AUTO_START,
                api.SERVICE_ERROR_NORMAL,
                line,
                *[None] * 5,
            )
            with self._opened(made) as service:
                left_out = self._describe(service)
        note = f" (not set: {', '.join(left_out)})" if left_out else ""
        return f"the service {name} is installed{note}; `watchkeeper service start` starts it"

    def _describe(self, service: Any) -> list[str]:
        """Description and recovery; the names of what this Windows does not take."""
        actions = (api.Action * len(RESTARTS))(
            *(api.Action(api.SC_ACTION_RESTART, delay) for delay in RESTARTS)
        )
        settings = {
            "description": (api.CONFIG_DESCRIPTION, api.Text(DESCRIPTION)),
            "recovery": (
                api.CONFIG_FAILURE_ACTIONS,
                api.FailureActions(RESET, None, None, len(RESTARTS), actions),
            ),
            "recovery after an error": (api.CONFIG_FAILURE_FLAG, api.Number(1)),
            "time before a shutdown": (api.CONFIG_PRESHUTDOWN, api.Number(PRESHUTDOWN)),
        }
        return [
            text
            for text, (level, value) in settings.items()
            if not self._advapi.ChangeServiceConfig2W(service, level, ctypes.byref(value))
        ]

    def uninstall(self, name: str) -> str:
        """Stop it if it runs, and remove it."""
        with self._service(name) as service:
            if self._state(service).current_state != api.STOPPED:
                self._stop(service)
            self._need(self._advapi.DeleteService(service))
        return f"the service {name} is removed"

    def start(self, name: str) -> str:
        """Start it, and wait until it says that it runs."""
        with self._service(name) as service:
            self._need(self._advapi.StartServiceW(service, 0, None))
            self._wait(service, api.RUNNING)
        return f"the service {name} runs"

    def stop(self, name: str) -> str:
        """Stop it, and wait until it has."""
        with self._service(name) as service:
            self._stop(service)
        return f"the service {name} has stopped"

    def _stop(self, service: Any) -> None:
        """Windows passes no control on to a service that is starting."""
        if self._state(service).current_state == api.START_PENDING:
            self._wait(service, api.RUNNING)
        self._control(service, api.CONTROL_STOP)
        self._wait(service, api.STOPPED)

    def _control(self, service: Any, control: int) -> None:
        self._need(self._advapi.ControlService(service, control, ctypes.byref(api.ServiceStatus())))

    def _state(self, service: Any) -> api.ServiceStatus:
        status = api.ServiceStatus()
        self._need(self._advapi.QueryServiceStatus(service, ctypes.byref(status)))
        return status

    def _wait(self, service: Any, wanted: int) -> None:
        deadline = time.monotonic() + WAIT
        while (status := self._state(service)).current_state != wanted:
            if status.current_state == api.STOPPED:
                raise ManagerError(
                    f"it has ended with {status.service_specific_exit_code or status.win32_exit_code}",
                    "service.log in the state directory says why.",
                )
            if time.monotonic() > deadline:
                raise ManagerError(f"nothing has come of it within {WAIT:g} s", "Look at service.log.")
            time.sleep(0.1)

    @contextmanager
    def _service(self, name: str) -> Iterator[Any]:
        with (
            self._opened(self._advapi.OpenSCManagerW(None, None, api.SC_MANAGER_CONNECT)) as manager,
            self._opened(self._advapi.OpenServiceW(manager, name, api.SERVICE_ALL_ACCESS)) as service,
        ):
            yield service

    @contextmanager
    def _opened(self, handle: Any) -> Iterator[Any]:
        self._need(handle)
        try:
            yield handle
        finally:
            self._advapi.CloseServiceHandle(handle)

    def _need(self, outcome: Any) -> None:
        if not outcome:
            number = self._libraries.last_error()
            message, advice = _SENTENCES.get(
                number, (f"Windows says error {number}", "`net helpmsg` explains it.")
            )
            raise ManagerError(message, advice)
