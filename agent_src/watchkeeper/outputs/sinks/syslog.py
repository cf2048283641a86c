"""Lines to syslog: the local daemon's socket, or a server over UDP, TCP or TLS.

RFC 5424 messages with the whole JSON line as text; over TCP and TLS in octet-counting frames (RFC 6587 section 3.4.1, RFC
5425 section 4.3). A local daemon gets the older form of RFC 3164 without host name, which is what it expects on its socket.
TCP acknowledges nothing to the program: when a connection breaks, what lay in the system's buffers is gone.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import ssl
import time
from typing import Any

import msgspec

from watchkeeper.config.schema.common import split_address
from watchkeeper.config.schema.outputs import SyslogOutput
from watchkeeper.outputs.writer import SinkError
from watchkeeper.trust import client_context

FACILITIES = {
    name: number
    for number, name in enumerate(
        [
            "kern",
            "user",
            "mail",
            "daemon",
            "auth",
            "syslog",
            "lpr",
            "news",
            "uucp",
            "cron",
            "authpriv",
            "ftp",
            "ntp",
            "audit",
            "alert",
            "clock",
            "local0",
            "local1",
            "local2",
            "local3",
            "local4",
            "local5",
            "local6",
            "local7",
        ]
    )
}
SEVERITIES = {"FATAL": 2, "ERROR": 3, "WARNING": 4, "INFO": 6, "DEBUG": 7, "TRACE": 7}
"""RFC 5424 section 6.2.1; FATAL is critical."""
UNKNOWN_LEVEL = 5
BOM = b"\xef\xbb\xbf"
"""Says that the text is UTF-8 (RFC 5424 section 6.4)."""
_decode = msgspec.json.Decoder(dict[str, Any]).decode
_NO_NAME = re.compile(r"[^!-~]")


class SyslogSink:
    """One destination."""

    def __init__(self, spec: SyslogOutput) -> None:
        self._spec = spec
        self._socket: socket.socket | None = None
        self._host = _name(socket.gethostname(), 255)
        self._app = _name(spec.app_name, 48)

    def write(self, lines: list[bytes]) -> None:
        try:
            if self._socket is None:
                self._socket = self._connect()
            if self._stream:
                self._socket.sendall(b"".join(_framed(self._message(line)) for line in lines))
            else:
                for line in lines:
                    self._socket.send(self._message(line)[: self._spec.datagram_limit])
        except (OSError, ValueError) as error:
            self.close()
            raise SinkError(f"{self._spec.address}: {getattr(error, 'strerror', None) or error}") from None

    def close(self) -> None:
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.close()
            self._socket = None

    @property
    def _stream(self) -> bool:
        return self._spec.transport in ("tcp", "tls")

    def _connect(self) -> socket.socket:
        if self._spec.transport == "unix":
            return self._local()
        host, port = split_address(self._spec.address)
        if self._stream:
            plain = socket.create_connection((host, port), timeout=self._spec.timeout)
            return self._encrypted(plain, host) if self._spec.transport == "tls" else plain
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
        datagrams = socket.socket(family, kind, protocol)
        datagrams.connect(address)
        return datagrams

    def _local(self) -> socket.socket:
        local = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        local.settimeout(self._spec.timeout)
        try:
            local.connect(self._spec.address)
        except OSError:
            local.close()
            raise
        return local

    def _encrypted(self, plain: socket.socket, host: str) -> ssl.SSLSocket:
        try:
            return client_context(self._spec.tls).wrap_socket(
                plain, server_hostname=self._spec.tls.server_name or host
            )
        except (OSError, ValueError):
            plain.close()
            raise

    def _message(self, line: bytes) -> bytes:
        try:
            fields = _decode(line)
        except msgspec.MsgspecError:
            fields = {}
        severity = SEVERITIES.get(str(fields.get("level")), UNKNOWN_LEVEL)
        priority = FACILITIES[self._spec.facility.value] * 8 + severity
        if self._spec.transport == "unix":
            stamp = time.strftime("%b %e %H:%M:%S" if os.name != "nt" else "%b %d %H:%M:%S")
            return f"<{priority}>{stamp} {self._app}[{os.getpid()}]: ".encode() + line
        stamp = fields.get("timestamp", "-")
        kind = _name(str(fields.get("logger", "-")), 32)
        return f"<{priority}>1 {stamp} {self._host} {self._app} {os.getpid()} {kind} - ".encode() + BOM + line


def _framed(message: bytes) -> bytes:
    return b"%d %b" % (len(message), message)


def _name(text: str, longest: int) -> str:
    """Printable ASCII without spaces (RFC 5424 section 6: PRINTUSASCII)."""
    return _NO_NAME.sub("_", text)[:longest] or "-"
