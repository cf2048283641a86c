"""The few functions of advapi32 and kernel32 that a service and a console program need, through ctypes.

Signatures are from winsvc.h, winbase.h and consoleapi.h. On other systems this module can be imported, and `libraries`
raises.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, Structure, c_void_p, c_wchar_p
from ctypes.wintypes import BOOL, DWORD, HANDLE, LPWSTR
from typing import Any

from watchkeeper.errors import ManagerError

SERVICE_WIN32_OWN_PROCESS = 0x10
SERVICE_AUTO_START = 2
SERVICE_ERROR_NORMAL = 1
SERVICE_ALL_ACCESS = 0xF01FF
SC_MANAGER_ALL_ACCESS = 0xF003F
SC_MANAGER_CONNECT = 1

STOPPED, START_PENDING, STOP_PENDING, RUNNING, PAUSED = 1, 2, 3, 4, 7
ACCEPT_STOP, ACCEPT_SHUTDOWN, ACCEPT_PARAMCHANGE, ACCEPT_PRESHUTDOWN = 0x1, 0x4, 0x8, 0x100
CONTROL_STOP, CONTROL_INTERROGATE, CONTROL_SHUTDOWN, CONTROL_PARAMCHANGE, CONTROL_PRESHUTDOWN = 1, 4, 5, 6, 15

CONFIG_DESCRIPTION, CONFIG_FAILURE_ACTIONS, CONFIG_FAILURE_FLAG, CONFIG_PRESHUTDOWN = 1, 2, 4, 7
SC_ACTION_RESTART = 1

CALL_NOT_IMPLEMENTED = 120
SERVICE_SPECIFIC_ERROR = 1066
NOT_STARTED_BY_MANAGER = 1063
ALREADY_RUNNING, NOT_RUNNING, DOES_NOT_EXIST, MARKED_FOR_DELETE, EXISTS, ACCESS_DENIED = (
    1056,
    1062,
    1060,
    1072,
    1073,
    5,
)


class ServiceStatus(Structure):
    """SERVICE_STATUS."""

    _fields_ = [
        ("service_type", DWORD),
        ("current_state", DWORD),
        ("controls_accepted", DWORD),
        ("win32_exit_code", DWORD),
        ("service_specific_exit_code", DWORD),
        ("check_point", DWORD),
        ("wait_hint", DWORD),
    ]


class Action(Structure):
    """SC_ACTION: what, and after how many milliseconds."""

    _fields_ = [("type", DWORD), ("delay", DWORD)]


class FailureActions(Structure):
    """SERVICE_FAILURE_ACTIONSW."""

    _fields_ = [
        ("reset_period", DWORD),
        ("reboot_message", LPWSTR),
        ("command", LPWSTR),
        ("count", DWORD),
        ("actions", POINTER(Action)),
    ]


class Number(Structure):
    """SERVICE_FAILURE_ACTIONS_FLAG and SERVICE_PRESHUTDOWN_INFO are one DWORD each."""

    _fields_ = [("value", DWORD)]


class Text(Structure):
    """SERVICE_DESCRIPTIONW."""

    _fields_ = [("text", LPWSTR)]


class Libraries:
    """The functions with their types."""

    def __init__(self) -> None:
        make: Any = getattr(ctypes, "WinDLL", None)
        if make is None:
            raise ManagerError(
                "this system has no Windows services", "`watchkeeper unit` prints what this one needs."
            )
        self.advapi = make("advapi32", use_last_error=True)
        self.kernel = make("kernel32", use_last_error=True)
        factory: Any = ctypes.WINFUNCTYPE  # type: ignore[attr-defined]
        self.main_type = factory(None, DWORD, POINTER(LPWSTR))
        self.handler_type = factory(DWORD, DWORD, DWORD, c_void_p, c_void_p)
        self.console_type = factory(BOOL, DWORD)
        self.entry: Any = type(
            "ServiceTableEntry", (Structure,), {"_fields_": [("name", LPWSTR), ("main", self.main_type)]}
        )
        for name, result, arguments in _FUNCTIONS:
            function = getattr(self.advapi, name)
            function.restype, function.argtypes = result, arguments
        self.advapi.RegisterServiceCtrlHandlerExW.restype = HANDLE
        self.advapi.RegisterServiceCtrlHandlerExW.argtypes = [LPWSTR, self.handler_type, c_void_p]
        self.advapi.StartServiceCtrlDispatcherW.restype = BOOL
        self.kernel.SetConsoleCtrlHandler.restype = BOOL
        self.kernel.SetConsoleCtrlHandler.argtypes = [self.console_type, BOOL]

    @staticmethod
    def last_error() -> int:
        """GetLastError() of the last call through these libraries."""
        number: int = ctypes.get_last_error()  # type: ignore[attr-defined]
        return number


_FUNCTIONS: list[tuple[str, Any, list[Any]]] = [
    ("SetServiceStatus", BOOL, [HANDLE, POINTER(ServiceStatus)]),
    ("OpenSCManagerW", HANDLE, [c_wchar_p, c_wchar_p, DWORD]),
    ("OpenServiceW", HANDLE, [HANDLE, c_wchar_p, DWORD]),
    ("CloseServiceHandle", BOOL, [HANDLE]),
    (
        "CreateServiceW",
        HANDLE,
        [
            HANDLE,
            c_wchar_p,
            c_wchar_p,
            *[DWORD] * 4,
            c_wchar_p,
            c_wchar_p,
            c_void_p,
            c_wchar_p,
            c_wchar_p,
            c_wchar_p,
        ],
    ),
    ("ChangeServiceConfig2W", BOOL, [HANDLE, DWORD, c_void_p]),
    ("DeleteService", BOOL, [HANDLE]),
    ("StartServiceW", BOOL, [HANDLE, DWORD, c_void_p]),
    ("ControlService", BOOL, [HANDLE, DWORD, POINTER(ServiceStatus)]),
    ("QueryServiceStatus", BOOL, [HANDLE, POINTER(ServiceStatus)]),
]
