"""Job objects: what a service has started on Windows belongs to it, however it was started, and ends with it.

The process is made suspended, put into a job of its own, and let go (system.spawn_options): nothing of it runs outside of
the job. The handle is the agent's; when the agent is gone Windows closes it, and with JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE
the whole job ends with it.
"""

from __future__ import annotations

import ctypes
from typing import Any

from watchkeeper import system

_ctypes: Any = ctypes
"""What of it is only there on Windows."""
EXTENDED_LIMITS = 9
BASIC_ACCOUNTING = 1
KILL_ON_JOB_CLOSE = 0x2000
PROCESS_ALL_ACCESS = 0x1F0FFF
KILLED = 1
"""The exit code of what is ended."""
_jobs: dict[int, Any] = {}


class _Basic(ctypes.Structure):
    """JOBOBJECT_BASIC_LIMIT_INFORMATION."""

    _fields_ = [
        ("process_time", ctypes.c_int64),
        ("job_time", ctypes.c_int64),
        ("flags", ctypes.c_uint32),
        ("minimum_working_set", ctypes.c_size_t),
        ("maximum_working_set", ctypes.c_size_t),
        ("active_processes", ctypes.c_uint32),
        ("affinity", ctypes.c_size_t),
        ("priority_class", ctypes.c_uint32),
        ("scheduling_class", ctypes.c_uint32),
    ]


class _Extended(ctypes.Structure):
    """JOBOBJECT_EXTENDED_LIMIT_INFORMATION."""

    _fields_ = [
        ("basic", _Basic),
        ("io", ctypes.c_uint64 * 6),
        ("process_memory", ctypes.c_size_t),
        ("job_memory", ctypes.c_size_t),
        ("peak_process_memory", ctypes.c_size_t),
        ("peak_job_memory", ctypes.c_size_t),
    ]


class _Accounting(ctypes.Structure):
    """JOBOBJECT_BASIC_ACCOUNTING_INFORMATION."""

    _fields_ = [
        ("times", ctypes.c_int64 * 4),
        ("page_faults", ctypes.c_uint32),
        ("total", ctypes.c_uint32),
        ("active", ctypes.c_uint32),
        ("terminated", ctypes.c_uint32),
    ]


def hold(pid: int, *, end_with_agent: bool) -> None:
    """Put a process that was made suspended into a job, and let it go.

    Raises:
        OSError: Windows refuses; the process is still suspended.
    """
    if not system.WINDOWS:
        return
    kernel32 = _kernel32()
    process = kernel32.OpenProcess(PROCESS_ALL_ACCESS, False, pid)
    if not process:
        raise _ctypes.WinError(_ctypes.get_last_error())
    try:
        job = kernel32.CreateJobObjectW(None, None)
        if not job:
            raise _ctypes.WinError(_ctypes.get_last_error())
        _jobs[pid] = job
        if end_with_agent:
            limits = _Extended()
            limits.basic.flags = KILL_ON_JOB_CLOSE
            _check(
                kernel32.SetInformationJobObject(
                    job, EXTENDED_LIMITS, ctypes.byref(limits), ctypes.sizeof(limits)
                )
            )
        _check(kernel32.AssignProcessToJobObject(job, process))
        if _ctypes.WinDLL("ntdll").NtResumeProcess(ctypes.c_void_p(process)) != 0:
            raise OSError("the process cannot be let go")
    finally:
        kernel32.CloseHandle(process)


def end_job(pid: int) -> bool:
    """End everything in the job of a process; whether it has one."""
    job = _jobs.get(pid)
    return job is not None and bool(_kernel32().TerminateJobObject(job, KILLED))


def job_alive(pid: int) -> bool:
    """Whether anything in the job of a process runs."""
    job = _jobs.get(pid)
    if job is None:
        return False
    found = _Accounting()
    done = _kernel32().QueryInformationJobObject(
        job, BASIC_ACCOUNTING, ctypes.byref(found), ctypes.sizeof(found), None
    )
    return bool(done) and found.active > 0


def close_job(pid: int) -> None:
    """Nothing more will be asked about it."""
    job = _jobs.pop(pid, None)
    if job is not None:
        _kernel32().CloseHandle(job)


def _kernel32() -> Any:
    if not system.WINDOWS:
        raise OSError("job objects are only there on Windows")
    kernel32 = _ctypes.WinDLL("kernel32", use_last_error=True)
    handle = ctypes.c_void_p
    kernel32.OpenProcess.restype = kernel32.CreateJobObjectW.restype = handle
    kernel32.OpenProcess.argtypes = [ctypes.c_uint32, ctypes.c_int, ctypes.c_uint32]
    kernel32.CreateJobObjectW.argtypes = [ctypes.c_void_p, ctypes.c_wchar_p]
    kernel32.AssignProcessToJobObject.argtypes = [handle, handle]
    kernel32.SetInformationJobObject.argtypes = [handle, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint32]
    kernel32.QueryInformationJobObject.argtypes = [
        handle,
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_uint32,
        ctypes.c_void_p,
    ]
    kernel32.TerminateJobObject.argtypes = [handle, ctypes.c_uint32]
    kernel32.CloseHandle.argtypes = [handle]
    return kernel32


def _check(done: int) -> None:
    if not done:
        raise _ctypes.WinError(_ctypes.get_last_error())
