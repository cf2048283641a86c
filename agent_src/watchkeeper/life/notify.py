"""What a service manager is told, in systemd's notification protocol (sd_notify): datagrams to $NOTIFY_SOCKET.

Rules:
    N1  READY=1 once the agent has looked at every key of its first configuration.
    N2  RELOADING=1 with MONOTONIC_USEC when a reload is asked for, READY=1 when it is taken or refused (Type=notify-reload
        waits for both; systemd.service(5)).
    N3  STOPPING=1 before anything is stopped. While the stop lasts, EXTEND_TIMEOUT_USEC moves the manager's own limit
        ahead, so that drain_timeout decides and not TimeoutStopSec.
    N4  STATUS= says in one line what `systemctl status` should show; it is sent when it changes.
    N5  WATCHDOG=1 every half of $WATCHDOG_USEC, if $WATCHDOG_PID is this process or empty, and only while the loop turns
        and the workers get on: a queue in which keys wait and nothing moves for the whole interval is not alive.
    N6  A manager that is not there, or does not read, is no reason to do anything else differently.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping, MutableMapping

from watchkeeper.logs import get_logger

journal = get_logger("life")

VARIABLES = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


class Notifier:
    """The one end of the protocol; without an address every call does nothing."""

    def __init__(self, address: str = "", watchdog: float | None = None) -> None:
        self.watchdog = watchdog
        """Seconds within which the manager wants to hear WATCHDOG=1; None: it does not."""
        self._socket: socket.socket | None = None
        self._address = address
        self._status = ""
        if address:
            self._open()

    @classmethod
    def taken_from(cls, environment: MutableMapping[str, str]) -> Notifier:
        """As the manager has set it up. The variables are taken out: a service that the agent starts is not the agent."""
        found = cls(environment.get("NOTIFY_SOCKET", ""), _watchdog(environment))
        for name in VARIABLES:
            environment.pop(name, None)
        return found

    @property
    def wanted(self) -> bool:
        """Whether somebody listens."""
        return self._socket is not None

    def send(self, *assignments: str) -> bool:
        """Lines such as READY=1 in one datagram; whether it was sent."""
        if self._socket is None:
            return False
        try:
            self._socket.send("\n".join(assignments).encode())
        except OSError as error:
            journal.debug(f"the service manager does not take notifications: {error}")
            return False  # N6
        return True

    def ready(self, status: str) -> None:
        """N1, and the end of N2."""
        self._status = status
        self.send("READY=1", f"STATUS={_line(status)}")

    def reloading(self) -> None:
        """N2; the time is CLOCK_MONOTONIC in microseconds, by which the manager knows an older message."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000 if hasattr(time, "clock_gettime_ns") else 0
        self.send("RELOADING=1", f"MONOTONIC_USEC={now}", "STATUS=Reloading the configuration")

    def stopping(self, status: str) -> None:
        """N3."""
        self._status = status
        self.send("STOPPING=1", f"STATUS={_line(status)}")

    def status(self, status: str) -> None:
        """N4."""
        if status != self._status:
            self._status = status
            self.send(f"STATUS={_line(status)}")

    def extend(self, seconds: float) -> None:
        """N3: the manager should wait for so long from now."""
        self.send(f"EXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}")

    def alive(self) -> None:
        """N5."""
        self.send("WATCHDOG=1")

    def close(self) -> None:
        """Nothing is said any more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _open(self) -> None:
        if not self._address.startswith(("/", "@")) or not hasattr(socket, "AF_UNIX"):
            journal.warning(f"NOTIFY_SOCKET is {self._address!r}, and only /PATH and @NAME are understood")
            return
        # A socket in the abstract namespace begins with a zero byte; systemd writes it as @.
        path = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        opened = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            opened.connect(path)
        except OSError as error:
            opened.close()
            journal.warning(f"the service manager's socket {self._address} cannot be used: {error.strerror}")
            return
        opened.setblocking(False)
        self._socket = opened


def _watchdog(environment: Mapping[str, str]) -> float | None:
    text = environment.get("WATCHDOG_USEC", "")
    meant = environment.get("WATCHDOG_PID", "")
    if not text.isdecimal() or int(text) == 0 or (meant and meant != str(os.getpid())):
        return None
    return int(text) / 1_000_000


def _line(text: str) -> str:
    """A line cannot hold a line break; what is behind it would be another assignment."""
    return " ".join(text.split())
