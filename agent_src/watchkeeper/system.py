"""Everything that differs between operating systems.

The Windows branches are written from the documentation of Windows and of CPython. They are type-checked and not run by
the tests, which run on Linux; nothing outside this module asks which platform it is on.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any

WINDOWS = sys.platform == "win32"
KILL = 9
"""SIGKILL, also where there is no such signal."""
NOT_SEEN = -1000
"""Stands for the exit code of a process that was no child of this agent."""


CREATE_SUSPENDED = 0x4


def spawn_options(*, held: bool = False) -> dict[str, Any]:
    """How a child gets a process group of its own: a session on POSIX (pgid = pid), a console group on Windows.

    Args:
        held: on Windows it is made without running; windows_job.py lets it go.
    """
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | (CREATE_SUSPENDED if held else 0)}
    return {"start_new_session": True}


def child_environment() -> dict[str, str]:
    """The agent's environment as a child should see it.

    A PyInstaller executable points the dynamic linker at its own libraries and keeps what was there before under
    another name; a child that inherited that would load the agent's libraries instead of the host's.
    """
    environment = dict(os.environ)
    bundle = getattr(sys, "_MEIPASS", None)
    if bundle is None:
        return environment
    for name in ("LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "LIBPATH"):
        original = environment.pop(f"{name}_ORIG", None)
        if original is not None:
            environment[name] = original
        elif bundle in environment.get(name, ""):
            del environment[name]
    return {name: value for name, value in environment.items() if not name.startswith(("_PYI_", "_MEIPASS"))}


def terminate_group(pid: int) -> bool:
    """Ask a child and all of its group to end; whether there was anybody to ask."""
    if sys.platform == "win32":
        return _windows_signal(pid, signal.CTRL_BREAK_EVENT)
    return _signal_group(pid, signal.SIGTERM)


def signal_group(pid: int, number: int) -> bool:
    """Send any signal to a child and all of its group; on Windows every one but KILL is CTRL_BREAK."""
    if number == KILL:
        return kill_group(pid)
    return terminate_group(pid) if sys.platform == "win32" else _signal_group(pid, number)


def own_group() -> int:
    """The process group of the agent."""
    return 0 if sys.platform == "win32" else os.getpgrp()


def group_of(pid: int) -> int:
    """The process group of another process; 0: it has none, or is gone."""
    if sys.platform == "win32":
        return pid
    try:
        return os.getpgid(pid)
    except OSError:
        return 0


def signal_each(pids: list[int], number: int) -> bool:
    """Send a signal to processes one by one; whether anybody was there."""
    found = False
    for pid in pids:
        try:
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            continue
        found = True
    return found


def signal_number(word: str) -> int:
    """The number of a signal that a configuration names in small letters; on Windows those that are missing are TERM."""
    return int(getattr(signal, f"SIG{word.upper()}", KILL if word == "kill" else signal.SIGTERM))


def claim(folder: str) -> bool:
    """Keep a folder to this process as long as it lives; whether no other process has claimed it.

    Raises:
        OSError: it cannot be opened.
    """
    # The descriptor is never closed: the end of the process is the end of the claim.
    if sys.platform == "win32":
        import errno
        import msvcrt

        descriptor = os.open(f"{folder}/claim", os.O_RDWR | os.O_CREAT)
        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            os.close(descriptor)
            # Taken is EACCES; Wine leaves the number out. Anything else is a file system without locks.
            return error.errno not in (errno.EACCES, errno.EDEADLK, 0)
        return True
    import fcntl

    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return False
    except OSError:
        return True  # a file system without locks
    return True


def gate_there(shell: str) -> bool:
    """Whether a child can be held back by a shell until it is prepared."""
    return sys.platform != "win32" and os.access(shell, os.X_OK)


def is_root() -> bool:
    """Whether the agent may become anybody."""
    return sys.platform != "win32" and os.geteuid() == 0


def forget_group(pid: int) -> None:
    """Nothing more will be asked about the group of this child."""
    if sys.platform == "win32":
        from watchkeeper.supervise.windows_job import close_job

        close_job(pid)


def kill_group(pid: int) -> bool:
    """End a child and all of its group without asking; whether there was anybody to end."""
    if sys.platform == "win32":
        from watchkeeper.supervise.windows_job import end_job

        if end_job(pid):
            return True
        # A console group cannot be killed as such; taskkill ends the tree of children.
        taskkill = os.environ.get("SYSTEMROOT", r"C:\Windows") + r"\System32\taskkill.exe"
        command = [taskkill, "/T", "/F", "/PID", str(pid)]
        return subprocess.run(command, capture_output=True, check=False, timeout=10).returncode == 0
    return _signal_group(pid, signal.SIGKILL)


def group_alive(pid: int) -> bool:
    """Whether anybody of a child's group is left, the child itself or what it has started.

    Linux gives no new process a pid that is still the id of a group, so a group that answers is the one that was meant.
    """
    if sys.platform == "win32":
        from watchkeeper.supervise.windows_job import job_alive

        return job_alive(pid)
    return _signal_group(pid, 0)


def _signal_group(pid: int, number: int) -> bool:
    if sys.platform == "win32":
        return False
    try:
        os.killpg(pid, number)
    except ProcessLookupError:
        return False
    except PermissionError:
        # macOS answers so for a group in which only zombies are left; elsewhere, a child that has changed its user.
        return sys.platform != "darwin"
    return True


def _windows_signal(pid: int, number: int) -> bool:
    try:
        os.kill(pid, number)
    except OSError:
        return False
    return True


def ignore_early_reload() -> None:
    """A SIGHUP that comes before its handler is there must not end the agent; the file is about to be read anyway."""
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_IGN)


def handle_signals(
    loop: asyncio.AbstractEventLoop, *, stop: Callable[[str], None], reload: Callable[[], None]
) -> None:
    """SIGTERM and SIGINT (CTRL-C and CTRL-BREAK on Windows) call `stop`, SIGHUP calls `reload`, in the loop."""
    if sys.platform == "win32":
        for number in (signal.SIGINT, signal.SIGBREAK):
            name = signal.Signals(number).name
            signal.signal(number, lambda _number, _frame, name=name: loop.call_soon_threadsafe(stop, name))
        return
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, signal.Signals(number).name)
    loop.add_signal_handler(signal.SIGHUP, reload)


def watch_children_by_pidfd() -> None:
    """Let asyncio learn of a child's end from the kernel and not from a thread per child, and lose none of them.

    asyncio starts a program, and only then opens the descriptor that tells of its end. Where there is none left it says that the
    program could not be started, and that one runs on without anybody who knows of it.
    """
    if sys.platform != "linux" or sys.version_info >= (3, 14) or not hasattr(os, "pidfd_open"):
        return
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:
        return  # an old kernel, or a sandbox: the threads do
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on there is no other way to say it

        class Watcher(asyncio.PidfdChildWatcher):
            """A child for whom there is no descriptor has a thread."""

            def add_child_handler(self, pid: int, callback: Any, *args: Any) -> None:  # type: ignore[override]
                try:
                    super().add_child_handler(pid, callback, *args)
                except OSError:
                    loop = asyncio.get_running_loop()
                    tell = functools.partial(_wait_in_thread, loop, pid, callback, args)
                    threading.Thread(target=tell, name=f"waits for {pid}", daemon=True).start()

        asyncio.set_child_watcher(Watcher())


def _wait_in_thread(
    loop: asyncio.AbstractEventLoop, pid: int, callback: Callable[..., object], args: tuple[Any, ...]
) -> None:
    try:
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    except ChildProcessError:
        code = 255  # what asyncio says of an end that somebody else has taken note of
    with contextlib.suppress(RuntimeError):  # the loop has been closed meanwhile
        loop.call_soon_threadsafe(callback, pid, code, *args)


def stop_watching_child(pid: int) -> None:
    """A child goes on without the agent: Python 3.11 complains of a loop that ends while it waits for somebody."""
    if sys.platform != "win32" and sys.version_info < (3, 12):
        asyncio.get_child_watcher().remove_child_handler(pid)


def describe_exit(code: int) -> str:
    """How a process ended, in words; `code` is subprocess's: negative for a signal."""
    if code == NOT_SEEN:
        return "an end that nobody saw: it was no child of this agent"
    if code >= 0:
        return f"exit status {code}"
    try:
        return f"signal {signal.Signals(-code).name}"
    except ValueError:
        return f"signal {-code}"
