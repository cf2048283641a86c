"""POST from an output's thread: one connection that is kept, http.client underneath.

The agent's own client lives in its event loop; a log must come out when that loop is what has failed.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import time
from collections.abc import Mapping
from urllib.parse import urlsplit

from watchkeeper import redact
from watchkeeper._version import __version__
from watchkeeper.config.schema.common import TlsClient
from watchkeeper.outputs.writer import RefusedError, SinkError

AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which the same batch may be taken later; any other above 299 will not change."""
ANSWER_LIMIT = 64 * 1024
LONGEST_PAUSE = 300.0
"""Seconds; a server may not ask for a longer one."""


class Poster:
    """One URL."""

    def __init__(self, url: str, headers: Mapping[str, str], tls: TlsClient, timeout: float) -> None:
        parts = urlsplit(url)
        self.url, self._tls, self._timeout = url, tls, timeout
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname or "", parts.port
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._headers = {"User-Agent": f"watchkeeper/{__version__}", **headers}
        self._connection: http.client.HTTPConnection | None = None

    def post(self, body: bytes, content_type: str) -> bytes:
        """The answer's body, of which at most ANSWER_LIMIT bytes are read.

        Raises:
            SinkError: no answer, or one that says to come again.
            RefusedError: an answer that says no.
        """
        reused = self._connection is not None
        try:
            status, again, answer = self._exchange(body, content_type)
        except (http.client.HTTPException, OSError, ValueError) as error:
            self.close()
            if reused and isinstance(error, (http.client.RemoteDisconnected, ConnectionError)):
                return self.post(body, content_type)  # a kept connection had been closed meanwhile
            raise SinkError(redact.text(f"{self.url}: {_reason(error)}")) from None
        if status in AGAIN:
            raise SinkError(f"{self.url}: status {status}", again)
        if not 200 <= status < 300:
            detail = answer[:200].decode("utf-8", "replace").strip()
            raise RefusedError(redact.text(f"{self.url}: status {status}: {detail}"))
        return answer

    def close(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(OSError):
                self._connection.close()
            self._connection = None

    def _exchange(self, body: bytes, content_type: str) -> tuple[int, float, bytes]:
        if self._connection is None:
            self._connection = self._connect()
        self._connection.request("POST", self._target, body, {"Content-Type": content_type, **self._headers})
        response = self._connection.getresponse()
        answer = response.read(ANSWER_LIMIT)
        if response.will_close or not response.isclosed():
            self.close()
        return response.status, retry_after(response.headers.get("Retry-After")), answer

    def _connect(self) -> http.client.HTTPConnection:
        if not self._secure:
            return http.client.HTTPConnection(self._host, self._port, timeout=self._timeout)
        from watchkeeper.trust import client_context

        return http.client.HTTPSConnection(
            self._host, self._port, timeout=self._timeout, context=client_context(self._tls)
        )


def retry_after(value: str | None) -> float:
    """Seconds that a server asks for: a number, or a date (RFC 9110 section 10.2.3); 0: it asks for none."""
    if not value:
        return 0.0
    if value.isascii() and value.strip().isdigit():
        return min(float(value), LONGEST_PAUSE)
    with contextlib.suppress(ValueError, TypeError, OverflowError):
        return min(
            max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time()), LONGEST_PAUSE
        )
    return 0.0


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return (getattr(error, "strerror", None) or str(error)).strip() or type(error).__name__
