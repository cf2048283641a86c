"""A proxy between a publisher and its store that does to requests what networks and servers do to them.

The publisher takes the proxy for its endpoint. Everything goes through as it stands, the Host header too: signatures
cover it, and the servers of these tests do not look whether it is theirs.

    with fault_proxy(server.url) as proxy:
        proxy.rule(Fault.LOSE, method="PUT", path="timestamp")     # done, and the answer is lost, once
        proxy.stop_at(7, "before")                                 # the seventh request is never forwarded
        ... start a publisher against proxy.url ...
        proxy.stopped.wait(60); publisher.kill(); proxy.reset()
"""

from __future__ import annotations

import contextlib
import http.client
import re
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal
from urllib.parse import urlsplit

_HOP = frozenset({"connection", "expect", "keep-alive", "transfer-encoding"})


class Fault(StrEnum):
    """What happens to a request."""

    DELAY = "delay"  # it is forwarded after `seconds`
    RESET = "reset"  # the connection is reset after half of the body; nothing is forwarded
    STATUS = "status"  # it is answered with `status` and `code`; nothing is forwarded
    LOSE = "lose"  # it is forwarded, and the answer never comes back
    TRUNCATE = "truncate"  # half of the answer's body comes back, then the connection ends
    CORRUPT = "corrupt"  # the answer's body has one other byte


@dataclass
class Rule:
    """Which requests it hits: the next ``times`` whose method and path fit, after ``skip`` that fit as well."""

    fault: Fault
    method: str
    path: re.Pattern[str]
    times: float
    skip: int
    seconds: float
    status: int
    code: str
    hit: int = 0


@dataclass
class Request:
    """A request as it came, and what was answered (0: nothing)."""

    number: int
    method: str
    path: str
    headers: list[tuple[str, str]] = field(repr=False)
    body: bytes = field(repr=False)
    status: int = 0


class Proxy:
    """``requests`` has every request in the order of their arrival; the first has number 1."""

    def __init__(self, upstream: str) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.url = ""
        self.seen: list[Request] = []
        self.stopped = threading.Event()
        self._rules: list[Rule] = []
        self._stop: tuple[int, str] | None = None
        self._go = threading.Event()
        self._lock = threading.Lock()

    @property
    def requests(self) -> list[tuple[str, str, int]]:
        """Method, path and status of each."""
        with self._lock:
            return [(one.method, one.path, one.status) for one in self.seen]

    def count(self, method: str, path: str = "") -> int:
        """How many requests had this method and a path in which ``path`` (a pattern) is found."""
        return sum(one[0] == method and re.search(path, one[1]) is not None for one in self.requests)

    def rule(
        self,
        fault: Fault,
        *,
        method: str = "",
        path: str = "",
        times: float = 1,
        skip: int = 0,
        seconds: float = 0.0,
        status: int = 500,
        code: str = "InternalError",
    ) -> Rule:
        """Hurt what fits; rules are tried in the order in which they were made."""
        made = Rule(fault, method, re.compile(path), times, skip, seconds, status, code)
        with self._lock:
            self._rules.append(made)
        return made

    def stop_at(self, number: int, when: Literal["before", "after"]) -> None:
        """Freeze at this request: before it is forwarded, or after it was done and before it is answered.

        `stopped` is set then, and everything that comes later is held as well, until `reset`.
        """
        with self._lock:
            self._stop = (number, when)

    def reset(self) -> None:
        """Forget rules, requests and the stop; what is held is closed without an answer."""
        with self._lock:
            go, self._go = self._go, threading.Event()
            self._rules, self.seen, self._stop = [], [], None
            self.stopped.clear()
        go.set()

    # -- for the handler ----------------------------------------------------------------------------------------------

    def arrived(self, method: str, path: str, headers: list[tuple[str, str]], body: bytes) -> Request:
        with self._lock:
            request = Request(len(self.seen) + 1, method, path, headers, body)
            self.seen.append(request)
            return request

    def held(self, request: Request, when: str) -> bool:
        """Wait here if the stop says so; True when the connection is to be closed afterwards."""
        with self._lock:
            stop, go = self._stop, self._go
            if stop is None or not (self.stopped.is_set() or (request.number >= stop[0] and when == stop[1])):
                return False
            self.stopped.set()
        go.wait()
        return True

    def fault(self, request: Request) -> Rule | None:
        with self._lock:
            for rule in self._rules:
                if rule.method not in ("", request.method) or not rule.path.search(request.path):
                    continue
                rule.hit += 1
                if rule.skip < rule.hit <= rule.skip + rule.times:
                    return rule
        return None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: Proxy

    def _any(self) -> None:
        length = int(self.headers.get("Content-Length", 0))
        if self.headers.get("Transfer-Encoding"):
            raise AssertionError("the proxy does not read chunked bodies")
        headers = list(self.headers.items())
        request = self.proxy.arrived(self.command, self.path, headers, b"")
        rule = self.proxy.fault(request)
        if rule is not None and rule.fault is Fault.RESET:
            self.rfile.read(length // 2)
            self._reset()
            return
        request.body = self.rfile.read(length)
        if self.proxy.held(request, "before"):
            self._end()
            return
        self._answer(request, rule)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _any  # noqa: N815 - http.server's own names

    def _answer(self, request: Request, rule: Rule | None) -> None:
        if rule is not None and rule.fault is Fault.STATUS:
            self._refuse(request, rule)
            return
        if rule is not None and rule.fault is Fault.DELAY:
            time.sleep(rule.seconds)
        status, headers, body = self._forward(request)
        request.status = status
        if self.proxy.held(request, "after") or (rule is not None and rule.fault is Fault.LOSE):
            self._end()
            return
        cut = len(body)
        if rule is not None and rule.fault is Fault.CORRUPT and body:
            body = bytes([body[0] ^ 1]) + body[1:]
        if rule is not None and rule.fault is Fault.TRUNCATE:
            cut = len(body) // 2
        self._send(status, headers, body[:cut])
        if cut < len(body):
            self._end()

    def _forward(self, request: Request) -> tuple[int, list[tuple[str, str]], bytes]:
        upstream = http.client.HTTPConnection(self.proxy.upstream, timeout=60)
        try:
            upstream.putrequest(request.method, request.path, skip_host=True, skip_accept_encoding=True)
            for name, value in request.headers:
                if name.lower() not in _HOP:
                    upstream.putheader(name, value)
            upstream.endheaders(request.body or None)
            answer = upstream.getresponse()
            body = answer.read()
            headers = [pair for pair in answer.getheaders() if pair[0].lower() not in _HOP]
        finally:
            upstream.close()
        if not any(name.lower() == "content-length" for name, _ in headers):
            headers.append(("Content-Length", str(len(body))))
        return answer.status, headers, body

    def _send(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.end_headers()
        with contextlib.suppress(OSError):
            if self.command != "HEAD":
                self.wfile.write(body)
            self.wfile.flush()

    def _refuse(self, request: Request, rule: Rule) -> None:
        request.status = rule.status
        body = f"<Error><Code>{rule.code}</Code><Message>as told</Message></Error>".encode()
        headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
        self._send(rule.status, headers, body)

    def _end(self) -> None:
        self.close_connection = True
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()

    def handle(self) -> None:
        with contextlib.suppress(OSError, ValueError):  # whoever asked has gone, or was reset
            super().handle()

    def finish(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64


@contextlib.contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on a free port of loopback, and its URL."""
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=lambda: server.serve_forever(poll_interval=0.02), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextlib.contextmanager
def fault_proxy(upstream: str) -> Iterator[Proxy]:
    """A proxy in front of ``upstream``, a URL of http."""
    proxy = Proxy(upstream)
    handler: Callable[..., Any] = type("Handler", (_Handler,), {"proxy": proxy})
    with serving(handler) as url:  # type: ignore[arg-type]
        proxy.url = url
        try:
            yield proxy
        finally:
            proxy.reset()
