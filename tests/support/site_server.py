"""A web server on loopback over a folder, as a bucket or a mirror answers: ranges, plain errors, and faults by path."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Fault:
    """What happens to answers about one path.

    ``status`` is sent instead of the file; ``cut`` ends the body after so many bytes, and with ``wait`` the connection
    stays open until :meth:`release`; ``times`` says how often (0: always). ``ranges`` False: whole files only.
    """

    status: int = 0
    cut: int = -1
    wait: bool = False
    times: int = 0
    ranges: bool = True
    reached: threading.Event = field(default_factory=threading.Event)
    _open: threading.Event = field(default_factory=threading.Event)

    def release(self) -> None:
        """Let the waiting answers go."""
        self._open.set()


class SiteServer(ThreadingHTTPServer):
    """``requests`` holds (method, path, Range) of each; ``faults`` is looked up by the end of the path."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, root: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.root = root
        self.requests: list[tuple[str, str, str]] = []
        self.faults: dict[str, Fault] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fault(self, path: str) -> Fault | None:
        """That of ``path``, if it is to happen now."""
        found = next((fault for end, fault in self.faults.items() if path.endswith(end)), None)
        if found and found.times:
            found.times -= 1
            if not found.times:
                self.faults = {end: one for end, one in self.faults.items() if one is not found}
        return found

    def paths(self) -> list[str]:
        return [path for _method, path, _range in self.requests]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    server: SiteServer

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = self.headers.get("Range", "")
        self.server.requests.append((self.command, path, asked))
        fault = self.server.fault(path)
        file = self.server.root / path.lstrip("/")
        if fault and fault.status:
            self.send_error(fault.status)
        elif not file.is_file():
            self.send_error(404)
        else:
            self._send(file.read_bytes(), asked, fault)

    def _send(self, data: bytes, asked: str, fault: Fault | None) -> None:
        found = re.fullmatch(r"bytes=(\d+)-(\d*)", asked) if not fault or fault.ranges else None
        start = int(found[1]) if found else 0
        if found and start >= len(data):
            self.send_response(416)
            self.send_header("Content-Range", f"bytes */{len(data)}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = data[start:]
        self.send_response(206 if found else 200)
        if found:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        cut = len(body) if fault is None or fault.cut < 0 else fault.cut
        self.wfile.write(body[:cut])
        self.wfile.flush()
        if fault and cut < len(body):
            fault.reached.set()
            if fault.wait:
                fault._open.wait(60)

    def log_message(self, *args: object) -> None:
        """Nothing: the tests look at ``requests``."""


@contextmanager
def serving(root: Path) -> Iterator[SiteServer]:
    """The server, in a thread of its own, while the block runs."""
    server = SiteServer(root)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        for fault in server.faults.values():
            fault.release()
        server.shutdown()
        server.server_close()
        thread.join()
