"""Services of Windows, through the service control manager of advapi32 (ctypes; what sc.exe prints depends on the language).

Every call is made in a thread: the manager answers when it likes.
"""

from __future__ import annotations

import asyncio
import ctypes
from typing import Any

from watchkeeper import system
from watchkeeper.config.schema.services import WindowsService
from watchkeeper.supervise.drivers.polled import FAILED, RemoteError, Seen

_ctypes: Any = ctypes
"""What of it is only there on Windows."""
PENDING = 0.1
"""Seconds between looks at a service that is starting, for START_LIMIT of them."""
START_LIMIT = 120.0
SC_MANAGER_CONNECT = 0x0001
QUERY, START, STOP = 0x0004, 0x0010, 0x0020
SC_STATUS_PROCESS_INFO = 0
CONTROL_STOP = 1
STOPPED, START_PENDING, STOP_PENDING, RUNNING = 1, 2, 3, 4
PROCESS_TERMINATE = 0x0001
ALREADY_RUNNING, NOT_ACTIVE, SPECIFIC_ERROR, NO_SUCH_SERVICE, ACCESS_DENIED = 1056, 1062, 1066, 1060, 5
SENTENCES = {
    NO_SUCH_SERVICE: "Windows has no service of that name",
    ACCESS_DENIED: "this agent may not do that; it has to run as an administrator or as a service",
}


class Status(ctypes.Structure):
    """SERVICE_STATUS_PROCESS."""

    _fields_ = [
        ("type", ctypes.c_uint32),
        ("state", ctypes.c_uint32),
        ("controls_accepted", ctypes.c_uint32),
        ("exit_code", ctypes.c_uint32),
        ("specific_exit_code", ctypes.c_uint32),
        ("check_point", ctypes.c_uint32),
        ("wait_hint", ctypes.c_uint32),
        ("pid", ctypes.c_uint32),
        ("flags", ctypes.c_uint32),
    ]


class ServiceOfWindows:
    """One service."""

    def __init__(self, _name: str, spec: WindowsService) -> None:
        self._service = spec.service

    async def start(self) -> None:
        """Returns when it says that it runs, as `net start` does."""
        await asyncio.to_thread(self._with, START, self._start)
        for _ in range(int(START_LIMIT / PENDING)):
            status: Status = await asyncio.to_thread(self._with, QUERY, self._status)
            if status.state != START_PENDING:
                return
            await asyncio.sleep(PENDING)

    async def stop(self) -> None:
        await asyncio.to_thread(self._with, STOP, self._stop)

    async def kill(self) -> None:
        """The manager kills nobody; the process of the service is ended."""
        seen = await self.look()
        if seen.running and seen.pid:
            await asyncio.to_thread(_terminate, seen.pid)

    async def look(self) -> Seen:
        status: Status = await asyncio.to_thread(self._with, QUERY, self._status)
        return seen_in(status)

    async def change(self, period: float) -> None:
        await asyncio.sleep(period)

    def _with(self, access: int, call: Any) -> Any:
        """Make a call with an open handle.

        Raises:
            RemoteError: there is no manager, no such service, or no right to it.
        """
        api = _advapi32()
        manager = api.OpenSCManagerW(None, None, SC_MANAGER_CONNECT)
        if not manager:
            raise _error("the service control manager does not answer")
        try:
            handle = api.OpenServiceW(manager, self._service, access)
            if not handle:
                raise _error(f"the service {self._service} cannot be opened")
            try:
                return call(api, handle)
            finally:
                api.CloseServiceHandle(handle)
        finally:
            api.CloseServiceHandle(manager)

    def _start(self, api: Any, handle: Any) -> None:
        if not api.StartServiceW(handle, 0, None) and _last_error() != ALREADY_RUNNING:
            raise _error(f"the service {self._service} cannot be started")

    def _stop(self, api: Any, handle: Any) -> None:
        plain = (ctypes.c_uint32 * 7)()
        if not api.ControlService(handle, CONTROL_STOP, ctypes.byref(plain)) and _last_error() != NOT_ACTIVE:
            raise _error(f"the service {self._service} cannot be stopped")

    def _status(self, api: Any, handle: Any) -> Status:
        status, needed = Status(), ctypes.c_uint32()
        done = api.QueryServiceStatusEx(
            handle,
            SC_STATUS_PROCESS_INFO,
            ctypes.byref(status),
            ctypes.sizeof(status),
            ctypes.byref(needed),
        )
        if not done:
            raise _error(f"the service {self._service} cannot be looked at")
        return status


def seen_in(status: Status) -> Seen:
    """What a status says; a service that is paused or on its way counts as running."""
    if status.state != STOPPED:
        return Seen(True, pid=status.pid)
    code = status.specific_exit_code if status.exit_code == SPECIFIC_ERROR else status.exit_code
    if code == 0:
        return Seen(False, exit_code=0, why="it has stopped")
    # A status of the agent has a byte; the whole of it is in the text.
    return Seen(
        False, exit_code=code if code < 256 else FAILED, why=f"it has stopped with {code} ({code:#x})"
    )


def _advapi32() -> Any:
    if not system.WINDOWS:
        raise RemoteError("services of Windows are only there on Windows")
    api = _ctypes.WinDLL("advapi32", use_last_error=True)
    handle = ctypes.c_void_p
    api.OpenSCManagerW.restype = api.OpenServiceW.restype = handle
    api.OpenSCManagerW.argtypes = [ctypes.c_wchar_p, ctypes.c_wchar_p, ctypes.c_uint32]
    api.OpenServiceW.argtypes = [handle, ctypes.c_wchar_p, ctypes.c_uint32]
    api.CloseServiceHandle.argtypes = [handle]
    api.StartServiceW.argtypes = [handle, ctypes.c_uint32, ctypes.c_void_p]
    api.ControlService.argtypes = [handle, ctypes.c_uint32, ctypes.c_void_p]
    api.QueryServiceStatusEx.argtypes = [
        handle,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_void_p,
    ]
    return api


def _last_error() -> int:
    return int(_ctypes.get_last_error()) if system.WINDOWS else 0


def _error(what: str) -> RemoteError:
    number = _last_error()
    sentence = SENTENCES.get(number)
    if sentence is None and system.WINDOWS:
        sentence = _ctypes.FormatError(number).strip()
    return RemoteError(f"{what}: {sentence or number}")


def _terminate(pid: int) -> None:
    if not system.WINDOWS:
        return
    kernel32 = _ctypes.WinDLL("kernel32", use_last_error=True)
    kernel32.OpenProcess.restype = ctypes.c_void_p
    handle = kernel32.OpenProcess(PROCESS_TERMINATE, False, pid)
    if not handle:
        raise _error(f"the process {pid} cannot be ended")
    kernel32.TerminateProcess(ctypes.c_void_p(handle), system.KILL)
    kernel32.CloseHandle(ctypes.c_void_p(handle))
